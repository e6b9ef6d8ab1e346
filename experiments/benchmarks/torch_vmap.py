"""A contender in PyTorch: the training step and the influence of all units for many seeds at once, by `torch.func`.

The parameters of all seeds are stacked. The network is a function of its parameters and running statistics, since a
module updates its running statistics in place, which `vmap` cannot do separately for each seed.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad, stack_module_state, vmap
from torch.nn import functional

from experiments.benchmarks.torch_sequential import Network, proxy, seeded

MOMENTUM, EPSILON = 0.1, 1e-5
"""Momentum and epsilon of batch normalisation, PyTorch's defaults."""
FIRST, SECOND, SMALL = 0.9, 0.999, 1e-8
"""The two decay rates of Adam and its epsilon, PyTorch's defaults."""

Layout = tuple[tuple[str, tuple[int, ...]], ...]
"""Names and shapes of the tensors of one seed, in the order in which a vector stores them."""


class SeedsState(NamedTuple):
    """The training state of S seeds, stored as vectors, so that a step of Adam consists of a few large operations."""

    params: Tensor
    """Parameters (S, p)."""
    statistics: Tensor
    """Running means and variances (S, r)."""
    first: Tensor
    """Adam's running mean of gradients (S, p)."""
    second: Tensor
    """Adam's running mean of squared gradients (S, p)."""
    rate: Tensor
    """Learning rates (S, 1), which the plateau schedule reduces separately for each seed."""
    steps: int
    """Number of steps done."""
    layouts: tuple[Layout, Layout]
    """Layouts of the parameters and of the statistics."""


def make(
    seeds: Sequence[int], features: int, widths: Sequence[int] = (32,) * 11, learning_rate: float = 1e-3
) -> SeedsState:
    """Create networks with PyTorch's default initialisation.

    Args:
        seeds: the seed of each network's initialisation.
        features: the number of features.
        widths: the number of units in each hidden layer.
        learning_rate: Adam's initial step size.

    Returns:
        The state before the first step.
    """
    networks = []
    for seed in seeds:
        with seeded(seed):
            networks.append(Network(features, widths))
    return stack(networks, learning_rate)


def stack(networks: Sequence[Network], learning_rate: float = 1e-3) -> SeedsState:
    """Return the state before the first step of given networks, which must have the same shape."""
    params, buffers = stack_module_state(list(networks))  # type: ignore[arg-type]  (a list of any modules)
    buffers = {name: value for name, value in buffers.items() if "running" in name}
    vectors = [torch.cat([value.detach().flatten(1) for value in tree.values()], 1) for tree in (params, buffers)]
    layouts = tuple(tuple((name, value.shape[1:]) for name, value in tree.items()) for tree in (params, buffers))
    zeros = torch.zeros_like(vectors[0])
    rate = torch.full((len(networks), 1), learning_rate)
    return SeedsState(vectors[0], vectors[1], zeros, zeros.clone(), rate, 0, layouts)


def unstack(state: SeedsState, seed: int) -> dict[str, Tensor]:
    """Return the state dictionary of one seed's network, without PyTorch's counts of batches.

    Args:
        state: the state of all seeds.
        seed: the position of the seed.

    Returns:
        Tensors by name, for `load_state_dict(..., strict=False)` or `experiments.first_paper.state_dicts.from_torch`.
    """
    vectors = state.params[seed], state.statistics[seed]
    return {
        name: value.clone() for pair in zip(vectors, state.layouts, strict=True) for name, value in _tree(*pair).items()
    }


def training_step(
    state: SeedsState,
    x: Tensor,
    y: Tensor,
    *,
    dropout: float = 0.05,
    generator: torch.Generator | None = None,
    compiled: bool = False,
) -> tuple[SeedsState, Tensor]:
    """Take one step of Adam, each seed on a mini-batch of its own.

    Args:
        state: the state of S seeds.
        x: features (S, m, d).
        y: labels, float (S, m).
        dropout: dropout probability.
        generator: generates the dropout; required unless `dropout` is 0.
        compiled: whether to use `torch.compile`, which needs a C++ compiler and about a minute for the first step.

    Returns:
        The state after the step, and the losses (S,).
    """
    kept, steps = _kept(state, x, dropout, generator), state.steps + 1
    # tensors instead of numbers, which would cause torch.compile to compile the step again
    corrections = torch.tensor([1 - FIRST**steps, (1 - SECOND**steps) ** 0.5])
    step = _compiled() if compiled else _step
    *vectors, losses = step(*state[:5], corrections, state.layouts, x, y, kept)
    return SeedsState(*vectors, state.rate, steps, state.layouts), losses


def influence(state: SeedsState, x: Tensor, y: Tensor, a: Tensor, measure: str) -> Tensor:
    """Differentiate the proxy with respect to a shift of each unit that all rows share (Eq. 4 without 1/N).

    Args:
        state: the state of S seeds; the networks are in evaluation mode.
        x: features (S, n, d).
        y: labels, bool (S, n).
        a: protected attribute, bool (S, n).
        measure: spd or eod.

    Returns:
        One number per unit, layer by layer (S, units).
    """
    units = _units(state)

    def shifted(shifts: Tensor, params: Tensor, statistics: Tensor, x: Tensor, y: Tensor, a: Tensor) -> Tensor:
        return proxy(torch.sigmoid(_evaluated(params, statistics, state.layouts, x, shifts)), y, a, measure)

    shifts = torch.zeros(len(state.params), units)
    return vmap(grad(shifted))(shifts, state.params, state.statistics, x, y, a)


