"""The confusion tensor: weighted sums of rows by predicted class, label and group, for any number of each.

Every rate that is a ratio of two sums of rows is a function of this tensor. Tensors of disjoint rows add up to the
tensor of all rows, so data that are processed in chunks need to keep only this tensor.

The sums are taken in blocks. A plain sum in single precision loses digits as rows accumulate (1e-5 of the total at a
million rows, more where all weights are equal); a sum of blocks does not.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num

from fairjax import checks, linalg
from fairjax.types import AnyArray

BLOCK = 4096
"""Number of rows per block; the sums of blocks are then added pairwise."""
MASKS = 4
"""Largest number of groups for which rows are summed under one mask per group; for more, a scatter is faster."""
_GROUPS_BLOCK = 128
_MEMBERS_BLOCK = 64
_MASKED_CELLS = 16


def confusion(
    values: Any,
    y: Any,
    groups: Any,
    *,
    num_groups: int,
    num_classes: int = 2,
    weights: Any = None,
) -> Float[Array, "P Y G"]:
    """Compute the weighted number of rows by predicted class, label and group, soft if predictions or groups are soft.

    Concrete values are checked, and an invalid value raises an error that names it. Under `jax.jit` values cannot be
    inspected: an invalid value then makes the whole tensor NaN.

    Memberships count a row in each group in proportion, which understates gaps where the outcome depends on the group
    itself; see `solved` for the other estimator.

    Args:
        values: for two classes, decisions in {0, 1} or scores in [0, 1], one per row: class 1 gets the score and class
            0 gets 1 minus the score. For any number of classes, codes 0, 1, ..., one per row, or probabilities
            (n, num_classes).
        y: labels, as codes below `num_classes` or booleans.
        groups: booleans (two groups), codes below `num_groups`, or memberships (n, num_groups) in [0, 1], which may be
            soft and may overlap.
        num_groups: number of groups; static.
        num_classes: number of classes; static.
        weights: non-negative weights, one per row; 1 if omitted.

    Returns:
        The sums (predicted class, label, group), in single precision, or in double precision if JAX has it enabled;
        differentiable with respect to values, memberships and weights. Half precision is summed in single precision.

    Raises:
        ValueError: if shapes or pandas indices differ, or a concrete value is invalid.

    Example:
        >>> confusion([1, 0, 1], [1, 1, 0], [0, 0, 1], num_groups=2)[:, 1, 0].tolist()
        [1.0, 1.0]
    """
    check_counts(num_groups, num_classes)
    rows = checks.rows(
        values,
        y,
        groups,
        weights,
        num_groups=num_groups,
        num_classes=num_classes,
        weightless=True,
        group_name="groups",
    )
    return rows.or_nan(_confusion(rows.values, rows.y, rows.a, rows.weights, num_groups, num_classes))


def check_counts(num_groups: int, num_classes: int) -> None:
    """Check that there is at least one group and that there are at least two classes.

    Raises:
        ValueError: if there are fewer.
    """
    if num_groups < 1 or num_classes < 2:
        raise ValueError(
            f"expected num_groups of at least 1 and num_classes of at least 2, got {num_groups} and {num_classes}"
        )


@partial(jax.jit, static_argnames=("num_groups", "num_classes"))
def _confusion(values, y, groups, weights, num_groups: int, num_classes: int):
    dtype = jnp.result_type(float)
    if values.shape[0] == 0:
        return jnp.zeros((num_classes, num_classes, num_groups), dtype)
    soft = values.astype(dtype)
    payload = jnp.stack([1.0 - soft, soft], axis=1) if soft.ndim == 1 else soft
    if weights is not None:
        payload = payload * weights.astype(dtype)[:, None]
    label = y.astype(jnp.int32)
    if groups.ndim == 2:
        sums = _membership_sums(payload, label, groups.astype(dtype), num_classes)
    else:
        sums = _code_sums(payload, label, groups.astype(jnp.int32), num_classes, num_groups)
    return jnp.moveaxis(sums, 2, 0)  # from (label, group, predicted class)


def gram(memberships: Any, weights: Any = None) -> Float[Array, "G G"]:
    """Sum the products of memberships over rows, as `solved` needs them; sums of disjoint rows add up.

    Args:
        memberships: memberships (n, groups), in [0, 1].
        weights: non-negative weights, one per row; 1 if omitted.

    Returns:
        The Gram matrix.

    Example:
        >>> gram([[1.0, 0.0], [0.5, 0.5]]).tolist()
        [[1.25, 0.25], [0.25, 0.25]]
    """
    members = checks.numeric("memberships", memberships)
    if members.ndim != 2:
        raise ValueError(f"memberships must have shape (n, groups), found {members.shape}")
    members, valid = checks.group_column(members, members.shape[1], "memberships")
    weights, valid_weights = checks.sample_weights(weights, members, weightless=True)
    weighted = members if weights is None else members * weights[:, None]
    products = _membership_sums(weighted, jnp.zeros(members.shape[0], jnp.int32), members, 1)[0]
    return checks.nan_unless(checks.all_valid(valid, valid_weights), products)


def solved(
    tensor: Num[AnyArray, "P Y G"], products: Float[AnyArray, "G G"], blocks: Sequence[Sequence[int]] | None = None
) -> Float[Array, "P Y G"]:
    """Solve for the tensor of each group from soft memberships: the group means of a linear regression.

    If the outcome depends on the group itself and memberships are its calibrated probabilities, these shares are
    unbiased, and those of `confusion`, which mix the groups, understate the gaps. If the outcome depends on the
    probabilities alone, the shares of `confusion` are unbiased and these overstate the gaps. The data cannot show which
    of the two holds.

    Args:
        tensor: result of `confusion` for the memberships, or a sum of such results.
        products: result of `gram` for the same rows, or a sum of such results.
        blocks: the groups of each attribute, if there are several attributes that are not intersected; the equations
            are solved for one attribute at a time.

    Returns:
        Sums by (predicted class, label, group) with the same total per group. Individual sums may be negative. NaN if
        memberships do not distinguish the groups.

    References:
        Chen, Kallus, Mao, Svacha, Udell (2019), Fairness Under Unawareness, FAT*.
    """
    tensor = checks.floating(tensor)
    products = jnp.asarray(products).astype(tensor.dtype)
    groups = tensor.shape[2]
    result = tensor
    for block in [range(groups)] if blocks is None else blocks:
        index = np.asarray(list(block))
        block_tensor, square = tensor[..., index], products[index[:, None], index]
        empty = jnp.diagonal(square) <= 0
        square = square + jnp.diag(empty.astype(square.dtype))
        with jax.default_matmul_precision("highest"):
            shares = (block_tensor.reshape(-1, len(index)) @ linalg.inverse(square).T).reshape(block_tensor.shape)
        size = jnp.sum(block_tensor, axis=(0, 1), keepdims=True)
        result = result.at[..., index].set(jnp.where(jnp.isfinite(shares), shares * size, jnp.nan))
    return result


def _code_sums(payload, index, group, cells: int, num_groups: int):
    """Compute the sums (cells, groups, payload) of rows whose cell and group are codes."""
    width, count = payload.shape[1], cells * num_groups
    total = jnp.zeros((count, width), payload.dtype)
    for part in _parts(payload):
        part, cell = _blocks(part, index * num_groups + group)
        if num_groups <= MASKS and count <= _MASKED_CELLS:
            summed = jnp.stack(
                [
                    jnp.stack([jnp.sum(part[..., k], axis=1, where=cell == c) for k in range(width)], axis=-1)
                    for c in range(count)
                ],
                axis=1,
            )
            total = total + _pairwise(summed)
        else:
            total = total + _in_blocks(part, cell, count)
    return total.reshape(cells, num_groups, width)


def _blocks(payload, cell, size: int = BLOCK):
    """Reshape to payload (blocks, rows, width) and cells (blocks, rows), padded with rows that belong to no cell."""
    rows, width = payload.shape
    size = min(size, rows)
    blocks = -(-rows // size)
    extra = blocks * size - rows
    payload = jnp.pad(payload, ((0, extra), (0, 0))).reshape(blocks, size, width)
    return payload, jnp.pad(cell, (0, extra), constant_values=-1).reshape(blocks, size)


def _in_blocks(payload, cell, count: int):
    """Compute the sums (count, width) of the arrays from `_blocks`, by one scatter and a pairwise sum of blocks."""
    blocks, _, width = payload.shape
    # Rows of no cell go to an extra cell, since their codes would otherwise index cells of the next block.
    inside = (cell >= 0) & (cell < count)
    segment = jnp.where(inside, cell + jnp.arange(blocks, dtype=cell.dtype)[:, None] * count, blocks * count)
    summed = jax.ops.segment_sum(payload.reshape(-1, width), segment.reshape(-1), num_segments=blocks * count + 1)
    return _pairwise(summed[:-1].reshape(blocks, count, width))


def cell_sums(payload: Float[Array, "n k"], cell: Num[Array, " n"], count: int) -> Float[Array, "count k"]:
    """Sum the numbers of each row over the rows of each cell, without losing digits for large numbers of rows.

    Args:
        payload: numbers of each row.
        cell: the cell of each row; a row of no cell, such as -1, is left out.
        count: number of cells.

    Returns:
        The sums.

    Example:
        >>> cell_sums(jnp.array([[0.5], [0.25], [1.0]]), jnp.array([1, 1, 0]), 2).tolist()
        [[1.0], [0.75]]
    """
    rows, width = payload.shape

    def summed(numbers, size: int):
        blocks = max(1, -(-rows // size))
        block = jnp.arange(rows, dtype=cell.dtype) // size
        segment = jnp.where(cell >= 0, block * count + cell, blocks * count)
        sums = jax.ops.segment_sum(numbers, segment, num_segments=blocks * count + 1)
        return sums[:-1].reshape(blocks, count, width)

    if payload.dtype != jnp.float32:
        return jnp.sum(summed(payload, max(1, rows)), axis=0)
    # Split into whole numbers up to 2^12 times a step, whose sums over 2^18 rows fit into int32, and a small rest.
    step = _step(payload)
    integers = jnp.round(payload / step)
    representable = jnp.abs(integers) <= 2.0**12  # NaN and infinite values stay in the rest
    integers = jnp.where(representable, integers, 0.0)
    exact = summed(integers.astype(jnp.int32), 2**18).astype(jnp.float32) * step
    return _pairwise(exact) + _pairwise(summed(payload - integers * step, max(BLOCK, -(-rows // 256))))


def _membership_sums(payload, index, members, cells: int):
    """Compute the sums (cells, groups, payload) of rows that belong to each group in part."""
    rows = payload.shape[0]
    size = min(_MEMBERS_BLOCK, rows)
    blocks = -(-rows // size)
    extra = blocks * size - rows
    payload = jnp.pad(payload, ((0, extra), (0, 0))).reshape(blocks, size, -1)
    members = jnp.pad(members, ((0, extra), (0, 0))).reshape(blocks, size, -1)
    index = jnp.pad(index, (0, extra), constant_values=-1).reshape(blocks, size)
    sums = []
    for cell in range(cells):
        in_cell = jnp.where((index == cell)[..., None], payload, 0.0)
        sums.append(_pairwise(jnp.einsum("bnk,bng->bgk", in_cell, members, precision=jax.lax.Precision.HIGHEST)))
    return jnp.stack(sums)


def _parts(payload):
    """Split the payload into a coarse part, whose sums over a block are exact in single precision, and a small rest.

    A sum of `BLOCK` = 2^12 whole numbers up to 2^12 is exact in the 24 bits of a float. The rest carries the gradient.
    """
    if payload.dtype != jnp.float32:
        return (payload,)
    step = _step(payload)
    coarse = jnp.round(jax.lax.stop_gradient(payload) / step) * step
    coarse = jnp.where(jnp.isfinite(coarse), coarse, 0.0)
    return coarse, payload - coarse


def _step(payload):
    """Return the step such that the largest number is at most 2^12 steps; a power of two, so that scaling is exact."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(payload), initial=0.0))
    usable = (largest > 0) & jnp.isfinite(largest)
    return jnp.exp2(jnp.clip(jnp.ceil(jnp.log2(jnp.where(usable, largest, 1.0))), -100, 100) - 12.0)


