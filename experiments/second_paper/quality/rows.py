"""The rows of the table of `quality`: what each does, and how its networks are trained."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from experiments.second_paper.quality.data_sets import Problem, with_train
from fairjax import Mlp, fit_many, from_linen
from fairjax.fitting import Fitted
from fairjax.losses import Auxiliary, GroupRobust, Loss
from fairjax.nn import Network
from fairjax.preprocess import Balancing, GaussianCells, PreparedSplits, Preprocessor, Reweighing, Smote, prepare_many
from fairjax.training import Training
from fairjax.types import SHARED, Split, Variables

PREPARING, SOURCE = 0x9A14, 0x9A15
"""Numbers that are folded into a seed's key for the preparation of train rows, and for training on the source."""

ROBUST_WEIGHT = 10.0
"""Weight of the group-robust term beside the mean loss of all rows."""


class Budget(NamedTuple):
    """How networks are trained: with the same number of steps in all rows of the table."""

    widths: tuple[int, ...]
    steps: int
    tuning_steps: int
    """Steps on the target, of networks that start from those of the source."""
    batch_size: int

    def training(self, rows: int, steps: int) -> Training:
        """Return the training on a number of rows, up to half an epoch more or less, without early stopping."""
        epochs = max(1, round(steps / -(-rows // self.batch_size)))
        return Training(
            epochs=epochs,
            batch_size=self.batch_size,
            check_every=epochs,
            keep="last",
            plateau_patience=epochs,
            stopping_patience=epochs,
        )


@functools.cache
def network_of(widths: tuple[int, ...]) -> Network:
    """Return the network with the given hidden layers, one object for equal widths."""
    return from_linen(Mlp(widths=widths))


class Trained(NamedTuple):
    """Networks of one row of the table, with the splits that hold their test parts."""

    variables: Variables
    prepared: PreparedSplits
    facts: dict[str, Any]


Train = Callable[[Problem, Budget], Trained]


class Row(NamedTuple):
    """A row of the table."""

    label: str
    at_training: Literal["no", "yes", "to collect rows"]
    """Whether the group is needed for training. No row needs it at test time, unless it is a feature."""
    means: str
    """What the row shows, and what it does not show."""
    train: Train
    skipped: Mapping[str, str] = MappingProxyType({})
    """Why the row is left out for data sets, by their names."""


def prepared_by(preprocessor: Callable[[Problem], Preprocessor | list[Preprocessor]]) -> Train:
    """Return the function that trains on rows changed by a preprocessor."""

    def train(problem: Problem, budget: Budget) -> Trained:
        prepared = _prepared(problem, preprocessor(problem))
        return _trained(problem, budget, prepared)

    return train


def nothing(problem: Problem, budget: Budget) -> Trained:
    """Train on the train part as it is."""
    return _trained(problem, budget, PreparedSplits(problem.splits, SHARED))


def more_rows(problem: Problem, budget: Budget) -> Trained:
    """Train on the train part and the held-back rows of under-represented groups."""
    train = jnp.concatenate([problem.splits.train, problem.more], axis=1)
    return _trained(problem, budget, PreparedSplits(with_train(problem.splits, train), SHARED))


def group_robust(problem: Problem, budget: Budget) -> Trained:
    """Train with the group-robust loss."""
    loss = Loss(terms=(GroupRobust(weight=ROBUST_WEIGHT),))
    return _trained(problem, budget, PreparedSplits(problem.splits, SHARED), loss=loss)


def multi_task(problem: Problem, budget: Budget) -> Trained:
    """Train with a head that predicts the group from the last layer, whose loss counts as much as that of labels."""
    loss = Loss(terms=(Auxiliary(weight=1.0),))
    return _trained(problem, budget, PreparedSplits(problem.splits, SHARED), loss=loss)


def transfer(problem: Problem, budget: Budget) -> Trained:
    """Train on the source, and go on with the train part."""
    return _transferred(problem, budget, PreparedSplits(problem.splits, SHARED))


def transfer_weights(problem: Problem, budget: Budget) -> Trained:
    """Train on the source, and go on with the train part, whose groups are weighed equally."""
    return _transferred(problem, budget, _prepared(problem, Reweighing(target="groups")))


def _transferred(problem: Problem, budget: Budget, target: PreparedSplits) -> Trained:
    source = problem.splits._replace(train=problem.source)  # with the target's mean and scale
    start = _fitted(
        problem._replace(keys=_folded(problem, SOURCE)), budget, PreparedSplits(source, SHARED), budget.steps
    )
    fitted = _fitted(problem, budget, target, budget.tuning_steps, start=start.variables)
    facts = {"train_rows": target.splits.train.shape[1], "source_epochs": int(np.max(np.asarray(start.epochs)))}
    return Trained(fitted.variables, target, facts | _facts(fitted))


def _prepared(problem: Problem, preprocessor: Any) -> PreparedSplits:
    return prepare_many(preprocessor, _folded(problem, PREPARING), problem.splits, dataset=problem.dataset)


def _folded(problem: Problem, number: int) -> Key[Array, " seeds"]:
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(problem.keys)


def _trained(problem: Problem, budget: Budget, prepared: PreparedSplits, **options: Any) -> Trained:
    fitted = _fitted(problem, budget, prepared, budget.steps, **options)
    return Trained(fitted.variables, prepared, {"train_rows": prepared.splits.train.shape[1]} | _facts(fitted))


def _fitted(problem: Problem, budget: Budget, prepared: PreparedSplits, steps: int, **options: Any) -> Fitted:
    network, training = network_of(budget.widths), budget.training(prepared.splits.train.shape[1], steps)
    return fit_many(network, prepared.splits, keys=problem.keys, axes=prepared.axes, training=training, **options)


def _facts(fitted: Fitted) -> dict[str, Any]:
    return {"epochs": int(np.max(np.asarray(fitted.epochs))), "diverged": int(np.sum(np.asarray(fitted.diverged)))}


def right_by_group(network: Network, trained: Trained, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Count correct decisions on the test parts, and rows, by group: two arrays (seeds, groups)."""
    right, rows = _right_by_group(network, trained.variables, trained.prepared.splits, trained.prepared.axes, groups)
    return np.asarray(right), np.asarray(rows)


@jax.jit(static_argnums=(0, 3, 4))
def _right_by_group(network, variables, splits, axes, groups):
    def of_seed(variables: Variables, split: Split) -> tuple[Float[Array, " g"], Float[Array, " g"]]:
        test = split.part("test")
        right = (network.apply(variables, test.x)[0] > 0) == test.y
        member = test.a.astype(jnp.int32)[:, None] == jnp.arange(groups, dtype=jnp.int32)[None]
        return jnp.sum(member & right[:, None], axis=0), jnp.sum(member, axis=0)

    return jax.vmap(of_seed, in_axes=(0, axes))(variables, splits)


def _many_groups(problem: Problem) -> bool:
    """Return whether the data have so many groups that groups as large as the largest would be too many rows."""
    return len(problem.groups) > 2


def _equal_cells(problem: Problem) -> Preprocessor:
    """Oversample to the largest cell; with many cells, to as many rows in all as before."""
    cells = 2 * len(problem.groups)
    return Balancing(to=problem.splits.train.shape[1] // cells if _many_groups(problem) else "largest")


def _generated(problem: Problem) -> int | None:
    """Return the number of generated rows: as many as are missing; with many groups, half as many as train rows."""
    return problem.splits.train.shape[1] // 2 if _many_groups(problem) else None


ROWS = {
    "nothing": Row(
        "Nothing",
        "no",
        "The network as trained on the rows at hand. Its gap is what the other rows are compared with. It may be due "
        "to few rows of a group, or to a group whose labels are harder to predict, and the number alone does not tell.",
        nothing,
    ),
    "group_weights": Row(
        "Group weights",
        "yes",
        "Every group weighs the same in the loss. It shows how small the gap can be made with the rows at hand; the "
        "weights add no information on the group, so the rest of the gap may be due to a lack of rows.",
        prepared_by(lambda problem: Reweighing(target="groups")),
    ),
    "cell_weights": Row(
        "Weights of label and group",
        "yes",
        "As group weights, with both labels equally heavy in every group. Where labels are not equally frequent this "
        "moves the threshold, so it may lower accuracy without serving anybody worse in balanced accuracy.",
        prepared_by(lambda problem: Reweighing(target="cells")),
    ),
    "oversampling": Row(
        "Oversampling",
        "yes",
        "Rows of small cells of label and group are repeated. This has the effect of weights, by sampling; repeated "
        "rows are not new people.",
        prepared_by(_equal_cells),
    ),
    "undersampling": Row(
        "Undersampling",
        "yes",
        "Rows of large cells are left out until all are as small as the smallest. It shows how much the large groups "
        "lose where rows are thrown away; a smaller gap by this loss helps nobody.",
        prepared_by(lambda problem: Balancing(to="smallest")),
        {"adult": "the smallest cell of label, race and sex has two or three train rows, so 50 would be left"},
    ),
    "smote": Row(
        "SMOTE",
        "yes",
        "New rows between neighbours of one cell. It shows whether smoothing between the known rows helps; a row "
        "between two people is not a real person, and nothing beyond the known rows is learned.",
        prepared_by(lambda problem: Smote(rows=_generated(problem))),
    ),
    "gaussian": Row(
        "Gaussian cells",
        "yes",
        "New rows from mean and covariance of each cell. It shows what these moments hold; it helps as far as a cell "
        "is nearly Gaussian, which the simulated data are.",
        prepared_by(lambda problem: GaussianCells(rows=_generated(problem))),
    ),
    "more_rows": Row(
        "More real rows",
        "to collect rows",
        "Real rows of the under-represented groups that had been held back. It shows what collecting such rows would "
        "bring; in practice they must first be found, and come from the same people as those tested here.",
        more_rows,
    ),
    "group_robust": Row(
        "Group-robust loss",
        "yes",
        f"Group DRO with weight {ROBUST_WEIGHT:g}: the group with the greatest loss counts most. It lowers the worst "
        "group's loss on train rows; with few rows this is not yet its loss on new rows.",
        group_robust,
    ),
    "multi_task": Row(
        "Multi-task, label and group",
        "yes",
        "A second head predicts the group from the last layer, with weight 1. It shows whether a layer that tells the "
        "groups apart serves them better; nothing makes the loss of labels count more in the small group.",
        multi_task,
    ),
    "transfer": Row(
        "Transfer",
        "to collect rows",
        "The network starts from one trained on a source with many rows of the under-represented groups. It shows "
        "how much of what was learned there remains after tuning; a source with a similar rule must exist.",
        transfer,
    ),
    "transfer_weights": Row(
        "Transfer, group weights",
        "yes",
        "As transfer, with group weights on the target, so that the start is not forgotten for the few rows. The same "
        "limits hold as for transfer.",
        transfer_weights,
    ),
}
"""The rows by name, in the order of the table. Each is a unit of work, and is saved when it is complete."""


def rows_of(dataset: str) -> tuple[str, ...]:
    """Return the names of the rows that are measured on a data set."""
    return tuple(name for name, row in ROWS.items() if dataset not in row.skipped)
