"""Operations that move entries without changing them: shapes, slices, joins and padding."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp


def _expand(x: Any, size: Sequence[int], *, implicit: bool = False) -> Any:
    del implicit
    shape = (1,) * (len(size) - x.ndim) + x.shape
    return jnp.broadcast_to(x, [own if new == -1 else new for own, new in zip(shape, size, strict=True)])


def _squeeze(x: Any, dim: Any = None) -> Any:
    axes = range(x.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    return jnp.squeeze(x, tuple(axis % x.ndim for axis in axes if x.ndim and x.shape[axis] == 1))


def _slice(x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    return x[(slice(None),) * (dim % x.ndim) + (slice(start, end, step),)]


def _select(x: Any, dim: int, index: int) -> Any:
    return x[(slice(None),) * (dim % x.ndim) + (index,)]


def _cat(tensors: Sequence[Any], dim: int = 0) -> Any:
    kept = [x for x in tensors if x.shape != (0,)]  # PyTorch ignores empty vectors whatever the others' shape
    return jnp.concatenate(kept, axis=dim) if kept else tensors[0]


def _split(x: Any, size: int, dim: int = 0) -> list[Any]:
    return [_slice(x, dim, start, start + size) for start in range(0, max(x.shape[dim], 1), size)]


def _split_with_sizes(x: Any, sizes: Sequence[int], dim: int = 0) -> list[Any]:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [_slice(x, dim, start, start + size) for start, size in zip(starts, sizes, strict=True)]


def _chunk(x: Any, chunks: int, dim: int = 0) -> list[Any]:
    return _split(x, max(1, -(-x.shape[dim] // chunks)), dim)


def _unbind(x: Any, dim: int = 0) -> list[Any]:
    return [_select(x, dim, i) for i in range(x.shape[dim])]


def _roll(x: Any, shifts: Any, dims: Any = ()) -> Any:
    if not isinstance(dims, int) and not len(dims):
        return jnp.roll(x, shifts if isinstance(shifts, int) else shifts[0])
    return jnp.roll(x, shifts, axis=dims if isinstance(dims, int) else tuple(dims))


def _repeat(x: Any, repeats: Sequence[int]) -> Any:
    return jnp.tile(x.reshape((1,) * (len(repeats) - x.ndim) + x.shape), repeats)


def _repeat_interleave(x: Any, repeats: int, dim: Any = None) -> Any:
    return jnp.repeat(x, repeats, axis=dim)


def _unfold(x: Any, dim: int, size: int, step: int) -> Any:
    axis = dim % x.ndim
    windows = [_slice(x, axis, i, i + size) for i in range(0, x.shape[axis] - size + 1, step)]
    return jnp.moveaxis(jnp.stack(windows, axis=axis), axis + 1, -1)


def _pairs(x: Any, pad: Sequence[int]) -> list[tuple[int, int]]:
    """Return padding per axis from PyTorch's list, which starts at the last axis."""
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)]
    return [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1]


def _padded(mode: str) -> Callable[..., Any]:
    return lambda x, padding: jnp.pad(x, _pairs(x, padding), mode=mode)


def _constant_pad(x: Any, pad: Sequence[int], value: Any = 0) -> Any:
    pairs = _pairs(x, pad)
    for axis, (before, after) in enumerate(pairs):  # negative padding crops
        x = _slice(x, axis, max(-before, 0), x.shape[axis] - max(-after, 0))
    return jnp.pad(x, [(max(before, 0), max(after, 0)) for before, after in pairs], constant_values=value)


def _pixel_shuffle(x: Any, factor: int) -> Any:
    *rows, channels, height, width = x.shape
    x = x.reshape(*rows, channels // factor**2, factor, factor, height, width)
    first = len(rows)
    axes = (*range(first), first, first + 3, first + 1, first + 4, first + 2)
    return jnp.transpose(x, axes).reshape(*rows, channels // factor**2, height * factor, width * factor)


def _same(x: Any, *args: Any, **kwargs: Any) -> Any:
    del args, kwargs
    return x


def _reshape(x: Any, size: Sequence[int]) -> Any:
    return jnp.reshape(x, size)


OPERATIONS: dict[str, Callable[..., Any]] = {
    # copies
    "alias": _same,
    "clone": _same,
    "contiguous": _same,
    "_to_copy": _same,  # the interpreter casts to the recorded type
    "to": _same,
    "lift_fresh_copy": _same,
    "copy": lambda x, source, non_blocking=False: jnp.broadcast_to(source, x.shape),
    # shapes
    "view": _reshape,
    "reshape": _reshape,
    "_unsafe_view": _reshape,
    "permute": jnp.transpose,
    "transpose": jnp.swapaxes,
    "t": jnp.transpose,
    "expand": _expand,
    "unsqueeze": jnp.expand_dims,
    "squeeze": _squeeze,
    "pixel_shuffle": _pixel_shuffle,
    # parts
    "slice": _slice,
    "select": _select,
    "narrow": lambda x, dim, start, length: _slice(x, dim, start, start + length),
    "unbind": _unbind,
    "split": _split,
    "split_with_sizes": _split_with_sizes,
    "chunk": _chunk,
    "unfold": _unfold,
    "diagonal": lambda x, offset=0, dim1=0, dim2=1: jnp.diagonal(x, offset, dim1, dim2),
    "tril": jnp.tril,
    "triu": jnp.triu,
    # joins and repetitions
    "cat": _cat,
    "stack": lambda tensors, dim=0: jnp.stack(tensors, axis=dim),
    "repeat": _repeat,
    "repeat_interleave.self_int": _repeat_interleave,
    "flip": lambda x, dims: jnp.flip(x, tuple(dims)),
    "roll": _roll,
    # padding
    "constant_pad_nd": _constant_pad,
    "reflection_pad1d": _padded("reflect"),
    "reflection_pad2d": _padded("reflect"),
    "reflection_pad3d": _padded("reflect"),
    "replication_pad1d": _padded("edge"),
    "replication_pad2d": _padded("edge"),
    "replication_pad3d": _padded("edge"),
}
"""Operations by name; a name with a dot is one overload."""
