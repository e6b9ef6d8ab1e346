"""Grid search: independent trainings for many Lagrange multipliers and seeds in one program."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from fairjax import arguments
from fairjax.metrics import Measure
from fairjax.nn.network import Network, scores
from fairjax.reductions.constraints import Constraint
from fairjax.reductions.moments import error, signed_costs, violations
from fairjax.reductions.multiplier_grid import multiplier_grid
from fairjax.reductions.responses import Tables, trainer
from fairjax.seeds import Drive, run_chunks
from fairjax.selection import Rule, evaluate_tables
from fairjax.training import Training
from fairjax.types import Split, Variables


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class GridSearchResult:
    """The networks of a grid of multipliers, and the selected one of each seed. Scores above 0.5 are accepted."""

    variables: Variables
    """Variables of all networks, with leading axes of seeds and multipliers."""
    multipliers: Float[Any, "m 2 E G"]
    """The multipliers by sign, event and group."""
    tables: Tables
    """Sums of rows by decision, label and group of every network, on train and validation data."""
    error: Float[Any, "seeds m"]
    """Error rate on train data."""
    violation: Float[Any, "seeds m"]
    """Greatest left-hand side of the constraints on train data: at most the bound if they are satisfied."""
    selected: Int[Any, " seeds"]
    """Number of the selected network."""
    loss: Float[Array, "seeds m"]
    """Loss on validation rows with the new labels and weights."""
    epochs: Int[Array, "seeds m"]
    """Number of epochs trained."""
    diverged: Bool[Array, "seeds m"]
    """Whether training stopped because the validation loss was not finite."""
    mean: Float[Array, "seeds d"] | None = None
    """Mean of each feature over the train part; None if features are not standardised."""
    scale: Float[Array, "seeds d"] | None = None
    """Standard deviation of each feature over the train part."""
    network: Network = dataclasses.field(metadata={"static": True})
    """The functions of the networks."""

    @property
    def selected_variables(self) -> Variables:
        """Variables of the selected networks, with a leading axis of seeds."""
        seeds = jnp.arange(len(self.selected))
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[seeds, jnp.asarray(self.selected)], self.variables)

    def scores(self, x: Any) -> Float[Array, "seeds n"]:
        """Compute the scores of the selected networks.

        Args:
            x: features as in the split's table, not standardised.
        """
        x = jax.tree.map(jnp.asarray, x)

        def of_seed(variables: Variables, mean: Any, scale: Any) -> Float[Array, " n"]:
            rows = x if mean is None else (x.astype(mean.dtype) - mean[None]) / scale[None]
            return scores(self.network.apply, variables, rows)

        return jax.vmap(of_seed)(self.selected_variables, self.mean, self.scale)

    def decide(self, x: Any) -> Bool[Array, "seeds n"]:
        """Make decisions with the selected networks.

        Args:
            x: features as in the split's table, not standardised.
        """
        return self.scores(x) > 0.5

    def select(self, rule: Rule, measure: Measure) -> "GridSearchResult":
        """Select a network per seed by a rule of fairjax, on validation data.

        Sums of weights count as numbers of rows where the rule depends on these.

        Args:
            rule: such as `fairjax.ConstrainedObjective(epsilon=0.05)`.
            measure: the measure of bias, such as `fairjax.spd`.

        Returns:
            The result with another selection.

        Raises:
            TypeError: if rule or measure have the wrong type.
        """
        arguments.check_rule(rule)
        arguments.check_measure(measure)

        def of_seed(tables: Tables) -> Int[Array, ""]:
            threshold = jnp.full(tables.valid.shape[:1], 0.5, tables.valid.dtype)
            evaluation = evaluate_tables(measure, threshold, tables.valid)
            if rule.data == "pooled":
                pool: Any = rule
                evaluation = pool.pool(evaluation, evaluate_tables(measure, threshold, tables.train))
            score = rule(evaluation)
            return jnp.argmax(jnp.where(jnp.isnan(score), -jnp.inf, score))

        return dataclasses.replace(self, selected=jax.vmap(of_seed)(self.tables))

    def __repr__(self) -> str:
        """Summarise error and violation of the selected networks."""
        seeds, count = np.shape(self.error)
        if isinstance(self.selected, jax.core.Tracer):
            return f"GridSearchResult({count} multipliers, traced)"
        chosen = np.asarray(self.selected)[:, None]
        means = [float(np.take_along_axis(np.asarray(values), chosen, 1).mean()) for values in self._criteria]
        return (
            f"GridSearchResult({count} multipliers, {seeds} seeds; selected, mean on train data: error {means[0]:.3f}, "
            f"violation {means[1]:.3f})"
        )

    @property
    def _criteria(self) -> tuple[Any, Any]:
        return self.error, self.violation


def grid_search(
    network: Network,
    splits: Split,
    *,
    keys: Key[Array, " seeds"],
    constraint: Constraint,
    multipliers: Float[Any, "m 2 E G"] | None = None,
    grid_size: int = 10,
    grid_limit: float = 2.0,
    constraint_weight: float = 0.5,
    training: Training | None = None,
    mesh: jax.sharding.Mesh | None = None,
    group_size: int | None = None,
    drive: Drive = run_chunks,
) -> GridSearchResult:
    """Train a classifier for each Lagrange multiplier of a grid, and select the best one of each seed.

    For given multipliers, the Lagrangian of "least error subject to parity" is a weighted error with other labels, so
    that any training of a classifier minimises it. All multipliers and all seeds are trained in one program. The groups
    are needed for training and selection only; the result decides without them.

    Args:
        network: the classifier.
        splits: one split per seed, from `fairjax.data.split_seeds`. There are two classes and any number of
            groups.
        keys: one key per seed; the trainings of all multipliers use the same.
        constraint: the constraint, such as `DemographicParity()`.
        multipliers: the grid, by sign, event and group; from `multiplier_grid` if omitted.
        grid_size: number of multipliers of that grid.
        grid_limit: greatest L1 norm of that grid.
        constraint_weight: the selected network has the least (1 - weight) * error + weight * violation on train data.
        training: hyperparameters; `Training()` if omitted. Validation rows, with the new labels and weights, determine
            the end of training.
        mesh: the devices; all if omitted.
        group_size: number of trainings per group, as for `fit_many`.
        drive: runs the chunks of epochs, as for `fit_many`.

    Returns:
        All networks and the selected ones. `result.select(rule, measure)` selects by a rule of fairjax.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if a number or shape is invalid, a group has no train rows that the constraint needs, or all
            trainings of a seed diverged.

    Example:
        >>> from fairjax import data
        >>> from fairjax.nn import linear_classifier
        >>> from fairjax.reductions import DemographicParity
        >>> x, y, a = data.loh(jax.random.key(0), 200)
        >>> splits = data.split_seeds(data.from_arrays(x, y, a), seeds=(1, 2))
        >>> options = {"constraint": DemographicParity(), "grid_size": 3, "training": Training(epochs=2)}
        >>> result = grid_search(linear_classifier(), splits, keys=jax.random.split(jax.random.key(1)), **options)
        >>> result.error.shape, result.decide(x).shape
        ((2, 3), (2, 200))

    References:
        Agarwal, Beygelzimer, Dudik, Langford and Wallach (2018), A Reductions Approach to Fair Classification, ICML,
        Section 3.4.
    """
    if not 0 <= constraint_weight <= 1:
        raise ValueError(f"constraint_weight must be between 0 and 1, got {constraint_weight}")
    train = trainer(network, splits, constraint, training, mesh, group_size)
    if multipliers is None:
        multipliers = multiplier_grid(constraint, train.num_groups, size=grid_size, limit=grid_limit)
    grid = _checked(multipliers, constraint.shape(train.num_groups))
    seeds, count = splits.train.shape[0], len(grid)
    if keys.shape != (seeds,):
        raise ValueError(f"keys must be one key per seed, shape ({seeds},), found shape {keys.shape}")
    signed = signed_costs(constraint, train.counts(splits)[:, None], grid[None])

    def repeated(leaf: Any) -> Any:
        return jnp.repeat(leaf, count, axis=0)

    own = {name: repeated(getattr(splits, name)) for name in ("train", "valid", "test")}
    if splits.mean is not None:
        own |= {"mean": repeated(splits.mean), "scale": repeated(splits.scale)}
    problems = splits._replace(**own)
    responses = train.respond(problems, signed.reshape(-1, *signed.shape[2:]), repeated(keys), drive=drive)
    responses = jax.tree.map(lambda leaf: leaf.reshape(seeds, count, *leaf.shape[1:]), responses)
    on_train = np.asarray(responses.tables.train, np.float64)
    errors, largest = error(on_train), violations(constraint, on_train).max(axis=(-3, -2, -1))
    criterion = (1.0 - constraint_weight) * errors + constraint_weight * largest
    lost = ~np.isfinite(criterion).any(axis=1)
    if lost.any():
        raise ValueError(
            f"all trainings of seed number {int(np.argmax(lost))} diverged: lower the learning rate, such as "
            f"training=Training(learning_rate={float(np.ravel(train.training.learning_rate)[0]) / 10:g})"
        )
    return GridSearchResult(
        variables=responses.variables,
        multipliers=grid,
        tables=responses.tables,
        error=errors,
        violation=largest,
        selected=np.nanargmin(criterion, axis=1),
        loss=responses.loss,
        epochs=responses.epochs,
        diverged=responses.diverged,
        mean=splits.mean,
        scale=splits.scale,
        network=network,
    )


def _checked(multipliers: Any, shape: tuple[int, int, int]) -> Float[np.ndarray, "m 2 E G"]:
    grid = np.asarray(multipliers, np.float64)
    if grid.ndim != 4 or not len(grid) or grid.shape[1:] != shape:
        raise ValueError(
            f"multipliers must have shape (m, {', '.join(map(str, shape))}): points, signs, events, groups; found "
            f"shape {grid.shape}"
        )
    if not (grid >= 0).all() or not np.isfinite(grid).all():
        raise ValueError("multipliers must be finite and not negative: use the other sign for a negative one")
    return grid
