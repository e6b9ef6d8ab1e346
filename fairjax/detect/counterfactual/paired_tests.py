"""Paired tests of effects over sets of rows: the columns that tables of effects have in common."""

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float64, Int

from fairjax.detect.counterfactual.effects import Effects
from fairjax.detect.counterfactual.group_effects import GroupEffects, summary
from fairjax.detect.counterfactual.sign_flips import sign_flip_test
from fairjax.detect.holm import holm
from fairjax.types import KeyArray

if TYPE_CHECKING:
    import pandas as pd

TESTS = ("t", "wilcoxon", "sign_flip")
"""The tests, as columns of p-values are named: Student's paired t-test, Wilcoxon's signed-rank test, random signs."""


def paired_t_test(differences: Float64[np.ndarray, " n"]) -> float:
    """Return the two-sided p-value of Student's t-test of paired differences.

    Returns:
        The p-value; 1 if all differences are 0, and NaN if a difference is not finite, there are fewer than two, or all
        are equal, so that their spread is not known.

    Example:
        >>> round(paired_t_test(np.array([1.0, 2.0, 3.0])), 4)
        0.0742
    """
    from scipy import stats

    n = len(differences)
    if n < 2 or not np.isfinite(differences).all():
        return float("nan")
    if not differences.any():
        return 1.0
    mean, spread = differences.mean(), differences.std(ddof=1)
    if spread <= 1e-6 * abs(mean):  # rounding in float32
        return float("nan")
    return float(2 * stats.t.sf(abs(mean) / (spread / np.sqrt(n)), n - 1))


def wilcoxon_test(differences: Float64[np.ndarray, " n"]) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test, with zero differences by Pratt's method.

    Returns:
        The p-value; 1 if all differences are 0, and NaN if one is not finite or there are none.

    Example:
        >>> wilcoxon_test(np.array([1.0, 2.0, 3.0]))
        0.25
    """
    from scipy import stats

    if not len(differences) or not np.isfinite(differences).all():
        return float("nan")
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences, zero_method="pratt").pvalue)


@partial(jax.jit, static_argnames=("minimum", "draws"))
def _over_sets(
    effects: Effects, indices: Int[Array, "s m"], members: Bool[Array, "s m"], key: KeyArray, minimum: int, draws: int
) -> tuple[GroupEffects, Array]:
    """Average effects over sets of rows, and test them by random signs, which the sets share."""
    gathered = jax.tree.map(lambda each: each[indices], effects)
    counted = members & gathered.changed
    averages = jax.vmap(lambda rows, mask: summary(rows, mask, minimum))(gathered, members)
    p = jax.vmap(lambda each, mask: sign_flip_test(each, key, draws, where=mask))(gathered.effect, counted)
    return averages, jnp.where(averages.changed >= max(minimum, 1), p, jnp.nan)


def describe(
    effects: Effects,
    indices: Int[np.ndarray, "s m"],
    members: Bool[np.ndarray, "s m"],
    *,
    key: KeyArray,
    minimum: int,
    draws: int,
) -> "pd.DataFrame":
    """Describe effects over sets of rows by means, shares of changed decisions, and uncorrected p-values.

    Args:
        effects: the effects of one perturbation, of one network.
        indices: row numbers of each set.
        members: which of the row numbers belong to the set.
        key: random key of the sign-flip test.
        minimum: least number of changed rows of a set; smaller sets get NaN.
        draws: number of draws of the sign-flip test.

    Returns:
        One row per set.
    """
    import pandas as pd

    averages, sign_flip = _over_sets(effects, jnp.asarray(indices), jnp.asarray(members), key, minimum, draws)
    averages = jax.tree.map(np.asarray, averages)
    effect, changed = np.asarray(effects.effect, np.float64), np.asarray(effects.changed)
    sets = [effect[rows[mask & changed[rows]]] for rows, mask in zip(indices, members, strict=True)]
    estimable = averages.changed >= max(minimum, 1)
    tests = {"t": paired_t_test, "wilcoxon": wilcoxon_test}
    p_values = {
        name: [test(each) if enough else np.nan for each, enough in zip(sets, estimable, strict=True)]
        for name, test in tests.items()
    }
    return pd.DataFrame(
        {
            "rows": averages.rows,
            "changed": averages.changed,
            "mean_effect": averages.effect,
            "mean_logit_effect": averages.logit_effect,
            "to_positive": averages.to_positive,
            "to_negative": averages.to_negative,
            **{f"{name}_p": values for name, values in p_values.items()},
            "sign_flip_p": np.asarray(sign_flip),
        }
    )


def corrected(table: "pd.DataFrame", family: str | None = None) -> "pd.DataFrame":
    """Add Holm's correction of each test's p-values, over all rows or over the rows of each value of a column.

    Args:
        table: a table with the columns of p-values.
        family: name of the column whose values separate families of tests; None if all rows are one family.

    Returns:
        The table, with columns that end with `_holm`.
    """
    table = table.copy()
    for name in TESTS:
        p = table[f"{name}_p"]
        table[f"{name}_holm"] = holm(p) if family is None else p.groupby(table[family], sort=False).transform(holm)
    return table


def check_one_network(effects: Any) -> int:
    """Return the number of rows of effects of one network.

    Raises:
        TypeError: if the argument is something else.
        ValueError: if there is an axis of networks.
    """
    if not isinstance(effects, Effects):
        raise TypeError(f"effects must be what counterfactual returns, got {type(effects).__name__}")
    if np.ndim(effects.effect) != 1:
        raise ValueError(
            f"effects must be those of one network, shape (n,), found shape {np.shape(effects.effect)}: make a table "
            "for each network, or average by jax.vmap of group_effects"
        )
    return np.shape(effects.effect)[0]
