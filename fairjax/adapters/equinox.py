"""Equinox models, with or without state, as networks, and back.

`bring` replaces the layers with units by instances of subclasses, so that all of the model's own code remains.
"""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from fairjax.adapters._bringing import (
    Brought,
    Layer,
    Selection,
    TrainedInit,
    all_kept,
    check_agreement,
    check_given_back,
    extra,
    num_rows,
    obstacles_of,
    positions_then_units,
    select,
    shifted_and_masked,
)
from fairjax.adapters._final_activation import is_skipped, skip
from fairjax.adapters._heads import Head, Output
from fairjax.adapters._taps import collect, tap
from fairjax.nn.network import Network
from fairjax.types import Inputs, KeyArray, Variables

Call = Callable[[Any, Any, Any, KeyArray | None], Any]
"""Applies a model to one row: `call(model, x, state, key)` returns the output, with the new state if there is one."""

_UNIT_AXES = {
    **dict.fromkeys(("Linear", "LayerNorm", "RMSNorm"), (-1, 0)),
    **dict.fromkeys(("Conv", "ConvTranspose", "BatchNorm", "GroupNorm"), (0, 0)),
    "Embedding": (-1, 1),
}
"""Axis of the units in the output for one row, and in the weight, of Equinox's classes and their subclasses."""

_DEFAULT = ("Linear", "Conv", "ConvTranspose")


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
            except the last called. A unit of a convolution is a channel.
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
    if state is None and _has_state(model):
        raise ValueError("the model has state, such as batch statistics: pass it as state=, with the model")
    program = _Program(_structure(model, state), _call_of(model, state, call), _axis_name(model))
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
        model, state = program.given_back(variables)
        outputs = program.outputs(program.in_mode(model, None), state, few)
        check_given_back(network, variables, few, outputs, head)
        return model if state is None else (model, state)

    return Brought(network, variables, widths, program.structure.read, write, obstacles_of(chosen))


@dataclasses.dataclass(frozen=True, eq=False)
class _Structure:
    """A model and its state without arrays."""

    leaves: tuple[Any, ...]
    """The model's leaves that are not part of the variables, and None for the others."""
    treedef: Any
    paths: tuple[tuple[str, ...], ...]
    """Where leaves are in the model."""
    kinds: tuple[str | None, ...]
    """The collections of leaves."""
    state: Any
    """The structure of the state, or None."""
    state_names: tuple[str, ...]

    def read(self, model: Any, state: Any = None) -> Variables:
        """Return the collections of a model and its state."""
        if (state is None) != (self.state is None):
            raise ValueError("a model with state is read with it, variables_of(model, state), and one without alone")
        variables: Variables = {"params": {}}
        for path, leaf in zip(*_paths_and_leaves(model), strict=True):
            if kind := _kind(leaf):
                _put(variables.setdefault(kind, {}), path, jnp.asarray(leaf))
            elif not callable(leaf) and path in self.paths and path[-1] != "inference":
                self._check_leaf(path, leaf)
        if state is not None:
            leaves = jax.tree.leaves(state)
            if len(leaves) != len(self.state_names):
                raise ValueError(f"the state must have {len(self.state_names)} arrays, found {len(leaves)}")
            variables["state"] = dict(zip(self.state_names, map(jnp.asarray, leaves), strict=True))
        return variables

    def _check_leaf(self, path: tuple[str, ...], leaf: Any) -> None:
        expected = self.leaves[self.paths.index(path)]
        if isinstance(leaf, int | float | str) and expected != leaf:
            raise ValueError(f"the model brought has {'.'.join(path)} = {expected!r}, this one has {leaf!r}")

    def model(self, variables: Variables) -> Any:
        """Return the model with these variables."""
        leaves = [
            _get(variables[kind], path) if kind else leaf
            for path, kind, leaf in zip(self.paths, self.kinds, self.leaves, strict=True)
        ]
        return jax.tree.unflatten(self.treedef, leaves)

    def state_of(self, variables: Variables) -> Any:
        """Return the state with these variables, or None."""
        if self.state is None:
            return None
        return jax.tree.unflatten(self.state, [variables["state"][name] for name in self.state_names])

    def with_state(self, variables: Variables, state: Any) -> Variables:
        """Return variables with a new state."""
        if self.state is None:
            return variables
        return {**variables, "state": dict(zip(self.state_names, jax.tree.leaves(state), strict=True))}


class _Site(NamedTuple):
    """Where the units of a layer are."""

    name: str
    path: tuple[str, ...]
    axis: int
    """Axis of the units in the layer's output for one row."""
    weight_axis: int
    stack: tuple[int, ...]
    """Lengths of the axes over which the parameters of several layers are stacked, as for a scan over layers."""

    def stacked(self, units: Any) -> Any:
        """Return a vector of units with the axes over which layers are stacked."""
        return units.reshape(*self.stack, -1)


