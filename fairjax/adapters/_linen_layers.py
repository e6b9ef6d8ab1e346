"""The layers of a Linen module, as they are called on an example."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import meta
from flax.core.tracers import current_trace

from fairjax.adapters._sites import Call, Path

DEFAULT_LAYERS = (nn.Dense, nn.DenseGeneral, nn.Conv, nn.ConvTranspose, nn.ConvLocal)
"""Layers whose outputs are units unless others are chosen."""

NORMALISATIONS = (nn.BatchNorm, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.InstanceNorm)


@contextlib.contextmanager
def outputs_replaced(replace: Callable[[nn.Module, Any, Any], Any]) -> Iterator[list[nn.Module]]:
    """Replace the outputs of all layers that are called.

    Args:
        replace: function of a layer, its first argument and its output, which returns the new output.

    Yields:
        The layers that are being called, outermost first.
    """
    active: list[nn.Module] = []
    inner_paths: list[set[Path]] = [set()]

    def interceptor(function, args, kwargs, context):
        if context.method_name != "__call__":
            return function(*args, **kwargs)
        path = context.module.path
        active.append(context.module)
        inner_paths.append(set())
        try:
            output = function(*args, **kwargs)
            if path in inner_paths[-1]:  # a lifted layer calls itself, and the inner call counts
                return output
            return replace(context.module, next(iter((*args, *kwargs.values())), None), output)
        finally:
            active.pop()
            inner_paths.pop()
            inner_paths[-1].add(path)

    with nn.intercept_methods(interceptor):
        yield active


def record(evaluate: Callable[[Any], Any], variables: Any) -> list[Call]:
    """Trace a network and record the calls of its layers in order; nothing is computed.

    Args:
        evaluate: function that applies the network to its variables.
        variables: the network's variables, as plain dictionaries without metadata.

    Returns:
        The calls of layers whose output is a floating-point array.
    """
    calls: list[Call] = []
    shared: set[Path] = set()

    def note(module, argument, output):
        if hasattr(output, "shape") and output.ndim and jnp.issubdtype(output.dtype, jnp.floating):
            several = module.features if isinstance(module, nn.DenseGeneral) else 1
            features = (output.shape[-1],) if isinstance(several, int) else tuple(several)
            loop = _loop(active, variables["params"])
            calls.append(
                Call(
                    module.path,
                    module,
                    isinstance(module, DEFAULT_LAYERS),
                    features,
                    output.shape,
                    output.dtype,
                    getattr(argument, "shape", ()),
                    current_trace(),
                    *loop,
                    _obstacle(module, features),
                )
            )
        return output

    def note_attend(function, args, kwargs, context):
        if context.method_name == "attend":
            shared.add(context.module.path)
        return function(*args, **kwargs)

    with outputs_replaced(note) as active, nn.intercept_methods(note_attend):
        jax.eval_shape(evaluate, variables)
    tied = "its embedding is also the weight of another layer (attend)"
    return [call._replace(obstacle=tied) if call.path in shared else call for call in calls]


def _loop(active: Sequence[nn.Module], params: Any) -> tuple[tuple[int, ...], Path | None]:
    """Return the leading axes that parameters have outside and not inside, and the outermost layer with such."""
    stacked, loop = (), None
    for module in active:
        outside = jax.tree.leaves(at(params, module.path))
        inside = jax.tree.leaves(_own_params(module))
        if not outside or len(outside) != len(inside):
            continue
        stacked = outside[0].shape[: outside[0].ndim - inside[0].ndim]
        if stacked and loop is None:
            loop = module.path
    return stacked, loop


def _own_params(module: nn.Module) -> Any:
    return meta.unbox(dict(module.variables.get("params", {})))


def _obstacle(module: nn.Module, features: tuple[int, ...]) -> str | None:
    """Say why zeros in a layer's parameters do not make it return 0; None if they do."""
    name = type(module).__name__
    known = (*DEFAULT_LAYERS, nn.Embed, *NORMALISATIONS)
    if not any(type(module).__call__ is layer.__call__ for layer in known):
        return f"{name} is no layer that returns 0 for a unit where its own weights are 0"
    if isinstance(module, nn.ConvTranspose) and module.transpose_kernel:
        return "the kernel of a ConvTranspose with transpose_kernel has its units on another axis"
    if isinstance(module, NORMALISATIONS) and not module.use_scale:
        return f"{name} has no scale"
    if any(leaf.shape[leaf.ndim - len(features) :] != features for leaf in jax.tree.leaves(_own_params(module))):
        return f"{name} has its units on another axis than the last"
    return None


def at(tree: Any, path: Path) -> Any:
    """Return the part of a tree of dictionaries at a path, or an empty dictionary."""
    for name in path:
        tree = tree.get(name, {})
    return tree
