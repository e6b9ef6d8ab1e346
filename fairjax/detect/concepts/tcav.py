"""TCAV: whether a network's logits rise or fall along a concept, tested against random directions."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from fairjax import checks
from fairjax.detect.concepts.cav import Method, check_enough_rows, check_method, concept_columns, concept_vector
from fairjax.detect.concepts.sampling import concept_sets, is_example, kept_rows, mean_over, random_sets
from fairjax.detect.concepts.scores import (
    ScoreSums,
    combined,
    counted_rows,
    is_degenerate,
    score_sums,
    scores_of,
)
from fairjax.detect.concepts.significance import welch_test
from fairjax.detect.concepts.sites import chosen_layers, map_layers, unit_activations
from fairjax.detect.concepts.unit_gradients import gradients_of_rows
from fairjax.detect.rows import CHUNK, check_row_wise, num_rows
from fairjax.metrics import balanced_accuracy
from fairjax.nn.network import Network
from fairjax.types import Inputs, KeyArray, Number, Variables

CHANCE = 0.5
"""Balanced accuracy of guessing between a concept and other rows."""
MARGIN = 0.05
"""A concept whose vectors' balanced accuracy exceeds chance by no more than this is not reported."""
MINIMUM_ROWS = 10
"""Smallest number of examples of a concept, and of others."""


class Tcav(NamedTuple):
    """Result of TCAV for one concept in one layer. What could not be computed is NaN."""

    score: Float[Array, "..."]
    """Share of the rows whose logit rises along the concept's vector, mean over draws."""
    score_sd: Float[Array, "..."]
    """Standard deviation of the score over draws."""
    random_score: Float[Array, "..."]
    """The same share along vectors of random sets, mean over draws."""
    random_sd: Float[Array, "..."]
    """Standard deviation of the random score over draws."""
    p: Float[Array, "..."]
    """p-value of Welch's test of the scores against random scores, multiplied by the number of layers and concepts
    (Bonferroni), at most 1; NaN where TCAV is degenerate."""
    sensitivity: Float[Array, "..."]
    """Mean derivative of the logit along the vector, in logits per unit of activation, mean over draws."""
    sensitivity_p: Float[Array, "..."]
    """p-value of the same test of the sensitivities; it also applies where TCAV is degenerate."""
    magnitude: Float[Array, "..."]
    """Sum of the positive derivatives as a share of the sum of all absolute values, mean over draws."""
    accuracy: Float[Array, "..."]
    """Balanced accuracy with which the vectors recognise the concept on rows held out, mean over draws."""
    refused: Bool[Array, "..."]
    """Whether the concept cannot be predicted from the layer: then everything above but `accuracy` and the random
    scores is NaN."""
    degenerate: Bool[Array, "..."]
    """Whether df/dh is the same for all rows, as below a linear head: every score is 0 or 1, and says no more than the
    sign of the sensitivity."""
    converged: Bool[Array, "..."]
    """Whether the regressions of all draws of the concept converged; if not, the results are NaN. If only one of the
    random sets did not converge, `random_score` and the p-values are NaN."""


