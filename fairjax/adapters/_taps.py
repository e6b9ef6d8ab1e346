"""Values from inside a network: arrays are marked while it is traced, also inside vmap, scan, jit and checkpoint.

Layers are called with parts of an array where their caller uses `jax.vmap` or `jax.lax.scan`, so that the values that
they see cannot be returned directly. A `tap` is an operation that returns its operand; `collect` finds the taps in
the traced program and returns their operands for all rows and positions.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Primitive
from jax.interpreters import batching
from jaxtyping import Array, Float

from fairjax.adapters._bringing import num_rows

_tap = Primitive("fairjax_tap")
_tap.def_abstract_eval(lambda h, keep, **_: h)
_tap.def_impl(lambda h, keep, **_: h)

POSITION, STACK = "position", "stack"
"""Why a mapped axis exists: the same layer is called at every position, or the axis numbers layers that are stacked."""

_CALLS = {
    *("jit", "pjit", "checkpoint", "remat", "remat2", "closed_call", "core_call", "core_closed_call"),
    *("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"),
}
"""Operations that evaluate an inner program once, on the same operands."""


class _Found(NamedTuple):
    name: str
    value: Any
    axes: tuple[Any, ...]
    """Why each leading axis that the caller added exists, or the length of its scan; the layer's own axes follow."""
    stack: tuple[int, ...]
    """Lengths of the axes over which parameters of several layers are stacked."""


def tap(name: str, h: Array, keep: Array, *, axis: int = -1, stack: tuple[int, ...] = ()) -> Array:
    """Return a value unchanged, marked so that `collect` returns it, too.

    Args:
        name: under which it is returned.
        h: the value, as the layer sees it.
        keep: the layer's mask, which shows whether mapped axes are positions or stacked layers.
        axis: axis of the units.
        stack: lengths of the axes over which the layer's parameters are stacked, as for a scan over layers.
    """
    return jnp.moveaxis(_tap.bind(jnp.moveaxis(h, axis, -1), keep, name=name, axes=(), stack=stack), -1, axis)


def _batched(operands: Any, dims: Any, *, name: str, axes: tuple[Any, ...], stack: tuple[int, ...]) -> Any:
    """Move the mapped axis to the front, and note why it exists."""
    (h, keep), (dim, keep_dim) = operands, dims
    is_stack = isinstance(keep_dim, int)
    h = jnp.moveaxis(h, dim, 0) if isinstance(dim, int) else jnp.broadcast_to(h, (keep.shape[keep_dim], *h.shape))
    keep = jnp.moveaxis(keep, keep_dim, 0) if is_stack else keep
    reason = STACK if is_stack else POSITION
    return _tap.bind(h, keep, name=name, axes=(reason, *axes), stack=stack), 0


batching.primitive_batchers[_tap] = _batched


def collect(function: Callable[[Any], Any], x: Any) -> tuple[Any, dict[str, list[Float[Array, "n ..."]]]]:
    """Evaluate a function of rows, and return the values of its taps.

    Args:
        function: function of a tree of arrays with rows on their first axes.
        x: the tree.

    Returns:
        The function's result, and for every name the values of its taps in order, of shape (n, *positions, units);
        units of stacked layers follow each other on the last axis.

    Raises:
        ValueError: if a tap is inside an operation such as a while loop, which has no value for every step.
    """
    (program, shapes), found = jax.make_jaxpr(function, return_shape=True)(x), []
    outputs = _evaluate(program.jaxpr, program.consts, jax.tree.leaves(x), found)
    larger: list[_Found] = []

    def one_more(x: Any) -> None:
        program = jax.make_jaxpr(function)(x)
        _evaluate(program.jaxpr, program.consts, jax.tree.leaves(x), larger)

    n = num_rows(x)
    jax.eval_shape(one_more, jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((n + 1, *leaf.shape[1:]), leaf.dtype), x))
    values: dict[str, list[Array]] = {}
    for part, other in zip(found, larger, strict=True):
        values.setdefault(part.name, []).append(_rows_first(part, other.value.shape))
    return jax.tree.unflatten(jax.tree.structure(shapes), outputs), values