@dataclasses.dataclass(frozen=True)
class _Hook:
    """What a layer does with its result."""

    site: _Site | None
    tapped: bool = False
    is_last: bool = False

    def __call__(self, layer: Any, inputs: Sequence[Any], result: Any) -> Any:
        """Shift and mask the layer's units, and mark its values for `collect`."""
        if self.is_last:
            inputs = (tap("features", inputs[0], jnp.zeros(())), *inputs[1:])
        h, rest = (result[0], result[1:]) if isinstance(result, tuple) else (result, None)
        if self.site is not None:
            h = self._changed(layer, h)
        return h if rest is None else (h, *rest)

    def _changed(self, layer: Any, h: Array) -> Array:
        assert self.site is not None
        vector = h if h.ndim else h[None]  # a layer with out_features="scalar"
        vector = shifted_and_masked(vector, layer.fairjax_shift, layer.fairjax_keep, self.site.axis)
        if self.tapped:
            keep, axis, stack = layer.fairjax_keep, self.site.axis, self.site.stack
            vector = tap(self.site.name, vector, keep, axis=axis, stack=stack)
        return vector.reshape(h.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class _Program:
    """An Equinox model as functions of variables and rows."""

    structure: _Structure
    call: Call
    axis_name: Any
    sites: tuple[_Site, ...] = ()
    last: tuple[str, ...] | None = None
    """Path of the last linear layer."""
    head: Head = dataclasses.field(default_factory=lambda: Head("logit"))

    def in_mode(self, model: Any, key: KeyArray | None) -> Any:
        """Return the model in training mode if there is a key, else in evaluation mode."""
        return extra("equinox").nn.inference_mode(model, key is None)

    def rows(self, model: Any, state: Any, x: Any, key: KeyArray | None = None) -> tuple[Any, Any]:
        """Apply the model to rows, and return outputs and the new state."""
        keys = None if key is None else jax.random.split(key, num_rows(x))

        def row(x: Any, key: KeyArray | None) -> tuple[Any, Any]:
            result = self.call(model, x, state, key)
            if state is None:
                return result, None
            if not isinstance(result, tuple) or len(result) != 2:
                raise ValueError(f"a model with state must return (output, state), found {type(result).__name__}")
            return result

        mapped = jax.vmap(row, in_axes=(0, None if key is None else 0), out_axes=(0, None), axis_name=self.axis_name)
        with _as_users_run():
            return mapped(x, keys)

    def outputs(self, model: Any, state: Any, x: Any) -> Any:
        """Return the outputs of a model in evaluation mode."""
        arrays, static = extra("equinox").partition(model, _is_array)
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
        hooks = {site.path: _Hook(site, tapped, features and site.path == self.last) for site in self.sites}
        if features and self.last is not None:
            hooks.setdefault(self.last, _Hook(None, False, True))
        fields = {
            site.path: (
                None if shifts is None else site.stacked(shifts[site.name]),
                site.stacked(variables["masks"][site.name]),
            )
            for site in self.sites
        }
        model = _marked(self.structure.model(variables), hooks, fields)
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

    def apply(
        self,
        variables: Variables,
        x: Inputs,
        *,
        shifts: PyTree[Float[Array, "_"]] | None = None,
        key: KeyArray | None = None,
    ) -> tuple[Float[Array, "n *c"], Variables]:
        """Compute logits and updated variables."""
        logits, updated, _ = self.logits(variables, x, shifts, key)
        return logits, variables if key is None else updated

    def features(
        self, variables: Variables, x: Inputs, *, key: KeyArray | None = None
    ) -> tuple[Float[Array, "n k"], Float[Array, "n *c"], Variables]:
        """Compute the input of the last linear layer, logits, and updated variables."""
        logits, updated, found = self.logits(variables, x, None, key, features=True)
        return found["features"][0], logits, variables if key is None else updated

    def has_features(self, variables: Variables, x: Any) -> bool:
        """Return whether the last layer is linear and has one vector per row as its input."""
        if self.last is None:
            return False
        found = jax.eval_shape(lambda x: self.run(variables, x, features=True)[2], x)
        return [part.ndim for part in found["features"]] == [2]

    def activations(self, variables: Variables, x: Inputs) -> dict[str, Float[Array, "n ..."]]:
        """Compute the activations at every unit."""
        found = self.run(variables, x, tapped=True)[2]
        return {name: positions_then_units(calls) for name, calls in found.items()}

    def given_back(self, variables: Variables) -> tuple[Any, Any]:
        """Return the model and its state, with zeros in the weights and biases of cut units."""
        params = jax.tree.map(lambda leaf: leaf, variables["params"])
        for site in self.sites:
            keep = site.stacked(variables["masks"][site.name])
            if np.all(np.asarray(keep)):
                continue
            layer = _get(params, site.path)
            for name, axis in (("weight", site.weight_axis), ("bias", 0)):
                if name in layer:
                    layer[name] = _zeroed(layer[name], keep, axis)
        return self.structure.model({**variables, "params": params}), self.structure.state_of(variables)


def _zeroed(weight: Array, keep: Array, axis: int) -> Array:
    """Return a weight with zeros for cut units, of layers that may be stacked."""
    stack = keep.ndim - 1
    shape = [*keep.shape[:-1], *[1] * (weight.ndim - stack)]
    shape[stack + axis] = keep.shape[-1]
    return jnp.where(keep.reshape(shape), weight, jnp.zeros((), weight.dtype))


def _sites(
    program: _Program, variables: Variables, x: Any, units: Selection
) -> tuple[dict[str, Layer], tuple[_Site, ...], tuple[str, ...] | None]:
    """Record the layers that the model calls, and choose those with units."""
    model = program.structure.model(variables)
    modules = dict(_modules(model))
    calls: list[Layer] = []
    axes: dict[str, tuple[tuple[str, ...], int, int, tuple[int, ...]]] = {}
    hooks = {path: functools.partial(_record, calls, axes, modules, path) for path in modules}

    def run(x: Any) -> Any:
        return program.rows(program.in_mode(_marked(model, hooks), None), program.structure.state_of(variables), x)

    jax.eval_shape(run, x)
    chosen = select(calls, units)
    sites = tuple(_Site(name, *axes[layer.name]) for name, layer in chosen.items())
    last = next((call for call in reversed(calls) if call.is_default), None)
    is_linear = last is not None and _family(last.layer) == "Linear"
    return chosen, sites, axes[last.name][0] if last is not None and is_linear else None


def _record(
    calls: list[Layer],
    axes: dict[str, Any],
    modules: dict[tuple[str, ...], Any],
    path: tuple[str, ...],
    called: Any,
    inputs: Sequence[Any],
    result: Any,
) -> Any:
    """Note a call of a layer, which may see a part of the parameters only."""
    layer, name, family = modules[path], ".".join(path), _family(modules[path])
    h = result[0] if isinstance(result, tuple) and result else result
    if not isinstance(h, jax.Array) or not jnp.issubdtype(h.dtype, jnp.floating):
        return result
    axis, weight_axis = _UNIT_AXES.get(family or "", (0 if h.ndim >= 3 else -1, 0))
    sizes = [
        (whole.shape, part.shape)
        for whole, part in zip(_arrays(layer), _arrays(called), strict=False)
        if whole.ndim > part.ndim
    ]
    stack = sizes[0][0][: len(sizes[0][0]) - len(sizes[0][1])] if sizes else ()
    width = (h.shape[axis] if h.ndim else 1) * int(np.prod(stack))
    calls.append(Layer(name, layer, width, family in _DEFAULT, _obstacle(layer, family, path, modules)))
    axes.setdefault(name, (path, axis, weight_axis, stack))
    return result


def _obstacle(layer: Any, family: str | None, path: tuple[str, ...], modules: dict[tuple[str, ...], Any]) -> str | None:
    """Return why zeros in the layer's weights cannot express a cut, or None."""
    for depth in range(1, len(path)):
        parent = modules.get(path[:depth])
        if type(parent).__name__ in ("Shared", "WeightNorm", "SpectralNorm"):
            return f"its weights are shared or computed by {type(parent).__name__} at {'.'.join(path[:depth])}"
    if family is None or not _is_array(getattr(layer, "weight", None)):
        return f"a {type(layer).__name__} has no weights for each unit, so that it does not become 0"
    if family in ("LayerNorm", "RMSNorm") and layer.weight.ndim != 1:
        return "its weights have several axes"
    return None


def _family(layer: Any) -> str | None:
    """Return the class of Equinox that says where a layer's units are."""
    nn = extra("equinox").nn
    return next((name for name in _UNIT_AXES if hasattr(nn, name) and isinstance(layer, getattr(nn, name))), None)


def _marked(model: Any, hooks: dict[tuple[str, ...], Any], fields: dict[tuple[str, ...], Any] | None = None) -> Any:
    """Return the model with layers that call hooks, of subclasses of their own classes with three more fields."""
    module = extra("equinox").Module

    def replaced(node: Any, path: tuple[str, ...]) -> Any:
        children, treedef = jax.tree_util.tree_flatten_with_path(
            node, is_leaf=lambda other: other is not node and isinstance(other, module)
        )
        leaves = [
            replaced(child, (*path, *_names(keys))) if isinstance(child, module) else child for keys, child in children
        ]
        node = jax.tree.unflatten(treedef, leaves)
        return _with_hook(node, hooks[path], *(fields or {}).get(path, (None, None))) if path in hooks else node

    return replaced(model, ())


def _with_hook(layer: Any, hook: Any, shift: Any, keep: Any) -> Any:
    marked = object.__new__(_marked_class(type(layer)))
    for field in dataclasses.fields(layer):
        if hasattr(layer, field.name):
            object.__setattr__(marked, field.name, getattr(layer, field.name))
    for name, value in (("fairjax_shift", shift), ("fairjax_keep", keep), ("fairjax_hook", hook)):
        object.__setattr__(marked, name, value)
    return marked


@functools.cache
def _marked_class(cls: type) -> type:
    """Make the subclass of a class of layers whose instances call a hook with their inputs and results."""
    field = extra("equinox").field

    def __call__(self: Any, *args: Any, **options: Any) -> Any:
        return self.fairjax_hook(self, args, cls.__call__(self, *args, **options))

    namespace = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__annotations__": dict.fromkeys(("fairjax_shift", "fairjax_keep", "fairjax_hook"), Any),
        "fairjax_shift": None,
        "fairjax_keep": None,
        "fairjax_hook": field(static=True, default=None),
        "__call__": __call__,
    }
    return type(cls)(cls.__name__, (cls,), namespace)


