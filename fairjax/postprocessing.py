"""Post-processing: decisions from scores and, unlike all methods of `debias`, from the protected attribute too.

Thresholds of their own for the groups are the known upper reference for a given scorer (Hardt et al. 2016; Cruz and
Hardt 2024), at the price that the attribute must be known, and may be used, when decisions are made.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fairjax import objective, performance
from fairjax.objective import Evaluation, Rule
from fairjax.parity import Measure
from fairjax.types import AnyArray


class GroupThresholds(NamedTuple):
    """A threshold for each group."""

    thresholds: Float[Array, "2"]
    """Of the unprivileged group (a = 0) and of the privileged one (a = 1)."""
    evaluation: Evaluation
    """On the rows that they were chosen on; its `threshold` is the privileged group's."""

    def decide(self, scores: Float[AnyArray, " n"], a: Bool[AnyArray, " n"]) -> Bool[Array, " n"]:
        """Whether each row is accepted: its score exceeds its group's threshold."""
        return jnp.asarray(scores) > self.thresholds[jnp.asarray(a).astype(jnp.int32)]


def group_thresholds(
    measure: Measure,
    scores: Float[AnyArray, " n"],
    y: Bool[AnyArray, " n"],
    a: Bool[AnyArray, " n"],
    *,
    rule: Rule,
    count: int = 101,
) -> GroupThresholds:
    """The pair of thresholds of highest score by the rule, out of all pairs on a grid; the first on ties.

    The search is exhaustive: the confusion table of a pair is the sum of the two groups' own tables.

    Args:
        measure: bias by group.
        scores: sigmoid outputs in (0, 1).
        y: labels.
        a: protected attribute.
        rule: scores pairs, by their evaluation.
        count: number of equally spaced thresholds in [0, 1].

    Returns:
        The pair, and its evaluation on these rows.

    Example:
        >>> from fairjax.objective import ConstrainedObjective
        >>> from fairjax.parity import spd
        >>> y, a = jnp.array([True, False, True, False]), jnp.array([True, True, False, False])
        >>> found = group_thresholds(spd, jnp.array([0.9, 0.6, 0.5, 0.2]), y, a, rule=ConstrainedObjective())
        >>> found.evaluation.balanced_accuracy.item(), found.evaluation.bias.item()
        (1.0, 0.0)

    References:
        Hardt, Price, Srebro (2016), Equality of opportunity in supervised learning, NeurIPS,
        https://arxiv.org/abs/1610.02413
        Cruz, Hardt (2024), Unprocessing seven years of algorithmic fairness, ICLR, https://arxiv.org/abs/2306.07261
    """
    cuts = performance.thresholds(count)
    tables = performance.tables(performance.histogram(scores, y, a, cuts))  # threshold, decision, label, group
    first, second = jnp.divmod(jnp.arange(count**2), count)
    pairs = jnp.stack([tables[first, ..., 0], tables[second, ..., 1]], axis=-1)
    every = objective.of_tables(measure, cuts[second], pairs)
    chosen = objective.first_max(rule(every))
    thresholds = jnp.stack([cuts[first[chosen]], cuts[second[chosen]]])
    return GroupThresholds(thresholds, jax.tree.map(lambda entry: entry[chosen], every))
