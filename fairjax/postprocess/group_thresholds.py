"""Group thresholds: decisions from scores and, unlike all methods of `debias`, also from the protected attribute.

Group-specific thresholds are the known upper reference for given scores (Hardt et al. 2016; Cruz and Hardt 2024), but
they require that the attribute is known, and may be used, when decisions are made.
"""

import numbers
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from fairjax import checks, metrics
from fairjax.metrics import Measure
from fairjax.postprocess.corpus_shares import group_codes
from fairjax.postprocess.threshold_cells import tables_at, tables_of_cells
from fairjax.postprocess.threshold_searches import all_combinations, at_common_rates, coordinate_search, first_rate
from fairjax.selection import Evaluation, Rule, evaluate_tables, first_max

Search = Literal["auto", "pairs", "coordinate", "common rate"]
"""Search strategies for the thresholds of groups."""

MOST_COMBINATIONS = 101**2
"""Number of combinations of thresholds up to which "auto" evaluates all of them."""


class GroupThresholds(NamedTuple):
    """One threshold per group."""

    thresholds: Float[Array, " g"]
    """Thresholds by group code; for two groups, those of the unprivileged (a = 0) and the privileged group (a = 1)."""
    evaluation: Evaluation
    """Evaluation on the rows used for the search; its `threshold` is that of the last (or privileged) group."""

    def decide(self, scores: Any, a: Any) -> Bool[Array, " n"]:
        """Accept the rows whose score exceeds the threshold of their group.

        Args:
            scores: sigmoid outputs in [0, 1], one per row.
            a: the group of each row, as booleans or codes.

        Returns:
            Decisions. Since booleans have no NaN, a row whose traced values cannot be checked is rejected if its score
            or its group's threshold is NaN, or if its code has no threshold.

        Raises:
            ValueError: if shapes or pandas indices differ, if the groups are memberships, if the thresholds are NaN or
                belong to several seeds, or if a concrete score is not in [0, 1] or a concrete code has no threshold.
            TypeError: if an argument is sparse, masked, or holds anything but numbers and booleans.

        Example:
            >>> from fairjax.selection import ConstrainedObjective
            >>> from fairjax.metrics import spd
            >>> y, a = jnp.array([True, False, True, False]), jnp.array([True, True, False, False])
            >>> fitted = group_thresholds(spd, jnp.array([0.9, 0.6, 0.5, 0.2]), y, a, rule=ConstrainedObjective())
            >>> fitted.decide(jnp.array([0.55, 0.55]), jnp.array([True, False])).tolist()
            [False, True]
        """
        thresholds = jnp.asarray(self.thresholds)
        if thresholds.ndim != 1:
            raise ValueError(
                f"thresholds must be one per group, found shape {thresholds.shape}: of several seeds, map over them "
                "with jax.vmap(GroupThresholds.decide)"
            )
        if not isinstance(thresholds, Tracer) and np.isnan(thresholds).any():
            raise ValueError(
                "thresholds are NaN, since rows that they were chosen on under a trace were invalid: call "
                "group_thresholds outside of jit to see which"
            )
        checks.check_index(scores=scores, a=a)
        _check_not_memberships(a)
        scores, a = checks.vector("scores", scores), checks.vector("a", a)
        if scores.shape != a.shape:
            raise ValueError(
                f"scores and a must be vectors of one length, found shapes {scores.shape} and {a.shape}: give each row "
                "its score and its group"
            )
        _check_scores(scores)
        _check_codes(a, thresholds.shape[0])
        groups = checks.floating(a)
        codes = groups.astype(jnp.int32)
        inside = (codes >= 0) & (codes < thresholds.shape[0]) & (codes.astype(groups.dtype) == groups)
        scores = checks.floating(scores)
        return inside & (scores > thresholds.astype(scores.dtype)[jnp.clip(codes, 0, thresholds.shape[0] - 1)])


def _check_scores(scores: Any) -> None:
    """Check that scores are in [0, 1] and not NaN, unless they are traced."""
    if isinstance(scores, Tracer):
        return
    array = np.asarray(scores).astype(np.float64)
    wrong = ~((array >= -1e-6) & (array <= 1 + 1e-6))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"scores must be in [0, 1], found {array[row]:g} in row {row}: pass logits through jax.nn.sigmoid, and "
            "drop rows that lack a value"
        )


def _check_codes(a: Any, count: int) -> None:
    """Check that all codes have a threshold, unless they are traced."""
    if isinstance(a, Tracer):
        return
    codes = np.asarray(a)
    wrong = ~np.isin(codes, np.arange(count))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"a must hold codes from 0 to {count - 1}, which have thresholds, found {codes[row]} in row {row}: decide "
            "rows of other groups by a common threshold, selection.best_threshold, or choose thresholds on rows of all "
            "groups"
        )


