"""The units of work of the table: train what some rows need, and count their decisions on every test part."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from experiments.second_paper.quantities import counts
from experiments.second_paper.table3.networks import plain_mlp, scores_of
from experiments.second_paper.table3.optimized import optimized_splits
from experiments.second_paper.table3.prejudice import (
    Fitted,
    GroupRows,
    aif360_fit,
    group_rows,
    minimum,
    separate_regressions,
    standardised,
)
from experiments.second_paper.table3.rows import AIF360_ETA, COSTS, ETAS, EXACT_ETAS
from experiments.second_paper.table3.subject import Subject, inputs_of, part_of, same_splits
from fairjax import fit_many
from fairjax.adapters.aif360_postprocessing import equalized_odds
from fairjax.losses import Loss, Prejudice
from fairjax.nn import Network
from fairjax.postprocess import calibrated_equalized_odds
from fairjax.preprocess import Reweighing, prepare_many
from fairjax.training import Training
from fairjax.types import WeightedBatch

PREPARING, POSTPROCESSING = 0x7AB1E, 0x7AB1F
"""Numbers that are folded into a seed's key for draws before and after training."""


class Scores(NamedTuple):
    """Scores of the shared networks, one row per seed."""

    valid: Float[np.ndarray, "seeds n"]
    test: Float[np.ndarray, "seeds m"]


class Counted(NamedTuple):
    """What a unit computed."""

    rows: dict[str, list[dict[str, float]]]
    """Counts of each row of the table, one entry per seed."""
    facts: dict[str, Any]
    """What else should be known, such as the number of epochs."""
    scores: Scores | None = None
    """Scores of the shared networks, from the unit that trains them."""


def train_dnn(subject: Subject, widths: tuple[int, ...], training: Training) -> Counted:
    """Train the networks that the rows share; evaluate them on the test part, and on the reweighed test part."""
    network, seeds = plain_mlp(widths), range(len(subject.keys))
    fitted = fit_many(network, subject.splits, keys=subject.keys, training=training)
    parts = (scores_of(network, fitted.variables, inputs_of(subject.splits, part)) for part in ("valid", "test"))
    scores = Scores(*map(np.asarray, parts))
    weights = [reweighed_test(subject, seed) for seed in seeds]
    rows = {
        "dnn": counted(subject, scores.test > 0.5),
        "dnn_reweighed_test": counted(subject, scores.test > 0.5, weights),
    }
    return Counted(rows, facts_of(fitted), scores)


def train_reweighing(subject: Subject, widths: tuple[int, ...], training: Training) -> Counted:
    """Train networks whose loss weighs train rows so that label and group are independent."""
    prepared = prepare_many(Reweighing(), folded(subject, PREPARING), subject.splits)
    network = plain_mlp(widths)
    fitted = fit_many(network, prepared.splits, keys=subject.keys, training=training, axes=prepared.axes)
    return Counted({"reweighing": decided(subject, network, fitted.variables)}, facts_of(fitted))


def train_optimized(subject: Subject, widths: tuple[int, ...], training: Training) -> Counted:
    """Train networks of the few features, on the data as they are and on data changed by optimized pre-processing."""
    network, few = plain_mlp(widths), same_splits(subject.few, subject.splits)
    plain = fit_many(network, few, keys=subject.keys, training=training)
    changed = optimized_splits(subject.few, few, folded(subject, PREPARING))
    fitted = fit_many(network, changed.splits, keys=subject.keys, training=training, axes=changed.axes)
    inputs = {"few": inputs_of(few, "test"), "optimized": changed.test, "optimized_mapped": changed.mapped_test}
    rows = {
        name: counted(subject, scores_of(network, (plain if name == "few" else fitted).variables, x) > 0.5)
        for name, x in inputs.items()
    }
    return Counted(rows, {**facts_of(fitted), "epsilon": changed.epsilons})


def fit_prejudice(subject: Subject, widths: tuple[int, ...], training: Training) -> Counted:
    """Minimise the prejudice remover's own objective with each weight, each from the minimum before it."""
    del widths, training

    def fit(train: GroupRows) -> Iterator[tuple[str, Fitted]]:
        start = None
        for eta in (0, *EXACT_ETAS):
            found = minimum(train, float(eta), start)
            start = found.weights
            yield f"prejudice_lr_{eta}", found

    return _per_group(subject, fit)


def fit_aif360(subject: Subject, widths: tuple[int, ...], training: Training) -> Counted:
    """Do what AIF360's prejudice remover does with each weight, all features standardised."""
    del widths, training

    def fit(train: GroupRows) -> Iterator[tuple[str, Fitted]]:
        start = separate_regressions(train)
        return ((f"prejudice_aif360_{eta}", aif360_fit(train, float(eta), start)) for eta in EXACT_ETAS)

    return _per_group(subject, fit, standardised)


def fit_aif360_flags(subject: Subject, widths: tuple[int, ...], training: Training) -> Counted:
    """Do what AIF360's prejudice remover does with one weight, and the features of the other rows."""
    del widths, training

    def fit(train: GroupRows) -> Iterator[tuple[str, Fitted]]:
        yield f"prejudice_aif360_flags_{AIF360_ETA}", aif360_fit(train, float(AIF360_ETA), separate_regressions(train))

    return _per_group(subject, fit)


