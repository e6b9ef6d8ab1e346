"""The result of `bias_by_feature`, and the tables that people read."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from fairjax.detect.variables import variable_codes


class BiasByFeature(NamedTuple):
    """The gap between the mean logits of two groups, decomposed by feature. Arrays may have a leading axis of seeds.

    A field that is "like a row" is a tree with the structure of the inputs `x`, without the axis of rows.
    """

    differences: PyTree[Float[Array, "..."]]
    """Mean attribution in the first group of `pair` less that in the second, like a row. The sum is `gap`, less the gap
    between the mean logits of the groups' baselines and up to `completeness_gap`."""
    means: PyTree[Float[Array, "..."]]
    """Mean attribution in each group, like a row behind an axis of groups."""
    importance: PyTree[Float[Array, "..."]]
    """Mean absolute attribution over all rows, like a row."""
    importance_of_variables: Float[Array, "*seeds variables"] | None
    """Mean absolute value, over all rows, of the sum of the attributions of each variable's columns."""
    logits: Float[Array, "*seeds groups"]
    """Mean logit of each group."""
    baseline_logits: Float[Array, "*seeds groups"]
    """Mean logit of the baselines of each group's rows; the same for all groups that share a baseline."""
    gap: Float[Array, "*seeds"]
    """Mean logit in the first group of `pair` less that in the second."""
    completeness_gap: Float[Array, "*seeds"]
    """Error of numerical integration: the sum of `differences` less the gap that they should sum to."""
    largest_delta: Float[Array, "*seeds"]
    """The same for single rows, the largest in absolute value."""
    pair: Int[Array, "*seeds 2"]
    """The groups that are compared: 0 and 1 if there are two, else those with the least and the greatest mean logit."""
    counts: Int[Array, "*seeds groups"]
    """Number of rows of each group, without those of weight 0."""
    draws: PyTree[Float[Array, "..."]]
    """Bootstrap draws of `differences`, on an axis in front of those of a row; none without a key."""
    gap_draws: Float[Array, "*seeds draws"]
    """Bootstrap draws of `gap`."""

    def table(
        self,
        names: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        *,
        confidence: float = 0.95,
        groups: Sequence[str] | None = None,
    ) -> Any:
        """Make a table with one line per feature or variable, sorted by the size of the difference.

        Results of many seeds, stacked on a leading axis, give means over seeds. The interval then comes from the draws
        of all seeds together, so that it covers the variation of seeds and that of rows.

        Args:
            names: names of the columns of `x`; x1, x2, ... if omitted. A tree of arrays has the names of its leaves,
                one line per leaf.
            columns: name of the variable of each column, such as `fairjax.detect.variables_of(names)`, to sum
                the columns of a variable. They must have been given to `bias_by_feature` too.
            confidence: probability of the percentile intervals.
            groups: names of the groups in the order of their codes.

        Returns:
            A frame with the columns `feature`, `difference`, `low`, `high`, `importance` and the mean in each group,
            in logits; `low` and `high` are NaN without bootstrap draws. With several seeds there is also `seeds_sd`,
            the standard deviation of the difference over seeds.

        Raises:
            ValueError: if names or columns do not match, columns were not given before, the confidence is not between
                0 and 1, or seeds compare different pairs of groups.
        """
        import pandas as pd

        if not 0 < confidence < 1:
            raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
        seeds = np.ndim(self.gap)
        if seeds > 1:
            raise ValueError(f"results may have one leading axis of seeds, found {seeds}: make a table of each")
        self._check_pairs()
        by_row = {field: _matrix(getattr(self, field), seeds) for field in ("means", "draws")}
        by_row |= {field: _matrix(getattr(self, field), seeds, inner=0) for field in ("differences", "importance")}
        labels, codes = self._lines(names, columns, seeds)
        importance = by_row["importance"]
        if codes is not None:
            if self.importance_of_variables is None or np.shape(self.importance_of_variables)[-1] != len(labels):
                raise ValueError(
                    "the importance of variables is not the sum of that of their columns: pass columns= to "
                    "bias_by_feature too"
                )
            importance = np.asarray(self.importance_of_variables, np.float64).reshape(len(importance), -1)
            member = np.asarray(codes)[:, None] == np.arange(len(labels))
            by_row = {field: values @ member.astype(np.float64) for field, values in by_row.items()}
        differences, draws = by_row["differences"], by_row["draws"]
        low, high = _interval(draws.reshape(-1, draws.shape[-1]), confidence)
        content: dict[str, Any] = {"feature": list(labels), "difference": differences.mean(axis=0)}
        content |= {"low": low, "high": high}
        if seeds:
            content["seeds_sd"] = differences.std(axis=0, ddof=1) if len(differences) > 1 else np.nan
        content["importance"] = importance.mean(axis=0)
        means = by_row["means"].mean(axis=0)
        if groups is None:
            groups = ("unprivileged", "privileged") if len(means) == 2 else [f"group {k}" for k in range(len(means))]
        if len(groups) != len(means):
            raise ValueError(f"groups must name {len(means)} groups, found {len(groups)} names")
        content |= {f"mean, {group}": mean for group, mean in zip(groups, means, strict=True)}
        order = np.argsort(-np.abs(content["difference"]), kind="stable")
        return pd.DataFrame(content).iloc[order].reset_index(drop=True)

    def gap_interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the percentile interval of the gap; NaN without bootstrap draws.

        Args:
            confidence: probability of the interval.

        Raises:
            ValueError: if seeds compare different pairs of groups.
        """
        self._check_pairs()
        low, high = _interval(np.asarray(self.gap_draws, np.float64).reshape(-1, 1), confidence)
        return float(low[0]), float(high[0])

    def _check_pairs(self) -> None:
        """Raise an error if seeds that have a gap compare different pairs of groups."""
        pairs = np.asarray(self.pair).reshape(-1, 2)[np.isfinite(np.asarray(self.gap).ravel())]
        different = np.unique(pairs, axis=0)
        if len(different) > 1:
            found = " and ".join(str(tuple(pair)) for pair in different[:2].tolist())
            raise ValueError(
                f"seeds must compare one pair of groups, found {found}: pass pair= to bias_by_feature, or make a table "
                "of each seed"
            )

    def _lines(self, names: Any, columns: Any, seeds: int) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
        """Return the names of the lines, and the number of the line of each column if columns are summed."""
        with_paths, structure = jax.tree_util.tree_flatten_with_path(self.differences)
        sizes = [int(np.prod(np.shape(leaf)[seeds:])) for _, leaf in with_paths]
        if not jax.tree_util.treedef_is_leaf(structure):
            if names is not None or columns is not None:
                raise ValueError("names and columns are for a matrix of features; the leaves of a tree have names")
            labels = tuple(jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in with_paths)
            return labels, leaf_codes(sizes)
        count = sizes[0]
        names = tuple(f"x{k}" for k in range(1, count + 1)) if names is None else tuple(map(str, names))
        if len(names) != count:
            raise ValueError(f"names must name each of the {count} columns of x, found {len(names)} names")
        return (names, None) if columns is None else variable_codes(columns, count)


def leaf_codes(sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the number of the leaf of each value, for leaves of given sizes.

    Example:
        >>> leaf_codes([2, 1])
        (0, 0, 1)
    """
    return tuple(code for code, size in enumerate(sizes) for _ in range(size))


def _matrix(tree: Any, seeds: int, inner: int = 1) -> np.ndarray:
    """Join the leaves of a tree like a row, with an axis of seeds and `inner` axes in front."""
    lead = seeds + inner
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]
    flat = [leaf.reshape(*leaf.shape[:lead], int(np.prod(leaf.shape[lead:]))) for leaf in leaves]
    joined = np.concatenate(flat, axis=-1)
    return joined if seeds else joined[None]


def _interval(draws: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute percentile intervals of the draws of each column, without draws in which a group has no rows."""
    usable = draws[~np.isnan(draws).all(axis=1)]
    if not len(usable):
        return np.full(draws.shape[1], np.nan), np.full(draws.shape[1], np.nan)
    tail = (1 - confidence) / 2
    low, high = np.quantile(usable, [tail, 1 - tail], axis=0)
    return low, high
