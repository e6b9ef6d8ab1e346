"""The one loop that all debiasing methods share: propose candidates, evaluate them, keep the best.

A method is a few pure functions and a number of steps. The loop evaluates each candidate on validation data with a
threshold of its own, scores it by the rule, and keeps the best, the network as it came being candidate 0. `run` is
one scan over all steps; `evaluate`, `start`, `advance` and `finish` are the same loop in chunks, for drivers that
draw a bar and save between them.
"""

import functools
import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fairjax import objective
from fairjax.checks import check_logits
from fairjax.nn.flat import Flat
from fairjax.nn.network import Network
from fairjax.objective import Evaluation, PooledObjective, Rule
from fairjax.parity import Measure, num_classes, num_groups, probabilities
from fairjax.types import KeyArray, Number, Part, Rows, Split, Variables, pick, weights_of


class Task(NamedTuple):
    """What is debiased, and with respect to what: static, hashable, made once."""

    network: Network
    """The classifier."""
    measure: Measure
    """The measure of bias, on decisions; on scores, its proxy."""
    selection: Literal["valid", "pooled"] = "valid"
    """Whether candidates are evaluated on train data too, as rules need that pool them with validation data."""


class Parts(NamedTuple):
    """The parts of one split, standardised."""

    train: Rows
    valid: Rows
    test: Rows

    @classmethod
    def of(cls, split: Split) -> "Parts":
        """All three parts of a split."""
        return cls(split.part("train"), split.part("valid"), split.part("test"))


def one(config: Any) -> int:
    """One candidate a step."""
    del config
    return 1


def unheeding(config: Any, state: Any, evaluation: Evaluation, score: Float[Array, " members"], bound: Number) -> Any:
    """The state as it is: what the evaluation says changes nothing."""
    del config, evaluation, score, bound
    return state


def row_by_row(config: Any) -> bool:
    """Candidates are evaluated in a mode in which rows do not see one another."""
    del config
    return True


class Method(NamedTuple):
    """A debiasing method.

    `config` is the method's own dataclass of hyperparameters; `state` is whatever the method carries from step to step.
    A step may propose several candidates, its members, which are evaluated side by side.
    """

    init: Callable[[Task, Any, KeyArray, Variables, Parts, Evaluation], Any]
    """(task, config, key, variables, parts, evaluation of the network on valid) -> state."""
    step: Callable[[Task, Any, Parts, Any], Any]
    """(task, config, parts, state) -> state: one pruning step, one epoch, some draws."""
    candidate: Callable[[Any, Int[Array, ""]], Variables | Flat]
    """(state, member) -> the network that a member of the step's candidates is."""
    steps: Callable[[Any, Variables], int]
    """(config, variables) -> number of steps, known when tracing."""
    logits: Callable[[Task, Any, Any, Float[Array, "n d"]], Float[Array, "members n *c"]]
    """(task, config, state, x): the candidates' logits when they are evaluated; `evaluation_mode` for most."""
    members: Callable[[Any], int] = one
    """config -> number of candidates that a step proposes, known when tracing."""
    threshold: Literal["accuracy", "rule"] = "accuracy"
    """What a candidate's threshold maximises on validation data: balanced accuracy, or the rule's score."""
    tell: Callable[[Any, Any, Evaluation, Float[Array, " members"], Number], Any] = unheeding
    """(config, state, evaluation on valid, score, bound) -> state: for methods that learn from the evaluations."""
    row_by_row: Callable[[Any], bool] = row_by_row
    """config -> whether a row's logit depends on no other row: then all parts are evaluated in one go."""


class Trace(NamedTuple):
    """Every candidate in turn, candidate 0 first: an evaluation with a leading axis, for two parts of the data."""

    valid: Evaluation
    """On validation data, where threshold and candidate are chosen."""
    test: Evaluation
    """On test data at the threshold chosen on validation data: for curves; no choice depends on it."""
    train: Evaluation | None = None
    """On train data at the same threshold, if the task asks for it."""

    def seen(self, rule: Rule) -> Evaluation:
        """The evaluation that a rule looks at.

        Raises:
            ValueError: if it is not there.
        """
        if rule.data == "valid":
            return self.valid
        if self.train is None:
            raise ValueError('the rule looks at train data too: make the task with Task(..., selection="pooled")')
        return cast(PooledObjective, rule).pool(self.valid, self.train)


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
    undefined: Bool[Array, ""]
    """Whether the selected candidate's bias cannot be computed, because a group that the measure compares has no rows
    there. Then `satisfied` is false, whatever the network does."""


