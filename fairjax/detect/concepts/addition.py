"""Concept addition: how scores change when a concept is added to the activations of a layer."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from fairjax import checks
from fairjax.detect.concepts.sites import as_shifts, chosen_layers, unit_activations
from fairjax.detect.rows import CHUNK, check_row_wise, logits_of, map_chunks, num_rows
from fairjax.metrics import probabilities
from fairjax.nn.network import ApplyFn, Network
from fairjax.types import Inputs, Number, Variables


class ConceptAddition(NamedTuple):
    """Effect of adding a concept in one layer."""

    effect: Float[Array, "... n"]
    """Change of each row's score, a difference of probabilities."""
    t: Float[Array, "..."]
    """Length of the step along the vector, in units of activation."""


def concept_addition(
    network: Network,
    variables: Variables,
    x: Inputs,
    vectors: Mapping[str, Float[Array, "_"]],
    t: Number | Mapping[str, Number] | None = None,
    *,
    concept: Any = None,
    target: int | None = None,
    chunk: int | None = CHUNK,
) -> dict[str, ConceptAddition]:
    """Compute s(h + t v) - s(h) for every row: the score after a step along a concept minus the score before.

    One layer is changed at a time, by a shift of its units, and everything after it follows. This is a finite change:
    divided by t, for small t, it is the derivative of the score along v, which is s (1 - s) times TCAV's sensitivity of
    the logit. At several positions, as in images, the same step is made at all of them.

    Args:
        network: the network; used in evaluation mode.
        variables: the network's variables.
        x: inputs of n rows.
        vectors: one direction per layer, such as those of `concept_vectors`; only these layers are changed.
        t: the length of the step, one number or one per layer. If omitted, the mean of h . v over the rows of the
            concept minus that over the others, which is the distance between the two means along v.
        concept: which rows of x have the concept (booleans, or 0 and 1); needed if `t` is omitted.
        target: the class whose score is compared: class 1 if omitted; must be given for more than two classes.
        chunk: number of rows that are computed at a time.

    Returns:
        The effect on each row and the step, by layer. NaN where a vector is.

    Raises:
        ValueError: if a layer does not exist, a vector has another length than the layer has units, or `t` and
            `concept` are both missing.

    Example:
        >>> from fairjax.nn import Mlp, from_linen
        >>> network, x = from_linen(Mlp(widths=(2,))), jnp.ones((3, 2))
        >>> variables = network.init(jax.random.key(0), x)
        >>> addition = concept_addition(network, variables, x, {"hidden_00": jnp.array([1.0, 0.0])}, t=0.0)
        >>> addition["hidden_00"].effect.tolist()
        [0.0, 0.0, 0.0]
    """
    vectors = {name: jnp.asarray(vector) for name, vector in vectors.items()}
    if not vectors:
        raise ValueError("vectors must hold a direction for one layer at least, found none")
    as_shifts(variables, vectors)  # checks names and lengths
    check_row_wise(network.apply, variables, x)
    if isinstance(t, Mapping):
        missing = [name for name in vectors if name not in t]
        if missing:
            raise ValueError(f"t must have a number for every layer with a vector, there is none for {missing[0]!r}")
        steps = {name: jnp.asarray(t[name], vectors[name].dtype) for name in vectors}
    elif t is not None:
        steps = {name: jnp.asarray(t, vector.dtype) for name, vector in vectors.items()}
    else:
        steps = _gaps(network, variables, x, vectors, concept, chunk)
    return _concept_addition(network.apply, target, chunk, variables, x, vectors, steps)


def _gaps(
    network: Network, variables: Variables, x: Inputs, vectors: dict[str, Array], concept: Any, chunk: int | None
) -> dict[str, Float[Array, ""]]:
    """Compute the distances between the means of the rows with and without the concept, along the vectors."""
    if concept is None:
        raise ValueError(
            "concept_addition needs the step t, or concept=, which rows have the concept, to compute it from"
        )
    column, valid = checks.indicator("concept", checks.vector("concept", concept))
    if column.shape != (num_rows(x),):
        raise ValueError(f"concept must have {num_rows(x)} rows, as x has, found shape {column.shape}")
    if not isinstance(column, Tracer) and int(np.asarray(column).sum()) in (0, column.size):
        raise ValueError("concept must have rows with and without it, found only one kind: pass the step t instead")
    layers = chosen_layers(network, variables, [*vectors])
    activations = unit_activations(network, variables, x, layers=layers, chunk=chunk)
    return {name: checks.nan_unless(valid, class_gap(activations[name], column, vectors[name])) for name in layers}


@jax.jit
def class_gap(h: Float[Array, "n u"], concept: Bool[Array, " n"], vector: Float[Array, " u"]) -> Float[Array, ""]:
    """Compute the mean of h . v over the rows of a concept minus that over the others; NaN if one has no rows.

    Example:
        >>> class_gap(jnp.array([[1.0], [2.0], [4.0]]), jnp.array([False, False, True]), jnp.array([2.0])).item()
        5.0
    """
    with jax.default_matmul_precision("highest"):
        along = h @ vector.astype(h.dtype)

    def mean(rows: Array) -> Array:
        count = jnp.sum(rows, dtype=h.dtype)
        return jnp.sum(jnp.where(rows, along, 0.0)) / jnp.where(count > 0, count, jnp.nan)

    return mean(concept) - mean(~concept)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _concept_addition(
    apply: ApplyFn,
    target: int | None,
    chunk: int | None,
    variables: Variables,
    x: Inputs,
    vectors: dict[str, Array],
    steps: dict[str, Array],
) -> dict[str, ConceptAddition]:
    def score(rows: Any, shifts: Any = None) -> Array:
        logits, _ = apply(variables, rows) if shifts is None else apply(variables, rows, shifts=shifts)
        if logits.ndim == 1:
            return jax.nn.sigmoid(logits_of(apply, variables, rows, target, shifts=shifts))
        logits_of(apply, variables, rows, target)  # checks the class
        return probabilities(logits)[:, target]

    def of_rows(rows: Any) -> dict[str, Array]:
        before = score(rows)
        return {
            name: score(rows, as_shifts(variables, {name: steps[name] * vector})) - before
            for name, vector in vectors.items()
        }

    effects = map_chunks(of_rows, x, chunk=chunk)
    return {name: ConceptAddition(effects[name], steps[name]) for name in vectors}
