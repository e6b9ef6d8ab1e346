"""Fingerprints of trees of arrays, by which results are bound to what they were computed from."""

import hashlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

_BLOCK = 2**26
"""Bytes that are read at a time, so that memory-mapped arrays larger than memory can be fingerprinted."""


def digests(tree: Any) -> dict[str, list[Any]]:
    """Return shape, type and SHA-256 checksum of the bytes of each array of a tree, by its name.

    Args:
        tree: a tree of arrays, NumPy's or JAX's or objects like them that can be sliced by rows.

    Returns:
        [shape, type, checksum] by names such as "params/output/kernel"; the name of a single array is "".

    Example:
        >>> digests({"a": np.zeros((2, 3), np.float32)})["a"][:2]
        [[2, 3], 'float32']
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): _digest(leaf) for path, leaf in leaves}


def _digest(leaf: Any) -> list[Any]:
    is_sliceable = hasattr(leaf, "shape") and hasattr(leaf, "dtype") and not isinstance(leaf, jax.Array)
    leaf = leaf if is_sliceable else np.asarray(leaf)
    checksum = hashlib.sha256()
    for block in _blocks(leaf):
        checksum.update(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
    return [list(leaf.shape), str(leaf.dtype), checksum.hexdigest()]


def _blocks(leaf: Any) -> Iterator[np.ndarray]:
    """Iterate over an array in blocks of rows."""
    if not leaf.shape or not all(leaf.shape):
        yield np.asarray(leaf)
        return
    row = max(1, int(np.prod(leaf.shape[1:], dtype=np.int64)) * np.dtype(leaf.dtype).itemsize)
    rows = max(1, _BLOCK // row)
    for start in range(0, leaf.shape[0], rows):
        yield np.asarray(leaf[start : start + rows])