def _structure(model: Any, state: Any) -> _Structure:
    paths, leaves = _paths_and_leaves(model)
    kinds = tuple(map(_kind, leaves))
    if len(set(paths)) < len(paths):
        raise ValueError("two arrays of the model have the same path: its dictionaries must have string keys")
    names = []
    if state is not None:
        with_paths, _ = jax.tree_util.tree_flatten_with_path(getattr(state, "_state", state))
        described = [jax.tree_util.keystr(keys, simple=True, separator=".") for keys, _ in with_paths]
        count = len(jax.tree.leaves(state))
        names = [f"{number:03d} {described[number]}" if len(described) == count else f"{number:03d}" for number in range(count)]
    return _Structure(
        tuple(None if kind else leaf for kind, leaf in zip(kinds, leaves, strict=True)),
        jax.tree.structure(model, is_leaf=_is_index),
        paths,
        kinds,
        None if state is None else jax.tree.structure(state),
        tuple(names),
    )


def _kind(leaf: Any) -> str | None:
    """Return the collection of a leaf: None if it is no array, or is a random key, which is no variable."""
    if not _is_array(leaf) or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return None
    return "params" if jnp.issubdtype(leaf.dtype, jnp.inexact) else "buffers"


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)


def _arrays(layer: Any) -> list[Any]:
    return [leaf for leaf in map(functools.partial(getattr, layer), _array_fields(layer)) if _is_array(leaf)]


