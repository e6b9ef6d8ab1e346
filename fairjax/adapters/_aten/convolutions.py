"""Convolutions of one to three dimensions, channels first."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

FEW_POSITIONS = 16
"""Outputs of up to so many positions are computed as matrix products of patches. XLA's convolution on CPU is up to 70
times slower than they are on maps of 2 by 2, as in the last layers of a residual network."""
MANY_CHANNELS = 32
"""With so many input channels, matrix products are as fast as convolutions up to `MEDIUM_POSITIONS`, and much faster
under `jax.vmap` over networks, where XLA would compute grouped convolutions."""
MEDIUM_POSITIONS = 256


def _convolution(
    x: Any,
    weight: Any,
    bias: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Any:
    rank = weight.ndim - 2
    stride, padding, dilation = (_of_rank(option, rank) for option in (stride, padding, dilation))
    if transposed:
        h = _transposed(x, weight, stride, padding, dilation, _of_rank(output_padding, rank), groups)
    else:
        positions = math.prod(_sizes(x, weight, stride, padding, dilation))
        small = positions <= FEW_POSITIONS or (x.shape[1] >= MANY_CHANNELS and positions <= MEDIUM_POSITIONS)
        if groups == 1 and small:
            h = _as_products(x, weight, stride, padding, dilation)
        else:
            h = jax.lax.conv_general_dilated(
                x,
                weight,
                stride,
                [(size, size) for size in padding],
                rhs_dilation=dilation,
                feature_group_count=groups,
                dimension_numbers=_layout(rank),
            )
    return h if bias is None else h + bias.reshape((1, -1) + (1,) * rank)


def _of_rank(option: Sequence[int], rank: int) -> tuple[int, ...]:
    return tuple(option) * rank if len(option) == 1 else tuple(option)


def _layout(rank: int) -> tuple[str, str, str]:
    positions = "DHW"[-rank:]
    return f"NC{positions}", f"OI{positions}", f"NC{positions}"


def _sizes(x: Any, weight: Any, stride: Any, padding: Any, dilation: Any) -> list[int]:
    """Return the output's size along each axis of positions."""
    return [
        (size + 2 * pad - apart * (kernel - 1) - 1) // step + 1
        for size, kernel, step, pad, apart in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    ]


def _as_products(x: Any, weight: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    """Compute a convolution as one matrix product of weights and the patches around all positions."""
    sizes = _sizes(x, weight, stride, padding, dilation)
    padded = jnp.pad(x, [(0, 0), (0, 0), *((pad, pad) for pad in padding)])
    patches = []
    for offsets in itertools.product(*map(range, weight.shape[2:])):
        starts = [offset * apart for offset, apart in zip(offsets, dilation, strict=True)]
        limits = [start + (size - 1) * step + 1 for start, size, step in zip(starts, sizes, stride, strict=True)]
        window = (slice(None), slice(None), *map(slice, starts, limits, stride))
        patches.append(padded[window])
    entries = jnp.stack(patches, axis=2).reshape(x.shape[0], -1, math.prod(sizes))
    kernel = weight.reshape(weight.shape[0], -1)
    products = jax.lax.dot_general(kernel, entries, (((1,), (1,)), ((), ())))
    return jnp.swapaxes(products, 0, 1).reshape(x.shape[0], weight.shape[0], *sizes)


def _transposed(x: Any, weight: Any, stride: Any, padding: Any, dilation: Any, extra: Any, groups: int) -> Any:
    """Compute a transposed convolution: the input, spread out by the stride, is convolved with the flipped kernel."""
    rank = weight.ndim - 2
    inputs, outputs = weight.shape[0], weight.shape[1]
    kernel = jnp.flip(weight, tuple(range(2, weight.ndim)))
    kernel = kernel.reshape(groups, inputs // groups, outputs, *weight.shape[2:])
    kernel = jnp.swapaxes(kernel, 1, 2).reshape(groups * outputs, inputs // groups, *weight.shape[2:])
    borders = [apart * (size - 1) - pad for size, pad, apart in zip(weight.shape[2:], padding, dilation, strict=True)]
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1,) * rank,
        [(border, border + more) for border, more in zip(borders, extra, strict=True)],
        lhs_dilation=stride,
        rhs_dilation=dilation,
        feature_group_count=groups,
        dimension_numbers=_layout(rank),
    )


OPERATIONS: dict[str, Callable[..., Any]] = {"convolution": _convolution}
"""Operations by name."""