def tcav(
    network: Network,
    variables: Variables,
    examples: Inputs,
    concepts: Mapping[str, Any],
    x: Inputs,
    *,
    key: KeyArray,
    counted: Any = None,
    target: int | None = None,
    layers: Sequence[str] | None = None,
    method: Method = "logistic",
    penalty: Number = 1.0,
    draws: int = 20,
    size: int = 500,
    chunk: int | None = CHUNK,
) -> dict[str, dict[str, Tcav]]:
    """Test for all layers and concepts whether the network's logit depends on the concept.

    For every concept, `draws` vectors are found, each from `size` of its examples and `size` other rows, drawn with
    replacement from two thirds of the examples; on the other third they must recognise the concept. As many vectors
    are found from random sets. A score is the share of the rows x whose logit rises along a vector; Welch's two-sided
    test compares the scores of the concept with the random ones. One backward pass over x gives the derivatives of
    all layers, and one matrix product per layer the scores of all vectors.

    The p-value tells the concept's direction from directions of random sets. It depends on `draws` and `size`, and it
    does not measure how the result would vary over other rows x, or over networks trained anew: use several seeds for
    that.

    Args:
        network: the network, with `activations`; used in evaluation mode.
        variables: the network's variables.
        examples: inputs of m rows with examples of the concepts, such as the training rows. Their activations of all
            layers are kept in memory. Positions are averaged, see `unit_activations`.
        concepts: for each concept, by name, which of these rows are its examples (booleans, or 0 and 1), such as
            `{"women": ~train.a}`; they are compared with the other rows. For examples from elsewhere, append them.
        x: inputs of n rows whose logits are explained, such as the test rows. Derivatives along channels of an image
            are summed over positions, see `unit_gradients`.
        key: random key of the sets.
        counted: which rows of x count, such as those of the target class, `test.y == 1`; all if omitted.
        target: the class whose logit is explained; must be given for more than two classes.
        layers: names of layers; all of them if omitted.
        method: as for `concept_vector`.
        penalty: as for `logistic_regression`.
        draws: number of vectors per concept, and of random ones; 2 at least.
        size: number of examples per vector, and of other rows.
        chunk: number of rows of x that are computed at a time.

    Returns:
        Results by layer and concept; `tcav_table` shows them.

    Raises:
        ValueError: if a layer does not exist; if a concept has fewer than 10 examples or others, or, for the method
            "logistic", fewer in two thirds of them, or in a set, than a layer has units; if no row counts; or if a
            row's logit depends on other rows.

    Example:
        >>> from fairjax.nn import Mlp, from_linen
        >>> network, x = from_linen(Mlp(widths=(3,))), jax.random.normal(jax.random.key(0), (60, 2))
        >>> variables = network.init(jax.random.key(1), x)
        >>> results = tcav(network, variables, x, {"positive": x[:, 0] > 0}, x, key=jax.random.key(2), draws=4, size=30)
        >>> bool(results["hidden_00"]["positive"].accuracy > 0.8)
        True

    References:
        Kim et al. (2018), Interpretability beyond feature attribution: quantitative testing with concept activation
        vectors, ICML.
    """
    check_method(method)
    if draws < 2 or size < 2:
        raise ValueError(f"draws and size must be at least 2, got draws={draws}, size={size}")
    chosen = chosen_layers(network, variables, layers)
    columns, valid = concept_columns(concepts, num_rows(examples))
    rows, valid_rows = counted_rows(counted, num_rows(x))
    check_row_wise(network.apply, variables, x)
    activations = unit_activations(network, variables, examples, layers=chosen, chunk=chunk)
    _check_counts(columns, {name: h.shape[1] for name, h in activations.items()}, method, size)
    vectors = _vectors(method, draws, size, key, activations, jnp.stack([*columns.values()]), jnp.asarray(penalty))
    flat = {name: found.all.reshape(-1, found.all.shape[-1]) for name, found in vectors.items()}
    sums = _sums(network, target, chunk, variables, x, rows, flat)
    parts = {name: (sums[name], found.accuracy, found.all[:-1]) for name, found in vectors.items()}
    results = _results(draws, parts)
    valid = checks.all_valid(valid, valid_rows)
    return {
        layer: {name: _of_concept(of_layer, i, valid) for i, name in enumerate(columns)}
        for layer, of_layer in results.items()
    }


def _check_counts(columns: dict[str, Any], widths: dict[str, int], method: Method, size: int) -> None:
    counts: dict[str, int | None] = {}
    for name, column in columns.items():
        if isinstance(column, Tracer):
            counts[name] = size
            continue
        ones = int(np.asarray(column).sum())
        fewer = min(ones, column.size - ones)
        if fewer < MINIMUM_ROWS:
            raise ValueError(
                f"concept {name!r} must have at least {MINIMUM_ROWS} examples and as many other rows, found {ones} and "
                f"{column.size - ones}: give more rows"
            )
        counts[name] = min(kept_rows(fewer), size)
    advice = f" (a third is held out, and a vector sees size={size})"
    check_enough_rows(widths, counts, method, advice)


class _Vectors(NamedTuple):
    all: Float[Array, "k_1 draws u"]
    """Vectors of the concepts, and those of random sets at the end."""
    accuracy: Float[Array, "k draws"]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _vectors(
    method: Method,
    draws: int,
    size: int,
    key: KeyArray,
    activations: dict[str, Float[Array, "m _"]],
    concepts: Bool[Array, "k m"],
    penalty: Float[Array, ""],
) -> dict[str, _Vectors]:
    concept_key, random_key = jax.random.split(key)
    sets = concept_sets(concept_key, concepts, draws, size)
    random = random_sets(random_key, concepts.shape[1], draws, size)
    ones = jnp.sum(concepts, axis=1)
    fewer = jnp.minimum(ones, concepts.shape[1] - ones)

    def of_layer(h: Array) -> _Vectors:
        def of_set(rows: Array):
            found = concept_vector(
                h[rows], is_example(size), method=method, weights=None, penalty=penalty.astype(h.dtype)
            )
            return found.vector, found.intercept

        def accuracy(parts: tuple[Array, Array, Array, Array]) -> Array:
            vectors, intercepts, concept, held_out = parts
            with jax.default_matmul_precision("highest"):
                logits = h @ vectors.T + intercepts[None]
            weights = held_out.astype(h.dtype)
            shares = jax.vmap(lambda logit: balanced_accuracy(logit > 0, concept, weights), in_axes=1)(logits)
            return jnp.where(jnp.isfinite(intercepts), shares, jnp.nan)

        vectors, intercepts = jax.lax.map(jax.vmap(of_set), jnp.concatenate([sets.rows, random[None]]))
        least = max(MINIMUM_ROWS, kept_units(h.shape[1]) if method == "logistic" else 0)
        enough = jnp.append(fewer >= least, True)
        vectors = jnp.where(enough[:, None, None], vectors, jnp.nan)
        return _Vectors(vectors, jax.lax.map(accuracy, (vectors[:-1], intercepts[:-1], concepts, sets.held_out)))

    return map_layers(of_layer, activations)


