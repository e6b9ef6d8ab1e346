"""The exponentiated-gradient reduction: classifiers against multipliers, round after round, for many seeds at once."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, Key

from fairjax.hyperparameters import check_at_least, check_positive
from fairjax.nn.network import Network
from fairjax.reductions.constraints import Constraint
from fairjax.reductions.hull import Hull
from fairjax.reductions.moments import error, signed_costs, violations
from fairjax.reductions.player import Player
from fairjax.reductions.randomised import Randomised
from fairjax.reductions.responses import Responses, Tables, Trainer, skipping, trainer
from fairjax.training import Training
from fairjax.types import Split, Variables

MULTIPLES = (1.0, 2.0, 5.0, 10.0)
"""The multiples of the multipliers whose best responses bound the duality gap."""


class ExponentiatedGradientResult(NamedTuple):
    """The randomised classifiers, with a leading axis of seeds on all arrays. Numbers are of train data."""

    classifier: Randomised
    """The randomised classifiers."""
    gap: Float[np.ndarray, " seeds"]
    """Duality gap. The error is within twice the gap of the least error under the constraint, as far as the trainings
    find best responses."""
    converged: Bool[np.ndarray, " seeds"]
    """Whether the gap is below the tolerance."""
    tolerance: Float[np.ndarray, " seeds"]
    """The tolerance of the gap."""
    error: Float[np.ndarray, " seeds"]
    """Expected error rate."""
    violation: Float[np.ndarray, " seeds"]
    """Greatest left-hand side of the constraints: at most the bound if they are satisfied."""
    tables: Tables
    """Expected sums of rows by decision, label and group, on train and validation data."""
    multipliers: Float[np.ndarray, "seeds 2 E G"]
    """Multipliers of the saddle point."""
    rounds: Int[np.ndarray, " seeds"]
    """Number of rounds."""
    trainings: Int[np.ndarray, " seeds"]
    """Number of networks that were trained."""


def exponentiated_gradient(
    network: Network,
    splits: Split,
    *,
    keys: Key[Any, " seeds"],
    constraint: Constraint,
    eps: float = 0.01,
    max_iter: int = 50,
    nu: float | None = None,
    eta0: float = 2.0,
    run_linprog_step: bool = True,
    warm_start: bool = False,
    training: Training | None = None,
    mesh: jax.sharding.Mesh | None = None,
    group_size: int | None = None,
) -> ExponentiatedGradientResult:
    """Find the randomised classifier of least error under a parity constraint, for all seeds at once.

    Two players alternate: the classifier answers the multipliers by a training with other labels and weights, and the
    multipliers grow by an exponentiated gradient where a constraint is violated. After each round a linear programme
    finds the saddle point over the mixtures of all classifiers so far. The trainings of all seeds are one program,
    compiled once; a seed that has converged takes no more time. The groups are needed for training only.

    Arguments are called as in Fairlearn's `ExponentiatedGradient`, and have its defaults.

    Args:
        network: the classifier.
        splits: one split per seed, from `fairjax.data.split_seeds`. There are two classes and any number of
            groups.
        keys: one key per seed.
        constraint: the constraint, such as `DemographicParity()`, with its bound.
        eps: the L1 norm of the multipliers is at most 1 / eps, so constraints may be violated by about eps more than
            their bound.
        max_iter: greatest number of rounds.
        nu: tolerance of the duality gap; by default half the standard error of the first classifier's error rate.
        eta0: initial step size of the multipliers, times eps.
        run_linprog_step: whether to solve the linear programme; without, the mixture is that of all rounds.
        warm_start: whether a training starts from the network of the previous round, instead of a new one.
        training: hyperparameters of each training; `Training()` if omitted.
        mesh: the devices; all if omitted.
        group_size: number of trainings per group, as for `fit_many`.

    Returns:
        The randomised classifiers.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if a number or shape is invalid, a group has no train rows that the constraint needs, or the outputs
            of the first network are not finite.

    Example:
        >>> from fairjax import data
        >>> from fairjax.nn import linear_classifier
        >>> from fairjax.reductions import DemographicParity
        >>> x, y, a = data.loh(jax.random.key(0), 200)
        >>> splits = data.split_seeds(data.from_arrays(x, y, a), seeds=(1, 2))
        >>> options = {"constraint": DemographicParity(), "max_iter": 2, "training": Training(epochs=2)}
        >>> keys = jax.random.split(jax.random.key(1))
        >>> result = exponentiated_gradient(linear_classifier(), splits, keys=keys, **options)
        >>> result.classifier.decide(x, jax.random.key(2)).shape
        (2, 200)

    References:
        Agarwal, Beygelzimer, Dudik, Langford and Wallach (2018), A Reductions Approach to Fair Classification, ICML.
    """
    for name, value in (("eps", eps), ("eta0", eta0), ("nu", 1.0 if nu is None else nu)):
        check_positive(name, value)
    check_at_least("max_iter", max_iter, 1)
    train = trainer(network, splits, constraint, training, mesh, group_size)
    seeds = splits.train.shape[0]
    if keys.shape != (seeds,):
        raise ValueError(f"keys must be one key per seed, shape ({seeds},), found shape {keys.shape}")
    counts = train.counts(splits)
    limit, shape = 1.0 / eps, constraint.shape(train.num_groups)
    players = [Player(Hull(constraint, limit), np.zeros(shape), np.zeros(shape), eta0 / limit) for _ in range(seeds)]
    oracle = Oracle(train, splits, keys, counts)
    for iteration in range(max_iter):
        playing = [player for player in players if not player.done]
        if not playing:
            break
        answers = [None if player.done else player.current(limit) for player in players]
        responses = oracle.respond([*answers, *[None] * seeds], warm_start)
        for seed, player in enumerate(players):
            if not player.done:
                player.answer(player.hull.add(answers[seed], *responses(seed)), answers[seed])
                if iteration == 0:
                    player.tolerance = _tolerance(player.hull, splits) if nu is None else nu
                player.begin_round(iteration > 0 and run_linprog_step)
        _bound_gaps(players, oracle)
        for player in players:
            if not player.done:
                player.end_round(iteration)
    return _result(train, splits, players)


class Oracle:
    """Trains the best responses of all seeds, up to two per seed, in a program of one shape."""

    def __init__(self, train: Trainer, splits: Split, keys: Key[Any, " seeds"], counts: Float[np.ndarray, "seeds 2 G"]):
        """Prepare two problems per seed."""
        own = {name: getattr(splits, name) for name in ("train", "valid", "test", "mean", "scale")}
        twice = {name: None if leaf is None else jnp.concatenate([leaf, leaf]) for name, leaf in own.items()}
        self._train, self._splits, self._keys = train, splits._replace(**twice), jnp.concatenate([keys, keys])
        self._counts = np.concatenate([counts, counts])
        self._calls, self._seeds = 0, len(counts)
        self._previous: Variables | None = None

    def respond(self, multipliers: list[Float[np.ndarray, "2 E G"] | None], warm_start: bool = False) -> Any:
        """Train the networks that respond to multipliers.

        Args:
            multipliers: those of each problem, first one per seed and then another; None for no training.
            warm_start: whether to start from the networks of the last such call, and to keep these for the next.

        Returns:
            A function from the number of a problem to the variables and tables of its network.
        """
        idle = np.array([entry is None for entry in multipliers])
        shape = self._train.constraint.shape(self._train.num_groups)
        asked = np.stack([np.zeros(shape) if entry is None else entry for entry in multipliers])
        signed = signed_costs(self._train.constraint, self._counts, asked)
        keys = jax.vmap(jax.random.fold_in, (0, None))(self._keys, self._calls)
        self._calls += 1
        start = self._previous if warm_start else None
        found = self._train.respond(self._splits, signed, keys, start=start, drive=skipping(idle))
        if warm_start:
            self._previous = found.variables
        on_host: Responses = jax.device_get(found)

        def of_problem(number: int) -> tuple[Variables, Tables]:
            return jax.tree.map(lambda leaf: leaf[number], (on_host.variables, on_host.tables))

        return of_problem


def _bound_gaps(players: list[Player], oracle: Oracle) -> None:
    """Bound the gaps of both mixtures of every seed by responses to multiples of their multipliers."""
    for player in players:
        if player.done:
            player.open = [False, False]
    for multiple in MULTIPLES:
        asked: list[Any] = []
        for place in (0, 1):
            for player in players:
                mixture = player.mixtures()[place]
                asked.append(multiple * mixture.multipliers if player.open[place] and mixture is not None else None)
        if all(entry is None for entry in asked):
            return
        responses = oracle.respond(asked)
        for number, entry in enumerate(asked):
            if entry is not None:
                place, seed = divmod(number, len(players))
                players[seed].bound(place, responses(number), multiple)
                players[seed].trainings += 1


def _tolerance(hull: Hull, splits: Split) -> float:
    """Return half the standard error of the error rate of the first classifier."""
    rows, rate = splits.train.shape[-1], hull.errors[0]
    return float(0.5 * np.sqrt(rate * (1.0 - rate) / (rows - 1)))


def _result(train: Trainer, splits: Split, players: list[Player]) -> ExponentiatedGradientResult:
    """Collect the mixtures, with as many networks for every seed."""
    mixtures = [player.best() for player in players]
    used = [np.flatnonzero(mixture.weights > 0) for mixture in mixtures]
    count = max(map(len, used))
    filled = [np.concatenate([numbers, np.full(count - len(numbers), numbers[0])]) for numbers in used]
    dtype = jnp.result_type(float)
    weights = np.zeros((len(players), count))
    for row, mixture, numbers in zip(weights, mixtures, used, strict=True):
        row[: len(numbers)] = mixture.weights[numbers]
    variables = [
        jax.tree.map(lambda *leaves: np.stack(leaves), *(player.hull.variables[number] for number in numbers))
        for player, numbers in zip(players, filled, strict=True)
    ]
    expected = [
        jax.tree.map(
            lambda *leaves, row=row: np.tensordot(row, np.stack(leaves).astype(np.float64), axes=1),
            *(player.hull.tables[number] for number in numbers),
        )
        for player, row, numbers in zip(players, weights, filled, strict=True)
    ]
    tables = jax.tree.map(lambda *leaves: np.stack(leaves), *expected)
    gap = np.array([mixture.gap for mixture in mixtures])
    tolerance = np.array([player.tolerance for player in players])
    return ExponentiatedGradientResult(
        classifier=Randomised(
            variables=jax.tree.map(lambda *leaves: jnp.stack(leaves), *variables),
            weights=jnp.asarray(weights, dtype),
            mean=splits.mean,
            scale=splits.scale,
            network=train.network,
        ),
        gap=gap,
        converged=gap < tolerance,
        tolerance=tolerance,
        error=error(tables.train),
        violation=violations(train.constraint, tables.train).max(axis=(-3, -2, -1)),
        tables=tables,
        multipliers=np.stack([mixture.multipliers for mixture in mixtures]),
        rounds=np.array([player.rounds for player in players]),
        trainings=np.array([player.trainings + player.rounds for player in players]),
    )
