"""Balanced cross-entropy, compared with scikit-learn's balanced weights and with means by class."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight

from fairjax.losses import balanced_cross_entropy, class_shares, cross_entropies
from fairjax.types import Batch, WeightedBatch

N = 400
RNG = np.random.default_rng(0)
WEIGHTS = RNG.integers(0, 4, N).astype(np.float32)
LOGITS = {2: RNG.normal(size=N).astype(np.float32), 3: RNG.normal(size=(N, 3)).astype(np.float32)}
LABELS = {2: RNG.random(N) < 0.1, 3: RNG.choice(3, N, p=[0.7, 0.25, 0.05])}


def batch(y, weights=None):
    """Return rows with these labels and weights."""
    rows = (jnp.zeros((len(y), 1)), jnp.asarray(y), jnp.zeros(len(y), bool))
    return Batch(*rows) if weights is None else WeightedBatch(*rows, jnp.asarray(weights))


@pytest.mark.parametrize("count", LABELS)
def test_class_shares_are_weighted_counts(count):
    y = LABELS[count].astype(int)
    np.testing.assert_allclose(class_shares(batch(LABELS[count]), count), np.bincount(y) / N, rtol=1e-6)
    weighted = np.bincount(y, WEIGHTS) / WEIGHTS.sum()
    np.testing.assert_allclose(class_shares(batch(LABELS[count], WEIGHTS), count), weighted, rtol=1e-5)


def test_the_loss_of_two_classes_is_scikit_learn_s_with_balanced_weights():
    y, logits = LABELS[2], LOGITS[2]
    found = balanced_cross_entropy(jnp.asarray(logits), batch(y), class_shares(batch(y)))
    positives = 1 / (1 + np.exp(-logits.astype(np.float64)))
    assert found == pytest.approx(log_loss(y, positives, sample_weight=compute_sample_weight("balanced", y)), rel=1e-5)
    losses = np.asarray(optax.sigmoid_binary_cross_entropy(logits, y.astype(np.float32)))
    assert found == pytest.approx(0.5 * (losses[y].mean() + losses[~y].mean()), rel=1e-5)
    assert found != pytest.approx(losses.mean(), rel=1e-2), "the comparison says nothing"


def test_the_loss_of_several_classes_is_scikit_learn_s_with_balanced_weights():
    y, logits = LABELS[3], LOGITS[3]
    found = balanced_cross_entropy(jnp.asarray(logits), batch(y), class_shares(batch(y), 3))
    weights = compute_sample_weight("balanced", y)
    assert found == pytest.approx(log_loss(y, softmax(logits, axis=1), sample_weight=weights), rel=1e-5)


@pytest.mark.parametrize("count", LABELS)
def test_the_loss_is_the_mean_of_the_classes_weighted_means(count):
    y, logits = LABELS[count], jnp.asarray(LOGITS[count])
    rows = batch(y, WEIGHTS)
    found = balanced_cross_entropy(logits, rows, class_shares(rows, count))
    losses = np.asarray(cross_entropies(logits, rows.y))
    means = [np.average(losses[y == k], weights=WEIGHTS[y == k]) for k in range(count)]
    assert found == pytest.approx(np.mean(means), rel=1e-5)


@pytest.mark.parametrize("count", LABELS)
def test_the_mean_over_mini_batches_is_the_loss_of_all_rows(count):
    y, logits = LABELS[count], jnp.asarray(LOGITS[count])
    shares = class_shares(batch(y), count)
    parts = [slice(start, start + 20) for start in range(0, N, 20)]
    losses = [balanced_cross_entropy(logits[part], batch(y[part]), shares) for part in parts]
    assert np.mean(losses) == pytest.approx(float(balanced_cross_entropy(logits, batch(y), shares)), rel=1e-5)
    assert min(len(set(y[part])) for part in parts) < count, "each mini-batch has all classes"


def test_rows_of_a_single_class_give_finite_losses_and_gradients():
    logits, rows = jnp.asarray(LOGITS[2]), batch(np.zeros(N, bool))
    shares = class_shares(rows)
    assert shares.tolist() == [1.0, 0.0]
    value, slopes = jax.value_and_grad(balanced_cross_entropy)(logits, rows, shares)
    assert value == pytest.approx(0.5 * float(cross_entropies(logits, rows.y).mean()), rel=1e-6)
    assert np.isfinite(slopes).all() and slopes.any()


@pytest.mark.parametrize("count", LABELS)
def test_rows_without_weight_change_nothing_also_if_they_are_all_of_a_class(count):
    y, logits = LABELS[count], jnp.asarray(LOGITS[count])
    last = y.astype(int) == count - 1
    weights = np.where(last, 0, 1).astype(np.float32)
    shares = class_shares(batch(y, weights), count)
    assert shares[count - 1] == 0
    found, slope = jax.value_and_grad(balanced_cross_entropy)(logits, batch(y, weights), shares)
    without = balanced_cross_entropy(logits[~last], batch(y[~last]), shares)
    assert found == pytest.approx(float(without), rel=1e-5) and jnp.isfinite(slope).all()