def _per_group(
    subject: Subject,
    fit: Callable[[GroupRows], Iterator[tuple[str, Fitted]]],
    scaled: Callable[[GroupRows, GroupRows], GroupRows] = lambda rows, like: rows,
) -> Counted:
    """Fit logistic regressions per group to every split, and count their decisions."""
    column = subject.dataset.features.index(subject.dataset.protected)
    fits: dict[str, list[Fitted]] = {}
    decisions: dict[str, list[np.ndarray]] = {}
    for seed in range(len(subject.keys)):
        train, test = (group_rows(part_of(subject.splits, seed, part), column) for part in ("train", "test"))
        test, train = scaled(test, train), scaled(train, train)
        for row, fitted in fit(train):
            decisions.setdefault(row, []).append(fitted.decide(test))
            fits.setdefault(row, []).append(fitted)
    rows = {row: counted(subject, np.stack(of_row)) for row, of_row in decisions.items()}
    facts = {
        "largest_slope": {row: max(fitted.slope for fitted in of_row) for row, of_row in fits.items()},
        "not_converged": {row: sum(not fitted.converged for fitted in of_row) for row, of_row in fits.items()},
        "unmoved": {row: sum(fitted.moved == 0 for fitted in of_row) for row, of_row in fits.items()},
    }
    return Counted(rows, facts)


def train_prejudice_dnn(subject: Subject, widths: tuple[int, ...], training: Training) -> Counted:
    """Train the network with each weight of the prejudice index, all at once."""
    network, etas, seeds, splits = plain_mlp(widths), ETAS, len(subject.keys), subject.splits
    repeated = {
        part: jnp.concatenate([getattr(splits, part)] * len(etas))
        for part in ("train", "valid", "test", "mean", "scale")
    }
    loss = Loss(terms=(Prejudice(weight=jnp.repeat(jnp.asarray(etas, jnp.float32), seeds)),))
    keys = jax.random.wrap_key_data(jnp.tile(subject.key_data, (len(etas), 1)))
    options: dict[str, Any] = {"keys": keys, "training": training, "loss": loss, "loss_axis": 0}
    fitted = fit_many(network, splits._replace(**repeated), **options)
    rows = {}
    for i, eta in enumerate(etas):
        own = jax.tree.map(lambda leaf, i=i: leaf[i * seeds : (i + 1) * seeds], fitted.variables)
        rows[f"prejudice_dnn_{eta}"] = decided(subject, network, own)
    return Counted(rows, facts_of(fitted))


def postprocess(subject: Subject, scores: Scores) -> Counted:
    """Change the decisions of the shared networks by calibrated equalized odds and by equalized odds."""
    rows: dict[str, list[dict[str, float]]] = {f"calibrated_{cost}": [] for cost in COSTS} | {"equalized_odds": []}
    rates: dict[str, list[list[float]]] = {cost: [] for cost in COSTS}
    for seed, key in enumerate(folded(subject, POSTPROCESSING)):
        valid, test = (part_of(subject.splits, seed, part) for part in ("valid", "test"))
        keys = jax.random.split(key, len(COSTS) + 1)
        for cost, cost_key in zip(COSTS, keys, strict=False):
            fitted = calibrated_equalized_odds(scores.valid[seed], valid.y, valid.a, cost=cost)
            rates[cost].append(np.asarray(fitted.mix_rates).tolist())
            decisions = fitted.decide(scores.test[seed], test.a, key=cost_key)
            rows[f"calibrated_{cost}"].append(counts(decisions, test.y, test.a))
        number = int(jax.random.bits(keys[-1], dtype=jnp.uint32))
        odds = equalized_odds(scores.valid[seed] > 0.5, np.asarray(valid.y), np.asarray(valid.a), seed=number)
        rows["equalized_odds"].append(counts(odds.decide(scores.test[seed] > 0.5, np.asarray(test.a)), test.y, test.a))
    return Counted(rows, {"mix_rates": rates})


TRAINED: Mapping[str, Callable[[Subject, tuple[int, ...], Training], Counted]] = {
    "dnn": train_dnn,
    "reweighing": train_reweighing,
    "optimized": train_optimized,
    "prejudice_minimum": fit_prejudice,
    "prejudice_aif360": fit_aif360,
    "prejudice_aif360_flags": fit_aif360_flags,
    "prejudice_dnn": train_prejudice_dnn,
}
"""The units that train networks, by name."""


def reweighed_test(subject: Subject, seed: int) -> Float[np.ndarray, " n"]:
    """Return the weights of test rows that reweighing of the train rows gives to their labels and groups."""
    train, test = (part_of(subject.splits, seed, part) for part in ("train", "test"))
    weighted = Reweighing().apply(jax.random.key(0), train).train
    assert isinstance(weighted, WeightedBatch)
    codes, of_test = (2 * np.asarray(part.y).astype(int) + np.asarray(part.a) for part in (train, test))
    of_cell = np.array([np.asarray(weighted.weights)[codes == code][0] for code in range(4)])
    return of_cell[of_test]


def decided(subject: Subject, network: Network, variables: Any) -> list[dict[str, float]]:
    """Count the decisions of networks on the test parts."""
    return counted(subject, np.asarray(scores_of(network, variables, inputs_of(subject.splits, "test"))) > 0.5)


def counted(
    subject: Subject, decisions: Bool[Array | np.ndarray, "seeds n"], weights: Any = None
) -> list[dict[str, float]]:
    """Count decisions on the test parts, one entry per seed."""
    found = []
    for seed, decision in enumerate(np.asarray(decisions)):
        test = part_of(subject.splits, seed, "test")
        found.append(counts(decision, test.y, test.a, None if weights is None else weights[seed]))
    return found


def folded(subject: Subject, number: int) -> Array:
    """Fold a number into each seed's key."""
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(subject.keys)


def facts_of(fitted: Any) -> dict[str, Any]:
    """Return the number of epochs, and which networks diverged."""
    return {"epochs": np.asarray(fitted.epochs).tolist(), "diverged": int(np.sum(np.asarray(fitted.diverged)))}
