"""Convert networks trained with the first paper's PyTorch code. PyTorch itself is not needed."""

import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from fairjax.nn import Mlp
from fairjax.nn.mlp import Cut, Site
from fairjax.types import Variables

_NORM = {"scale": "weight", "bias": "bias"}
_STATS = {"mean": "running_mean", "var": "running_var"}


def from_torch(
    arrays: Mapping[str, Any], *, site: Site = "preactivation", cut: Cut = "incoming", dropout: float = 0.05
) -> tuple[Mlp, Variables]:
    """Convert a PyTorch state dictionary to a Linen module and its variables.

    The names are those of the first paper's code: `fc0`, `bn0`, `fcs.0` ... `fcs.9`, `bns.0` ... `bns.9` and `out`,
    each with `.weight` and `.bias`, and batch normalisations also with `.running_mean` and `.running_var`. There may be
    any number of hidden layers of any width; `.num_batches_tracked` is ignored.

    Args:
        arrays: arrays by name; PyTorch tensors are accepted.
        site: where influence is measured.
        cut: which weights a mask removes.
        dropout: drop probability, which a state dictionary does not contain.

    Returns:
        The Linen module and its variables, with all units kept; `fairjax.from_linen(module)` is the network.

    Raises:
        ValueError: if an entry is missing, unknown, of a wrong shape or not finite; the message names it.

    Example:
        >>> arrays = {"fc0.weight": np.ones((2, 3)), "fc0.bias": np.zeros(2), "out.weight": np.ones((1, 2))}
        >>> arrays |= {"bn0.weight": np.ones(2), "bn0.bias": np.zeros(2), "out.bias": np.zeros(1)}
        >>> arrays |= {"bn0.running_mean": np.zeros(2), "bn0.running_var": np.ones(2)}
        >>> module, variables = from_torch(arrays)
        >>> module.widths
        (2,)
    """
    found = {name: _array(name, value) for name, value in arrays.items() if not name.endswith("num_batches_tracked")}
    layers = _layers(found)
    affine = [*(linear for linear, _ in layers), "out"]
    expected = {f"{name}.{part}" for name in affine for part in ("weight", "bias")}
    expected |= {f"{norm}.{part}" for _, norm in layers for part in (*_NORM.values(), *_STATS.values())}
    missing, surplus = sorted(expected - set(found)), sorted(set(found) - expected)
    if missing or surplus:
        what = [f"lacks {', '.join(missing)}"] if missing else []
        what += [f"has the unknown {', '.join(surplus)}"] if surplus else []
        raise ValueError(
            f"the state dictionary {' and '.join(what)}; expected fc0, bn0, fcs.i, bns.i with i from 0 without gaps, "
            "and out: rename the entries"
        )
    params: dict[str, Any] = {}
    stats: dict[str, Any] = {}
    masks: dict[str, Any] = {}
    width = _shaped(found, "fc0.weight", (None, None)).shape[1]
    for i, (linear, norm) in enumerate(layers):
        kernel = _shaped(found, f"{linear}.weight", (None, width))
        width = kernel.shape[0]
        name = f"hidden_{i:02d}"
        params[name] = {
            "linear": {"kernel": kernel.T, "bias": _shaped(found, f"{linear}.bias", (width,))},
            "norm": {ours: _shaped(found, f"{norm}.{theirs}", (width,)) for ours, theirs in _NORM.items()},
        }
        stats[name] = {"norm": {ours: _shaped(found, f"{norm}.{theirs}", (width,)) for ours, theirs in _STATS.items()}}
        masks[name] = {"units": {"keep": jnp.ones(width, bool)}}
    params["output"] = {
        "kernel": _shaped(found, "out.weight", (1, width)).T,
        "bias": _shaped(found, "out.bias", (1,)),
    }
    module = Mlp(
        widths=tuple(tree["units"]["keep"].size for tree in masks.values()), site=site, cut=cut, dropout=dropout
    )
    return module, {"params": _jax(params), "batch_stats": _jax(stats), "masks": masks}


def to_torch(variables: Variables) -> dict[str, np.ndarray]:
    """Convert the variables of a network to a state dictionary with the names that `from_torch` reads.

    Args:
        variables: variables of an `Mlp`, without a seeds axis and with all units kept.

    Returns:
        NumPy arrays by name; `torch.from_numpy` makes tensors of them.

    Raises:
        ValueError: if units are cut, or the variables belong to several seeds.
    """
    if np.ndim(variables["params"]["output"]["kernel"]) != 2:
        raise ValueError(
            "variables must be those of one network, found a leading axis of seeds: take one seed's, such as "
            "jax.tree.map(lambda leaf: leaf[0], variables)"
        )
    names = sorted(variables["masks"])
    if not all(np.all(variables["masks"][name]["units"]["keep"]) for name in names):
        raise ValueError("a state dictionary cannot say that units are cut; give it fairjax.nn.materialize(...)")
    arrays = {}
    for i, name in enumerate(names):
        linear, norm = ("fc0", "bn0") if i == 0 else (f"fcs.{i - 1}", f"bns.{i - 1}")
        params, stats = variables["params"][name], variables["batch_stats"][name]["norm"]
        arrays[f"{linear}.weight"], arrays[f"{linear}.bias"] = params["linear"]["kernel"].T, params["linear"]["bias"]
        arrays |= {f"{norm}.{theirs}": params["norm"][ours] for ours, theirs in _NORM.items()}
        arrays |= {f"{norm}.{theirs}": stats[ours] for ours, theirs in _STATS.items()}
    output = variables["params"]["output"]
    arrays |= {"out.weight": output["kernel"].T, "out.bias": output["bias"]}
    return {name: np.asarray(array) for name, array in arrays.items()}


def _layers(found: Mapping[str, np.ndarray]) -> list[tuple[str, str]]:
    """Return the names of the linear maps and batch normalisations of the hidden layers, in order."""
    numbers = {int(match[1]) for name in found if (match := re.match(r"(?:fcs|bns)\.(\d+)\.", name))}
    return [("fc0", "bn0"), *((f"fcs.{i}", f"bns.{i}") for i in range(max(numbers, default=-1) + 1))]


def _array(name: str, value: Any) -> np.ndarray:
    """Convert an entry to a finite float32 array; a tensor is detached and moved to the CPU."""
    for step in ("detach", "cpu"):
        value = getattr(value, step)() if hasattr(value, step) else value
    if np.ma.is_masked(value):
        raise ValueError(f"{name} is a masked array with masked entries: fill the values in")
    try:
        with np.errstate(over="ignore"):  # values beyond float32 become infinite and are rejected below
            array = np.asarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of numbers, got {type(value).__name__}") from error
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise ValueError(f"{name} has {bad} entries that are not finite: was it saved after training diverged?")
    return array


def _shaped(found: Mapping[str, np.ndarray], name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return an entry after checking its shape; None allows any size."""
    array = found[name]
    fits = array.ndim == len(shape) and all(
        want in (None, size) for want, size in zip(shape, array.shape, strict=False)
    )
    if not fits:
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(f"{name} must have shape ({wanted}) to follow the layers before it, got {array.shape}")
    return array


def _jax(tree: Any) -> Any:
    return {name: _jax(branch) if isinstance(branch, dict) else jnp.asarray(branch) for name, branch in tree.items()}