def _pairwise(blocks):
    """Sum over the first axis by halving it, so that rounding grows with its logarithm."""
    count = blocks.shape[0]
    size = 1 << (count - 1).bit_length()
    blocks = jnp.pad(blocks, ((0, size - count),) + ((0, 0),) * (blocks.ndim - 1))
    while size > 1:
        size //= 2
        blocks = blocks[:size] + blocks[size:]
    return blocks[0]


def sums_by_group(values: Float[Array, " n"], groups: Any, num_groups: int) -> Float[Array, " G"]:
    """Sum one number per row over the rows of each group, in blocks if there are more than a few groups.

    Args:
        values: one number per row, 0 for rows that do not count.
        groups: booleans, codes below `num_groups`, or memberships (n, num_groups).
        num_groups: number of groups.

    Returns:
        One sum per group, in the dtype of the values, differentiable with respect to values and memberships.

    Example:
        >>> sums_by_group(jnp.array([1.0, 2.0, 3.0]), jnp.array([True, False, True]), 2).tolist()
        [2.0, 4.0]
    """
    if groups.ndim == 1 and num_groups <= MASKS:
        return jnp.stack([jnp.sum(values, where=mask) for mask in group_masks(groups, num_groups)])
    if values.shape[0] == 0:
        return jnp.zeros(num_groups, values.dtype)
    index = jnp.zeros(values.shape, jnp.int32)
    if groups.ndim == 2:
        return _membership_sums(values[:, None], index, groups.astype(values.dtype), 1)[0, :, 0]
    return _in_blocks(*_blocks(values[:, None], groups.astype(jnp.int32), _GROUPS_BLOCK), num_groups)[:, 0]


def group_masks(groups: Any, num_groups: int) -> list[Bool[Array, " n"]]:
    """Return which rows belong to each group, for groups given as booleans or codes."""
    if groups.dtype == bool:
        return [~groups, groups][:num_groups] + [jnp.zeros_like(groups)] * (num_groups - 2)
    return [groups == group for group in range(num_groups)]
