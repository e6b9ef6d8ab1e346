"""The loop shared by all debiasing methods: propose candidates, evaluate them, keep the best.

A method is a few pure functions and a number of steps. The loop tunes the threshold of each candidate on validation
data, scores the candidate by the rule, and keeps the best; candidate 0 is the original network. `run` is one scan over
all steps; `evaluate`, `start`, `advance` and `finish` are the same loop in chunks, for drivers that show progress and
save between chunks.
"""

import functools
import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fairjax import selection
from fairjax.checks import check_logits, input_layout
from fairjax.methods.base import Method, Parts, Task
from fairjax.metrics import num_classes, num_groups, probabilities
from fairjax.nn.flat import FlatVariables
from fairjax.result import Debiased, Trace
from fairjax.selection import Evaluation, Rule
from fairjax.types import Inputs, KeyArray, Part, Split, Variables, concatenated, tree_where, weights_of


class Progress(NamedTuple):
    """The loop's state between steps."""

    step: Int[Array, ""]
    state: Any
    best: FlatVariables
    evaluation: Evaluation
    score: Float[Array, ""]
    selected: Int[Array, ""]
    diverged: Bool[Array, ""]


def evaluate(task: Task, variables: Variables, parts: Parts, rule: Rule | None = None) -> tuple[Trace, Bool[Array, ""]]:
    """Evaluate a network on validation data, at the best threshold, and on test data, at the same threshold.

    Args:
        task: network and measure.
        variables: the network's variables.
        parts: the data.
        rule: the threshold maximises this rule's score; balanced accuracy if omitted.

    Returns:
        A trace of one entry, without a leading axis, and whether all outputs are finite.
    """
    features = _features(task, parts, together=True)
    logits = _logits(lambda x: task.network.apply(variables, x)[0][None], features, num_classes(task.measure))
    return jax.tree.map(operator.itemgetter(0), evaluate_logits(task, logits, parts, rule))


def start(
    method: Method,
    task: Task,
    rule: Rule,
    key: KeyArray,
    variables: Variables,
    parts: Parts,
    evaluated: tuple[Trace, Bool[Array, ""]],
) -> Progress:
    """Make the loop's state at candidate 0, the original network.

    Args:
        method: the method.
        task: network and measure.
        rule: the rule that scores candidates.
        key: random key of the run.
        variables: variables of the trained network.
        parts: the data.
        evaluated: result of `evaluate` for the network.

    Returns:
        The loop's state.
    """
    trace, finite = evaluated
    state = method.init(task, key, variables, parts, trace.valid)
    zero = jnp.zeros((), jnp.int32)
    evaluations = trace.for_rule(rule)
    score = rule(evaluations)
    score = jnp.where(jnp.isnan(score), -jnp.inf, score)  # otherwise no candidate would ever be better
    return Progress(zero, state, FlatVariables.ravel(variables), evaluations, score, zero, ~finite)


def advance(
    method: Method, task: Task, rule: Rule, parts: Parts, progress: Progress, steps: int
) -> tuple[Progress, Trace]:
    """Run `steps` further steps as one scan.

    Args:
        method: the method.
        task: network and measure.
        rule: the rule that scores candidates.
        parts: the data.
        progress: the loop's state.
        steps: number of steps; a Python number.

    Returns:
        The loop's new state, and the trace of the candidates of these steps, ordered by step and then by member.
    """
    members = method.members
    threshold_rule = rule if method.threshold == "rule" else None
    features = _features(task, parts, together=method.rowwise)

    def step(progress: Progress, _):
        state = method.step(task, parts, progress.state)
        logits = _logits(lambda x: method.logits(task, state, x), features, num_classes(task.measure))
        trace, finite = evaluate_logits(task, logits, parts, threshold_rule)
        diverged = progress.diverged | ~finite.any()
        evaluations = trace.for_rule(rule)
        scores = rule(evaluations)
        member = selection.first_max(scores)
        score, evaluation = jax.tree.map(lambda entry: entry[member], (scores, evaluations))
        better = selection.improves(score, progress.score) & finite[member] & ~diverged
        state = method.tell(state, evaluations, scores, rule.bound)

        next_progress = Progress(
            step=progress.step + 1,
            state=tree_where(diverged, progress.state, state),
            best=tree_where(better, FlatVariables.ravel(method.candidate(state, member)), progress.best),
            evaluation=tree_where(better, evaluation, progress.evaluation),
            score=jnp.where(better, score, progress.score),
            selected=jnp.where(better, progress.step * members + member + 1, progress.selected),
            diverged=diverged,
        )
        return next_progress, trace

    progress, trace = jax.lax.scan(step, progress, length=steps)
    return progress, jax.tree.map(lambda entry: entry.reshape(-1, *entry.shape[2:]), trace)


def finish(method: Method, task: Task, rule: Rule, progress: Progress, trace: Trace, split: Split) -> Debiased:
    """Return the selected candidate as a result.

    Args:
        method: the method.
        task: network and measure.
        rule: the rule of the run.
        progress: the loop's final state.
        trace: evaluations of all candidates, candidate 0 first.
        split: the data.

    Returns:
        The result.
    """
    return Debiased(
        variables=progress.best.variables(),
        threshold=progress.evaluation.threshold,
        trace=trace,
        selected=progress.selected,
        satisfied=jnp.abs(progress.evaluation.bias) < rule.bound,
        diverged=progress.diverged,
        undefined=jnp.isnan(progress.evaluation.bias) & ~progress.diverged,
        method=jax.tree.map(jnp.asarray, method),
        bound=jnp.asarray(rule.bound),
        mean=split.mean,
        scale=split.scale,
        network=task.network,
        measure=task.measure,
        inputs=None if split.x is None else input_layout(split.x),
    )


