"""Operations that take or write entries at given positions."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp


def _embedding(weight: Any, indices: Any, padding_idx: int = -1, *options: Any) -> Any:
    del options
    rows = jnp.take(weight, indices, axis=0, mode="fill")  # a token that is not in the table gives NaN
    if padding_idx < 0:
        return rows
    return jnp.where((indices == padding_idx)[..., None], jax.lax.stop_gradient(rows), rows)


def _index(x: Any, indices: Sequence[Any]) -> Any:
    return x[tuple(slice(None) if index is None else index for index in indices)]


def _index_put(x: Any, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Any:
    at = x.at[tuple(slice(None) if index is None else index for index in indices)]
    values = jnp.asarray(values).astype(x.dtype)
    return at.add(values) if accumulate else at.set(values)


def _positions(x: Any, dim: int, index: Any) -> tuple[Any, ...]:
    """Return index arrays that stand for PyTorch's `index` along one axis."""
    grid = list(jnp.indices(index.shape, sparse=True))
    grid[dim % x.ndim] = index
    return tuple(grid)


def _gather(x: Any, dim: int, index: Any, *, sparse_grad: bool = False) -> Any:
    del sparse_grad
    return x[_positions(x, dim, index)]


def _scatter(x: Any, dim: int, index: Any, source: Any) -> Any:
    return x.at[_positions(x, dim, index)].set(_part(source, index, x))


def _scatter_add(x: Any, dim: int, index: Any, source: Any) -> Any:
    return x.at[_positions(x, dim, index)].add(_part(source, index, x))


def _part(source: Any, index: Any, x: Any) -> Any:
    """Return the entries of a source that an index uses: those at its own positions."""
    source = jnp.asarray(source).astype(x.dtype)
    return source[tuple(slice(size) for size in index.shape)] if source.ndim else source


def _slice_scatter(x: Any, source: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    return x.at[(slice(None),) * (dim % x.ndim) + (slice(start, end, step),)].set(source)


def _select_scatter(x: Any, source: Any, dim: int, index: int) -> Any:
    return x.at[(slice(None),) * (dim % x.ndim) + (index,)].set(source)


def _index_add(x: Any, dim: int, index: Any, source: Any, *, alpha: Any = 1) -> Any:
    return x.at[(slice(None),) * (dim % x.ndim) + (index,)].add(alpha * source)


def _bucketize(x: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False) -> Any:
    del out_int32
    return jnp.searchsorted(boundaries, x, side="right" if right else "left")


OPERATIONS: dict[str, Callable[..., Any]] = {
    "embedding": _embedding,
    "index": _index,
    "_unsafe_index": _index,
    "index_put": _index_put,
    "_unsafe_index_put": _index_put,
    "index_select": lambda x, dim, index: jnp.take(x, index, axis=dim),
    "index_add": _index_add,
    "gather": _gather,
    "scatter": _scatter,
    "scatter_add": _scatter_add,
    "slice_scatter": _slice_scatter,
    "select_scatter": _select_scatter,
    "bucketize.Tensor": _bucketize,
}
"""Operations by name; a name with a dot is one overload."""