def group_thresholds(
    measure: Measure,
    scores: Any,
    y: Any,
    a: Any,
    *,
    rule: Rule,
    count: int = 101,
    weights: Any = None,
    num_groups: int | None = None,
    search: Search = "auto",
    sweeps: int = 3,
    cells: Any = None,
    num_cells: int | None = None,
) -> GroupThresholds:
    """Search a grid for the group thresholds that the rule scores highest.

    For two groups the search is exhaustive, and the first pair wins ties. For more groups there are count^groups
    combinations, too many unless the grid is coarse, and the following searches are available:

    * "coordinate" starts from the best common threshold and sweeps over the groups a few times, setting each group's
      threshold to the best one while the others are fixed. A threshold changes only if that increases the score.
    * "common rate" gives each group the threshold at which its rate is closest to a target, for targets spread over
      [0, 1], and takes the best target; of equally close thresholds, it uses the one with the higher accuracy. The rate
      is the first one that the measure compares, or the share of accepted rows if the measure does not define rates.
    * "auto" is exhaustive for two groups, and for more groups up to 10,201 combinations, such as 21 thresholds for each
      of three groups. Otherwise, it sweeps over the groups from the results of both and takes the better result.

    A group without rows gets the best common threshold.

    All searches use confusion tables only; the table of a combination is the sum of tables of the groups.

    Groups that overlap, such as two attributes side by side, cannot have thresholds, since a row must have one. Give
    thresholds to `cells` of rows, such as the intersections of the attributes, while the measure compares the groups.

    Args:
        measure: the measure of bias; for more than two groups, a `fairjax.metrics.Parity`.
        scores: sigmoid outputs in (0, 1).
        y: labels.
        a: protected attribute: booleans for two groups, codes 0, 1, ... for any number of groups; with `cells`, also
            memberships.
        rule: the rule that scores combinations by their evaluation.
        count: number of equally spaced thresholds in [0, 1].
        weights: sample weights; 1 if omitted.
        num_groups: number of groups; if omitted, it is taken from the measure or inferred from codes that are not
            traced.
        search: one of the searches above, or "pairs", which requires two groups.
        sweeps: number of sweeps over the groups.
        cells: what has thresholds of its own, if not the groups: booleans or codes. Decide with them in place of `a`.
        num_cells: number of cells; two for booleans, and otherwise inferred from codes that are not traced.

    Returns:
        The thresholds, and their evaluation on the given rows; if traced rows are invalid, thresholds, accuracy and
        bias are NaN.

    Raises:
        ValueError: if `fairjax.checks.rows` raises it, if the groups are memberships and there are no cells, if the
            number of groups or cells is not known, if `search` is unknown or is "pairs" for more than two groups, if
            the measure has more than two classes, or if it solves for memberships.
        TypeError: if an argument is sparse, masked, or holds anything but numbers and booleans.

    Example:
        >>> from fairjax.selection import ConstrainedObjective
        >>> from fairjax.metrics import spd
        >>> y, a = jnp.array([True, False, True, False]), jnp.array([True, True, False, False])
        >>> fitted = group_thresholds(spd, jnp.array([0.9, 0.6, 0.5, 0.2]), y, a, rule=ConstrainedObjective())
        >>> fitted.evaluation.balanced_accuracy.item(), fitted.evaluation.bias.item()
        (1.0, 0.0)

    References:
        Hardt, Price, Srebro (2016), Equality of opportunity in supervised learning, NeurIPS,
        https://arxiv.org/abs/1610.02413
        Cruz, Hardt (2024), Unprocessing seven years of algorithmic fairness, ICLR, https://arxiv.org/abs/2306.07261
    """
    if cells is None:
        groups = _number_of_groups(measure, a, num_groups)
        rows, codes = None, None
    else:
        _check_two_classes(measure)
        rows = metrics.checked(measure, scores, y, a, weights)
        codes, valid, groups = group_codes(cells, num_cells, rows.y.shape[0], "cells")
        rows = rows._replace(valid=checks.all_valid(rows.valid, valid))
    if search not in get_args(Search):
        raise ValueError(f"search must be one of {', '.join(map(repr, get_args(Search)))}, found {search!r}")
    if search == "pairs" and groups > 2:
        raise ValueError(
            f'search "pairs" is for two groups, found {groups}: there are {count}^{groups} combinations; use "auto"'
        )
    if not isinstance(sweeps, numbers.Integral) or sweeps < 1:
        raise ValueError(f"sweeps must be a whole number, at least 1, found {sweeps}")
    cuts = metrics.threshold_grid(count)
    if rows is None:
        rows = checks.rows(scores, y, a, weights, num_groups=groups)
    if rows.values.ndim != 1:
        raise ValueError(f"scores must be one number per row, shape (n,), found shape {rows.values.shape}")
    of_cells = None if codes is None else tables_of_cells(measure, rows, codes, groups, cuts)
    if codes is not None:
        rows = rows._replace(a=codes)
    # Axes: threshold, decision, label, group or cell.
    tables = metrics.tables_by_threshold(metrics.histogram_of_rows(rows, cuts, groups))
    squared = None
    if rows.weights is not None and of_cells is None:
        squared = metrics.tables_by_threshold(metrics.histogram_of_rows(rows, cuts, groups, squared=True))

    def evaluate(indices: Int[Array, "c g"]) -> Evaluation:
        if of_cells is not None:
            return evaluate_tables(measure, cuts[indices[:, -1]], *tables_at(of_cells, indices))

        def pick(tables):
            return jnp.take_along_axis(tables, indices[:, None, None, :], axis=0)

        return evaluate_tables(measure, cuts[indices[:, -1]], *jax.tree.map(pick, (tables, squared)))

    def result(evaluation: Evaluation, indices: Int[Array, " g"]) -> GroupThresholds:
        names = ("threshold", "balanced_accuracy", "bias")
        checked = evaluation._replace(**{name: rows.or_nan(getattr(evaluation, name)) for name in names})
        return GroupThresholds(rows.or_nan(cuts[indices]), checked)

    def score(indices: Int[Array, "c g"]) -> Float[Array, " c"]:
        scored = rule(evaluate(indices))
        return jnp.where(jnp.isnan(scored), -jnp.inf, scored)

    common = jnp.broadcast_to(jnp.arange(count, dtype=jnp.int32)[:, None], (count, groups))
    absent = jnp.sum(tables[0], axis=(0, 1)) <= 0
    if search == "pairs" or (search == "auto" and (groups == 2 or count**groups <= MOST_COMBINATIONS)):
        every = all_combinations(count, groups)
        evaluated = evaluate(every)
        best_of_all = first_max(rule(evaluated))
        if groups == 2:
            return result(jax.tree.map(lambda entry: entry[best_of_all], evaluated), every[best_of_all])
        indices = jnp.where(absent, common[first_max(score(common))], every[best_of_all])
        return result(jax.tree.map(lambda entry: entry[0], evaluate(indices[None])), indices)

    combinations = [common]
    if search != "coordinate":
        accuracy = jax.vmap(metrics.accuracy_from_table)(tables)
        combinations.append(at_common_rates(first_rate(measure), tables, common[first_max(accuracy)]))
    # Score all combinations in one call, since a rule may be a large program.
    combination_scores = jnp.split(score(jnp.concatenate(combinations)), len(combinations))
    best = [first_max(scored) for scored in combination_scores]
    starts = jnp.stack([indices[k] for indices, k in zip(combinations, best, strict=True)])
    reached_scores = jnp.stack([scored[k] for scored, k in zip(combination_scores, best, strict=True)])
    if search == "common rate":
        starts, reached_scores = starts[1:], reached_scores[1:]
    else:
        starts, reached_scores = jax.vmap(
            lambda start, start_score: coordinate_search(score, start, start_score, count, sweeps)
        )(starts, reached_scores)
    indices = starts[first_max(reached_scores)]
    indices = jnp.where(absent, combinations[0][best[0]], indices)  # the best common threshold
    return result(jax.tree.map(lambda entry: entry[0], evaluate(indices[None])), indices)


def _check_two_classes(measure: Measure) -> None:
    if metrics.num_classes(measure) != 2:
        raise ValueError(
            f"thresholds are for scores of two classes, the measure is about {metrics.num_classes(measure)}: give one "
            "of two"
        )


def _number_of_groups(measure: Measure, a: Any, num_groups: int | None) -> int:
    _check_two_classes(measure)
    _check_not_memberships(a)
    measure_groups = getattr(measure, "num_groups", None)
    if num_groups is not None and (num_groups < 2 or measure_groups not in (None, num_groups)):
        raise ValueError(
            f"num_groups must be that of the measure, at least 2, found {num_groups}"
            + ("" if measure_groups is None else f" for a measure of {measure_groups} groups")
        )
    if num_groups is not None:
        return num_groups
    return max(metrics.num_groups(measure, checks.vector("a", a)), 2)


def _check_not_memberships(a: Any) -> None:
    if np.ndim(checks.numeric("a", a)) != 1:
        raise ValueError(
            f"a must give each row one group, found shape {np.shape(a)}: a row must have one threshold; pass codes of "
            "shape (n,), of memberships such as the most probable group, a.argmax(axis=1)"
        )
