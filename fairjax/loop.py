"""The one loop that all debiasing methods share: propose a candidate, evaluate it, keep the best.

A method is three pure functions and a number of steps. The loop evaluates each candidate on validation data with a
threshold of its own, scores it by the rule, and keeps the best, the network as it came being candidate 0. `run` is
one scan over all steps; `evaluate`, `start`, `advance` and `finish` are the same loop in chunks, for drivers that
draw a bar and save between them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fairjax import objective
from fairjax.nn.flat import Flat
from fairjax.nn.network import Network
from fairjax.objective import Evaluation, Rule
from fairjax.parity import Measure
from fairjax.types import Batch, KeyArray, Split, Variables, pick


class Task(NamedTuple):
    """What is debiased, and with respect to what: static, hashable, made once."""

    network: Network
    """The classifier."""
    measure: Measure
    """The measure of bias, on decisions; on scores, its proxy."""


class Parts(NamedTuple):
    """The parts of one split, standardised."""

    train: Batch
    valid: Batch
    test: Batch

    @classmethod
    def of(cls, split: Split) -> "Parts":
        """All three parts of a split."""
        return cls(split.part("train"), split.part("valid"), split.part("test"))


class Method(NamedTuple):
    """A debiasing method.

    `config` is the method's own dataclass of hyperparameters; `state` is whatever the method carries from step to step.
    """

    init: Callable[[Task, Any, KeyArray, Variables, Parts, Evaluation], Any]
    """(task, config, key, variables, parts, evaluation of the network on valid) -> state."""
    step: Callable[[Task, Any, Parts, Any], Any]
    """(task, config, parts, state) -> state: one pruning step, one epoch, one draw."""
    candidate: Callable[[Any], Variables]
    """The network that a state stands for."""
    steps: Callable[[Any, Variables], int]
    """(config, variables) -> number of steps, known when tracing."""
    logits: Callable[[Task, Any, Any, Float[Array, "n d"]], Float[Array, " n"]]
    """(task, config, state, x): the candidate's logits when it is evaluated; `evaluation_mode` for most."""


class Trace(NamedTuple):
    """Every candidate in turn, candidate 0 first: an evaluation with a leading axis, for two parts of the data."""

    valid: Evaluation
    """On validation data, where threshold and candidate are chosen."""
    test: Evaluation
    """On test data at the threshold chosen on validation data: for curves; no choice depends on it."""


class Progress(NamedTuple):
    """The loop's state between steps."""

    step: Int[Array, ""]
    state: Any
    best: Flat
    evaluation: Evaluation
    score: Float[Array, ""]
    selected: Int[Array, ""]
    diverged: Bool[Array, ""]


class Debiased(NamedTuple):
    """What a method returns."""

    variables: Variables
    """The selected network: parameters, statistics and masks."""
    threshold: Float[Array, ""]
    """Its threshold, chosen on validation data."""
    trace: Trace
    """Every candidate."""
    selected: Int[Array, ""]
    """Which candidate was selected; 0 is the network as it came."""
    satisfied: Bool[Array, ""]
    """Whether the selected candidate meets the rule's bound on validation data."""
    diverged: Bool[Array, ""]
    """Whether a candidate's output stopped being finite; the run was frozen there and earlier candidates stand."""


def evaluation_mode(task: Task, config: Any, state: Any, x: Float[Array, "n d"], *, candidate) -> Float[Array, " n"]:
    """The candidate's logits with dropout off and running statistics."""
    del config
    return task.network.apply(candidate(state), x)[0]


def evaluate(task: Task, variables: Variables, parts: Parts) -> tuple[Trace, Bool[Array, ""]]:
    """A network on valid, with the threshold of best balanced accuracy there, and on test at that threshold.

    Args:
        task: network and measure.
        variables: the network's.
        parts: the data.

    Returns:
        A trace of one entry without an axis, and whether all outputs are finite.
    """
    return _evaluate(task, lambda x: task.network.apply(variables, x)[0], parts)


