"""Cross-entropy and weighted means, compared with scikit-learn, optax, and closed forms in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import log_loss

from fairjax.losses import balanced_cross_entropy, check_targets, cross_entropies, cross_entropy, weighted_mean
from fairjax.types import Batch, WeightedBatch

N, CLASSES = 60, 3
RNG = np.random.default_rng(0)
X = np.ones((N, 2), np.float32)
A = RNG.random(N) < 0.5
LOGITS = {2: RNG.normal(scale=2.0, size=N).astype(np.float32), 3: RNG.normal(size=(N, CLASSES)).astype(np.float32)}
LABELS = {2: RNG.random(N) < 0.3, 3: RNG.integers(0, CLASSES, N)}
COUNTS = RNG.integers(0, 4, N)
WEIGHTS = {"weighted": COUNTS.astype(np.float32), "unweighted": None}


def batch(y, weights=None):
    """Return rows with these labels and weights."""
    rows = (jnp.ones((len(y), 2)), jnp.asarray(y), jnp.zeros(len(y), bool))
    return Batch(*rows) if weights is None else WeightedBatch(*rows, jnp.asarray(weights))


def probabilities(logits):
    """Compute the probability of each class in float64."""
    logits = logits.astype(np.float64)
    return softmax(logits, axis=1) if logits.ndim == 2 else np.stack([expit(-logits), expit(logits)], axis=1)


def both_losses(count):
    """Return the losses for a number of classes, as functions of logits and rows."""
    shares = jnp.full(count, 1 / count)
    return cross_entropy, lambda logits, rows: balanced_cross_entropy(logits, rows, shares)


@pytest.mark.parametrize("weighted", WEIGHTS)
@pytest.mark.parametrize("count", LOGITS)
def test_cross_entropy_is_scikit_learn_s_log_loss(count, weighted):
    y, weights = LABELS[count], WEIGHTS[weighted]
    found = cross_entropy(jnp.asarray(LOGITS[count]), batch(y, weights))
    expected = log_loss(y, probabilities(LOGITS[count]), labels=range(count), sample_weight=weights)
    assert found == pytest.approx(expected, rel=1e-6)
    assert found.shape == () and found.dtype == jnp.float32


@pytest.mark.parametrize("kind", [np.bool_, np.int8, np.int32])
def test_labels_of_two_classes_are_booleans_or_integers(kind):
    logits, y = LOGITS[2], LABELS[2]
    found = cross_entropies(jnp.asarray(logits), jnp.asarray(y.astype(kind)))
    np.testing.assert_allclose(found, optax.sigmoid_binary_cross_entropy(logits, y.astype(np.float32)), rtol=1e-6)
    np.testing.assert_allclose(found, -np.log(probabilities(logits)[np.arange(N), y.astype(int)]), rtol=1e-5)


def test_cross_entropies_of_classes_are_optax_s():
    logits, y = LOGITS[3], LABELS[3]
    found = cross_entropies(jnp.asarray(logits), jnp.asarray(y))
    np.testing.assert_allclose(found, optax.softmax_cross_entropy(logits, np.eye(CLASSES, dtype=np.float32)[y]), 1e-5)
    np.testing.assert_allclose(found, -np.log(probabilities(logits)[np.arange(N), y]), rtol=1e-5)
    two = cross_entropies(jnp.stack([jnp.zeros(N), jnp.asarray(LOGITS[2])], axis=1), jnp.asarray(LABELS[2]))
    np.testing.assert_allclose(two, cross_entropies(jnp.asarray(LOGITS[2]), jnp.asarray(LABELS[2])), atol=1e-6)


def test_extreme_logits_give_finite_losses_and_gradients():
    logits, y = jnp.array([1e4, -1e4, 1e4, -1e4]), np.array([True, False, False, True])
    value, slopes = jax.value_and_grad(cross_entropy)(logits, batch(y))
    assert value == 5e3 and slopes.tolist() == [0, 0, 0.25, -0.25]
    value, slopes = jax.value_and_grad(cross_entropy)(jnp.array([[1e4, 0.0, -1e4]]), batch(np.array([2])))
    assert value == 2e4 and slopes.tolist() == [[1, 0, -1]]


@pytest.mark.parametrize("weighted", WEIGHTS)
@pytest.mark.parametrize("count", LOGITS)
def test_the_gradient_is_the_probability_minus_the_label(count, weighted):
    y, weights = LABELS[count], WEIGHTS[weighted]
    slopes = jax.grad(cross_entropy)(jnp.asarray(LOGITS[count]), batch(y, weights))
    errors = probabilities(LOGITS[count]) - np.eye(count)[y.astype(int)]
    shares = np.full(N, 1 / N) if weights is None else weights / weights.sum()
    np.testing.assert_allclose(slopes, (errors * shares[:, None])[:, 1 if count == 2 else slice(None)], atol=1e-7)


@pytest.mark.parametrize("count", LOGITS)
def test_whole_weights_are_rows_repeated_and_their_unit_does_not_matter(count):
    logits, y = LOGITS[count], LABELS[count]
    repeated = cross_entropy(jnp.asarray(np.repeat(logits, COUNTS, axis=0)), batch(np.repeat(y, COUNTS)))
    for unit in (1.0, 64.0, 1e-3):
        weights = (unit * COUNTS).astype(np.float32)
        assert cross_entropy(jnp.asarray(logits), batch(y, weights)) == pytest.approx(float(repeated), rel=1e-5)
    assert cross_entropy(jnp.asarray(logits), batch(y)) != pytest.approx(float(repeated), rel=1e-3)


def test_a_weighted_mean_is_numpy_s_average_and_0_if_nothing_weighs():
    values, weights = LOGITS[2], WEIGHTS["weighted"]
    assert weighted_mean(jnp.asarray(values), weights) == pytest.approx(np.average(values, weights=weights), abs=1e-6)
    assert weighted_mean(jnp.asarray(values), None) == pytest.approx(values.mean(), abs=1e-6)
    assert weighted_mean(jnp.asarray(values), np.zeros(N, np.float32)) == 0.0
    slopes = jax.grad(weighted_mean)(jnp.asarray(values), np.zeros(N, np.float32))
    assert not slopes.any()


@pytest.mark.parametrize("weighted", WEIGHTS)
@pytest.mark.parametrize("count", LOGITS)
def test_eager_jit_and_vmap_agree(count, weighted):
    rows = batch(LABELS[count], WEIGHTS[weighted])
    logits = jnp.stack([jnp.asarray(LOGITS[count]), -jnp.asarray(LOGITS[count])])
    for loss in both_losses(count):
        eager = [loss(each, rows) for each in logits]
        np.testing.assert_allclose([jax.jit(loss)(each, rows) for each in logits], eager, rtol=1e-6)
        np.testing.assert_allclose(jax.vmap(loss, in_axes=(0, None))(logits, rows), eager, rtol=1e-6)
        assert eager[0] != eager[1]


ONES = np.ones(N, np.float32)
BINARY, SEVERAL = LABELS[2].astype(np.int32), LABELS[3].astype(np.int32)


def changed(column, value):
    """Return the column with another value in row 7."""
    return np.where(np.arange(N) == 7, column.dtype.type(value), column)


@pytest.mark.parametrize(
    ("count", "y", "weights", "message"),
    [
        (2, BINARY + 1, None, "y must hold 0 and 1 only, found 1, 2"),
        (2, SEVERAL, None, "y must hold 0 and 1 only, found 0, 1, 2"),
        (2, changed(BINARY, -1), None, "y must hold 0 and 1 only, found -1, 0, 1"),
        (3, changed(SEVERAL, 3), None, "y must hold codes from 0 to 2"),
        (3, changed(SEVERAL, -1), None, "y must hold codes from 0 to 2"),
        (2, BINARY, changed(ONES, -1), "weights must be finite and not negative"),
        (2, BINARY, changed(ONES, np.nan), "weights must be finite and not negative"),
        (3, SEVERAL, changed(ONES, np.inf), "weights must be finite and not negative"),
    ],
)
def test_invalid_values_are_an_error_or_nan_if_they_are_traced(count, y, weights, message):
    logits, rows = jnp.asarray(LOGITS[count]), batch(y, weights)
    for loss in both_losses(count):
        with pytest.raises(ValueError, match=message):
            loss(logits, rows)
        value, slopes = jax.jit(jax.value_and_grad(loss))(logits, rows)
        assert np.isnan(value) and np.isnan(slopes).all()
        valid = batch(LABELS[count].astype(np.int32), None if weights is None else jnp.ones(N))
        assert np.isfinite(jax.jit(loss)(logits, valid))


def test_targets_need_no_check_later_if_they_are_concrete():
    logits, rows = jnp.asarray(LOGITS[2]), batch(BINARY)
    assert check_targets(logits, rows) is None
    assert jax.jit(check_targets)(logits, rows) and not jax.jit(check_targets)(logits, batch(BINARY + 1))
    assert jax.jit(check_targets)(logits, batch(LABELS[2])) is None, "booleans are always valid"


@pytest.mark.parametrize(
    ("logits", "y", "message"),
    [
        (jnp.zeros((N, 1)), LABELS[2], r"shape \(60,\), found shape \(60, 1\); squeeze its last layer, logits\[:, 0\]"),
        (jnp.zeros((N, 3)), LABELS[2], r"one logit per row, shape \(60,\), found shape \(60, 3\)"),
        (jnp.zeros(N - 1), LABELS[2], r"one logit per row, shape \(60,\), found shape \(59,\)"),
        (jnp.zeros((N - 1, 3)), LABELS[3], r"per row and class, shape \(60, 3\), found shape \(59, 3\)"),
        (jnp.zeros((N, 3, 1)), LABELS[3], r"one logit per row, shape \(60,\), found shape \(60, 3, 1\)"),
    ],
)
def test_shapes_of_logits_are_checked_also_under_a_trace(logits, y, message):
    for call in (cross_entropy, jax.jit(cross_entropy)):
        with pytest.raises(ValueError, match=message):
            call(logits, batch(y))


def test_weights_of_another_length_are_refused():
    rows = WeightedBatch(*batch(LABELS[2]), jnp.ones(N - 1))
    for call in (cross_entropy, jax.jit(cross_entropy)):
        with pytest.raises(ValueError, match=r"of one length, found shapes values \(60,\), weights \(59,\)"):
            call(jnp.asarray(LOGITS[2]), rows)


@pytest.mark.parametrize("length", [1, N - 1])
def test_labels_of_another_length_are_refused(length):
    rows = batch(LABELS[2])._replace(y=jnp.asarray(LABELS[2][:length]))
    for loss in both_losses(2):
        for call in (loss, jax.jit(loss)):
            with pytest.raises((ValueError, TypeError), match=r"shape|broadcast"):
                call(jnp.asarray(LOGITS[2]), rows)


def test_sums_of_half_precision_do_not_overflow():
    values, many = jnp.full(70_000, 0.5, jnp.float16), jnp.ones(70_000, jnp.float32)
    for weights in (None, many, many * 1e5):
        found = jax.jit(weighted_mean)(values, weights)
        assert found == 0.5 and found.dtype == jnp.float16
    rows, logits = batch(np.arange(70_000) % 2 == 0, np.full(70_000, 1e5, np.float32)), jnp.zeros(70_000, jnp.float16)
    for call in (cross_entropy, jax.jit(cross_entropy)):
        assert call(logits, rows) == pytest.approx(np.log(2), rel=1e-3)


def test_a_sum_of_weights_that_overflows_is_nan():
    found = jax.jit(weighted_mean)(jnp.full(20, 0.01), jnp.full(20, 3e38))
    assert np.isnan(found)
