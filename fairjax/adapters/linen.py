"""Bring a trained Linen module in as a network, and give its variables back."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict, meta, unfreeze
from jaxtyping import Array, Float, PyTree

from fairjax.adapters._bringing import (
    Brought,
    Selection,
    TrainedInit,
    all_kept,
    check_agreement,
    check_zeroed,
    num_rows,
    obstacles_of,
)
from fairjax.adapters._final_activation import is_skipped
from fairjax.adapters._functions import Activations, Apply
from fairjax.adapters._heads import Head, Output, check_outputs
from fairjax.adapters._linen_layers import at, record
from fairjax.adapters._linen_program import FEATURES, Program, updated_at
from fairjax.adapters._modes import EVALUATION_FLAGS, TRAINING_FLAGS, Mode
from fairjax.adapters._sites import Call, Path, sites_of, unreadable_sites
from fairjax.nn.network import FeaturesFn, Network
from fairjax.types import KeyArray, Variables


def bring(
    module: Any,
    variables: Any,
    x: Any,
    *,
    units: Selection = None,
    output: Output = "logit",
    call: Callable[[Any, Any, bool], Any] | None = None,
) -> Brought:
    """Make a network of a trained Linen module, which is not changed.

    A unit is an output of a layer before its activation: a feature of a dense layer, a channel of a convolution. Layers
    inside `nn.scan` have masks of their own, named by their position, `00 blocks.Dense_0[0]`. A layer that is called
    more than once has one mask for all calls; its activations have one more axis, of calls.

    Args:
        module: a module whose output is one array of logits or probabilities, (n,), (n, 1), (n, 2) or (n, classes). An
            argument of its `__call__` named train, training, is_training or deterministic sets the mode.
        variables: its trained variables: `params`, and collections such as `batch_stats`.
        x: an example of a few rows, as the module takes them: an array, or a tree of arrays with rows on their first
            axes. On it, the network's outputs are compared with the module's.
        units: names of layers; a predicate of name and module; or None for all dense layers and convolutions except the
            last that is called. An empty list brings a network without units.
        output: whether outputs are logits or probabilities. A final sigmoid or softmax is skipped.
        call: function of the bound module, x and whether the mode is training, which returns the output; for modules
            that need more than one argument or have another name for the mode.

    Returns:
        The network and its variables. `give_back` returns variables in the structure of those given.

    Raises:
        ValueError: if units match nothing; if the output is not as described; or if it depends on chance or on other
            rows, as in training mode.

    Example::

        brought = fairjax.adapters.linen.bring(module, variables, x[:32])
        result = fairjax.debias(Pruning(), brought.network, fairjax.spd, brought.variables, split, key=key)
        logits = module.apply(brought.give_back(result.variables), x, train=False)
    """
    _check_arguments(module, variables)
    num_rows(x)
    x, structure, collections = jax.tree.map(jnp.asarray, x), jax.tree.structure(variables), _plain(variables)
    program = Program(module, tuple(collections), call or Mode.of(module), Head(output))
    original = _original(program, collections, x)
    calls, doubled = _record(program, collections, x)
    sites, chosen = sites_of(calls, units)
    widths = {name: layer.width for name, layer in chosen.items()}
    full: Variables = {**collections, "masks": all_kept(widths)}
    program = dataclasses.replace(program, sites=sites)
    _check_loops(program, full, x)
    if output == "probability" and is_skipped(program.outputs, full, x):
        program = dataclasses.replace(program, head=dataclasses.replace(program.head, skipped=True))
    features, read = _features(program, calls, full, x), jax.jit(program.read_slots)(full, x)
    unreadable = unreadable_sites(sites, num_rows(x), calls, doubled, read)
    network = Network(TrainedInit("Linen"), Apply(program), features, Activations(program, unreadable))
    check_agreement(network, full, x, original, program.head)

    def write(variables: Variables) -> Any:
        zeroed = {**variables, "params": program.zeroed(variables)}
        check_zeroed(network, variables, zeroed, x)
        return jax.tree.unflatten(structure, jax.tree.leaves({name: zeroed[name] for name in collections}))

    return Brought(network, full, widths, _plain, write, obstacles_of(chosen))


def _check_arguments(module: Any, variables: Any) -> None:
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"module must be a flax.linen module, got {type(module).__name__}; fairjax.adapters has nnx, equinox, "
            "keras and torch for others"
        )
    if module.scope is not None:
        raise ValueError("the module is bound to variables: pass module.unbind()[0], and the variables beside it")
    if not isinstance(variables, (dict, FrozenDict)) or not variables.get("params"):
        names = ", ".join(variables) if isinstance(variables, (dict, FrozenDict)) else type(variables).__name__
        raise ValueError(f'variables must be a dictionary with "params", as module.init returns, got {names or "{}"}')
    if "masks" in variables:
        raise ValueError("the module has a collection 'masks' of its own: make the network with fairjax.from_linen")


def _plain(variables: Any) -> dict[str, Any]:
    """Return variables as plain dictionaries of JAX arrays, without metadata such as names of axes."""
    return jax.tree.map(jnp.asarray, meta.unbox(dict(unfreeze(variables))))


def _original(program: Program, variables: Variables, x: Any) -> Any:
    """Evaluate the module as it is, and check its outputs."""
    try:
        outputs = jax.jit(program.original)(variables, x)
    except (flax.errors.ModifyScopeVariableError, flax.errors.InvalidRngError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"the module cannot be applied to the example in evaluation mode ({reason}): its mode must be set by an "
            f"argument named {', '.join((*TRAINING_FLAGS, *EVALUATION_FLAGS))}, or by call=lambda module, x, train: ..."
        ) from error
    check_outputs(outputs, num_rows(x))
    return outputs


def _record(program: Program, variables: Variables, x: Any) -> tuple[list[Call], list[Call]]:
    """Record the calls of layers on the example, and on twice its rows."""
    twice = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), x)
    calls = [record(lambda variables, rows=rows: program.original(variables, rows), variables) for rows in (x, twice)]
    if len(calls[0]) != len(calls[1]):
        raise ValueError(
            "the module calls other layers for other numbers of rows: fairjax needs the same for any number"
        )
    return calls[0], calls[1]


def _check_loops(program: Program, variables: Variables, x: Any) -> None:
    """Check that loops over layers slice parameters on their leading axis, by an entry with sizes of its own."""
    largest = max(size for leaf in jax.tree.leaves(variables["params"]) for size in leaf.shape)
    for site in program.sites:
        if not site.stacked:
            continue
        probe = jnp.zeros((*site.stacked, largest + 1))
        params = updated_at(variables["params"], site.path, {"_keep": probe})
        try:
            jax.eval_shape(lambda params=params: program.original({**variables, "params": params}, x))
        except ValueError as error:
            raise ValueError(
                f"the parameters of {'.'.join(map(str, site.path))} are stacked by nn.scan or nn.vmap on another axis "
                "than the first: leave this layer out with units=, or stack with variable_axes={'params': 0}"
            ) from error


def _features(program: Program, calls: list[Call], variables: Variables, x: Any) -> FeaturesFn | None:
    """Return the function of features, or None if the last layer's input is no vector per row."""
    last = next((call.path for call in reversed(calls) if call.is_default), None)
    if last is None:
        return None
    program = dataclasses.replace(program, last=last)
    _, updated = jax.eval_shape(lambda: program.outputs(variables, x, features=True))
    sown = _input(updated, last)
    return None if sown is None or sown.ndim != 2 or sown.shape[0] != num_rows(x) else _Features(program)


def _input(updated: dict[str, Any], last: Path) -> Any:
    """Return the input of the last call of the last layer; None if it is in a loop, which keeps it inside."""
    return at(updated.get(FEATURES, {}), last).get("input", (None,))[-1]


@dataclasses.dataclass(frozen=True)
class _Features:
    program: Program

    def __call__(
        self,
        variables: Variables,
        x: Any,
        *,
        shifts: PyTree[Float[Array, "_"]] | None = None,
        key: KeyArray | None = None,
    ) -> tuple[Float[Array, "n k"], Float[Array, "n *c"], Variables]:
        logits, updated = self.program.logits(variables, x, shifts, key, features=True)
        features = _input(updated, self.program.last)
        updated.pop(FEATURES)
        return features, logits, {**variables, **updated}