def start(
    method: Method,
    task: Task,
    config: Any,
    rule: Rule,
    key: KeyArray,
    variables: Variables,
    parts: Parts,
    evaluated: tuple[Trace, Bool[Array, ""]],
) -> Progress:
    """The loop's state at candidate 0, the network as it came.

    Args:
        method: the method.
        task: network and measure.
        config: the method's hyperparameters.
        rule: scores candidates.
        key: the run's randomness.
        variables: the trained network.
        parts: the data.
        evaluated: what `evaluate` says of the network.

    Returns:
        The loop's state.
    """
    trace, finite = evaluated
    state = method.init(task, config, key, variables, parts, trace.valid)
    best = Flat.of(variables)
    zero = jnp.zeros((), jnp.int32)
    bias = jnp.where(finite, trace.valid.bias, jnp.nan)  # scores that are not numbers accept nobody: no bias, by chance
    return Progress(zero, state, best, trace.valid._replace(bias=bias), rule(trace.valid), zero, ~finite)


def advance(
    method: Method, task: Task, config: Any, rule: Rule, parts: Parts, progress: Progress, steps: int
) -> tuple[Progress, Trace]:
    """`steps` further candidates, by one scan.

    Args:
        method: the method.
        task: network and measure.
        config: the method's hyperparameters.
        rule: scores candidates.
        parts: the data.
        progress: where the loop stands.
        steps: how many; a Python number.

    Returns:
        Where the loop stands then, and the trace of these candidates.
    """

    def one(progress: Progress, _):
        state = method.step(task, config, parts, progress.state)
        trace, finite = _evaluate(task, lambda x: method.logits(task, config, state, x), parts)
        diverged = progress.diverged | ~finite
        score = rule(trace.valid)
        better = objective.improves(score, progress.score) & ~diverged

        new = Progress(
            step=progress.step + 1,
            state=pick(diverged, progress.state, state),
            best=pick(better, Flat.of(method.candidate(state)), progress.best),
            evaluation=pick(better, trace.valid, progress.evaluation),
            score=jnp.where(better, score, progress.score),
            selected=jnp.where(better, progress.step + 1, progress.selected),
            diverged=diverged,
        )
        return new, trace

    return jax.lax.scan(one, progress, length=steps)


def finish(rule: Rule, progress: Progress, trace: Trace) -> Debiased:
    """The selected candidate.

    Args:
        rule: the rule of the run.
        progress: where the loop ended.
        trace: all candidates, candidate 0 first.

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
    )


def run(
    method: Method, task: Task, config: Any, rule: Rule, key: KeyArray, variables: Variables, split: Split
) -> Debiased:
    """Debias one network on one split: `start`, all steps in one scan, `finish`. Jit it, vmap it over seeds.

    Args:
        method: the method, a value of `fairjax.debias.METHODS`.
        task: network and measure.
        config: the method's hyperparameters.
        rule: scores candidates; see `fairjax.objective`.
        key: the run's randomness.
        variables: the trained network.
        split: the data.

    Returns:
        The selected network with its threshold, trace and flags.
    """
    parts = Parts.of(split)
    evaluated = evaluate(task, variables, parts)
    progress = start(method, task, config, rule, key, variables, parts, evaluated)
    steps = method.steps(config, variables)
    progress, rest = advance(method, task, config, rule, parts, progress, steps)
    trace = jax.tree.map(lambda one, many: jnp.concatenate([one[None], many]), evaluated[0], rest)
    return finish(rule, progress, trace)


def _evaluate(task: Task, logits, parts: Parts) -> tuple[Trace, Bool[Array, ""]]:
    """Threshold on valid, evaluation on valid and test, and whether all logits are finite."""
    with jax.default_matmul_precision("highest"):
        of_valid, of_test = logits(parts.valid.x), logits(parts.test.x)
    valid = objective.best_threshold(task.measure, jax.nn.sigmoid(of_valid), parts.valid.y, parts.valid.a)
    test = objective.at_threshold(task.measure, jax.nn.sigmoid(of_test), parts.test.y, parts.test.a, valid.threshold)
    return Trace(valid, test), jnp.isfinite(of_valid).all() & jnp.isfinite(of_test).all()
