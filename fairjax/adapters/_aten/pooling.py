"""Pooling and resizing of channels-first maps."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def _per_axis(option: Any, rank: int) -> tuple[int, ...]:
    values = (option,) if isinstance(option, int) else tuple(option)
    return values * rank if len(values) == 1 else values


def _extra(size: int, window: int, step: int, pad: int, ceil_mode: bool) -> int:
    """Return how many positions are added at the end, so that the last window is complete."""
    if not ceil_mode:
        return 0
    count = -(-(size + 2 * pad - window) // step) + 1
    if (count - 1) * step >= size + pad:
        count -= 1  # a window must not start in the padding at the end
    return max((count - 1) * step + window - size - 2 * pad, 0)


def _max_pool(
    x: Any,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    *,
    rank: int,
) -> tuple[Any, None]:
    window = _per_axis(kernel_size, rank)
    steps = _per_axis(stride, rank) or window
    pads, apart = _per_axis(padding, rank), _per_axis(dilation, rank)
    reach = [gap * (size - 1) + 1 for size, gap in zip(window, apart, strict=True)]
    sizes = x.shape[-rank:]
    borders = [
        (pad, pad + _extra(size, length, step, pad, ceil_mode))
        for size, length, step, pad in zip(sizes, reach, steps, pads, strict=True)
    ]
    lead = x.ndim - rank
    smallest = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    result = jax.lax.reduce_window(
        x,
        np.asarray(smallest, x.dtype)[()],
        jax.lax.max,
        (1,) * lead + window,
        (1,) * lead + steps,
        [(0, 0)] * lead + borders,
        window_dilation=(1,) * lead + apart,
    )
    return result, None


def _avg_pool(
    x: Any,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    rank: int,
) -> Any:
    window, pads = _per_axis(kernel_size, rank), _per_axis(padding, rank)
    steps = _per_axis(stride, rank) or window
    h = x
    for i in range(rank):
        matrix = _averages(
            x.shape[i - rank], window[i], steps[i], pads[i], ceil_mode, count_include_pad, divisor_override is not None
        )
        h = _along_axis(h, matrix, i - rank)
    return h if divisor_override is None else h / divisor_override


def _averages(size: int, window: int, step: int, pad: int, ceil_mode: bool, include: bool, sums: bool) -> np.ndarray:
    """Return the matrix that averages windows along one axis; two axes are averaged one after the other."""
    extra = _extra(size, window, step, pad, ceil_mode)
    count = (size + 2 * pad + extra - window) // step + 1
    matrix = np.zeros((count, size), np.float32)
    for i in range(count):
        start, end = i * step - pad, min(i * step - pad + window, size + pad)
        inside = slice(max(start, 0), min(end, size))
        divisor = end - start if include else inside.stop - inside.start
        matrix[i, inside] = 1.0 if sums else 1.0 / divisor
    return matrix


def _along_axis(x: Any, matrix: np.ndarray, axis: int) -> Any:
    """Multiply one axis by a matrix of shape (new size, size)."""
    if matrix.shape[0] == 1 and (matrix == matrix[0, 0]).all():
        return jnp.sum(x, axis=axis, keepdims=True) * float(matrix[0, 0])
    moved = jnp.moveaxis(x, axis, -1) @ jnp.asarray(matrix.T, x.dtype)
    return jnp.moveaxis(moved, -1, axis)


def _adaptive(x: Any, output_size: Any, *, rank: int) -> Any:
    """Average over windows that cover the map in `output_size` parts, which may overlap."""
    for i, new in enumerate(_per_axis(output_size, rank)):
        axis = i - rank
        matrix = np.zeros((new, x.shape[axis]), np.float32)
        for j, (start, end) in enumerate(_parts(x.shape[axis], new)):
            matrix[j, start:end] = 1.0 / (end - start)
        x = _along_axis(x, matrix, axis)
    return x


def _adaptive_max(x: Any, output_size: Any, *, rank: int) -> tuple[Any, None]:
    for i, new in enumerate(_per_axis(output_size, rank)):
        axis = x.ndim + i - rank
        parts = [jax.lax.slice_in_dim(x, start, end, axis=axis) for start, end in _parts(x.shape[axis], new)]
        x = jnp.concatenate([jnp.max(part, axis=axis, keepdims=True) for part in parts], axis=axis)
    return x, None


def _parts(size: int, count: int) -> list[tuple[int, int]]:
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def _sizes(x: Any, output_size: Any, scale_factors: Any, rank: int) -> list[int]:
    if output_size is not None:
        return list(output_size)
    return [math.floor(size * factor) for size, factor in zip(x.shape[-rank:], scale_factors, strict=True)]


def _nearest(x: Any, output_size: Any, scale_factors: Any = None, *, rank: int) -> Any:
    for i, new in enumerate(_sizes(x, output_size, scale_factors, rank)):
        ratio = x.shape[i - rank] / new if not scale_factors else 1 / scale_factors[i]
        positions = np.minimum(np.floor(np.arange(new) * ratio).astype(np.int32), x.shape[i - rank] - 1)
        x = jnp.take(x, positions, axis=i - rank)
    return x


def _bilinear(x: Any, output_size: Any, align_corners: bool, scale_factors: Any = None) -> Any:
    for i, new in enumerate(_sizes(x, output_size, scale_factors, 2)):
        x = _along_axis(x, _interpolation(x.shape[i - 2], new, align_corners, (scale_factors or [None] * 2)[i]), i - 2)
    return x


def _interpolation(size: int, new: int, align_corners: bool, factor: float | None) -> np.ndarray:
    """Return the matrix that interpolates linearly from `size` to `new` positions."""
    if align_corners:
        positions = np.arange(new) * ((size - 1) / (new - 1) if new > 1 else 0.0)
    else:
        positions = np.maximum((np.arange(new) + 0.5) * (size / new if factor is None else 1 / factor) - 0.5, 0)
    low = np.minimum(np.floor(positions).astype(int), size - 1)
    high = np.minimum(low + 1, size - 1)
    weight = positions - low
    matrix = np.zeros((new, size), np.float32)
    np.add.at(matrix, (np.arange(new), low), 1 - weight)
    np.add.at(matrix, (np.arange(new), high), weight)
    return matrix


def _of_rank(function: Callable[..., Any], rank: int) -> Callable[..., Any]:
    return lambda *args, **kwargs: function(*args, **kwargs, rank=rank)


OPERATIONS: dict[str, Callable[..., Any]] = {
    **{f"max_pool{rank}d_with_indices": _of_rank(_max_pool, rank) for rank in (1, 2, 3)},
    **{f"avg_pool{rank}d": _of_rank(_avg_pool, rank) for rank in (1, 2, 3)},
    "adaptive_avg_pool1d": _of_rank(_adaptive, 1),
    "_adaptive_avg_pool2d": _of_rank(_adaptive, 2),
    "_adaptive_avg_pool3d": _of_rank(_adaptive, 3),
    "adaptive_max_pool2d": _of_rank(_adaptive_max, 2),
    "adaptive_max_pool3d": _of_rank(_adaptive_max, 3),
    "upsample_nearest1d.vec": _of_rank(_nearest, 1),
    "upsample_nearest2d.vec": _of_rank(_nearest, 2),
    "upsample_nearest3d.vec": _of_rank(_nearest, 3),
    "upsample_bilinear2d.vec": _bilinear,
}
"""Operations by name; a name with a dot is one overload. The positions of maxima are not computed."""

LACKING_RESULTS = {
    **{f"max_pool{rank}d_with_indices": (1,) for rank in (1, 2, 3)},
    "adaptive_max_pool2d": (1,),
    "adaptive_max_pool3d": (1,),
}
"""Results that are not computed, by number; a program that uses them is refused."""
