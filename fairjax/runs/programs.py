"""Compiled programs of a run other than training and debiasing: scores, additional rules, portfolios."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fairjax import loop, selection
from fairjax.methods import Parts
from fairjax.metrics import probabilities
from fairjax.postprocess import group_thresholds
from fairjax.types import AnyArray, Batch


class Scored(NamedTuple):
    """Scores (in place of features; a single column for two classes), labels and groups of the valid and test parts."""

    valid: Batch
    test: Batch


def _scores(logits: Float[AnyArray, "runs n c"]) -> Float[Array, "runs n c"]:
    """Return scores of two classes as one column, or the probabilities of more classes."""
    return jax.nn.sigmoid(logits) if logits.shape[-1] == 1 else jax.vmap(probabilities)(logits)


@jax.jit
def score(logits: Parts) -> Scored:
    """Compute the scores of networks on the valid and test parts."""
    valid, test = (Batch(_scores(part.x), part.y, part.a) for part in (logits.valid, logits.test))
    return Scored(valid, test)


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
        found = group_thresholds(measure, valid.x[:, 0], valid.y, valid.a, rule=rule)
        decisions = found.decide(test.x[:, 0], test.a).astype(jnp.float32)
        there = selection.evaluate_at(measure, decisions, test.y, test.a, jnp.array(0.5))
        return loop.Trace(found.evaluation, there._replace(threshold=found.evaluation.threshold))

    return jax.vmap(one)(scored)
