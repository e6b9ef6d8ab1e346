"""Equinox models, with or without state, as networks, and back.

`bring` replaces the layers with units by instances of subclasses, so that all of the model's own code remains.
"""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from fairjax.adapters._bringing import (
    Brought,
    Layer,
    Selection,
    TrainedInit,
    all_kept,
    check_agreement,
    check_zeroed,
    extra,
    num_rows,
    obstacles_of,
    select,
)
from fairjax.adapters._equinox_layers import Hook, Site, family_of, marked, modules_of, record, zeroed
from fairjax.adapters._equinox_model import Path, Structure, get, has_state, is_array, structure_of
from fairjax.adapters._final_activation import is_skipped, skip
from fairjax.adapters._functions import TappedFunctions
from fairjax.adapters._heads import Head, Output
from fairjax.adapters._taps import collect
from fairjax.nn.network import Network
from fairjax.random import vectorised
from fairjax.types import Inputs, KeyArray, Variables

Call = Callable[[Any, Any, Any, KeyArray | None], Any]
"""Applies a model to one row: `call(model, x, state, key)` returns the output, with the new state if there is one."""


def bring(
    model: Any,
    x: Inputs,
    *,
    state: Any = None,
    call: Call | None = None,
    units: Selection = None,
    output: Output = "logit",
) -> Brought:
    """Bring in a trained Equinox model.

    Parameters are all floating-point arrays of the model; its other arrays are the collection `buffers`, and its state,
    such as running statistics, is the collection `state`. The model is called for one row at a time, as in Equinox,
    with `jax.vmap` over rows under the axis name of its batch normalisation.

    Args:
        model: the model.
        x: rows as an example, a tree of arrays with rows on their first axes. Outputs on them are compared with the
            model's own; a few rows are enough.
        state: the model's `equinox.nn.State`, if it has one.
        call: how to apply the model to one row, `call(model, x, state, key)`. By default, `model(x)`, to which `state`
            and `key` are passed if its signature has parameters of these names.
        units: layers with units: names, a predicate of name and layer, or None for all linear layers and convolutions
            except the last called. A unit of a convolution is a channel. An empty list brings a network without units.
        output: whether the model returns logits or probabilities.

    Returns:
        The network, its variables, and the way back: `give_back(variables)` is a model, or a model and its state if
        `state` was given, and `variables_of(model, state)` reads another model.

    Raises:
        ImportError: if Equinox is not installed.
        TypeError: if `model` is no Equinox module.
        ValueError: if the call, the units or the outputs do not fit.

    Example::

        model, state = eqx.nn.make_with_state(Classifier)(key)
        brought = fairjax.adapters.equinox.bring(model, x_valid[:32], state=state)
        result = fairjax.debias(Pruning(spd), brought.network, brought.variables, split)
        model, state = brought.give_back(result.variables)
    """
    eqx = extra("equinox")
    if not isinstance(model, eqx.Module):
        raise TypeError(f"model must be an equinox.Module, found {type(model).__name__}")
    num_rows(x)
    head = Head(output)
    if state is None and has_state(model):
        raise ValueError("the model has state, such as batch statistics: pass it as state=, with the model")
    program = _Program(structure_of(model, state), _call_of(model, state, call), _axis_name(model))
    original = program.outputs(program.in_mode(model, None), state, x)
    head.check(original, num_rows(x))
    variables = program.structure.read(model, state)
    chosen, sites, last = _sites(program, variables, x, units)
    widths = {name: layer.width for name, layer in chosen.items()}
    variables["masks"] = all_kept(widths)
    program = dataclasses.replace(program, sites=sites, last=last)
    if output == "probability":
        head = Head(output, skipped=is_skipped(lambda x: program.run(variables, x)[:2], x))
    program = dataclasses.replace(program, head=head)
    features = program.features if program.has_features(variables, x) else None
    network = Network(TrainedInit("Equinox"), program.apply, features, program.activations)
    check_agreement(network, variables, x, original, head)
    few = jax.tree.map(lambda leaf: np.asarray(leaf[:8]), x)

    def write(variables: Variables) -> Any:
        zeroed = program.zeroed(variables)
        check_zeroed(network, variables, zeroed, few)
        model, state = program.structure.model(zeroed), program.structure.state_of(zeroed)
        return model if state is None else (model, state)

    return Brought(network, variables, widths, program.structure.read, write, obstacles_of(chosen))


