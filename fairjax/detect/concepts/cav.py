"""Concept activation vectors: the direction in a layer's activations that points to a concept."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from fairjax import checks
from fairjax.detect.concepts.logistic import balanced_weights, logistic_regression
from fairjax.detect.concepts.sites import map_layers, unit_activations
from fairjax.detect.rows import CHUNK, num_rows
from fairjax.nn.network import Network
from fairjax.types import AnyArray, Inputs, Number, Variables

Method = Literal["logistic", "difference"]
"""How a vector is found: the normal of a logistic regression, or the difference of the means."""


class ConceptVector(NamedTuple):
    """A unit vector that points from other rows to the rows of a concept."""

    vector: Float[Array, " u"]
    """One number per unit, of Euclidean norm 1; NaN if it could not be found."""
    intercept: Float[Array, ""]
    """Rows with h . vector + intercept > 0 are classified as the concept's."""
    converged: Bool[Array, ""]
    """Whether the regression converged and the vector is not NaN."""


def concept_vector(
    h: Float[AnyArray, "n u"],
    concept: Any,
    *,
    method: Method = "logistic",
    weights: Any = "balanced",
    penalty: Number = 1.0,
) -> ConceptVector:
    """Find the direction that separates the rows of a concept from other rows in the activations of one layer.

    Args:
        h: activations of n rows.
        concept: which rows are examples of the concept: booleans, or 0 and 1.
        method: "logistic", the normal of `logistic_regression`; or "difference", the difference of the two means,
            which also works with fewer rows than units.
        weights: non-negative weights of the rows, which the difference of the means uses within each class; by default,
            both classes have equal total weight.
        penalty: as for `logistic_regression`.

    Returns:
        The vector; NaN where the regression did not converge, or the two means are equal.

    Raises:
        ValueError: if `logistic_regression` raises it, or the method is unknown.

    Example:
        >>> h = jnp.array([[0.0, 1.0], [0.0, 2.0], [4.0, 1.0], [4.0, 2.0]])
        >>> concept_vector(h, jnp.array([0, 0, 1, 1]), method="difference").vector.tolist()
        [1.0, 0.0]

    References:
        Kim et al. (2018), Interpretability beyond feature attribution: quantitative testing with concept activation
        vectors, ICML.
    """
    check_method(method)
    if method == "logistic":
        regression = logistic_regression(h, concept, weights=weights, penalty=penalty)
        return _normalised(regression.coef, regression.intercept, regression.converged)
    coef, intercept = _difference_of_means(h, concept, weights)
    return _normalised(coef, intercept, jnp.all(jnp.isfinite(coef)))


@jax.jit
def _normalised(coef: Float[Array, " u"], intercept: Float[Array, ""], converged: Bool[Array, ""]) -> ConceptVector:
    """Divide a vector by its norm; NaN if it is 0 or was not found."""
    largest = jnp.max(jnp.abs(coef))  # the norm of small numbers would be 0 in float32
    scaled = coef / jnp.where(largest > 0, largest, jnp.nan)
    norm = jnp.sqrt(jnp.sum(scaled**2))
    is_found = converged & (largest > 0)
    vector = jnp.where(is_found, scaled / norm, jnp.nan)
    return ConceptVector(vector, jnp.where(is_found, intercept / largest / norm, jnp.nan), is_found)


def _difference_of_means(h: Any, concept: Any, weights: Any) -> tuple[Float[Array, " u"], Float[Array, ""]]:
    """Compute the difference of the means, and the intercept at which both means are as far from 0."""
    h = checks.floating(checks.numeric("h", h))
    labels, valid = checks.indicator("concept", checks.vector("concept", concept))
    if h.ndim != 2 or labels.shape != h.shape[:1]:
        raise ValueError(
            f"h must have shape (n, units) and concept shape (n,), found h {h.shape}, concept {labels.shape}"
        )
    if weights is None or isinstance(weights, str):
        weights = jnp.ones(h.shape[0], h.dtype)
    row_weights, valid_weights = checks.sample_weights(weights, h)
    assert row_weights is not None
    coef, intercept = _between_means(h, labels, row_weights)
    return checks.nan_unless(checks.all_valid(valid, valid_weights), coef), intercept


@jax.jit
def _between_means(h: Float[Array, "n u"], labels: Bool[Array, " n"], weights: Float[Array, " n"]):
    with jax.default_matmul_precision("highest"):
        weights = jnp.stack([jnp.where(labels, 0.0, weights), jnp.where(labels, weights, 0.0)])
        counts = jnp.sum(weights, axis=1)
        other, positive = (weights / jnp.where(counts > 0, counts, jnp.nan)[:, None]) @ h
        return positive - other, -jnp.dot(positive - other, positive + other) / 2


def check_method(method: str) -> None:
    """Check the name of a method.

    Raises:
        ValueError: if it is unknown.
    """
    if method not in ("logistic", "difference"):
        raise ValueError(f"method must be logistic or difference, got {method!r}")