def sign_of_bias(evaluation: Evaluation) -> Float[Array, ""]:
    """Sign of a bias; 0, which moves nothing, where it is NaN because it cannot be computed."""
    return jnp.where(jnp.isnan(evaluation.bias), 0.0, jnp.sign(evaluation.bias))


def evaluation_mode(
    task: Task, config: Any, state: Any, x: Float[Array, "n d"], *, candidate
) -> Float[Array, "1 n *c"]:
    """The only candidate's logits with dropout off and running statistics."""
    del config
    variables = Flat.of(candidate(state, jnp.zeros((), jnp.int32))).variables()
    return task.network.apply(variables, x)[0][None]


def evaluate(task: Task, variables: Variables, parts: Parts, rule: Rule | None = None) -> tuple[Trace, Bool[Array, ""]]:
    """A network on valid, with the best threshold there, and on test at that threshold.

    Args:
        task: network and measure.
        variables: the network's.
        parts: the data.
        rule: the threshold maximises this rule's score; balanced accuracy if omitted.

    Returns:
        A trace of one entry without an axis, and whether all outputs are finite.
    """
    features = _features(task, parts, together=True)
    every = _logits(lambda x: task.network.apply(variables, x)[0][None], features, num_classes(task.measure))
    return jax.tree.map(operator.itemgetter(0), judge(task, every, parts, rule))


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
    zero = jnp.zeros((), jnp.int32)
    seen = trace.seen(rule)
    score = rule(seen)
    score = jnp.where(jnp.isnan(score), -jnp.inf, score)  # or no candidate would ever be better
    return Progress(zero, state, Flat.of(variables), seen, score, zero, ~finite)


def advance(
    method: Method, task: Task, config: Any, rule: Rule, parts: Parts, progress: Progress, steps: int
) -> tuple[Progress, Trace]:
    """`steps` further steps, by one scan.

    Args:
        method: the method.
        task: network and measure.
        config: the method's hyperparameters.
        rule: scores candidates.
        parts: the data.
        progress: where the loop stands.
        steps: how many; a Python number.

    Returns:
        Where the loop stands then, and the trace of these steps' candidates, step by step and member by member.
    """
    members = method.members(config)
    by = rule if method.threshold == "rule" else None
    features = _features(task, parts, together=method.row_by_row(config))

    def one(progress: Progress, _):
        state = method.step(task, config, parts, progress.state)
        every = _logits(lambda x: method.logits(task, config, state, x), features, num_classes(task.measure))
        trace, finite = judge(task, every, parts, by)
        diverged = progress.diverged | ~finite.any()
        seen = trace.seen(rule)
        scores = rule(seen)
        member = objective.first_max(scores)
        score, evaluation = jax.tree.map(lambda entry: entry[member], (scores, seen))
        better = objective.improves(score, progress.score) & finite[member] & ~diverged
        state = method.tell(config, state, seen, scores, rule.bound)

        new = Progress(
            step=progress.step + 1,
            state=pick(diverged, progress.state, state),
            best=pick(better, Flat.of(method.candidate(state, member)), progress.best),
            evaluation=pick(better, evaluation, progress.evaluation),
            score=jnp.where(better, score, progress.score),
            selected=jnp.where(better, progress.step * members + member + 1, progress.selected),
            diverged=diverged,
        )
        return new, trace

    progress, trace = jax.lax.scan(one, progress, length=steps)
    return progress, jax.tree.map(lambda entry: entry.reshape(-1, *entry.shape[2:]), trace)


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
        undefined=jnp.isnan(progress.evaluation.bias) & ~progress.diverged,
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
    evaluated = evaluate(task, variables, parts, rule if method.threshold == "rule" else None)
    progress = start(method, task, config, rule, key, variables, parts, evaluated)
    steps = method.steps(config, variables)
    progress, rest = advance(method, task, config, rule, parts, progress, steps)
    trace = jax.tree.map(lambda one, many: jnp.concatenate([one[None], many]), evaluated[0], rest)
    return finish(rule, progress, trace)