def logits(state: SeedsState, x: Tensor) -> Tensor:
    """Compute logits (S, n) in evaluation mode for features (S, n, d)."""
    shifts = torch.zeros(_units(state))

    def seed_logits(params: Tensor, statistics: Tensor, x: Tensor) -> Tensor:
        return _evaluated(params, statistics, state.layouts, x, shifts)

    return vmap(seed_logits)(state.params, state.statistics, x)


def _step(
    params: Tensor,
    statistics: Tensor,
    first: Tensor,
    second: Tensor,
    rate: Tensor,
    corrections: Tensor,
    layouts: tuple[Layout, Layout],
    x: Tensor,
    y: Tensor,
    kept: Tensor | None,
) -> tuple[Tensor, ...]:
    """Compute `training_step` as a function of tensors: the four updated vectors, and the losses."""

    def loss(params: Tensor, statistics: Tensor, x: Tensor, y: Tensor, kept: Tensor | None):
        logits, updated = _trained(params, statistics, layouts, x, kept)
        value = functional.binary_cross_entropy_with_logits(logits, y)
        return value, (updated, value)

    mapped = vmap(grad(loss, has_aux=True), in_dims=(0, 0, 0, 0, None if kept is None else 0))
    slopes, (statistics, losses) = mapped(params, statistics, x, y, kept)
    first = torch.lerp(first, slopes, 1 - FIRST)
    second = torch.addcmul(SECOND * second, slopes, slopes, value=1 - SECOND)
    scale = second.sqrt() / corrections[1] + SMALL
    params = params - first * (rate / corrections[0]) / scale
    return params, statistics, first, second, losses


@functools.cache
def _compiled() -> Callable[..., tuple[Tensor, ...]]:
    return torch.compile(_step)


def _trained(
    params: Tensor, statistics: Tensor, layouts: tuple[Layout, Layout], x: Tensor, kept: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return one seed's logits in training mode and its new running statistics; `kept` is scaled, 0 where dropped."""
    tree, running = _tree(params, layouts[0]), _tree(statistics, layouts[1])
    updated, unbiased = [], len(x) / (len(x) - 1)
    names = _names(layouts[0])
    masks = itertools.repeat(None) if kept is None else kept.split([_width(tree, linear) for linear, _ in names], 1)
    for (linear, norm), mask in zip(names, masks, strict=kept is not None):
        x = functional.relu(functional.linear(x, tree[f"{linear}.weight"], tree[f"{linear}.bias"]))
        x = x if mask is None else x * mask
        mean = x.mean(0)
        x = x - mean
        var = (x * x).mean(0)
        updated += [
            torch.lerp(running[f"{norm}.running_mean"], mean.detach(), MOMENTUM),
            torch.lerp(running[f"{norm}.running_var"], var.detach() * unbiased, MOMENTUM),
        ]
        x = torch.addcmul(tree[f"{norm}.bias"], x, torch.rsqrt(var + EPSILON) * tree[f"{norm}.weight"])
    return functional.linear(x, tree["out.weight"], tree["out.bias"]).squeeze(1), torch.cat(updated)


def _evaluated(params: Tensor, statistics: Tensor, layouts: tuple[Layout, Layout], x: Tensor, shifts: Tensor) -> Tensor:
    """Return one seed's logits in evaluation mode, with the pre-activation of each unit shifted by a number."""
    tree, running = _tree(params, layouts[0]), _tree(statistics, layouts[1])
    names = _names(layouts[0])
    for (linear, norm), shift in zip(names, shifts.split([_width(tree, linear) for linear, _ in names]), strict=True):
        x = functional.relu(functional.linear(x, tree[f"{linear}.weight"], tree[f"{linear}.bias"] + shift))
        factor = tree[f"{norm}.weight"] * torch.rsqrt(running[f"{norm}.running_var"] + EPSILON)
        x = torch.addcmul(tree[f"{norm}.bias"], x - running[f"{norm}.running_mean"], factor)
    return functional.linear(x, tree["out.weight"], tree["out.bias"]).squeeze(1)


def _kept(state: SeedsState, x: Tensor, dropout: float, generator: torch.Generator | None) -> Tensor | None:
    """Draw the dropout factors of all layers at once, since `vmap` over `dropout` would not accept a generator."""
    if dropout == 0:
        return None
    if generator is None:
        raise ValueError(f"dropout {dropout} needs a generator, got none")
    shape = (*x.shape[:2], _units(state))
    return torch.empty(shape).bernoulli_(1 - dropout, generator=generator).div_(1 - dropout)


def _names(layout: Layout) -> list[tuple[str, str]]:
    """Return the names of the linear maps and batch normalisations of the hidden layers, in order."""
    count = sum(name.startswith("fcs.") and name.endswith(".weight") for name, _ in layout)
    return [("fc0", "bn0"), *((f"fcs.{i}", f"bns.{i}") for i in range(count))]


def _units(state: SeedsState) -> int:
    return state.statistics.shape[1] // 2


def _width(tree: dict[str, Tensor], linear: str) -> int:
    return tree[f"{linear}.bias"].shape[0]


def _tree(vector: Tensor, layout: Layout) -> dict[str, Tensor]:
    """Split a vector into named tensors; the backward pass of this split is a single concatenation."""
    pieces = vector.split([torch.Size(shape).numel() for _, shape in layout])
    return {name: piece.view(shape) for (name, shape), piece in zip(layout, pieces, strict=True)}
