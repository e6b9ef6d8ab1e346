"""Operations along axes: sums, extrema, softmax, cumulative operations and sorting."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fairjax.adapters._aten.elementwise import absolute


def axes_of(dim: Any) -> tuple[int, ...] | None:
    """Return axes as a tuple, or None for all axes, which PyTorch writes as None or an empty list."""
    if dim is None or (not isinstance(dim, int) and len(dim) == 0):
        return None
    return (dim,) if isinstance(dim, int) else tuple(dim)


def _along(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adapt a reduction of `jax.numpy`."""

    def reduced(x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
        x = x if dtype is None else x.astype(dtype)
        return function(x, axis=axes_of(dim), keepdims=keepdim)

    return reduced


def _extremum_along(position: Callable[..., Any]) -> Callable[..., Any]:
    """Return an extremum along an axis with its position, through which alone the derivative passes."""

    def extremum(x: Any, dim: int, keepdim: bool = False) -> tuple[Any, Any]:
        indices = position(x, axis=dim, keepdims=True)
        values = jnp.take_along_axis(x, indices, axis=dim)
        return (values, indices) if keepdim else (jnp.squeeze(values, dim), jnp.squeeze(indices, dim))

    return extremum


def _position(position: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, dim=None, keepdim=False: position(x, axis=dim, keepdims=keepdim)


def _variance(x: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: Any = None) -> Any:
    axes = axes_of(dim)
    mean = jnp.mean(x, axis=axes, keepdims=True)
    squares = jnp.square(x - mean)
    count = squares.size // max(1, mean.size)
    divisor = count - (int(unbiased) if correction is None else correction)
    return jnp.sum(squares, axis=axes, keepdims=keepdim) / max(divisor, 0)


def _std(*args: Any, **kwargs: Any) -> Any:
    return jnp.sqrt(_variance(*args, **kwargs))


def _variance_and_mean(x: Any, dim: Any = None, **kwargs: Any) -> tuple[Any, Any]:
    mean = jnp.mean(x, axis=axes_of(dim), keepdims=kwargs.get("keepdim", False))
    return _variance(x, dim, **kwargs), mean


def _vector_norm(x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Norm of vectors, with derivative 0 at 0."""
    x = x if dtype is None else x.astype(dtype)
    axes = axes_of(dim)
    if ord == float("inf"):
        return jnp.max(absolute(x), axis=axes, keepdims=keepdim)
    if ord == float("-inf"):
        return jnp.min(absolute(x), axis=axes, keepdims=keepdim)
    if ord == 0:
        return jnp.sum(x != 0, axis=axes, keepdims=keepdim)
    if ord == 1:
        return jnp.sum(absolute(x), axis=axes, keepdims=keepdim)
    powers = jnp.square(x) if ord == 2 else jnp.power(absolute(x), ord)
    sums = jnp.sum(powers, axis=axes, keepdims=keepdim)
    roots = jnp.where(sums > 0, sums, 1) ** (1 / ord) if ord != 2 else jnp.sqrt(jnp.where(sums > 0, sums, 1))
    return jnp.where(sums > 0, roots, 0)


def _softmax(x: Any, dim: int, half_to_float: bool = False) -> Any:
    return jax.nn.softmax(x.astype(jnp.float32) if half_to_float else x, axis=dim)


def _log_softmax(x: Any, dim: int, half_to_float: bool = False) -> Any:
    return jax.nn.log_softmax(x.astype(jnp.float32) if half_to_float else x, axis=dim)


def safe_softmax(x: Any, dim: int, dtype: Any = None) -> Any:
    """Compute a softmax that is 0 where all entries are -inf, as for a token that may attend to none."""
    x = x if dtype is None else x.astype(dtype)
    empty = jnp.all(x == -jnp.inf, axis=dim, keepdims=True)
    return jnp.where(empty, 0, jax.nn.softmax(jnp.where(empty, 0, x), axis=dim))


def _cumulative(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, dim, *, dtype=None: function(x if dtype is None else x.astype(dtype), axis=dim)


def _order(x: Any, dim: int, descending: bool) -> Any:
    """Return positions that sort entries; equal entries keep their order."""
    if descending and x.dtype == bool:
        x = x.astype(jnp.int32)
    return jnp.argsort(x, axis=dim, stable=True, descending=descending)


def _sort(x: Any, dim: int = -1, descending: bool = False, *, stable: bool | None = None) -> tuple[Any, Any]:
    del stable
    indices = _order(x, dim, descending)
    return jnp.take_along_axis(x, indices, axis=dim), indices


def _topk(x: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Any, Any]:
    del sorted
    indices = jax.lax.slice_in_dim(_order(x, dim, largest), 0, k, axis=dim % x.ndim)
    return jnp.take_along_axis(x, indices, axis=dim), indices


OPERATIONS: dict[str, Callable[..., Any]] = {
    "sum": _along(jnp.sum),
    "mean": _along(jnp.mean),
    "prod": _along(jnp.prod),
    "amax": _along(jnp.max),
    "amin": _along(jnp.min),
    "max": _along(jnp.max),
    "min": _along(jnp.min),
    "max.dim": _extremum_along(jnp.argmax),
    "min.dim": _extremum_along(jnp.argmin),
    "argmax": _position(jnp.argmax),
    "argmin": _position(jnp.argmin),
    "any": _along(jnp.any),
    "all": _along(jnp.all),
    "var": _variance,
    "std": _std,
    "var_mean": _variance_and_mean,
    "linalg_vector_norm": _vector_norm,
    "logsumexp": lambda x, dim, keepdim=False: jax.nn.logsumexp(x, axis=axes_of(dim), keepdims=keepdim),
    "_softmax": _softmax,
    "_log_softmax": _log_softmax,
    "_safe_softmax": safe_softmax,
    "cumsum": _cumulative(jnp.cumsum),
    "cumprod": _cumulative(jnp.cumprod),
    "sort": _sort,
    "sort.stable": lambda x, *, stable=None, dim=-1, descending=False: _sort(x, dim, descending),
    "argsort": lambda x, dim=-1, descending=False: _order(x, dim, descending),
    "topk": _topk,
}
"""Operations by name; a name with a dot is one overload."""
