"""Compiled programs of a run other than training and debiasing: scores, additional rules, portfolios."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fairjax import loop, selection
from fairjax.methods import Parts
from fairjax.metrics import num_groups, probabilities
from fairjax.postprocess import group_thresholds
from fairjax.runs.postprocessors import Decided, ScoredSeed
from fairjax.types import AnyArray, Rows, weights_of


class Scored(NamedTuple):
    """The valid and test parts with scores in place of features; a single column for two classes."""

    valid: Rows
    test: Rows


def _scores(logits: Float[AnyArray, "runs n c"]) -> Float[Array, "runs n c"]:
    """Return scores of two classes as one column, or the probabilities of more classes."""
    return jax.nn.sigmoid(logits) if logits.shape[-1] == 1 else jax.vmap(probabilities)(logits)


@jax.jit
def score(logits: Parts) -> Scored:
    """Compute the scores of networks on the valid and test parts."""
    return Scored(*(part._replace(x=_scores(part.x)) for part in (logits.valid, logits.test)))


@jax.jit
def select(rule, trace: loop.Trace) -> Int[Array, " seeds"]:
    """Return the index of the candidate that a rule selects in each trace."""
    return jax.vmap(lambda evaluations: selection.first_max(rule(evaluations)))(trace.for_rule(rule))


@jax.jit
def best_of(rule, traces: list[loop.Trace], selected: list[Int[Array, " seeds"]]):
    """Return, for each seed, the best of the candidates that several methods selected: see `loop.best_of`."""
    return jax.vmap(lambda traces, selected: loop.best_of(rule, traces, selected))(traces, selected)


@functools.partial(jax.jit, static_argnames="measure")
def by_group(measure, rule, scored: Scored) -> loop.Trace:
    """Choose thresholds by group on the valid part."""

    def one(scored: Scored) -> loop.Trace:
        valid, test = scored
        found = group_thresholds(measure, valid.x[:, 0], valid.y, valid.a, rule=rule, weights=weights_of(valid))
        decisions = found.decide(test.x[:, 0], test.a).astype(jnp.float32)
        there = selection.evaluate_at(measure, decisions, test.y, test.a, jnp.array(0.5), weights=weights_of(test))
        return loop.Trace(found.evaluation, there._replace(threshold=found.evaluation.threshold))

    return jax.vmap(one)(scored)


@functools.partial(jax.jit, static_argnames=("measure", "decide"))
def postprocess(
    measure, decide: Callable[[ScoredSeed], Decided], keys, train: Rows, scored: Scored, thresholds
) -> loop.Trace:
    """Apply a postprocessor to the scores of all seeds, and evaluate its decisions.

    Args:
        measure: the measure of bias.
        decide: the postprocessor's function of one seed.
        keys: one random key per seed.
        train: rows with the labels and groups from which targets are computed.
        scored: scores, labels and groups of the valid and test parts.
        thresholds: the thresholds of the networks, tuned on the valid part.

    Returns:
        One candidate per network.
    """

    def one(key, train: Rows, scored: Scored, threshold) -> loop.Trace:
        valid, test = scored
        seed = ScoredSeed(
            key, train.y, train.a, valid.x[:, 0], valid.y, valid.a, test.x[:, 0], test.a, threshold,
            num_groups(measure, train.a), weights_of(train), weights_of(valid),
        )  # fmt: skip
        decided = decide(seed)
        valid, test = (
            selection.evaluate_at(measure, decisions, part.y, part.a, jnp.array(0.5), weights=weights_of(part))
            for decisions, part in ((decided.valid, valid), (decided.test, test))
        )
        return loop.Trace(*(evaluation._replace(threshold=decided.threshold) for evaluation in (valid, test)))

    return jax.vmap(one)(keys, train, scored, thresholds)
