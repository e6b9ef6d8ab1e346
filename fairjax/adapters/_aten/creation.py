"""Operations that make arrays. Types that are not given are those that PyTorch recorded, by the interpreter's cast."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np


def _full(size: Sequence[int], value: Any, *, dtype: Any = None) -> Any:
    return jnp.full(size, _representable(value, dtype), dtype=dtype)


def _full_like(x: Any, value: Any, *, dtype: Any = None) -> Any:
    return _full(x.shape, value, dtype=x.dtype if dtype is None else dtype)


def _representable(value: Any, dtype: Any) -> Any:
    """Return an integer within the range of a type: PyTorch's 64-bit extremes become those of 32 bits."""
    if (
        isinstance(value, int)
        and not isinstance(value, bool)
        and dtype is not None
        and np.issubdtype(dtype, np.integer)
    ):
        limits = np.iinfo(dtype)
        return min(max(value, int(limits.min)), int(limits.max))
    return value


def _arange(*bounds: Any, dtype: Any = None) -> Any:
    return jnp.arange(*bounds, dtype=dtype)


def _constant(value: int) -> Callable[..., Any]:
    return lambda size, *, dtype=None: jnp.full(size, value, dtype=dtype)


def _like(value: int) -> Callable[..., Any]:
    return lambda x, *, dtype=None: jnp.full(x.shape, value, dtype=x.dtype if dtype is None else dtype)


def _new(value: int) -> Callable[..., Any]:
    return lambda x, size, *, dtype=None: jnp.full(size, value, dtype=x.dtype if dtype is None else dtype)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "full": _full,
    "full_like": _full_like,
    "new_full": lambda x, size, value, *, dtype=None: _full(size, value, dtype=x.dtype if dtype is None else dtype),
    "fill": lambda x, value: jnp.broadcast_to(jnp.asarray(value).astype(x.dtype), x.shape),
    "zeros": _constant(0),
    "ones": _constant(1),
    "empty": _constant(0),  # what is read from it was written before, or is not determined
    "zeros_like": _like(0),
    "ones_like": _like(1),
    "empty_like": _like(0),
    "new_zeros": _new(0),
    "new_ones": _new(1),
    "new_empty": _new(0),
    "arange": _arange,
    "linspace": lambda start, end, steps, *, dtype=None: jnp.linspace(start, end, steps, dtype=dtype),
    "eye": lambda n, m=None, *, dtype=None: jnp.eye(n, m, dtype=dtype),
    "scalar_tensor": lambda value, *, dtype=None: jnp.asarray(_representable(value, dtype), dtype=dtype),
}
"""Operations by name."""