@dataclasses.dataclass(frozen=True, eq=False)
class _Program(TappedFunctions):
    """An Equinox model as functions of variables and rows."""

    structure: Structure
    call: Call
    axis_name: Any
    sites: tuple[Site, ...] = ()
    last: Path | None = None
    """Path of the last linear layer."""
    head: Head = dataclasses.field(default_factory=lambda: Head("logit"))

    def in_mode(self, model: Any, key: KeyArray | None) -> Any:
        """Return the model in training mode if there is a key, else in evaluation mode."""
        return extra("equinox").nn.inference_mode(model, key is None)

    def rows(self, model: Any, state: Any, x: Any, key: KeyArray | None = None) -> tuple[Any, Any]:
        """Apply the model to rows, and return outputs and the new state."""
        keys = None if key is None else jax.random.split(vectorised(key), num_rows(x))

        def row(x: Any, key: KeyArray | None) -> tuple[Any, Any]:
            fresh = jax.tree.map(lambda leaf: leaf, state)  # since a state cannot be used again after an update
            result = self.call(model, x, fresh, key)
            if state is None:
                return result, None
            if not isinstance(result, tuple) or len(result) != 2:
                raise ValueError(f"a model with state must return (output, state), found {type(result).__name__}")
            return result

        mapped = jax.vmap(row, in_axes=(0, None if key is None else 0), out_axes=(0, None), axis_name=self.axis_name)
        try:
            with _as_users_run():
                return mapped(x, keys)
        except ValueError as error:
            if "out_axes" in str(error):
                raise ValueError(
                    "the model's state must be the same for all rows, as that of batch normalisation is: average it "
                    f"over the axis {self.axis_name!r} in the model"
                ) from error
            raise

    def outputs(self, model: Any, state: Any, x: Any) -> Any:
        """Return the outputs of a model in evaluation mode."""
        arrays, static = extra("equinox").partition(model, is_array)
        return jax.jit(lambda arrays, state, x: self.rows(extra("equinox").combine(arrays, static), state, x)[0])(
            arrays, state, x
        )

    def run(
        self,
        variables: Variables,
        x: Any,
        shifts: Any = None,
        key: KeyArray | None = None,
        *,
        tapped: bool = False,
        features: bool = False,
    ) -> tuple[Any, Any, dict[str, list[Array]]]:
        """Apply the network, and return outputs, state, and what was collected."""
        hooks = {site.path: Hook(site, tapped, features and site.path == self.last) for site in self.sites}
        if features and self.last is not None:
            hooks.setdefault(self.last, Hook(None, False, True))
        fields = {
            site.path: (
                None if shifts is None else site.stacked(shifts[site.name]),
                site.stacked(variables["masks"][site.name]),
            )
            for site in self.sites
        }
        model = marked(self.structure.model(variables), hooks, fields)
        model, state = self.in_mode(model, key), self.structure.state_of(variables)
        if not tapped and not features:
            return *self.rows(model, state, x, key), {}
        (outputs, state), found = collect(lambda x: self.rows(model, state, x, key), x)
        return outputs, state, found

    def logits(self, variables: Variables, x: Any, *args: Any, **options: Any) -> tuple[Array, Variables, Any]:
        """Apply the network, and return logits, updated variables, and what was collected."""

        def run(x: Any) -> tuple[Any, Any]:
            outputs, *rest = self.run(variables, x, *args, **options)
            return outputs, rest

        outputs, (state, found) = skip(run, x) if self.head.skipped else run(x)
        return self.head(outputs), self.structure.with_state(variables, state), found

    def zeroed(self, variables: Variables) -> Variables:
        """Return variables with zeros in the weights and biases of cut units."""
        params = jax.tree.map(lambda leaf: leaf, variables["params"])  # new dictionaries
        for site in self.sites:
            keep = site.stacked(variables["masks"][site.name])
            if np.all(np.asarray(keep)):
                continue
            layer = get(params, site.path)
            for name, axis in (("weight", site.weight_axis), ("bias", 0)):
                if name in layer:
                    layer[name] = zeroed(layer[name], keep, axis)
        return {**variables, "params": params}


def _sites(
    program: _Program, variables: Variables, x: Any, units: Selection
) -> tuple[dict[str, Layer], tuple[Site, ...], Path | None]:
    """Record the layers that the model calls, and choose those with units."""
    model = program.structure.model(variables)
    modules = dict(modules_of(model))
    calls: list[Layer] = []
    axes: dict[str, tuple[Path, int, int, tuple[int, ...]]] = {}
    hooks = {path: functools.partial(record, calls, axes, modules, path) for path in modules}

    def run(x: Any) -> Any:
        return program.rows(program.in_mode(marked(model, hooks), None), program.structure.state_of(variables), x)

    jax.eval_shape(run, x)
    chosen = select(calls, units)
    sites = tuple(Site(name, *axes[layer.name]) for name, layer in chosen.items())
    last = next((call for call in reversed(calls) if call.is_default), None)
    is_linear = last is not None and family_of(last.layer) == "Linear"
    return chosen, sites, axes[last.name][0] if last is not None and is_linear else None


def _axis_name(model: Any) -> Any:
    """Return the name of the axis over which batch normalisation computes its statistics."""
    names = set()
    for _, layer in modules_of(model):
        if family_of(layer) == "BatchNorm":
            name = layer.axis_name
            names.update(name if isinstance(name, tuple | list) else (name,))
    if len(names) > 1:
        raise ValueError(
            f"batch normalisation must have one axis name, of the rows, found {', '.join(sorted(map(repr, names)))}"
        )
    return names.pop() if names else "batch"


def _call_of(model: Any, state: Any, call: Call | None) -> Call:
    """Return how to apply a model to a row, by the names of its parameters."""
    if call is not None:
        return call
    if not callable(model):
        raise ValueError("the model cannot be called: pass call=, a function of (model, x, state, key)")
    parameters = list(inspect.signature(type(model).__call__).parameters.values())[2:]
    names = {parameter.name for parameter in parameters}
    required = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    unknown = [name for name in required if name not in ("state", "key")]
    if unknown or (state is None and "state" in required) or (state is not None and "state" not in names):
        raise ValueError(
            f"{type(model).__name__} has the parameters (x, {', '.join(names) or 'no others'}) and was "
            f"given {'no state' if state is None else 'a state'}: pass state= if it has state, and "
            "call=lambda model, x, state, key: ... if it is called otherwise"
        )

    def called(model: Any, x: Any, state: Any, key: KeyArray | None) -> Any:
        options = {"key": key} if "key" in names else {}
        return model(x, **options) if state is None else model(x, state=state, **options)

    return called


@contextlib.contextmanager
def _as_users_run() -> Iterator[None]:
    """Apply the model's own code with JAX's usual rules of promotion, whatever is set for other code."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