def kept_units(units: int) -> int:
    """Return the smallest number of examples of which two thirds are as many as there are units.

    Example:
        >>> kept_units(7), kept_rows(10)
        (10, 7)
    """
    return next(count for count in range(units, 2 * units + 2) if kept_rows(count) >= units)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _sums(
    network: Network,
    target: int | None,
    chunk: int | None,
    variables: Variables,
    x: Inputs,
    counted: Bool[Array, " n"],
    vectors: dict[str, Float[Array, "v _"]],
) -> dict[str, ScoreSums]:
    """Compute the sums from which the scores of all layers follow, keeping the gradients of one chunk at a time."""
    n, names = num_rows(x), tuple(vectors)

    def of_rows(numbers: Array) -> dict[str, ScoreSums]:
        rows = jax.tree.map(lambda leaf: jnp.asarray(leaf)[jnp.minimum(numbers, n - 1)], x)
        chosen = counted[jnp.minimum(numbers, n - 1)] & (numbers < n)
        gradients = gradients_of_rows(network.apply, variables, rows, target, names)
        return {
            name: score_sums(g, vectors[name].astype(g.dtype), chosen.astype(g.dtype)) for name, g in gradients.items()
        }

    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be a positive number of rows, or None for all rows at once, got {chunk}")
    if chunk is None or chunk >= n:
        return of_rows(jnp.arange(n))

    def step(sums: dict[str, ScoreSums], start: Array) -> tuple[dict[str, ScoreSums], None]:
        return combined(sums, of_rows(start + jnp.arange(chunk))), None

    starts = jnp.arange(-(-n // chunk)) * chunk
    return jax.lax.scan(step, of_rows(starts[0] + jnp.arange(chunk)), starts[1:])[0]


@functools.partial(jax.jit, static_argnums=0)
def _results(
    draws: int, layers: dict[str, tuple[ScoreSums, Float[Array, "k draws"], Float[Array, "k draws _"]]]
) -> dict[str, Tcav]:
    def of_layer(sums: ScoreSums, accuracies: Array, vectors: Array) -> Tcav:
        scores = scores_of(sums)
        score, sensitivity, magnitude = (part.reshape(-1, draws) for part in scores)
        tests = len(layers) * accuracies.shape[0]
        accuracy, degenerate = jnp.mean(accuracies, axis=1), is_degenerate(sums)
        refused = ~(accuracy > CHANCE + MARGIN)
        converged = jnp.all(jnp.isfinite(vectors), axis=(1, 2))

        def p_value(values: Array) -> Array:
            others = jnp.broadcast_to(values[-1:], values[:-1].shape)
            return jnp.minimum(welch_test(values[:-1], others)[1] * tests, 1.0)

        mean, spread = mean_over(score)
        reported = (
            *(mean[:-1], spread[:-1]),
            *(jnp.broadcast_to(part[-1], accuracy.shape) for part in (mean, spread)),
            jnp.where(degenerate, jnp.nan, p_value(score)),
            *(jnp.mean(sensitivity[:-1], axis=1), p_value(sensitivity), jnp.mean(magnitude[:-1], axis=1)),
        )
        random = (2, 3)  # which are known without the concept
        shown = [part if i in random else jnp.where(refused, jnp.nan, part) for i, part in enumerate(reported)]
        return Tcav(*shown, accuracy, refused, jnp.broadcast_to(degenerate, refused.shape), converged)

    return {name: of_layer(*parts) for name, parts in layers.items()}


def _of_concept(of_layer: Tcav, i: int, valid: Bool[Array, ""] | None) -> Tcav:
    parts = [part[i] for part in of_layer]
    if valid is None:
        return Tcav(*parts)
    return Tcav(*(checks.nan_unless(valid, part) if part.dtype != bool else part for part in parts))