def _array_fields(layer: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(layer) if not field.name.startswith("fairjax_")]


def _is_index(node: Any) -> bool:
    return isinstance(node, extra("equinox").nn.StateIndex)


def _has_state(model: Any) -> bool:
    return any(map(_is_index, jax.tree.leaves(model, is_leaf=_is_index)))


def _paths_and_leaves(model: Any) -> tuple[tuple[tuple[str, ...], ...], tuple[Any, ...]]:
    found, _ = jax.tree_util.tree_flatten_with_path(model, is_leaf=_is_index)
    return tuple(_names(keys) for keys, _ in found), tuple(leaf for _, leaf in found)


def _names(keys: Sequence[Any]) -> tuple[str, ...]:
    return tuple(jax.tree_util.keystr((key,), simple=True) for key in keys)


def _modules(model: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Return the modules inside a model that can be called, by paths, outer ones first."""
    module = extra("equinox").Module

    def inside(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        children, _ = jax.tree_util.tree_flatten_with_path(
            node, is_leaf=lambda other: other is not node and isinstance(other, module)
        )
        for keys, child in children:
            if not isinstance(child, module):
                continue
            own = type(child).__module__.startswith("equinox.") and not type(child).__module__.startswith("equinox.nn")
            if callable(child) and not own:
                yield (*path, *_names(keys)), child
            yield from inside(child, (*path, *_names(keys)))

    return inside(model, ())


def _axis_name(model: Any) -> Any:
    """Return the name of the axis over which batch normalisation computes its statistics."""
    names = set()
    for _, layer in _modules(model):
        if _family(layer) == "BatchNorm":
            name = layer.axis_name
            names.update(name if isinstance(name, tuple | list) else (name,))
    if len(names) > 1:
        raise ValueError(
            f"batch normalisation must have one axis name, that of the rows, found {', '.join(sorted(map(repr, names)))}"
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


def _put(tree: dict[str, Any], path: tuple[str, ...], leaf: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = leaf


def _get(tree: Any, path: tuple[str, ...]) -> Any:
    return functools.reduce(lambda node, name: node[name], path, tree)
