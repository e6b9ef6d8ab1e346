"""Best responses to Lagrange multipliers: trainings with other labels and weights, for many seeds at once."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from fairjax import arguments
from fairjax.metrics import confusion, count_groups
from fairjax.nn.network import Network
from fairjax.reductions.constraints import Constraint
from fairjax.seeds import Drive, Machine, fit_many, over_seeds, replicate, run_chunks
from fairjax.seeds.placement import mesh as all_devices
from fairjax.training import Training
from fairjax.types import SHARED, Rows, Split, Variables, weights_of


class Tables(NamedTuple):
    """Sums of rows by decision, label and group."""

    train: Float[Array, "*k 2 2 G"]
    valid: Float[Array, "*k 2 2 G"]


class Responses(NamedTuple):
    """Networks that were trained on cost-sensitive problems, with a leading axis of problems."""

    variables: Variables
    tables: Tables
    """Their decisions at a score of 0.5, with the original labels and weights."""
    loss: Float[Array, " problems"]
    """Loss on validation rows, with the new labels and weights."""
    epochs: Int[Array, " problems"]
    diverged: Bool[Array, " problems"]


class Trainer(NamedTuple):
    """What all best responses have in common."""

    network: Network
    training: Training
    constraint: Constraint
    num_groups: int
    machine: Machine

    def counts(self, splits: Split) -> Float[np.ndarray, "seeds 2 G"]:
        """Compute the weight of the train rows by label and group in double precision, and check the groups."""
        counts = np.asarray(_counts(splits, num_groups=self.num_groups), np.float64)
        self.constraint.check_counts(counts)
        return counts

    def respond(
        self,
        splits: Split,
        signed: Float[Any, "problems 2 G"],
        keys: Key[Array, " problems"],
        *,
        start: Variables | None = None,
        drive: Drive = run_chunks,
    ) -> Responses:
        """Train one network per problem.

        Args:
            splits: one split per problem, with the original labels and weights.
            signed: signed costs by label and group, from `signed_costs`.
            keys: one key per problem.
            start: variables to start from; new ones if omitted.
            drive: runs the chunks of epochs.

        Returns:
            The networks and their decisions.
        """
        mesh, group_size = self.machine
        problems = relabelled(splits, jnp.asarray(signed, jnp.result_type(float)))
        options: dict[str, Any] = {"mesh": mesh, "group_size": group_size, "drive": drive, "start": start}
        options |= {"training": self.training, "axes": RELABELLED}
        fitted = fit_many(self.network, problems, keys=keys, **options)
        args = replicate((fitted.variables, splits), mesh)
        tables = _tables(self.network, *args, num_groups=self.num_groups, machine=self.machine.for_parts())
        return Responses(fitted.variables, tables, fitted.loss, fitted.epochs, fitted.diverged)


RELABELLED: Split = SHARED._replace(y=0, weights=0)  # type: ignore[arg-type]
"""The axes of splits with labels and weights of their own."""


def trainer(
    network: Any,
    splits: Any,
    constraint: Any,
    training: Training | None,
    mesh: jax.sharding.Mesh | None,
    group_size: int | None,
) -> Trainer:
    """Check the arguments that all reductions share, and collect them.

    Raises:
        TypeError: if an argument has the wrong type, or labels are not booleans.
        ValueError: if the splits have no axis of seeds, or groups are memberships.
    """
    config = Training() if training is None else training
    arguments.check_training(network, config, splits)
    if not isinstance(constraint, Constraint):
        raise TypeError(
            f"constraint must be a fairjax.reductions.Constraint, got {arguments.kind_of(constraint)}: pass an "
            "instance, such as DemographicParity(bound=0.01)"
        )
    if splits.train.ndim != 2:
        raise ValueError(
            f"splits must have a leading axis of seeds, found row numbers of shape {splits.train.shape}: make them "
            "with fairjax.data.split_seeds"
        )
    if splits.y.dtype != bool:
        raise TypeError(f"reductions take labels of two classes as booleans, found labels of type {splits.y.dtype}")
    if splits.a.ndim != 1:
        raise ValueError(f"reductions take one group per row, found memberships of shape {splits.a.shape}: pass codes")
    machine = Machine(all_devices() if mesh is None else mesh, group_size)
    return Trainer(network, config, constraint, count_groups(splits.a), machine)


@jax.jit
def relabelled(splits: Split, signed: Float[Array, "problems 2 G"]) -> Split:
    """Return the cost-sensitive problems: the label of a row is whether its signed cost is positive.

    Args:
        splits: one split per problem.
        signed: signed costs by label and group, one table per problem.

    Returns:
        The splits, with labels and weights (problems, n) and without test rows.

    Example:
        >>> from fairjax.types import Split
        >>> rows, flags = jnp.arange(2)[None], jnp.array([True, False])
        >>> split = Split(jnp.ones((2, 1)), flags, flags, rows, rows, rows)
        >>> changed = relabelled(split, jnp.array([[[-3.0, 1.0], [1.0, -2.0]]]))
        >>> changed.y.tolist(), changed.weights.tolist()
        ([[False, False]], [[2.0, 3.0]])
    """
    costs = signed[:, splits.y.astype(jnp.int32), splits.a.astype(jnp.int32)]
    weights = jnp.abs(costs) if splits.weights is None else jnp.abs(costs) * splits.weights.astype(costs.dtype)[None]
    return splits._replace(y=costs > 0, weights=weights, test=splits.test[:, :0])


def skipping(idle: Bool[np.ndarray, " problems"]) -> Drive:
    """Make a drive that does not train the given problems, whose networks remain the initial ones."""

    def drive(begin: Callable[[bool], Any], advance: Callable[[Any], Any], finished: Callable[[Any], bool]) -> Any:
        state = begin(False)
        state = state._replace(done=state.done | jnp.asarray(idle))
        while not finished(state):
            state = advance(state)
        return state

    return drive


@functools.partial(jax.jit, static_argnames=("network", "num_groups", "machine"))
def _tables(network: Network, variables: Variables, splits: Split, *, num_groups: int, machine: Machine) -> Tables:
    def of_problem(variables: Variables, split: Split) -> Tables:
        def of_part(batch: Rows) -> Float[Array, "2 2 G"]:
            logits = network.apply(variables, batch.x)[0]
            decisions = jnp.where(jnp.isfinite(logits), (logits > 0).astype(logits.dtype), jnp.nan)
            table = confusion(decisions, batch.y, batch.a, num_groups=num_groups, weights=weights_of(batch))
            return jnp.where(jnp.all(jnp.isfinite(logits)), table, jnp.full_like(table, jnp.nan))

        return Tables(of_part(split.part("train")), of_part(split.part("valid")))

    return over_seeds(of_problem, (variables, splits), (0, SHARED), **machine._asdict())


@functools.partial(jax.jit, static_argnames="num_groups")
def _counts(splits: Split, *, num_groups: int) -> Float[Array, "seeds 2 G"]:
    def of_seed(split: Split) -> Float[Array, "2 G"]:
        y, a = split.y[split.train], split.a[split.train]
        weights = None if split.weights is None else split.weights[split.train]
        return jnp.sum(confusion(y, y, a, num_groups=num_groups, weights=weights), axis=0)

    return jax.vmap(of_seed, in_axes=(SHARED,))(splits)
