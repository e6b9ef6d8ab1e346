"""Layers of Equinox models: their units, and subclasses of their classes that shift, mask and show them."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fairjax.adapters._bringing import Layer, extra, shifted_and_masked
from fairjax.adapters._equinox_model import Path, is_array, names_of
from fairjax.adapters._taps import tap

_UNIT_AXES = {
    **dict.fromkeys(("Linear", "LayerNorm", "RMSNorm"), (-1, 0)),
    **dict.fromkeys(("Conv", "ConvTranspose", "BatchNorm", "GroupNorm"), (0, 0)),
    "Embedding": (-1, 1),
}
"""Axis of the units in the output for one row, and in the weight, of Equinox's classes and their subclasses."""

_DEFAULT = ("Linear", "Conv", "ConvTranspose")


class Site(NamedTuple):
    """Where the units of a layer are."""

    name: str
    path: Path
    axis: int
    """Axis of the units in the layer's output for one row."""
    weight_axis: int
    stack: tuple[int, ...]
    """Lengths of the axes over which the parameters of several layers are stacked, as for a scan over layers."""

    def stacked(self, units: Any) -> Any:
        """Return a vector of units with the axes over which layers are stacked."""
        return units.reshape(*self.stack, -1)


@dataclasses.dataclass(frozen=True)
class Hook:
    """What a layer does with its result."""

    site: Site | None
    tapped: bool = False
    is_last: bool = False

    def __call__(self, layer: Any, inputs: Sequence[Any], result: Any) -> Any:
        """Shift and mask the layer's units, and mark its values for `collect`."""
        if self.is_last:
            tap("features", inputs[0], jnp.zeros(()))
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


def record(
    calls: list[Layer],
    axes: dict[str, Any],
    modules: dict[Path, Any],
    path: Path,
    called: Any,
    inputs: Sequence[Any],
    result: Any,
) -> Any:
    """Note a call of a layer, which may see a part of the parameters only."""
    del inputs
    layer, name, family = modules[path], ".".join(path), family_of(modules[path])
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


def _obstacle(layer: Any, family: str | None, path: Path, modules: dict[Path, Any]) -> str | None:
    """Return why zeros in the layer's weights cannot express a cut, or None."""
    for depth in range(1, len(path)):
        parent = modules.get(path[:depth])
        if type(parent).__name__ in ("Shared", "WeightNorm", "SpectralNorm"):
            return f"its weights are shared or computed by {type(parent).__name__} at {'.'.join(path[:depth])}"
    if family is None or not is_array(getattr(layer, "weight", None)):
        return f"a {type(layer).__name__} has no weights for each unit, so that it does not become 0"
    if family in ("LayerNorm", "RMSNorm") and layer.weight.ndim != 1:
        return "its weights have several axes"
    return None


def family_of(layer: Any) -> str | None:
    """Return the class of Equinox that says where a layer's units are."""
    nn = extra("equinox").nn
    return next((name for name in _UNIT_AXES if hasattr(nn, name) and isinstance(layer, getattr(nn, name))), None)


def marked(model: Any, hooks: dict[Path, Any], fields: dict[Path, Any] | None = None) -> Any:
    """Return the model with layers that call hooks, of subclasses of their own classes with three more fields."""
    module = extra("equinox").Module

    def replaced(node: Any, path: Path) -> Any:
        children, treedef = jax.tree_util.tree_flatten_with_path(
            node, is_leaf=lambda other: other is not node and isinstance(other, module)
        )
        leaves = [
            replaced(child, (*path, *names_of(keys))) if isinstance(child, module) else child
            for keys, child in children
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


def _arrays(layer: Any) -> list[Any]:
    names = [field.name for field in dataclasses.fields(layer) if not field.name.startswith("fairjax_")]
    return [leaf for leaf in (getattr(layer, name, None) for name in names) if is_array(leaf)]


def zeroed(weight: Array, keep: Array, axis: int) -> Array:
    """Return a weight with zeros for cut units, of layers that may be stacked."""
    stack = keep.ndim - 1
    shape = [*keep.shape[:-1], *[1] * (weight.ndim - stack)]
    shape[stack + axis] = keep.shape[-1]
    return jnp.where(keep.reshape(shape), weight, jnp.zeros((), weight.dtype))


def modules_of(model: Any) -> Iterator[tuple[Path, Any]]:
    """Return the modules inside a model that can be called, by paths, outer ones first."""
    module = extra("equinox").Module

    def inside(node: Any, path: Path) -> Iterator[tuple[Path, Any]]:
        children, _ = jax.tree_util.tree_flatten_with_path(
            node, is_leaf=lambda other: other is not node and isinstance(other, module)
        )
        for keys, child in children:
            if not isinstance(child, module):
                continue
            own = type(child).__module__.startswith("equinox.") and not type(child).__module__.startswith("equinox.nn")
            if callable(child) and not own:
                yield (*path, *names_of(keys)), child
            yield from inside(child, (*path, *names_of(keys)))

    return inside(model, ())