def concept_columns(concepts: Mapping[str, Any], n: int) -> tuple[dict[str, Bool[Array, " n"]], Bool[Array, ""] | None]:
    """Check the columns that say which rows are examples of each concept.

    Args:
        concepts: one column per concept, by the concept's name.
        n: number of rows.

    Returns:
        Booleans by name, in the order of sorted names, as in all trees; and whether they are valid, if they are traced.

    Raises:
        ValueError: if there are none, they have another length, or a concept has no rows or no other rows.

    Example:
        >>> concept_columns({"women": [1, 0]}, 2)[0]["women"].tolist()
        [True, False]
    """
    if not isinstance(concepts, Mapping) or not concepts:
        raise ValueError(
            "concepts must be a dictionary of columns by the concept's name, such as {'women': ~batch.a}, with one "
            f"entry at least, found {type(concepts).__name__}"
        )
    columns, valid = {}, None
    for name in sorted(concepts):
        label = f"concepts[{name!r}]"
        column, valid_column = checks.indicator(label, checks.vector(label, concepts[name]))
        if column.shape != (n,):
            raise ValueError(f"{label} must have {n} rows, as many as its examples, found shape {column.shape}")
        if not isinstance(column, Tracer):
            ones = int(np.asarray(column).sum())
            if ones in (0, n):
                what = "no rows" if ones == 0 else "all rows, so that there are no others to compare with"
                raise ValueError(f"{label} has {what}: give examples of the concept and other rows")
        columns[name], valid = column, checks.all_valid(valid, valid_column)
    return columns, valid


def check_enough_rows(
    widths: Mapping[str, int], rows: Mapping[str, int | None], method: Method, advice: str = ""
) -> None:
    """Check that a regression has as many rows of the concept as there are units.

    Args:
        widths: number of units of each layer.
        rows: number of examples or of counterexamples of each concept, whichever are fewer; None if it is not known.
        method: how vectors are found.
        advice: a further way out.

    Raises:
        ValueError: if a concept has fewer rows than a layer has units and the method is "logistic".
    """
    if method != "logistic":
        return
    for concept, count in rows.items():
        for layer, width in widths.items():
            if count is not None and count < width:
                raise ValueError(
                    f"concept {concept!r} has {count} examples or counterexamples and layer {layer!r} has {width} "
                    "units: with fewer rows than units a regression separates anything; give more rows"
                    f"{advice}, name narrower layers with layers=[...], or use method='difference'"
                )


def concept_vectors(
    network: Network,
    variables: Variables,
    x: Inputs,
    concepts: Mapping[str, Any],
    *,
    layers: Sequence[str] | None = None,
    method: Method = "logistic",
    penalty: Number = 1.0,
    chunk: int | None = CHUNK,
) -> dict[str, dict[str, ConceptVector]]:
    """Find the concept activation vectors of all layers and concepts.

    Args:
        network: the network, with `activations`; used in evaluation mode.
        variables: the network's variables.
        x: inputs of n rows; activations at several positions are averaged, see `unit_activations`.
        concepts: for each concept, by name, which rows are examples of it (booleans, or 0 and 1); all other rows are
            compared with them. Both have equal total weight.
        layers: names of layers; all of them if omitted.
        method: as for `concept_vector`.
        penalty: as for `logistic_regression`.
        chunk: number of rows that are computed at a time.

    Returns:
        The vectors, by layer and concept. NaN where a regression did not converge or a traced concept is invalid.

    Raises:
        ValueError: if a layer is not there, a concept has no rows, or fewer rows than a layer has units and the
            method is "logistic".

    Example:
        >>> from fairjax.nn import Mlp, from_linen
        >>> network, x = from_linen(Mlp(widths=(3,))), jax.random.normal(jax.random.key(0), (20, 2))
        >>> variables = network.init(jax.random.key(1), x)
        >>> vectors = concept_vectors(network, variables, x, {"positive": x[:, 0] > 0})
        >>> vectors["hidden_00"]["positive"].vector.shape
        (3,)

    References:
        Kim et al. (2018), Interpretability beyond feature attribution: quantitative testing with concept activation
        vectors, ICML.
    """
    check_method(method)
    columns, valid = concept_columns(concepts, num_rows(x))
    activations = unit_activations(network, variables, x, layers=layers, chunk=chunk)
    counts = {name: _fewer(column) for name, column in columns.items()}
    check_enough_rows({name: h.shape[1] for name, h in activations.items()}, counts, method)
    vectors = _concept_vectors(method, activations, jnp.stack([*columns.values()]), jnp.asarray(penalty))
    named = {
        layer: {name: jax.tree.map(lambda leaf, i=i: leaf[i], of_layer) for i, name in enumerate(columns)}
        for layer, of_layer in vectors.items()
    }
    if valid is None:
        return named
    return {
        layer: {name: _nan_unless(valid, found) for name, found in of_layer.items()}
        for layer, of_layer in named.items()
    }


def _fewer(column: Any) -> int | None:
    """Count the rows of the concept or the others, whichever are fewer; None under a trace."""
    if isinstance(column, Tracer):
        return None
    ones = int(np.asarray(column).sum())
    return min(ones, column.size - ones)


def _nan_unless(valid: Bool[Array, ""], found: ConceptVector) -> ConceptVector:
    vector, intercept = (checks.nan_unless(valid, part) for part in (found.vector, found.intercept))
    return ConceptVector(vector, intercept, found.converged & valid)


@functools.partial(jax.jit, static_argnums=0)
def _concept_vectors(
    method: Method,
    activations: dict[str, Float[Array, "n _"]],
    columns: Bool[Array, "k n"],
    penalty: Float[Array, ""],
) -> dict[str, ConceptVector]:
    def of_layer(h: Array) -> ConceptVector:
        def of_concept(column: Array) -> ConceptVector:
            weights = balanced_weights(column, h.dtype)
            found = concept_vector(h, column, method=method, weights=weights, penalty=penalty.astype(h.dtype))
            ones = jnp.sum(column)
            fewer = jnp.minimum(ones, column.shape[0] - ones)
            return _nan_unless(fewer >= (h.shape[1] if method == "logistic" else 1), found)

        return jax.lax.map(of_concept, columns)

    return map_layers(of_layer, activations)