def best_of(
    rule: Rule, traces: Sequence[Trace], selected: Sequence[Int[Array, ""]]
) -> tuple[Trace, Int[Array, ""], Int[Array, ""]]:
    """Choose among the selected candidates of several methods, run on one network and split: a portfolio.

    No method is the best on all data, and validation data tell which one is on these.

    Args:
        rule: scores candidates.
        traces: of each method.
        selected: the candidate of each that was selected.

    Returns:
        The traces one after another, the number of the method chosen (the earliest on ties), and the position of its
        selected candidate in the joined trace.
    """
    scores = []
    for trace, chosen in zip(traces, selected, strict=True):
        scores.append(rule(jax.tree.map(lambda entry, chosen=chosen: entry[chosen], trace.seen(rule))))
    which = objective.first_max(jnp.stack(scores))
    begins = jnp.array([0, *itertools.accumulate(trace.valid.bias.shape[0] for trace in traces)][:-1], jnp.int32)
    joined = jax.tree.map(lambda *entries: jnp.concatenate(entries), *traces)
    return joined, which, begins[which] + jnp.stack(selected)[which]


class _Features(NamedTuple):
    """What candidates are evaluated on: the features of all parts in one array, or an array a part."""

    arrays: list[Float[Array, "_ d"]]
    sizes: list[int]
    """Rows of each part."""


def seen(task: Task) -> tuple[Part, ...]:
    """The parts on which candidates are evaluated."""
    return ("valid", "test", "train") if task.selection == "pooled" else ("valid", "test")


def _features(task: Task, parts: Parts, *, together: bool) -> _Features:
    every = [getattr(parts, name).x for name in seen(task)]
    return _Features([jnp.concatenate(every)] if together else every, [x.shape[0] for x in every])


def _logits(logits: Callable[[Array], Array], features: _Features, classes: int) -> list[Float[Array, "members _ *c"]]:
    """Logits of every part."""
    with jax.default_matmul_precision("highest"):
        every = [logits(x) for x in features.arrays]
    for some, x in zip(every, features.arrays, strict=True):
        check_logits(some[0], x, classes)
    return jnp.split(every[0], list(itertools.accumulate(features.sizes))[:-1], axis=1) if len(every) == 1 else every


def judge(
    task: Task, logits: Sequence[Float[Array, "members _ *c"]], parts: Parts, rule: Rule | None = None
) -> tuple[Trace, Bool[Array, " members"]]:
    """Thresholds on valid, evaluations on all parts, and whether a member's logits are all finite.

    Scores that are not numbers accept nobody and so have, by chance, no bias: their accuracy and bias are put to NaN.

    Args:
        task: its measure, and what `seen` says of it.
        logits: of each part of `seen(task)`.
        parts: labels and groups; features are not looked at.
        rule: the threshold maximises this rule's score; balanced accuracy if omitted.

    Returns:
        A trace of one entry a member, and whether all the member's outputs are finite.
    """
    many = num_groups(task.measure, parts.valid.a) > 2
    if task.selection == "pooled" and many and not objective.has_range(task.measure):
        raise ValueError(
            "the pooled rule weights the bias of two groups, or the rates of more of which the measure is the range: "
            "choose the gap spread, or a rule that looks at validation data alone"
        )
    finite = functools.reduce(
        jnp.logical_and, [jnp.isfinite(some).all(axis=tuple(range(1, some.ndim))) for some in logits]
    )

    def one(logits, finite):
        scores = dict(zip(seen(task), map(probabilities, logits), strict=True))
        valid = parts.valid
        y, a, weights = valid.y, valid.a, weights_of(valid)
        chosen = objective.best_threshold(task.measure, scores["valid"], y, a, rule=rule, weights=weights)

        def at(name: Part) -> Evaluation:
            batch = getattr(parts, name)
            y, a, weights = batch.y, batch.a, weights_of(batch)
            found = objective.at_threshold(task.measure, scores[name], y, a, chosen.threshold, weights=weights)
            return _if_finite(finite, found)

        return Trace(_if_finite(finite, chosen), at("test"), at("train") if "train" in scores else None)

    return jax.vmap(one)(list(logits), finite), finite


def _if_finite(finite: Bool[Array, ""], evaluation: Evaluation) -> Evaluation:
    accuracy, bias = (jnp.where(finite, value, jnp.nan) for value in (evaluation.balanced_accuracy, evaluation.bias))
    return evaluation._replace(balanced_accuracy=accuracy, bias=bias)
