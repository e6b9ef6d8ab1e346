"""Bias by feature: integrated gradients averaged by group, whose differences sum to the gap between mean logits."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from fairjax import checks
from fairjax.detect.attribution.bias import BiasByFeature, leaf_codes
from fairjax.detect.attribution.bootstrap import poisson_weights
from fairjax.detect.attribution.inputs import is_shared
from fairjax.detect.attribution.integrated import along_path, checked_path, logits_of_baseline
from fairjax.detect.rows import CHUNK, logits_of, num_rows
from fairjax.detect.variables import variable_codes
from fairjax.nn.network import ApplyFn
from fairjax.types import Batch, KeyArray, Variables, WeightedBatch, weights_of


def bias_by_feature(
    apply: ApplyFn,
    variables: Variables,
    batch: Any,
    baseline: Any = None,
    nodes: int = 50,
    *,
    key: KeyArray | None = None,
    draws: int = 1000,
    columns: Sequence[str] | None = None,
    num_groups: int = 2,
    pair: tuple[int, int] | None = None,
    minimum: int = 10,
    target: int | None = None,
    chunk: int | None = CHUNK,
) -> BiasByFeature:
    """Decompose the gap between the mean logits of two groups by feature.

    Integrated gradients of each row sum to its logit less that of the baseline. So their means by group differ, feature
    by feature, by numbers that sum to the difference of the mean logits. A feature's part says how much of the gap
    passes through this feature in the network, not that the feature causes anything in the world.

    Sums are accumulated over chunks: no attributions of single rows are kept. Map the function over seeds with
    `jax.vmap`.

    Args:
        apply: as for `integrated_gradients`.
        variables: as for `integrated_gradients`.
        batch: a `fairjax.Batch`, a batch with weights, or a tuple of `x` and the groups `a`; labels are not used.
        baseline: as for `integrated_gradients`.
        nodes: as for `integrated_gradients`.
        key: random key of the bootstrap over rows; no draws are made without it.
        draws: number of bootstrap draws.
        columns: name of the variable of each column of a matrix `x`, such as `fairjax.detect.variables_of(names)`, to
            compute the importance of variables with several columns. A tree of arrays has one variable per leaf.
        num_groups: number of groups if `a` holds codes.
        pair: the two groups that are compared, the first less the second. If omitted: 0 and 1 if there are two, else
            the groups with the least and the greatest mean logit.
        minimum: least number of rows of a group; the numbers of smaller groups are NaN.
        target: the class whose logit is explained.
        chunk: number of rows that are computed at a time; all at once if None. Bootstrap draws depend on it.

    Returns:
        The decomposition; its method `table` makes a table of it.

    Raises:
        TypeError: if an array of `x` holds integers or booleans.
        ValueError: if numbers of rows differ, groups or weights are invalid, no such pair exists, or as for
            `integrated_gradients`.

    Example:
        >>> x = jnp.stack([jnp.arange(20.0) % 2, jnp.arange(20.0)], axis=1)
        >>> linear = lambda variables, x, **_: (x @ variables["w"], variables)
        >>> bias = bias_by_feature(linear, {"w": jnp.array([-2.0, 0.5])}, (x, x[:, 0] == 1))
        >>> bias.differences.round(4).tolist(), bias.gap.item()
        ([2.0, -0.5], 1.5)

    References:
        Sundararajan, Taly, Yan (2017), Axiomatic attribution for deep networks.
    """
    rows, a, weights = _columns_of(batch)
    x, baseline = checked_path(apply, variables, rows, baseline, nodes)
    n = num_rows(x)
    members, valid = _members(a, weights, n, num_groups)
    if pair is not None and not (len(set(pair)) == 2 and all(0 <= group < num_groups for group in pair)):
        raise ValueError(f"pair must be two different groups from 0 to {num_groups - 1}, got {pair}")
    if draws < 0 or minimum < 1:
        raise ValueError(f"draws must not be negative and minimum positive, got draws {draws} and minimum {minimum}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be a positive number of rows, or None for all rows at once, got {chunk}")
    shapes = [leaf.shape[1:] for leaf in jax.tree.leaves(x)]
    codes: tuple[int, ...] | None = None
    if not jax.tree_util.all_leaves([x]):
        if columns is not None:
            raise ValueError("columns are for a matrix of features; a tree of arrays has one variable per leaf")
        codes = leaf_codes([int(np.prod(shape)) for shape in shapes])
    elif columns is not None:
        if len(shapes[0]) != 1:
            raise ValueError(f"columns are for a matrix of features, found rows of shape {shapes[0]}")
        codes = variable_codes(columns, shapes[0][0])[1]
    count = 0 if key is None else draws
    options = (apply, nodes, count, codes, pair, minimum, target, chunk)
    return _bias(options, variables, x, baseline, members, valid, key)


def _columns_of(batch: Any) -> tuple[Any, Any, Any]:
    """Return inputs, groups and weights of a batch or of a tuple (x, a)."""
    if isinstance(batch, Batch | WeightedBatch):
        return batch.x, batch.a, weights_of(batch)
    if isinstance(batch, tuple) and len(batch) == 2:
        return *batch, None
    raise TypeError(
        f"batch must be a fairjax.Batch or a tuple (x, a) of inputs and groups, found {type(batch).__name__}"
    )


def _members(
    a: Any, weights: Any, n: int, num_groups: int
) -> tuple[tuple[Float[Array, "n g"], Float[Array, " n"]], Bool[Array, ""] | None]:
    """Return each row's weight in each group, and its weight; and whether they are valid if they are traced."""
    column = checks.numeric("a", a)
    if column.shape[:1] != (n,) or column.ndim > 2 or (column.ndim == 2 and column.shape[1] != num_groups):
        raise ValueError(
            f"a must be one group per row of x, shape ({n},), or memberships of shape ({n}, {num_groups}), found shape "
            f"{column.shape}: state num_groups where there are more than two"
        )
    groups, valid_groups = checks.group_column(column, num_groups)
    ones = jnp.ones(n, jnp.result_type(float))
    checked, valid_weights = checks.sample_weights(weights, ones)
    row_weights = ones if checked is None else checked
    if groups.ndim == 1:
        groups = groups.astype(jnp.int32)[:, None] == jnp.arange(num_groups)[None]
    members = groups.astype(row_weights.dtype) * row_weights[:, None]
    return (members, row_weights), checks.all_valid(valid_groups, valid_weights)