def run(method: Method, task: Task, rule: Rule, key: KeyArray, variables: Variables, split: Split) -> Debiased:
    """Debias one network on one split: `start`, all steps in one scan, `finish`.

    Args:
        method: the method, with its hyperparameters.
        task: network and measure.
        rule: the rule that scores candidates; see `fairjax.selection`.
        key: random key of the run.
        variables: variables of the trained network.
        split: the data.

    Returns:
        The selected network with its threshold, trace and flags.
    """
    parts = Parts.of(split)
    evaluated = evaluate(task, variables, parts, rule if method.threshold == "rule" else None)
    progress = start(method, task, rule, key, variables, parts, evaluated)
    progress, later = advance(method, task, rule, parts, progress, method.total_steps(variables))
    trace = jax.tree.map(lambda first, following: jnp.concatenate([first[None], following]), evaluated[0], later)
    return finish(method, task, rule, progress, trace, split)


def best_of(
    rule: Rule, traces: Sequence[Trace], selected: Sequence[Int[Array, ""]]
) -> tuple[Trace, Int[Array, ""], Int[Array, ""]]:
    """Choose among the selected candidates of several methods that were run on one network and split (a portfolio).

    No method is the best on all data; validation data show which one is best on the given data.

    Args:
        rule: the rule that scores candidates.
        traces: trace of each method.
        selected: position of each method's selected candidate in its trace.

    Returns:
        The concatenated traces, the number of the chosen method (the first on ties), and the position of its selected
        candidate in the concatenated trace.
    """
    scores = []
    for trace, number in zip(traces, selected, strict=True):
        scores.append(rule(jax.tree.map(lambda entry, number=number: entry[number], trace.for_rule(rule))))
    method = selection.first_max(jnp.stack(scores))
    offsets = jnp.array([0, *itertools.accumulate(trace.valid.bias.shape[0] for trace in traces)][:-1], jnp.int32)
    joined = jax.tree.map(lambda *entries: jnp.concatenate(entries), *traces)
    return joined, method, offsets[method] + jnp.stack(selected)[method]


class _Features(NamedTuple):
    """Features on which candidates are evaluated: those of all parts together, or those of each part."""

    inputs: list[Inputs]
    sizes: list[int]
    """Number of rows of each part."""


def evaluated_parts(task: Task) -> tuple[Part, ...]:
    """Return the parts on which candidates are evaluated."""
    return ("valid", "test", "train") if task.selection == "pooled" else ("valid", "test")


def _features(task: Task, parts: Parts, *, together: bool) -> _Features:
    batches = [getattr(parts, name) for name in evaluated_parts(task)]
    inputs = [batch.x for batch in batches]
    return _Features([concatenated(*inputs)] if together else inputs, [batch.y.shape[0] for batch in batches])


def _logits(logits: Callable[[Inputs], Array], features: _Features, classes: int) -> list[Float[Array, "members _ *c"]]:
    """Compute the logits of every part."""
    with jax.default_matmul_precision("highest"):
        computed = [logits(x) for x in features.inputs]
    for part_logits, x in zip(computed, features.inputs, strict=True):
        check_logits(part_logits[0], x, classes)
    if len(computed) > 1:
        return computed
    return jnp.split(computed[0], list(itertools.accumulate(features.sizes))[:-1], axis=1)


def evaluate_logits(
    task: Task, logits: Sequence[Float[Array, "members _ *c"]], parts: Parts, rule: Rule | None = None
) -> tuple[Trace, Bool[Array, " members"]]:
    """Tune the threshold of each member on validation data, and evaluate it on all parts.

    Decisions on scores that are NaN are all negative and would therefore have no bias: the accuracy and bias of a
    member with such scores are set to NaN.

    Args:
        task: network and measure.
        logits: logits of each part of `evaluated_parts(task)`.
        parts: labels and groups; features are ignored.
        rule: the threshold maximises this rule's score; balanced accuracy if omitted.

    Returns:
        A trace with one entry per member, and whether all outputs of each member are finite.
    """
    many_groups = num_groups(task.measure, parts.valid.a) > 2
    if task.selection == "pooled" and many_groups and not selection.has_range(task.measure):
        raise ValueError(
            "the pooled rule weights the bias of two groups, or the rates of more groups if the measure is their "
            "range: choose the gap spread, or a rule that uses validation data alone"
        )
    finite = functools.reduce(
        jnp.logical_and,
        [jnp.isfinite(part_logits).all(axis=tuple(range(1, part_logits.ndim))) for part_logits in logits],
    )

    def evaluate_member(logits, finite):
        scores = dict(zip(evaluated_parts(task), map(probabilities, logits), strict=True))
        valid = parts.valid
        y, a, weights = valid.y, valid.a, weights_of(valid)
        valid_evaluation = selection.best_threshold(task.measure, scores["valid"], y, a, rule=rule, weights=weights)

        def evaluate_part(name: Part) -> Evaluation:
            batch = getattr(parts, name)
            y, a, weights = batch.y, batch.a, weights_of(batch)
            threshold = valid_evaluation.threshold
            evaluation = selection.evaluate_at(task.measure, scores[name], y, a, threshold, weights=weights)
            return _if_finite(finite, evaluation)

        train = evaluate_part("train") if "train" in scores else None
        return Trace(_if_finite(finite, valid_evaluation), evaluate_part("test"), train)

    return jax.vmap(evaluate_member)(list(logits), finite), finite


def _if_finite(finite: Bool[Array, ""], evaluation: Evaluation) -> Evaluation:
    accuracy, bias = (jnp.where(finite, value, jnp.nan) for value in (evaluation.balanced_accuracy, evaluation.bias))
    return evaluation._replace(balanced_accuracy=accuracy, bias=bias)
