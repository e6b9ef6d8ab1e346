"""The units of work: compute one row of a data set, with all its weights and all seeds in one program."""

import dataclasses
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments.second_paper.mitigate.entries import (
    ENTRIES,
    NOTHING,
    RESIDUAL,
    Entry,
    preprocessors_of,
    terms_of,
)
from experiments.second_paper.mitigate.evaluating import HALF, TUNED, Evaluated, Tables, evaluate_networks
from experiments.second_paper.mitigate.settings import MARGIN, Mitigate
from experiments.second_paper.mitigate.subject import Subject, repeated, stream
from fairjax import Mlp, debias_many, fit_many, from_linen
from fairjax.losses import Loss
from fairjax.methods import METHODS
from fairjax.metrics import MEASURES
from fairjax.nn import Network, ResidualDecomposition
from fairjax.preprocess import prepare_many
from fairjax.result import Debiased
from fairjax.runs.composed_losses import made_loss
from fairjax.runs.loading import PREPROCESSING_STREAM
from fairjax.runs.postprocessors import POSTPROCESSORS, Job
from fairjax.runs.programs import by_group, postprocess, select
from fairjax.types import Split, Variables

BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Bounds on |bias| at which methods with many candidates select, for the frontier."""


class Candidate(NamedTuple):
    """A setting of a row: a weight of its terms, or a bound at which it selects."""

    weight: float | None
    """Weight of the terms."""
    bound: float | None
    """Bound on |bias|, for methods that select among candidates of their own."""
    tables: dict[str, Tables]
    """Tables by threshold, one entry per seed."""
    probe: Float[np.ndarray, " seeds"] | None = None
    """Balanced accuracy of a probe for the group on the last hidden layer, if the network is not the shared one."""


class Computed(NamedTuple):
    """What a unit computed."""

    candidates: list[Candidate]
    seconds: float
    """Seconds of training or mitigation, with compilation, for all seeds and weights."""
    diverged: int = 0
    """Number of networks whose training stopped because numbers were not finite."""
    variables: Variables | None = None
    """The networks, if other methods start from them."""


def network_of(settings: Mitigate, entry: Entry = ENTRIES[NOTHING]) -> Network:
    """Return the network of a row: the perceptron of the settings, except for residual decomposition."""
    if RESIDUAL in entry.terms:
        return from_linen(ResidualDecomposition())
    return from_linen(Mlp(widths=settings.widths, dropout=0.0))


class Trained(NamedTuple):
    """Networks of all weights and seeds, the first weight first."""

    variables: Variables
    splits: Split
    axes: Split
    diverged: int


def train(entry: Entry, subject: Subject, settings: Mitigate, measure: str) -> Trained:
    """Train the networks of a row before or in training: preprocess, then train with the composed loss.

    Args:
        entry: the row.
        subject: the data.
        settings: the settings.
        measure: name of the measure of the terms.
    """
    splits, axes = subject.splits, subject.axes
    if entry.preprocess:
        chain = preprocessors_of(entry, subject.dataset.name, subject.dataset.protected, subject.proxies)
        keys = stream(subject.keys, PREPROCESSING_STREAM)
        splits, axes = prepare_many(chain, keys, splits, dataset=subject.dataset, axes=axes)
    loss, keys, count = Loss(), stream(subject.keys), max(1, len(entry.path))
    if entry.terms:
        weights = jnp.repeat(jnp.asarray(entry.path, jnp.float32), len(subject.keys))
        terms = terms_of(entry, measure, subject)
        terms = tuple(dataclasses.replace(term, weight=term.weight * weights) for term in terms)
        loss = Loss(terms=terms, num_groups=2)
        splits, keys = repeated(splits, axes, count), jnp.concatenate([keys] * count)
    training = settings.training(subject.dataset.name, batch_size=entry.batch_size, epochs=entry.epochs)
    fitted = fit_many(
        network_of(settings, entry), splits, keys=keys, training=training, loss=loss,
        loss_axis=0 if entry.terms else None, axes=axes,
    )  # fmt: skip
    return Trained(fitted.variables, splits, axes, int(np.sum(np.asarray(fitted.diverged))))


def train_row(entry: Entry, subject: Subject, settings: Mitigate, measure: str) -> Computed:
    """Train and evaluate the networks of a row before or in training."""
    start = time.perf_counter()
    trained = jax.block_until_ready(train(entry, subject, settings, measure))
    seconds = time.perf_counter() - start
    evaluated = evaluate_networks(network_of(settings, entry), trained.variables, trained.splits, trained.axes)
    candidates, count = [], len(subject.keys)
    for i, weight in enumerate(entry.path or (None,)):
        own = slice(i * count, (i + 1) * count)
        tables = {name: Tables(table.valid[own], table.test[own]) for name, table in evaluated.tables.items()}
        candidates.append(Candidate(weight, None, tables, evaluated.probe[own]))
    return Computed(candidates, seconds, trained.diverged, trained.variables if entry.stage == NOTHING else None)


def debias_row(entry: Entry, subject: Subject, settings: Mitigate, measure: str, base: Variables) -> Computed:
    """Debias the shared networks by a method that proposes candidates."""
    network, method = network_of(settings), METHODS[entry.method](**dict(entry.options))
    if entry.terms:
        method = dataclasses.replace(method, loss=made_loss("balanced_cross_entropy", entry.terms))
    start = time.perf_counter()
    result = debias_many(
        method, network, MEASURES[measure], base, subject.splits, rule=settings.rule(),
        keys=stream(subject.keys, method.random_stream()), axes=subject.axes,
    )  # fmt: skip
    result = jax.block_until_ready(result)
    seconds = time.perf_counter() - start
    evaluated = evaluate_networks(network, result.variables, subject.splits, subject.axes)
    candidates = [Candidate(None, settings.epsilon, evaluated.tables, evaluated.probe)]
    candidates += [_at_bound(result, settings, bound) for bound in BOUNDS if bound != settings.epsilon]
    return Computed(candidates, seconds, int(np.sum(np.asarray(result.diverged))))


def _at_bound(result: Debiased, settings: Mitigate, bound: float) -> Candidate:
    """Return what is selected at another bound from the same candidates."""
    chosen = np.asarray(select(settings.rule(bound), result.trace))
    seeds, parts = np.arange(len(chosen)), (result.trace.valid, result.trace.test)
    tables = Tables(*(np.asarray(part.table, np.float64)[seeds, chosen] for part in parts))
    return Candidate(None, bound, {TUNED: tables})


def postprocess_row(entry: Entry, subject: Subject, settings: Mitigate, measure: str, evaluated: Evaluated) -> Computed:
    """Change the decisions of the shared networks."""
    start, kind = time.perf_counter(), POSTPROCESSORS[entry.method]
    tuned = evaluated.thresholds
    if entry.method == "group_thresholds":
        candidates = []
        for bound in (settings.epsilon, *(bound for bound in BOUNDS if bound != settings.epsilon)):
            tables = Tables.of(by_group(MEASURES[measure], settings.rule(bound), evaluated.scored))
            candidates.append(Candidate(None, bound, {HALF: tables, TUNED: tables}))
    elif kind.program is not None:
        keys = stream(subject.keys, _stream_of(entry.method))
        by_threshold = {
            name: Tables.of(
                postprocess(
                    MEASURES[measure],
                    kind.program,
                    keys,
                    evaluated.parts.train,
                    evaluated.scored,
                    jnp.asarray(thresholds),
                )
            )
            for name, thresholds in ((HALF, np.full_like(tuned, 0.5)), (TUNED, tuned))
        }
        candidates = [Candidate(None, None, by_threshold)]
    else:
        candidates = [Candidate(None, None, _by_seed(entry.method, subject, settings, measure, evaluated))]
    return Computed(candidates, time.perf_counter() - start)


def _by_seed(name: str, subject: Subject, settings: Mitigate, measure: str, evaluated: Evaluated) -> dict[str, Tables]:
    """Apply a postprocessor that fits one seed after another, at both thresholds."""
    valid, test = jax.tree.map(np.asarray, evaluated.scored)
    tables = {}
    for threshold, cuts in ((HALF, np.full_like(evaluated.thresholds, 0.5)), (TUNED, evaluated.thresholds)):
        counts: tuple[list, list] = [], []
        for i, cut in enumerate(cuts):
            job = Job(
                method=name, measure=measure, seed=i, valid_scores=valid.x[i, :, 0], valid_y=valid.y[i],
                valid_a=valid.a[i], test_scores=test.x[i, :, 0], test_a=test.a[i], threshold=float(cut),
                bound=settings.epsilon * (1 - MARGIN),
            )  # fmt: skip
            decide = POSTPROCESSORS[name].decide
            assert decide is not None
            decided = decide(job)
            for part, decisions, of_part in zip((valid, test), decided, counts, strict=False):
                table = np.zeros((2, 2, 2))
                np.add.at(table, tuple(np.asarray(entry, int) for entry in (decisions, part.y[i], part.a[i])), 1)
                of_part.append(table)
        tables[threshold] = Tables(*(np.stack(part) for part in counts))
    return tables


def _stream_of(name: str) -> int:
    """Return the number that is folded into a seed's key for a postprocessor."""
    return 0x7AB2 + list(POSTPROCESSORS).index(name)
