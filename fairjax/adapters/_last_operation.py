"""Logits of a network that ends with a sigmoid or a softmax: its program without this last operation.

The logit of a probability saturates: in float32 the sigmoid is 1 from 17 on, where the gradient is 0.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import Jaxpr, Literal

from fairjax.adapters._taps import bind, opened

_SHAPES = ("reshape", "squeeze", "broadcast_in_dim", "expand_dims", "convert_element_type", "copy", "transpose")
"""Operations between the sigmoid and the output that only arrange numbers."""

_CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call")


def ends_with_probability(function: Callable[..., Any], *arguments: Any) -> bool:
    """Return whether the first output of a function is a sigmoid or a softmax, computed last."""
    return _path(jax.make_jaxpr(function)(*arguments).jaxpr, 0) is not None


def without_probability(function: Callable[..., Any], *arguments: Any) -> Any:
    """Evaluate a function whose first output is a sigmoid or a softmax, and return what this is computed from.

    Args:
        function: a function for which `ends_with_probability` is true. Its result is a tree whose first leaf is the
            probability.
        *arguments: its arguments.

    Returns:
        The function's result with logits in the place of probabilities; those of a softmax are correct up to a
        constant per row.
    """
    program, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    path = _path(program.jaxpr, 0)
    if path is None:
        raise ValueError("the network ends with a sigmoid or softmax in one mode and not in the other")
    outputs = _evaluate(program.jaxpr, program.consts, jax.tree.leaves(arguments), path)
    return jax.tree.unflatten(jax.tree.structure(shapes), outputs)


def _path(program: Jaxpr, number: int) -> list[Any] | None:
    """Return the equations that lead from an output back to the sigmoid or softmax, outermost first, or None."""
    makers = {var: equation for equation in program.eqns for var in equation.outvars}
    var = program.outvars[number]
    while not isinstance(var, Literal) and var in makers:
        equation = makers[var]
        name = equation.primitive.name
        if name == "logistic":
            return [equation]
        if name == "div" and not any(isinstance(operand, Literal) for operand in equation.invars):
            return [equation] if _is_softmax(equation, makers) else None
        if name in _CALLS:
            inner = opened(_inner(equation))[0]
            rest = _path(inner, list(equation.outvars).index(var))
            return None if rest is None else [equation, *rest]
        if name not in _SHAPES:
            return None
        var = equation.invars[0]
    return None


def _is_softmax(equation: Any, makers: dict[Any, Any]) -> bool:
    """Return whether a quotient is an exponential divided by its sum."""
    numerator, denominator = equation.invars
    exponential = makers.get(numerator)
    while denominator in makers and makers[denominator].primitive.name in _SHAPES:
        denominator = makers[denominator].invars[0]
    total = makers.get(denominator)
    return (
        exponential is not None
        and exponential.primitive.name == "exp"
        and total is not None
        and total.primitive.name == "reduce_sum"
        and total.invars[0] is numerator
    )


def _inner(equation: Any) -> Any:
    return equation.params["call_jaxpr" if "call_jaxpr" in equation.params else "jaxpr"]


def _evaluate(program: Jaxpr, consts: Sequence[Any], operands: Sequence[Any], path: list[Any]) -> list[Any]:
    """Evaluate a program in which the last equation of the path returns its argument."""
    values = dict(zip([*program.constvars, *program.invars], [*consts, *operands], strict=True))
    makers = {var: equation for equation in program.eqns for var in equation.outvars}
    for equation in program.eqns:
        inputs = [var.val if isinstance(var, Literal) else values[var] for var in equation.invars]
        if equation is not path[0]:
            outputs = bind(equation, inputs)
        elif len(path) > 1:
            outputs = _evaluate(*opened(_inner(equation)), inputs, path[1:])
        elif equation.primitive.name == "logistic":
            outputs = inputs
        else:
            outputs = [values[makers[equation.invars[0]].invars[0]]]
        values.update(zip(equation.outvars, outputs, strict=True))
    return [var.val if isinstance(var, Literal) else values[var] for var in program.outvars]
