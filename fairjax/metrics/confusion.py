"""The confusion tensor: weighted sums of rows by predicted class, label and group, for any number of either.

Every rate that is a ratio of two sums of rows is a function of this tensor, and tensors of disjoint rows add up to the
tensor of all of them, so it is what is kept when data come in chunks.

The sums are taken in blocks. A plain sum in single precision loses digits as rows accumulate (1e-5 of the total at a
million rows, more where all weights are equal), a sum of blocks does not.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

BLOCK = 4096
"""Rows that are summed before blocks are added pairwise."""
_MEMBERS_BLOCK = 64
_MASKED_CELLS = 16
_SLACK = 1e-6  # a softmax may return 1.0000001


def confusion(
    values: Any,
    y: Any,
    groups: Any,
    *,
    num_groups: int,
    num_classes: int = 2,
    weights: Any = None,
) -> Float[Array, "P Y G"]:
    """Weighted number of rows by predicted class, label and group; soft where the predictions are.

    Values that are known (not traced) are checked, and whatever cannot be right is an error that names the value.
    Under `jax.jit` values cannot be looked at: there an invalid value makes the whole tensor NaN, never a number.

    Args:
        values: for two classes decisions in {0, 1} or scores in [0, 1], one per row: class 1 gets the score, class 0 1
            minus it. For any number of classes codes 0, 1, ..., one per row, or probabilities (n, num_classes).
        y: labels, as codes below `num_classes` or booleans.
        groups: booleans (two groups), codes below `num_groups`, or memberships (n, num_groups) in [0, 1], which may be
            soft and may overlap.
        num_groups: number of groups; static.
        num_classes: number of classes; static.
        weights: a non-negative weight for each row; 1 if omitted.

    Returns:
        The sums (predicted class, label, group), in single precision, or double where JAX has it enabled;
        differentiable by values, memberships and weights. Half precision is summed in single precision.

    Raises:
        ValueError: if shapes disagree, pandas indices differ, or a known value is not what it should be.

    Example:
        >>> confusion([1, 0, 1], [1, 1, 0], [0, 0, 1], num_groups=2)[:, 1, 0].tolist()
        [1.0, 1.0]
    """
    if num_groups < 1 or num_classes < 2:
        raise ValueError(
            f"expected num_groups of at least 1 and num_classes of at least 2, got {num_groups} and {num_classes}"
        )
    check_aligned(values=values, y=y, groups=groups, weights=weights)
    values, y, groups = _array(values, "values"), _array(y, "y"), _array(groups, "groups")
    weights = None if weights is None else _array(weights, "weights")
    _check_shapes(values, y, groups, weights, num_groups, num_classes)

    coded = values.ndim == 1 and num_classes > 2
    if coded:
        _check_codes(values, num_classes, "values", "give class codes, or probabilities of shape (n, num_classes)")
    else:
        _check_unit(values, "values", "pass decisions or probabilities, for example jax.nn.sigmoid(logits)")
        if values.ndim == 2:
            _check_rows_sum(values)
    _check_codes(y, num_classes, "y", "recode the labels as 0, 1, ..., or raise num_classes")
    if groups.ndim == 1:
        _check_codes(groups, num_groups, "groups", "recode the groups as 0, 1, ..., or raise num_groups")
    else:
        _check_unit(groups, "memberships", "pass the probability of belonging to each group")
    if weights is not None:
        _check_weights(weights)
    return _confusion(values, y, groups, weights, num_groups, num_classes)


@partial(jax.jit, static_argnames=("num_groups", "num_classes"))
def _confusion(values, y, groups, weights, num_groups: int, num_classes: int):
    dtype = jnp.result_type(float)
    rows = values.shape[0]
    if rows == 0:
        return jnp.zeros((num_classes, num_classes, num_groups), dtype)
    coded, members = values.ndim == 1 and num_classes > 2, groups.ndim == 2
    invalid = _outside(y, num_classes)
    label = _codes(y)
    index, cells = label, num_classes
    if coded:
        invalid |= _outside(values, num_classes)
        if members:
            payload = jax.nn.one_hot(_codes(values), num_classes, dtype=dtype)
        else:
            payload = jnp.ones((rows, 1), dtype)
            index, cells = _codes(values) * num_classes + label, num_classes * num_classes
    else:
        soft = values.astype(dtype)
        invalid |= _not_unit(soft)
        payload = jnp.stack([1.0 - soft, soft], axis=1) if soft.ndim == 1 else soft
    if weights is not None:
        weights = weights.astype(dtype)
        invalid |= jnp.any(~(weights >= 0) | jnp.isinf(weights))
        payload = payload * weights[:, None]
    if members:
        soft_groups = groups.astype(dtype)
        invalid |= _not_unit(soft_groups)
        total = _of_members(payload, index, soft_groups, cells)
    else:
        invalid |= _outside(groups, num_groups)
        total = _of_codes(payload, index, _codes(groups), cells, num_groups)
    # total: (cells, groups, payload)
    if coded and not members:
        tensor = total[..., 0].reshape(num_classes, num_classes, num_groups)
    else:
        tensor = jnp.moveaxis(total, 2, 0)
    return tensor * jnp.where(invalid, jnp.nan, 1.0).astype(dtype)


def _of_codes(payload, index, group, cells: int, num_groups: int):
    """Sums (cells, groups, payload) of rows whose group is a code; codes out of range are nowhere."""
    rows, width = payload.shape
    inside = (index >= 0) & (index < cells) & (group >= 0) & (group < num_groups)
    cell = jnp.where(inside, index * num_groups + group, -1)
    count = cells * num_groups
    size = min(BLOCK, rows)
    blocks = -(-rows // size)
    cell = jnp.pad(cell, (0, blocks * size - rows), constant_values=-1).reshape(blocks, size)
    total = 0.0
    for part in _parts(payload):
        part = jnp.pad(part, ((0, blocks * size - rows), (0, 0))).reshape(blocks, size, width)
        if num_groups <= 4 and count <= _MASKED_CELLS:
            summed = jnp.stack(
                [
                    jnp.stack([jnp.sum(part[..., k], axis=1, where=cell == c) for k in range(width)], axis=-1)
                    for c in range(count)
                ],
                axis=1,
            )
        else:
            # An unmasked code would land among the next block's cells: those of no cell go to one of their own.
            place = jnp.where(cell < 0, blocks * count, cell + jnp.arange(blocks)[:, None] * count)
            summed = jax.ops.segment_sum(part.reshape(-1, width), place.reshape(-1), num_segments=blocks * count + 1)
            summed = summed[:-1].reshape(blocks, count, width)
        total = total + _pairwise(summed)
    return total.reshape(cells, num_groups, width)


def _of_members(payload, index, members, cells: int):
    """Sums (cells, groups, payload) of rows that belong to each group in part."""
    rows = payload.shape[0]
    size = min(_MEMBERS_BLOCK, rows)
    blocks = -(-rows // size)
    extra = blocks * size - rows
    payload = jnp.pad(payload, ((0, extra), (0, 0))).reshape(blocks, size, -1)
    members = jnp.pad(members, ((0, extra), (0, 0))).reshape(blocks, size, -1)
    index = jnp.pad(index, (0, extra), constant_values=-1).reshape(blocks, size)
    sums = []
    for cell in range(cells):
        here = jnp.where((index == cell)[..., None], payload, 0.0)
        sums.append(_pairwise(jnp.einsum("bnk,bng->bgk", here, members, precision=jax.lax.Precision.HIGHEST)))
    return jnp.stack(sums)


def _parts(payload):
    """The payload as a coarse part, whose sums over a block are exact in single precision, and the small rest.

    A sum of `BLOCK` = 2^12 whole numbers up to 2^12 is exact in the 24 bits of a float. The rest carries the gradient.
    """
    if payload.dtype != jnp.float32:
        return (payload,)
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(payload)))
    usable = (largest > 0) & jnp.isfinite(largest)
    # A power of two, so that scaling rounds nothing.
    step = jnp.exp2(jnp.clip(jnp.ceil(jnp.log2(jnp.where(usable, largest, 1.0))), -100, 100) - 12.0)
    coarse = jnp.round(jax.lax.stop_gradient(payload) / step) * step
    coarse = jnp.where(usable, coarse, 0.0)
    return coarse, payload - coarse


def _pairwise(blocks):
    """Sum over the first axis by halving it, so that rounding grows with its logarithm."""
    count = blocks.shape[0]
    size = 1 << (count - 1).bit_length()
    blocks = jnp.pad(blocks, ((0, size - count),) + ((0, 0),) * (blocks.ndim - 1))
    while size > 1:
        size //= 2
        blocks = blocks[:size] + blocks[size:]
    return blocks[0]


def _codes(codes):
    if jnp.issubdtype(codes.dtype, jnp.floating):
        codes = jnp.where(jnp.isfinite(codes), codes, -1)
    return codes.astype(jnp.int32)


def _outside(codes, count: int):
    """Whether any code is not a whole number in [0, count)."""
    if codes.dtype == bool:
        return jnp.asarray(False) if count >= 2 else jnp.any(codes)
    wrong = ~((codes >= 0) & (codes < count))
    if jnp.issubdtype(codes.dtype, jnp.floating):
        wrong |= jnp.floor(codes) != codes
    return jnp.any(wrong)


def _not_unit(values):
    return jnp.any(~((values >= -_SLACK) & (values <= 1.0 + _SLACK)))


def known(value: Any) -> bool:
    """Whether a value can be looked at: false of what JAX is tracing."""
    return not isinstance(value, jax.core.Tracer)


def check_aligned(**inputs: Any) -> None:
    """Refuses pandas objects whose indices differ: they would be paired by position, which is not how pandas does it.

    Raises:
        ValueError: naming the two that differ.
    """
    indexed = {name: value.index for name, value in inputs.items() if _has_index(value)}
    if not indexed:
        return
    first, *others = indexed
    for other in others:
        if len(indexed[first]) == len(indexed[other]) and not indexed[first].equals(indexed[other]):
            raise ValueError(
                f"the pandas indices of {first} and {other} differ, expected one index for all: align them with "
                f"{other}.loc[{first}.index], or pass .to_numpy() if the rows are in the same order"
            )


def _has_index(value: Any) -> bool:
    return hasattr(value, "index") and hasattr(value, "iloc")


def _array(value: Any, name: str):
    """As an array of numbers of JAX's or NumPy's."""
    if isinstance(value, jax.Array):
        return value
    try:
        value = np.asarray(value)
        if value.dtype == object:
            kinds = {type(each) for each in value.ravel()}
            if not all(issubclass(kind, bool | int | float | np.bool_ | np.number) for kind in kinds):
                raise TypeError
            value = value.astype(bool) if kinds <= {bool, np.bool_} else value.astype(float)
    except (TypeError, ValueError):
        value = None
    # Narrow floats of ml_dtypes are of kind "V".
    if value is None or not (value.dtype.kind in "biuf" or jnp.issubdtype(value.dtype, jnp.floating)):
        raise ValueError(
            f"{name} must be numbers or booleans without missing values: recode strings as 0, 1, ..., for example with "
            "pandas.factorize, and drop or fill missing values"
        )
    return value


def _check_shapes(values, y, groups, weights, num_groups: int, num_classes: int) -> None:
    shapes = f"values {values.shape}, y {y.shape}, groups {groups.shape}"
    if weights is not None:
        shapes += f", weights {weights.shape}"
    if values.ndim not in (1, 2) or (values.ndim == 2 and values.shape[1] != num_classes):
        raise ValueError(
            f"values must have shape (n,) or (n, {num_classes}), one column per class, got {shapes}; squeeze scores of "
            "shape (n, 1), or set num_classes"
        )
    if y.ndim != 1 or (weights is not None and weights.ndim != 1):
        raise ValueError(f"y and weights must be vectors, got {shapes}; squeeze those of shape (n, 1)")
    if groups.ndim not in (1, 2) or (groups.ndim == 2 and groups.shape[1] != num_groups):
        raise ValueError(
            f"groups must be codes of shape (n,) or memberships of shape (n, {num_groups}), got {shapes}; squeeze "
            "codes of shape (n, 1), or set num_groups"
        )
    lengths = {values.shape[0], y.shape[0], groups.shape[0]} | (set() if weights is None else {weights.shape[0]})
    if len(lengths) > 1:
        raise ValueError(f"expected one number of rows, got shapes {shapes}; pass the same rows to each")
    if groups.dtype == bool and groups.ndim == 1 and num_groups < 2:
        raise ValueError(f"booleans are two groups, got num_groups={num_groups}; pass num_groups=2")


def _first(value: np.ndarray, wrong: np.ndarray) -> str:
    where = np.argwhere(wrong)[0]
    return f"{value[tuple(where)]} in row {where[0]}"


def _check_codes(codes, count: int, name: str, fix: str) -> None:
    if not known(codes) or codes.dtype == bool:
        return
    codes = np.asarray(codes)
    if codes.dtype.kind not in "iu":
        codes = codes.astype(np.float64)
    wrong = ~((codes >= 0) & (codes < count))
    if codes.dtype.kind == "f":
        wrong |= np.floor(codes) != codes
    if wrong.any():
        raise ValueError(f"{name} must be whole numbers from 0 to {count - 1}, found {_first(codes, wrong)}: {fix}")


def _check_unit(values, name: str, fix: str) -> None:
    if not known(values) or values.dtype == bool:
        return
    values = np.asarray(values)
    if values.dtype.kind not in "iuf":
        values = values.astype(np.float32)
    wrong = ~((values >= -_SLACK) & (values <= 1 + _SLACK))
    if wrong.any():
        raise ValueError(f"{name} must be in [0, 1], found {_first(values, wrong)}: {fix}")


def _check_rows_sum(values) -> None:
    if not known(values):
        return
    values = np.asarray(values).astype(np.float64)
    total = values.sum(axis=1)
    wrong = np.abs(total - 1) > 0.02
    if wrong.any():
        raise ValueError(
            f"each row of probabilities must sum to 1, found a sum of {_first(total, wrong)}: pass for example "
            "jax.nn.softmax(logits)"
        )


def _check_weights(weights) -> None:
    if not known(weights):
        return
    weights = np.asarray(weights)
    if weights.dtype.kind not in "biuf":
        weights = weights.astype(np.float32)
    wrong = ~((weights >= 0) & np.isfinite(weights))
    if wrong.any():
        raise ValueError(
            f"weights must be finite and not negative, found {_first(weights, wrong)}: drop the row or give it weight 0"
        )