@partial(jax.jit, static_argnums=0)
def _bias(options, variables, x, baseline, members, valid, key):
    apply, nodes, draws, codes, pair, minimum, target, chunk = options
    with jax.default_matmul_precision("highest"):
        sums = _sums_of_chunks(apply, variables, x, baseline, members, key, nodes, draws, codes, target, chunk)
    is_estimable = sums["counts"] >= minimum
    table = _divided(sums["groups"], is_estimable)
    num_groups = table.shape[0]
    logits, baseline_logits = table[:, -3], table[:, -2]
    if pair is None and num_groups == 2:
        pair = (0, 1)
    if pair is None:
        first = jnp.argmin(jnp.where(is_estimable, logits, jnp.inf))
        others = is_estimable & (jnp.arange(num_groups) != first)
        chosen = jnp.stack([first, jnp.argmax(jnp.where(others, logits, -jnp.inf))]).astype(jnp.int32)
    else:
        chosen = jnp.array(pair, jnp.int32)
    comparable = is_estimable[chosen].all() & (chosen[0] != chosen[1])

    def difference(table):
        """Subtract the second group of the pair from the first; NaN where one of them cannot be estimated."""
        between = table[..., chosen[0], :] - table[..., chosen[1], :]
        return checks.nan_unless(comparable if valid is None else comparable & valid, between)

    between = difference(table)
    resampled = difference(_divided(sums["draws"], is_estimable))
    is_valid = partial(checks.nan_unless, valid)
    total = sums["weight"]
    overall = is_valid(jnp.where(total > 0, sums["importance"] / jnp.where(total > 0, total, 1.0), jnp.nan))
    features = between.shape[0] - 3
    parts = between[:-3]
    return BiasByFeature(
        differences=_like_row(x, parts),
        means=_like_row(x, is_valid(table[:, :-3])),
        importance=_like_row(x, overall[:features]),
        importance_of_variables=None if codes is None else overall[features:],
        logits=is_valid(logits),
        baseline_logits=is_valid(baseline_logits),
        gap=between[-3],
        completeness_gap=jnp.sum(parts) - (between[-3] - between[-2]),
        largest_delta=is_valid(sums["delta"]),
        pair=chosen,
        counts=sums["counts"],
        draws=_like_row(x, resampled[:, :-3]),
        gap_draws=resampled[:, -3],
    )


