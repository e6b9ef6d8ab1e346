"""Networks that end with a sigmoid or softmax, evaluated without it.

The logit of a float32 sigmoid saturates from 17 on and has no gradient there, so a network that returns probabilities
is traced to a jaxpr, in which the input of a final sigmoid or softmax is the logit.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

RESHAPING = ("reshape", "squeeze", "slice", "transpose", "broadcast_in_dim")
"""Operations that may follow a sigmoid: they only move entries."""
CASTING = ("convert_element_type", "copy")
"""Operations that may follow a softmax as well."""


class _Traced(NamedTuple):
    """A value of a traced program, with what it would be without a final activation."""

    value: Any
    kind: str = ""
    """`logistic` and `softmax` for their outputs and what reshapes them; `exp` and `sum` inside a softmax."""
    inner: Any = None
    """The logits that correspond to `value`, or the argument of the exponential function."""


def skip(function: Callable[..., tuple[Any, Any]], *args: Any) -> tuple[Any, Any]:
    """Call a function that returns (probabilities, other values), and return (logits, other values) if possible.

    Args:
        function: a function that JAX can trace; the first result is an array.
        args: its arguments, trees of arrays.

    Returns:
        Logits in the shape of the probabilities: of a sigmoid if there is one column, or of a softmax over several; the
        probabilities if they come from anything else. `is_skipped` tells which.
    """
    return _evaluate(function, *args)[0]


def is_skipped(function: Callable[..., tuple[Any, Any]], *args: Any) -> bool:
    """Return whether `skip` finds a final sigmoid or softmax, without computing anything."""
    found = []

    def traced(*args):
        results, skipped = _evaluate(function, *args)
        found.append(skipped)
        return results

    jax.eval_shape(traced, *args)
    return found[0]


def _evaluate(function: Callable[..., tuple[Any, Any]], *args: Any) -> tuple[tuple[Any, Any], bool]:
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    structure = jax.tree.structure(shapes)
    inputs = [_Traced(leaf) for leaf in jax.tree.leaves(args)]
    outputs = _interpret(closed.jaxpr, closed.consts, inputs)
    first = outputs[0]
    columns = first.value.shape[1] if first.value.ndim == 2 else 1
    skipped = first.kind == ("logistic" if columns == 1 else "softmax")
    leaves = [first.inner if skipped else first.value, *(output.value for output in outputs[1:])]
    return jax.tree.unflatten(structure, leaves), skipped


def _interpret(jaxpr: Any, consts: Any, inputs: list[_Traced]) -> list[_Traced]:
    """Evaluate a jaxpr, with the functions that it calls by `jax.jit` in line."""
    values: dict[Any, _Traced] = dict(zip(jaxpr.constvars, map(_Traced, consts), strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> _Traced:
        return _Traced(atom.val) if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        values.update(zip(equation.outvars, _results(equation, operands), strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _results(equation: Any, operands: list[_Traced]) -> list[_Traced]:
    name = equation.primitive.name
    if name in ("jit", "pjit"):
        inner = equation.params["jaxpr"]
        return _interpret(inner.jaxpr, inner.consts, operands)
    bound = equation.primitive.get_bind_params(equation.params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)  # a tuple in earlier versions of JAX
    values = [operand.value for operand in operands]
    with equation.ctx.manager:
        results = equation.primitive.bind(*functions, *values, **params)
    if name == "custom_jvp_call":  # earlier versions of JAX keep a softmax in one
        inner = equation.params["call_jaxpr"]
        inside = _interpret(inner.jaxpr, inner.consts, operands)
        return [other._replace(value=result) for result, other in zip(results, inside, strict=True)]
    if equation.primitive.multiple_results:
        return [_Traced(result) for result in results]
    return [_followed(name, equation.params, operands, values, results)]


def _followed(name: str, params: Any, operands: list[_Traced], values: list[Any], result: Any) -> _Traced:
    """Follow logits through one operation."""
    first = operands[0] if operands else _Traced(None)
    if name == "logistic":
        return _Traced(result, "logistic", values[0])
    if name == "exp":
        return _Traced(result, "exp", values[0])
    if name == "reduce_sum" and first.kind == "exp" and params["axes"] == (jnp.ndim(values[0]) - 1,):
        return _Traced(result, "sum", first.inner)
    if name == "div" and (first.kind, operands[1].kind) == ("exp", "sum") and first.inner is operands[1].inner:
        return _Traced(result, "softmax", first.inner)
    if name in CASTING and first.kind in ("exp", "sum"):
        return first._replace(value=result)
    if name in RESHAPING and first.kind == "sum":
        return first._replace(value=result)
    if (name in CASTING and first.kind in ("logistic", "softmax")) or (name in RESHAPING and first.kind == "logistic"):
        return _Traced(result, first.kind, _again(name, params, first.inner))
    return _Traced(result)


def _again(name: str, params: Any, logits: Any) -> Any:
    """Apply the operation that moved or cast probabilities to their logits."""
    return logits if name == "copy" else getattr(jax.lax, f"{name}_p").bind(logits, **params)