def _rows_first(found: _Found, larger: tuple[int, ...]) -> Array:
    """Arrange axes as rows, positions, and units, of which rows are those that differ in size with one more row."""
    value = found.value
    rows = [axis for axis, (size, other) in enumerate(zip(value.shape, larger, strict=True)) if size != other]
    if not rows:
        raise ValueError(f"activations of {found.name!r} do not depend on the rows, so that they are not one per row")
    stacked = _stacked(found)
    others = [axis for axis in range(value.ndim - 1) if axis != rows[0] and axis not in stacked]
    value = value.transpose(rows[0], *others, *stacked, value.ndim - 1)
    return value.reshape(*value.shape[: 1 + len(others)], math.prod(value.shape[1 + len(others) :]))


def _stacked(found: _Found) -> list[int]:
    """Return the axes that number stacked layers."""
    stacked = [axis for axis, reason in enumerate(found.axes) if reason == STACK]
    lengths = list(found.stack)
    for axis in stacked:
        lengths.remove(found.value.shape[axis])
    scans = [axis for axis, reason in enumerate(found.axes) if reason in lengths]
    if len(scans) != len(lengths):
        raise ValueError(
            f"{found.name!r} is called in several loops of the same length, so that steps and layers cannot be told "
            "apart: bring the network with units= that leave this layer out"
        )
    return sorted([*stacked, *scans])


def _evaluate(program: Jaxpr, consts: Sequence[Any], operands: Sequence[Any], found: list[_Found]) -> list[Any]:
    """Evaluate a program and add its taps to `found`; they are not part of what is computed again."""
    values = dict(zip([*program.constvars, *program.invars], [*consts, *operands], strict=True))
    for equation in program.eqns:
        inputs = [var.val if isinstance(var, Literal) else values[var] for var in equation.invars]
        outputs = _evaluate_equation(equation, inputs, found)
        values.update(zip(equation.outvars, outputs, strict=True))
    return [var.val if isinstance(var, Literal) else values[var] for var in program.outvars]


def _evaluate_equation(equation: Any, inputs: list[Any], found: list[_Found]) -> Sequence[Any]:
    name, options = equation.primitive.name, equation.params
    if equation.primitive is _tap:
        found.append(_Found(options["name"], inputs[0], options["axes"], options["stack"]))
        return inputs[:1]
    if not any(map(_has_taps, _inner(equation))):
        return bind(equation, inputs)
    if name in _CALLS:
        inner = _inner(equation)[0]
        return _evaluate(*opened(inner), inputs, found)
    if name == "scan":
        return _evaluate_scan(options, inputs, found)
    raise ValueError(
        f"a layer is called inside the operation {name!r}, which has no value for every step: bring the network with "
        "units= that leave this layer out"
    )


def _evaluate_scan(options: dict[str, Any], inputs: list[Any], found: list[_Found]) -> Sequence[Any]:
    """Evaluate a scan whose steps also return the values of taps."""
    first, last = options["num_consts"], options["num_consts"] + options["num_carry"]
    program, consts = opened(options["jaxpr"])
    parts: list[_Found] = []

    def step(carry: list[Any], xs: list[Any]) -> Any:
        parts.clear()
        outputs = _evaluate(program, consts, [*inputs[:first], *carry, *xs], parts)
        return outputs[: last - first], (outputs[last - first :], [part.value for part in parts])

    names = ("length", "reverse", "unroll")
    carry, (ys, values) = jax.lax.scan(
        step, inputs[first:last], inputs[last:], **{name: options[name] for name in names}
    )
    for part, value in zip(parts, values, strict=True):
        found.append(part._replace(value=value, axes=(options["length"], *part.axes)))
    return [*carry, *ys]


def bind(equation: Any, inputs: Sequence[Any]) -> Sequence[Any]:
    """Evaluate one operation of a traced program on other operands."""
    options = equation.primitive.get_bind_params(equation.params)
    functions, options = options if isinstance(options, tuple) else ((), options)  # a tuple before JAX 0.10
    outputs = equation.primitive.bind(*functions, *inputs, **options)
    return outputs if equation.primitive.multiple_results else [outputs]


def opened(program: Any) -> tuple[Jaxpr, Sequence[Any]]:
    """Return a program and its constants."""
    return (program.jaxpr, program.consts) if isinstance(program, ClosedJaxpr) else (program, ())


def _inner(equation: Any) -> list[Any]:
    options = jax.tree.leaves(
        list(equation.params.values()), is_leaf=lambda leaf: isinstance(leaf, Jaxpr | ClosedJaxpr)
    )
    return [option for option in options if isinstance(option, Jaxpr | ClosedJaxpr)]


def _has_taps(program: Any) -> bool:
    return any(
        equation.primitive is _tap or any(map(_has_taps, _inner(equation))) for equation in opened(program)[0].eqns
    )
