"""Bring a trained NNX module in as a network, and give it back."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
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
from fairjax.adapters._modes import Mode
from fairjax.adapters._nnx_program import FILTERS, Program, nested
from fairjax.adapters._sites import Call, sites_of, unreadable_sites
from fairjax.nn.network import FeaturesFn, Network
from fairjax.types import KeyArray, Variables


def bring(
    model: Any,
    x: Any,
    *,
    units: Selection = None,
    output: Output = "logit",
    call: Callable[[Any, Any, bool], Any] | None = None,
) -> Brought:
    """Make a network of a trained NNX module, which is not changed.

    A unit is an output of a layer before its activation: a feature of a linear layer, a channel of a convolution.
    Layers inside `nnx.scan` have masks of their own, named by their position, `00 blocks.up[0]`. A layer that is
    called more than once has one mask for all calls; its activations have one more axis, of calls.

    The mode is set by `model.train()` and `model.eval()`, and by an argument of `__call__` named train, training,
    is_training or deterministic if there is one. `params` are variables of type `nnx.Param`; batch statistics and
    variables of other types are collections beside them. The random state is no variable: in training mode, every key
    in it is made from the key of the call.

    Args:
        model: a module whose output is one array of logits or probabilities, (n,), (n, 1), (n, 2) or (n, classes).
        x: an example of a few rows, as the module takes them: an array, or a tree of arrays with rows on their first
            axes. On it, the network's outputs are compared with the module's.
        units: names of layers; a predicate of name and module; or None for all linear layers and convolutions except
            the last that is called. An empty list brings a network without units.
        output: whether outputs are logits or probabilities. A final sigmoid or softmax is skipped.
        call: function of the module, x and whether the mode is training, which returns the output; for modules that
            need more than one argument.

    Returns:
        The network and its variables. `give_back` returns a new module, in the mode in which the given one was.

    Raises:
        ValueError: if units match nothing; if the output is not as described; or if it depends on chance or on other
            rows, as in training mode.

    Example::

        brought = fairjax.adapters.nnx.bring(model, x[:32])
        result = fairjax.debias(Pruning(), brought.network, fairjax.spd, brought.variables, split, key=key)
        debiased = brought.give_back(result.variables)
    """
    if not isinstance(model, nnx.Module):
        raise ValueError(
            f"model must be a flax.nnx module, got {type(model).__name__}; fairjax.adapters has linen, equinox, "
            "keras and torch for others"
        )
    n, x, given = num_rows(x), jax.tree.map(jnp.asarray, x), nnx.clone(model)
    program = Program.of(given, call or Mode.of(given), Head(output))
    collections = _read(given)
    original = _original(program, given, x)
    calls, doubled = _record(program, collections, x)
    sites, chosen = sites_of(calls, units)
    widths = {name: layer.width for name, layer in chosen.items()}
    full: Variables = {**collections, "masks": all_kept(widths)}
    program = dataclasses.replace(program, sites=sites)
    program.check_loops(full, x)
    if output == "probability" and is_skipped(program.outputs, full, x):
        program = dataclasses.replace(program, head=dataclasses.replace(program.head, skipped=True))
    features, read = _features(program, calls, n), jax.jit(program.read_slots)(full, x)
    unreadable = unreadable_sites(sites, n, calls, doubled, read)
    network = Network(TrainedInit("NNX"), Apply(program), features, Activations(program, unreadable))
    check_agreement(network, full, x, original, program.head)

    def write(variables: Variables) -> Any:
        zeroed = {**variables, "params": program.zeroed(variables)}
        check_zeroed(network, variables, zeroed, x)
        copy = nnx.clone(given)
        nnx.update(copy, *program.states(zeroed))
        return copy

    return Brought(network, full, widths, _read, write, obstacles_of(chosen))


def _read(model: Any) -> Variables:
    """Return the collections of a module."""
    if not isinstance(model, nnx.Module):
        raise ValueError(f"model must be a flax.nnx module, got {type(model).__name__}")
    parts = dict(zip(FILTERS, nnx.split(model, *FILTERS.values())[1:], strict=True))
    parts.pop("rngs")
    return {name: nested(state) for name, state in parts.items() if name == "params" or jax.tree.leaves(state)}


def _original(program: Program, model: Any, x: Any) -> Any:
    """Evaluate the module as it is, in evaluation mode, and check its outputs."""
    copy = nnx.clone(model)
    copy.eval()
    graphdef, state = nnx.split(copy)
    try:
        outputs = jax.jit(lambda state, x: program.call(nnx.merge(graphdef, state), x, False))(state, x)
    except TypeError as error:
        raise ValueError(
            f"the module cannot be called with the example ({str(error).splitlines()[0]}): say how with "
            "call=lambda model, x, train: ..."
        ) from error
    check_outputs(outputs, num_rows(x))
    return outputs


def _record(program: Program, variables: Variables, x: Any) -> tuple[list[Call], list[Call]]:
    """Record the calls of layers on the example, and on twice its rows."""
    twice = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), x)
    calls, doubled = program.record(variables, x), program.record(variables, twice)
    if len(calls) != len(doubled):
        raise ValueError(
            "the module calls other layers for other numbers of rows: fairjax needs the same for any number"
        )
    return calls, doubled


def _features(program: Program, calls: list[Call], n: int) -> FeaturesFn | None:
    """Return the function of features, or None if the last layer's input is no vector per row."""
    last = next((call for call in reversed(calls) if call.is_default), None)
    if last is None or last.stacked or len(last.argument) != 2 or last.argument[0] != n:
        return None
    return _Features(dataclasses.replace(program, last=last.path))


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
        features = updated.pop("features")
        return features, logits, {**variables, **updated}