def _divided(
    sums: Float[Array, "*draws groups k"], is_estimable: Bool[Array, " groups"]
) -> Float[Array, "*draws groups k"]:
    """Divide sums by the sum of weights, their last column; NaN for groups without weight or with too few rows."""
    weight = sums[..., -1:]
    usable = (weight > 0) & jnp.expand_dims(is_estimable, [*range(sums.ndim - 2), -1])
    return jnp.where(usable, sums / jnp.where(usable, weight, 1.0), jnp.nan)


def _sums_of_chunks(apply, variables, x, baseline, members, key, nodes, draws, codes, target, chunk):
    """Accumulate over chunks of rows the sums from which all results are computed.

    Returns:
        `groups`, sums over the rows of each group of [attributions, logit, baseline's logit, 1]; `draws`, the same for
        each bootstrap draw; `importance`, sums of absolute attributions by feature and by variable; `weight`, the sum
        of weights; `delta`, the largest distance from completeness; `counts`, the number of rows of each group.
    """
    n, shared = num_rows(x), is_shared(x, baseline)
    size = n if chunk is None else min(chunk, n)
    by_group, row_weights = members
    dtype, num_groups = row_weights.dtype, by_group.shape[1]

    def of_chunk(number):
        wanted = number * size + jnp.arange(size)
        numbers, inside = jnp.minimum(wanted, n - 1), (wanted < n).astype(dtype)
        part, base = (jax.tree.map(lambda leaf: leaf[numbers], tree) for tree in (x, None if shared else baseline))
        base = baseline if shared else base
        weights, group_weights = row_weights[numbers] * inside, by_group[numbers] * inside[:, None]
        attributions = [
            leaf.reshape(size, -1) for leaf in jax.tree.leaves(along_path(apply, variables, part, base, nodes, target))
        ]
        attributions = jnp.concatenate([leaf.astype(dtype) for leaf in attributions], axis=1)
        logits = logits_of(apply, variables, part, target).astype(dtype)
        base_logits = logits_of_baseline(apply, variables, base, size, target).astype(dtype)
        counted = weights > 0  # values in rows of weight 0 must have no effect, not even NaN
        delta = jnp.where(counted, jnp.sum(attributions, axis=1) - (logits - base_logits), 0.0)
        values = jnp.concatenate(
            [attributions, logits[:, None], base_logits[:, None], jnp.ones((size, 1), dtype)], axis=1
        )
        values = jnp.where(counted[:, None], values, 0.0)
        attributions = values[:, :-3]
        if codes is not None:
            summed = jax.ops.segment_sum(attributions.T, np.array(codes), max(codes) + 1).T
            attributions = jnp.concatenate([attributions, summed], axis=1)
        sums = {
            "groups": group_weights.T @ values,
            "importance": weights @ jnp.abs(attributions),
            "weight": jnp.sum(weights),
            "delta": jnp.max(jnp.abs(delta)),
            "counts": jnp.sum(group_weights > 0, axis=0, dtype=jnp.int32),
        }
        if draws:
            times = poisson_weights(jax.random.fold_in(key, number), draws, size).astype(dtype)
            # One group after another, so that no array of (rows, groups, features) is needed.
            resampled = [times @ (group_weights[:, k : k + 1] * values) for k in range(num_groups)]
            return {**sums, "draws": jnp.stack(resampled, axis=1)}
        return {**sums, "draws": jnp.zeros((0, num_groups, values.shape[1]), dtype)}

    chunks = -(-n // size)
    if chunks == 1:
        return of_chunk(0)

    def step(sums, number):
        new = of_chunk(number)
        both = jax.tree.map(jnp.add, sums, new)
        return {**both, "delta": jnp.maximum(sums["delta"], new["delta"])}, None

    shapes = jax.eval_shape(of_chunk, 0)
    return jax.lax.scan(step, jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), shapes), jnp.arange(chunks))[
        0
    ]


def _like_row(x: Any, flat: Float[Array, "*lead d"]) -> Any:
    """Cut a vector of all features into a tree like a row, keeping the axes in front."""
    leaves, structure = jax.tree.flatten(x)
    ends = np.cumsum([int(np.prod(leaf.shape[1:])) for leaf in leaves])
    parts = jnp.split(flat, ends[:-1], axis=-1)
    shaped = [part.reshape(*flat.shape[:-1], *leaf.shape[1:]) for part, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, shaped)
