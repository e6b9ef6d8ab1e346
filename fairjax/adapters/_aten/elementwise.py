"""Operations on single entries: arithmetic, functions, activations and comparisons.

Derivatives follow PyTorch also where a function has a kink, since the influence of a cut unit is taken there.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def _add(x: Any, y: Any, alpha: Any = 1) -> Any:
    return jnp.add(x, y if alpha == 1 else alpha * y)


def _sub(x: Any, y: Any, alpha: Any = 1) -> Any:
    return jnp.subtract(x, y if alpha == 1 else alpha * y)


def _div(x: Any, y: Any, *, rounding_mode: str | None = None) -> Any:
    if rounding_mode == "floor":
        return jnp.floor_divide(x, y)
    quotient = jnp.true_divide(x, y)
    return jnp.trunc(quotient) if rounding_mode == "trunc" else quotient


def _pow(x: Any, exponent: Any) -> Any:
    if isinstance(exponent, float) and exponent.is_integer():
        exponent = int(exponent)  # a static integer power has a derivative at 0
    return jnp.power(x, exponent)


def absolute(x: Any) -> Any:
    """Compute the absolute value, with derivative 0 at 0."""
    return jnp.where(x == 0, jnp.zeros_like(x), jnp.abs(x))


def _clamp(x: Any, min: Any = None, max: Any = None) -> Any:
    """Clip, with derivative 1 at the bounds."""
    x = x if min is None else jnp.where(x < min, min, x)
    return x if max is None else jnp.where(x > max, max, x)


def _hardtanh(x: Any, min_val: Any = -1, max_val: Any = 1) -> Any:
    """Clip, with derivative 0 at the bounds."""
    return jnp.where(x <= min_val, min_val, jnp.where(x >= max_val, max_val, x))


def _elu(x: Any, alpha: Any = 1, scale: Any = 1, input_scale: Any = 1) -> Any:
    negative = jnp.where(x > 0, 0, x)  # the exponential of large numbers would spoil the derivative
    return jnp.where(x > 0, x * scale, jnp.expm1(negative * input_scale) * (alpha * scale))


def _softplus(x: Any, beta: Any = 1, threshold: Any = 20) -> Any:
    return jnp.where(x * beta > threshold, x, jax.nn.softplus(x * beta) / beta)


def _glu(x: Any, dim: int = -1) -> Any:
    first, second = jnp.split(x, 2, axis=dim)
    return first * jax.nn.sigmoid(second)


def _gelu(x: Any, *, approximate: str = "none") -> Any:
    return jax.nn.gelu(x, approximate=approximate == "tanh")


def _hardsigmoid(x: Any) -> Any:
    return _hardtanh(x + 3, 0, 6) / 6


def _threshold(x: Any, threshold: Any, value: Any) -> Any:
    return jnp.where(x > threshold, x, value)


def _softshrink(x: Any, lambd: Any = 0.5) -> Any:
    return jnp.where(x > lambd, x - lambd, jnp.where(x < -lambd, x + lambd, 0))


def _round(x: Any, *, decimals: int = 0) -> Any:
    return jnp.round(x, decimals)


def _logit(x: Any, eps: float | None = None) -> Any:
    x = x if eps is None else _clamp(x, eps, 1 - eps)
    return jnp.log(x) - jnp.log1p(-x)


def _nan_to_num(x: Any, nan: Any = None, posinf: Any = None, neginf: Any = None) -> Any:
    return jnp.nan_to_num(x, nan=0.0 if nan is None else nan, posinf=posinf, neginf=neginf)


def _where(condition: Any, x: Any, y: Any) -> Any:
    return jnp.where(condition, x, y)


def _xlogy(x: Any, y: Any) -> Any:
    return jnp.where(x == 0, 0, x * jnp.log(jnp.where(x == 0, 1, y)))


OPERATIONS: dict[str, Callable[..., Any]] = {
    # arithmetic
    "add": _add,
    "sub": _sub,
    "rsub": lambda x, y, alpha=1: _sub(y, x, alpha),
    "mul": jnp.multiply,
    "div": _div,
    "true_divide": jnp.true_divide,
    "floor_divide": jnp.floor_divide,
    "remainder": jnp.remainder,
    "fmod": jnp.fmod,
    "neg": jnp.negative,
    "pow": _pow,
    "square": jnp.square,
    "sqrt": jnp.sqrt,
    "rsqrt": jax.lax.rsqrt,
    "reciprocal": jnp.reciprocal,
    "abs": absolute,
    "sign": jnp.sign,
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "max.other": jnp.maximum,
    "min.other": jnp.minimum,
    "lerp": lambda x, end, weight: x + weight * (end - x),
    "addcmul": lambda x, first, second, *, value=1: x + value * first * second,
    "addcdiv": lambda x, first, second, *, value=1: x + value * first / second,
    "clamp": _clamp,
    "clamp_min": lambda x, min: _clamp(x, min=min),
    "clamp_max": lambda x, max: _clamp(x, max=max),
    "floor": jnp.floor,
    "ceil": jnp.ceil,
    "trunc": jnp.trunc,
    "round": _round,
    "frac": lambda x: x - jnp.trunc(x),
    # functions
    "exp": jnp.exp,
    "exp2": jnp.exp2,
    "expm1": jnp.expm1,
    "log": jnp.log,
    "log2": jnp.log2,
    "log10": jnp.log10,
    "log1p": jnp.log1p,
    "logaddexp": jnp.logaddexp,
    "xlogy": _xlogy,
    "sin": jnp.sin,
    "cos": jnp.cos,
    "tan": jnp.tan,
    "asin": jnp.arcsin,
    "acos": jnp.arccos,
    "atan": jnp.arctan,
    "atan2": jnp.arctan2,
    "sinh": jnp.sinh,
    "cosh": jnp.cosh,
    "tanh": jnp.tanh,
    "asinh": jnp.arcsinh,
    "acosh": jnp.arccosh,
    "atanh": jnp.arctanh,
    "erf": jax.scipy.special.erf,
    "erfc": jax.scipy.special.erfc,
    "erfinv": jax.scipy.special.erfinv,
    "lgamma": jax.scipy.special.gammaln,
    "logit": _logit,
    "hypot": jnp.hypot,
    # activations
    "relu": jax.nn.relu,
    "relu6": lambda x: _hardtanh(x, 0, 6),
    "sigmoid": jax.nn.sigmoid,
    "log_sigmoid_forward": lambda x: (jax.nn.log_sigmoid(x), None),
    "gelu": _gelu,
    "silu": jax.nn.silu,
    "mish": lambda x: x * jnp.tanh(jax.nn.softplus(x)),
    "elu": _elu,
    "leaky_relu": lambda x, negative_slope=0.01: jnp.where(x > 0, x, x * negative_slope),
    "_prelu_kernel": lambda x, weight: jnp.where(x > 0, x, x * weight),
    "softplus": _softplus,
    "hardtanh": _hardtanh,
    "hardsigmoid": _hardsigmoid,
    "hardswish": lambda x: x * _hardsigmoid(x),
    "hardshrink": lambda x, lambd=0.5: jnp.where(jnp.abs(x) <= lambd, 0, x),
    "softshrink": _softshrink,
    "threshold": _threshold,
    "glu": _glu,
    # comparisons and logic
    "eq": jnp.equal,
    "ne": jnp.not_equal,
    "lt": jnp.less,
    "le": jnp.less_equal,
    "gt": jnp.greater,
    "ge": jnp.greater_equal,
    "logical_and": jnp.logical_and,
    "logical_or": jnp.logical_or,
    "logical_xor": jnp.logical_xor,
    "logical_not": jnp.logical_not,
    "bitwise_and": jnp.bitwise_and,
    "bitwise_or": jnp.bitwise_or,
    "bitwise_xor": jnp.bitwise_xor,
    "bitwise_not": jnp.bitwise_not,
    "isnan": jnp.isnan,
    "isinf": jnp.isinf,
    "isfinite": jnp.isfinite,
    "nan_to_num": _nan_to_num,
    "where": _where,
    "masked_fill": lambda x, mask, value: jnp.where(mask, value, x),
}
"""Operations by name. The interpreter casts results to the type that PyTorch recorded."""
