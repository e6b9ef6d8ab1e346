"""Functions of rows: the logit to explain, chunks that bound memory, and the check that rows are independent."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree

from fairjax.nn.network import ApplyFn
from fairjax.types import Inputs, Variables

CHUNK = 8192
"""Default number of rows that are computed at a time."""


def num_rows(x: Inputs) -> int:
    """Return the number of rows of inputs.

    Raises:
        ValueError: if there are none, or arrays of a tree have different numbers of rows.

    Example:
        >>> num_rows({"age": np.ones(3), "word": np.ones((3, 5))})
        3
    """
    counts = {np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in jax.tree.leaves(x)}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"x must be arrays with the same number of rows, at least one, got {sorted(counts)} rows")
    return counts.pop()


def logits_of(
    apply: ApplyFn,
    variables: Variables,
    x: Inputs,
    target: int | None = None,
    *,
    shifts: PyTree[Float[Array, "_"]] | None = None,
) -> Float[Array, " n"]:
    """Compute the logit of every row that attributions explain.

    Args:
        apply: the network; used in evaluation mode.
        variables: the network's variables.
        x: inputs of n rows.
        target: the class whose logit it is. With two classes the logit is that of class 1, and its negative that of
            class 0; with more, the class must be named.
        shifts: as for `ApplyFn`.

    Returns:
        One logit per row.

    Raises:
        ValueError: if the class does not exist, or there are more than two and none is named.
    """
    logits, _ = apply(variables, x) if shifts is None else apply(variables, x, shifts=shifts)
    if logits.ndim == 1:
        if target not in (None, 0, 1):
            raise ValueError(f"target must be 0 or 1 for a network of two classes, got {target}")
        return -logits if target == 0 else logits
    if target is None or not 0 <= target < logits.shape[1]:
        last = logits.shape[1] - 1
        raise ValueError(f"target must name one of the {last + 1} classes, a number from 0 to {last}, got {target}")
    return logits[:, target]


def map_chunks(function: Callable[[Any], Any], rows: PyTree[Array], *, chunk: int | None = CHUNK) -> Any:
    """Apply a function of rows to chunks of rows, one after another, so that memory is bounded by the chunk.

    Args:
        function: maps a tree of arrays with rows on axis 0 to such a tree. What it returns for one row must not
            depend on the others: the last chunk is filled with copies of the last row.
        rows: the rows.
        chunk: number of rows at a time; all at once if None.

    Returns:
        What the function returns for all rows.

    Raises:
        ValueError: if `chunk` is not positive.

    Example:
        >>> map_chunks(lambda x: 2 * x, jnp.arange(5), chunk=2).tolist()
        [0, 2, 4, 6, 8]
    """
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be a positive number of rows, or None for all rows at once, got {chunk}")
    n = num_rows(rows)
    if chunk is None or chunk >= n:
        return function(rows)
    count = -(-n // chunk)

    def one(start: Array) -> Any:
        numbers = jnp.minimum(start * chunk + jnp.arange(chunk), n - 1)
        return function(jax.tree.map(lambda leaf: jnp.asarray(leaf)[numbers], rows))

    parts = jax.lax.map(one, jnp.arange(count))
    return jax.tree.map(lambda part: part.reshape(count * chunk, *part.shape[2:])[:n], parts)


def check_row_wise(apply: ApplyFn, variables: Variables, x: Inputs) -> None:
    """Check that the logit of a row does not depend on the other rows, as explanations of rows suppose.

    Nothing is checked under a trace, where the values are not known.

    Args:
        apply: the network; used in evaluation mode.
        variables: the network's variables.
        x: inputs of n rows, of which the first and the last are compared alone and beside the other.

    Raises:
        ValueError: if the logits differ.
    """
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((variables, x))):
        return
    two = np.array([0, num_rows(x) - 1])
    both = jax.tree.map(lambda leaf: jnp.asarray(leaf)[two], x)
    rows = [jax.tree.map(lambda leaf, row=row: leaf[row][None], both) for row in range(2)]
    logits = [apply(variables, row)[0] for row in (*rows, both)]
    if any(isinstance(logit, Tracer) for logit in logits):  # inside jit, what is computed from constants is traced, too
        return
    *alone, beside = (np.asarray(logit, np.float64) for logit in logits)
    alone = np.concatenate(alone)
    if not np.allclose(alone, beside, rtol=1e-3, atol=1e-4, equal_nan=True):
        gap = np.max(np.abs(alone - beside))
        raise ValueError(
            f"the network's logit of a row depends on the other rows, it changes by {gap:.2g}, so rows cannot be "
            "explained one by one: bring the network in evaluation mode, with running instead of batch statistics"
        )
