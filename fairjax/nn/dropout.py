"""Dropout masks of several layers, drawn at once from few random bits."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, UInt8

from fairjax.random import random_words
from fairjax.types import KeyArray

_BYTE = 256
"""Number of values of a byte."""


def dropout_masks(key: KeyArray, shapes: list[tuple[int, int]], rate: float) -> list[Bool[Array, "n units"]]:
    """Draw the dropout masks of several layers from one array of random bits.

    Each entry uses eight random bits, a quarter of the 32 bits of a uniform number, since drawing bits takes a large
    part of a small network's training step. The drop probability is therefore `rate` rounded to a multiple of 1/256,
    `drop_probability(rate)`; divide by `1 - dropped(rate)` to keep expectations exact.

    Args:
        key: a key used only for this call.
        shapes: shapes of the layers' activations.
        rate: probability of dropping an entry, in [0, 1).

    Returns:
        One boolean array per shape; true = kept.

    Example:
        >>> mask, = dropout_masks(jax.random.key(0), [(1000, 32)], 0.05)
        >>> round(1 - mask.mean().item(), 2)
        0.05
    """
    sizes = [n * units for n, units in shapes]
    words = random_words(key, -(-sum(sizes) // 4))
    octets: UInt8[Array, " m"] = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)
    masks, start = [], 0
    for size, shape in zip(sizes, shapes, strict=True):
        masks.append(octets[start : start + size].reshape(shape) >= round(rate * _BYTE))
        start += size
    return masks


def drop_probability(rate: float) -> float:
    """Return the drop probability of `dropout_masks`: `rate` rounded to a multiple of 1/256."""
    return round(rate * _BYTE) / _BYTE
