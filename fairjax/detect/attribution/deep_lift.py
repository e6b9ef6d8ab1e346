"""DeepLIFT with the rescale rule, computed by an interpreter of the network's jaxpr on pairs of values."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal
from jaxtyping import Array, Float, PyTree

from fairjax.detect.attribution.inputs import is_shared, nan_rows, wide
from fairjax.detect.attribution.integrated import checked_path
from fairjax.detect.rows import CHUNK, logits_of, map_chunks
from fairjax.nn.network import ApplyFn
from fairjax.types import Inputs, Variables

_CALLS = {
    *("jit", "pjit", "checkpoint", "remat", "remat2", "closed_call", "core_call"),
    *("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"),
}
"""Operations that evaluate an inner program once, on the same operands."""

_LINEAR = {
    *("add", "add_any", "sub", "neg", "concatenate", "pad", "copy", "copy_p", "reshape", "transpose", "squeeze"),
    *("broadcast_in_dim", "slice", "rev", "reduce_sum", "cumsum", "reduce_window_sum", "split", "convert_element_type"),
}
"""Operations that are affine in all operands together."""

_PRODUCTS = {"mul", "dot_general", "conv_general_dilated"}
"""Operations that are linear in one operand if the others do not depend on the inputs."""

_LINEAR_IN_FIRST = {"div", "dynamic_slice", "gather"}
"""Operations that are linear in their first operand if the others do not depend on the inputs."""

_ELEMENTWISE = {
    *("max", "min", "abs", "sign", "exp", "exp2", "log", "log1p", "expm1", "tanh", "logistic", "erf", "erfc", "sqrt"),
    *("rsqrt", "cbrt", "pow", "integer_pow", "square", "sin", "cos", "sinh", "cosh", "asinh", "atan", "atan2", "div"),
    "clamp",
}
"""Operations on each element; with one operand that depends on the inputs they are activation functions."""

_IN_ACTIVATIONS = _ELEMENTWISE | {
    *("add", "add_any", "sub", "neg", "mul", "select_n", "gt", "ge", "lt", "le", "eq", "ne", "and", "or", "not", "xor"),
    *("is_finite", "convert_element_type", "copy", "copy_p", "stop_gradient"),
}
"""Operations of which an activation function such as `jax.nn.gelu` is made, as an inner program."""


class _Pair(NamedTuple):
    """A value at the rows, and the same at the baseline; None if it does not depend on the inputs."""

    value: Any
    base: Any = None


def deep_lift(
    apply: ApplyFn,
    variables: Variables,
    x: Inputs,
    baseline: Any = None,
    *,
    target: int | None = None,
    chunk: int | None = CHUNK,
) -> PyTree[Float[Array, "n ..."]]:
    """Compute DeepLIFT attributions by the rescale rule: differences in place of derivatives of activation functions.

    The slope of an activation function g is (g(h) - g(b)) / (h - b), where h and b are its inputs for the row and for
    the baseline, and the chain rule does the rest. So the attributions sum to the logit less that of the baseline up to
    rounding, also for ReLUs, at the cost of two passes.

    The rule is for networks of linear layers, convolutions, average pooling, batch normalisation in evaluation mode,
    and activation functions of one variable. Products of two values that depend on the inputs, as in attention and
    layer normalisation, and maxima of several, as in max pooling, are refused.

    Args:
        apply: as for `integrated_gradients`.
        variables: as for `integrated_gradients`.
        x: as for `integrated_gradients`.
        baseline: as for `integrated_gradients`.
        target: as for `integrated_gradients`.
        chunk: as for `integrated_gradients`.

    Returns:
        A tree like `x`, in logits; NaN in rows whose logit, or that of the baseline, is not finite.

    Raises:
        TypeError: as for `integrated_gradients`.
        NotImplementedError: if the network has an operation for which there is no rule; the message names it.
        ValueError: as for `integrated_gradients`.

    Example:
        >>> relu = lambda variables, x, **_: (jax.nn.relu(x[:, 0] - x[:, 1]), variables)
        >>> deep_lift(relu, {}, jnp.array([[3.0, 1.0]]), jnp.array([0.0, 2.0])).round(4).tolist()
        [[1.5, 0.5]]

    References:
        Shrikumar, Greenside, Kundaje (2017), Learning important features through propagating activation differences.
    """
    x, baseline = checked_path(apply, variables, x, baseline, 1)
    return _deep_lift(apply, variables, x, baseline, target, chunk)


@partial(jax.jit, static_argnums=(0, 4, 5))
def _deep_lift(apply, variables, x, baseline, target, chunk):
    shared = is_shared(x, baseline)

    def of_rows(rows):
        x, base = rows[0], baseline if shared else rows[1]
        leaves, structure = jax.tree.flatten(x)
        bases = [jnp.broadcast_to(row, leaf.shape) for row, leaf in zip(jax.tree.leaves(base), leaves, strict=True)]

        def logits(leaves):
            return logits_of(apply, variables, jax.tree.unflatten(structure, leaves), target)

        program = jax.make_jaxpr(logits)(leaves)

        def total(leaves):
            (pair,) = _interpret(program.jaxpr, program.consts, list(map(_Pair, leaves, bases)))
            finite = jnp.isfinite(pair.value) & (True if pair.base is None else jnp.isfinite(pair.base))
            return jnp.sum(pair.value), finite

        slopes, finite = jax.grad(total, has_aux=True)(leaves)
        parts = [
            (leaf - row).astype(wide(leaf)) * slope.astype(wide(leaf))
            for leaf, row, slope in zip(leaves, bases, slopes, strict=True)
        ]
        return nan_rows(finite, jax.tree.unflatten(structure, parts))

    with jax.default_matmul_precision("highest"):
        return map_chunks(of_rows, (x, None if shared else baseline), chunk=chunk)


def _interpret(jaxpr: Any, consts: Any, inputs: list[_Pair]) -> list[_Pair]:
    """Evaluate a program at the rows and at the baseline; derivatives at the rows are DeepLIFT's multipliers."""
    values: dict[Any, _Pair] = dict(zip(jaxpr.constvars, map(_Pair, consts), strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> _Pair:
        return _Pair(atom.val) if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        values.update(zip(equation.outvars, _results(equation, list(map(read, equation.invars))), strict=True))
    return list(map(read, jaxpr.outvars))


def _results(equation: Any, operands: list[_Pair]) -> list[_Pair]:
    """Evaluate one operation."""
    name = equation.primitive.name
    dependent = [k for k, operand in enumerate(operands) if operand.base is not None]
    values = [operand.value for operand in operands]
    if not dependent:
        return list(map(_Pair, _evaluated(equation, values)))
    if name in _CALLS:
        inner, consts = _inner(equation)
        flags = [k in dependent for k in range(len(operands))]
        shape = jnp.shape(values[dependent[0]])
        if len(dependent) == 1 and len(inner.outvars) == 1 and _is_elementwise(inner, flags, shape):
            return [_rescaled(equation, operands, dependent[0])]
        return _interpret(inner, consts, operands)
    only = len(dependent) == 1
    out = equation.outvars[0].aval
    is_float = jnp.issubdtype(out.dtype, jnp.floating)
    is_linear = (
        name in _LINEAR
        or (name in _PRODUCTS and only)
        or (name in _LINEAR_IN_FIRST and dependent == [0])
        or (name == "select_n" and 0 not in dependent)
    )
    if is_linear and is_float:
        bases = [operand.value if operand.base is None else operand.base for operand in operands]
        return list(map(_Pair, _evaluated(equation, values), _evaluated(equation, bases)))
    if name in _ELEMENTWISE and only and is_float and out.shape == jnp.shape(values[dependent[0]]):
        return [_rescaled(equation, operands, dependent[0])]
    several = "" if only else f" of {len(dependent)} values that depend on the inputs"
    raise NotImplementedError(
        f"DeepLIFT has no rule for the operation {name}{several}, which this network uses: use integrated_gradients, "
        "which needs no rules"
    )


def _rescaled(equation: Any, operands: list[_Pair], place: int) -> _Pair:
    """Apply an activation function, with the slope between baseline and row as its derivative."""
    values = [operand.value for operand in operands]

    def function(h: Any) -> Any:
        return _evaluated(equation, [*values[:place], h, *values[place + 1 :]])[0]

    live, base = operands[place]
    h = jax.lax.stop_gradient(live)
    out, out_base = function(h), function(base)
    change = h - base
    # Closer values than this have a quotient that is mostly rounding, and a derivative that is nearly the same.
    nearest = jnp.finfo(h.dtype).eps ** (2 / 3)
    is_near = jnp.abs(change) <= nearest * jnp.maximum(1, jnp.maximum(jnp.abs(h), jnp.abs(base)))
    middle = base + change / 2
    derivative = jax.jvp(function, (middle,), (jnp.ones_like(middle),))[1]
    slope = jnp.where(is_near, derivative, (out - out_base) / jnp.where(is_near, 1, change))
    slope, out = jax.lax.stop_gradient((slope, out))
    return _Pair(out + slope * (live - h), out_base)


def _evaluated(equation: Any, values: list[Any]) -> list[Any]:
    bound = equation.primitive.get_bind_params(equation.params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)  # a tuple in earlier versions of JAX
    with equation.ctx.manager:
        results = equation.primitive.bind(*functions, *values, **params)
    return list(results) if equation.primitive.multiple_results else [results]


def _inner(equation: Any) -> tuple[Any, Any]:
    """Return the program that an operation calls, and its constants."""
    names = ("jaxpr", "call_jaxpr", "fun_jaxpr")
    program = next(equation.params[name] for name in names if name in equation.params)
    return (program.jaxpr, program.consts) if isinstance(program, ClosedJaxpr) else (program, ())


def _is_elementwise(jaxpr: Any, depends: list[bool], shape: tuple[int, ...]) -> bool:
    """Return whether every result of a program that depends on its inputs does so element by element."""
    dependent = {atom for atom, flag in zip(jaxpr.invars, depends, strict=True) if flag}
    for equation in jaxpr.eqns:
        flags = [not isinstance(atom, Literal) and atom in dependent for atom in equation.invars]
        if not any(flags):
            continue
        if equation.primitive.name in _CALLS:
            if not _is_elementwise(_inner(equation)[0], flags, shape):
                return False
        elif equation.primitive.name not in _IN_ACTIVATIONS:
            return False
        if any(atom.aval.shape != shape for atom in equation.outvars):
            return False
        dependent.update(equation.outvars)
    outputs = jaxpr.outvars
    return all(not isinstance(atom, Literal) and atom.aval.shape == shape for atom in outputs)
