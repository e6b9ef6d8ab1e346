"""Evaluations of networks: tables of counts at two thresholds, and what the last layer says of the group."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from fairjax import seeds, selection
from fairjax.detect.concepts.logistic import balanced_weights, logistic_regression
from fairjax.methods import Parts, Task
from fairjax.metrics import MEASURES, balanced_accuracy
from fairjax.nn import Network
from fairjax.nn.flat import FlatVariables
from fairjax.result import Trace
from fairjax.runs.programs import Scored, score
from fairjax.seeds import Axes, Machine
from fairjax.types import Split, Variables

HALF, TUNED = "half", "tuned"
"""The two thresholds of scores: 0.5, and the one with the best balanced accuracy on valid rows."""


class Tables(NamedTuple):
    """Counts of decisions by decision, label and group, one table per network."""

    valid: Float[np.ndarray, "k 2 2 2"]
    test: Float[np.ndarray, "k 2 2 2"]

    @classmethod
    def of(cls, trace: Trace) -> "Tables":
        """Return the tables of a trace with one entry per network."""
        valid, test = (np.asarray(part.table, np.float64) for part in (trace.valid, trace.test))
        return cls(valid, test)


class Evaluated(NamedTuple):
    """Networks, evaluated on valid and test rows."""

    parts: Parts
    """Logits in place of features."""
    scored: Scored
    """Scores of the valid and the test rows."""
    tables: dict[str, Tables]
    """Tables at each threshold."""
    thresholds: Float[np.ndarray, " k"]
    """The tuned thresholds."""
    probe: Float[np.ndarray, " k"]
    """Balanced accuracy of a probe for the group on the last hidden layer."""


def evaluate_networks(network: Network, variables: Variables, splits: Split, axes: Split) -> Evaluated:
    """Evaluate one network per split.

    Args:
        network: the network.
        variables: variables with a leading axis.
        splits: splits with a leading axis of the same length.
        axes: vmap axes of the splits.
    """
    task, machine = Task(network, MEASURES["spd"]), Machine(seeds.mesh()).for_parts()
    flat = jax.vmap(FlatVariables.ravel)(variables)
    flat, splits = seeds.replicate(flat, machine.mesh), seeds.replicate(splits, machine.mesh)
    parts = seeds.evaluate(task, flat, splits, axes=Axes(axes), machine=machine)
    tuned, _ = seeds.evaluate_logits(task, None, parts)
    scored = score(parts)
    tables = {HALF: Tables.of(at_threshold(scored, jnp.full(flat.params.shape[0], 0.5))), TUNED: Tables.of(tuned)}
    found = _probe(network, flat, splits, axes=Axes(axes), machine=machine)
    return Evaluated(parts, scored, tables, np.asarray(tuned.valid.threshold), np.asarray(found))


@jax.jit
def at_threshold(scored: Scored, thresholds: Any) -> Trace:
    """Evaluate scores at one threshold per network."""

    def one(scored: Scored, threshold: Any) -> Trace:
        return Trace(
            *(
                selection.evaluate_at(MEASURES["spd"], part.x[:, 0], part.y, part.a, threshold)
                for part in (scored.valid, scored.test)
            )
        )

    return jax.vmap(one)(scored, thresholds)


@functools.partial(jax.jit, static_argnames=("network", "axes", "machine"))
def _probe(network: Network, flat: FlatVariables, splits: Split, *, axes: Axes, machine: Machine) -> Any:
    """Fit a logistic regression for the group to the last hidden layer on valid rows, and evaluate it on test rows.

    Neither part was used to train the network. The group is balanced, and the layer is standardised.
    """

    def one(flat: FlatVariables, split: Split) -> Any:
        assert network.features is not None
        valid, test = split.part("valid"), split.part("test")
        h, there = (network.features(flat.variables(), part.x)[0] for part in (valid, test))
        mean, scale = jnp.mean(h, axis=0), jnp.std(h, axis=0)
        scale = jnp.where(scale > 0, scale, 1.0)
        weights = balanced_weights(valid.a, h.dtype)
        fitted = logistic_regression((h - mean[None]) / scale[None], valid.a, weights=weights)
        predicted = (there - mean[None]) / scale[None] @ fitted.coef + fitted.intercept > 0
        return balanced_accuracy(predicted, test.a)

    return seeds.over_seeds(one, (flat, splits), (0, axes.split), **machine._asdict())
