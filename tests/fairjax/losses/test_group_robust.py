import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax.losses import GroupRobust, Outputs, cross_entropies, group_robust
from fairjax.types import Batch, WeightedBatch

N = 20
RNG = np.random.default_rng(0)
LOGITS = jnp.asarray(RNG.normal(size=N), jnp.float32)
Y, A = jnp.asarray(RNG.random(N) < 0.5), jnp.asarray(RNG.random(N) < 0.7)
BATCH = Batch(jnp.ones((N, 1)), Y, A)
LOSSES = cross_entropies(LOGITS, Y)


def means(*columns):
    """Mean losses of the cells of several columns of two values, the last one changing fastest."""
    cells = sum(2**k * np.asarray(column).astype(int) for k, column in enumerate(reversed(columns)))
    return np.array([np.asarray(LOSSES)[cells == cell].mean() for cell in range(2 ** len(columns))])


def test_the_worst_group_is_the_greatest_mean():
    np.testing.assert_allclose(group_robust(LOSSES, A), means(A).max(), rtol=1e-6)
    np.testing.assert_allclose(group_robust(LOSSES, A, y=Y), means(Y, A).max(), rtol=1e-6)
    q = jnp.array([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(group_robust(LOSSES, A, y=Y, group_weights=q), np.sum(q * means(Y, A)), rtol=1e-6)
    with pytest.raises(ValueError, match="group_weights must have shape \\(2,\\), one per group"):
        group_robust(LOSSES, A, group_weights=q)


def test_the_gradient_of_the_worst_group_is_that_of_its_mean():
    gradient = jax.grad(lambda losses: group_robust(losses, A))(LOSSES)
    worst = np.asarray(A) == (means(A)[1] > means(A)[0])
    np.testing.assert_allclose(gradient, worst / worst.sum(), rtol=1e-6)


def test_an_absent_group_contributes_nothing():
    rows = np.asarray(A)
    for form in ("weighted", "worst"):
        term = GroupRobust(form=form, num_groups=2)
        outputs = Outputs(LOGITS[rows], {})
        batch = Batch(BATCH.x[rows], Y[rows], A[rows])
        params = term.init(jax.random.key(0), outputs, batch)
        expected = means(A)[1] * (0.5 if form == "weighted" else 1.0)
        np.testing.assert_allclose(term.value(params, outputs, batch), expected, rtol=1e-6)


@pytest.mark.parametrize("by", ["group", "class_and_group"])
def test_weights_grow_exponentially_with_the_losses(by):
    term, outputs = GroupRobust(by=by, own_rate=0.5), Outputs(LOGITS, {})
    params = term.init(jax.random.key(0), outputs, BATCH)
    losses = means(A) if by == "group" else means(Y, A)
    expected = np.ones(len(losses)) / len(losses)
    np.testing.assert_allclose(jnp.exp(params), expected, rtol=1e-6)
    for _ in range(3):
        params, _ = term.update(params, (), outputs, BATCH)
        expected = expected * np.exp(0.5 * losses)
        expected = expected / expected.sum()
    np.testing.assert_allclose(jnp.exp(params), expected, rtol=1e-5)
    np.testing.assert_allclose(term.value(params, outputs, BATCH), np.sum(expected * losses), rtol=1e-5)


def test_rows_have_weights_and_classes_may_be_many():
    weights = jnp.asarray(np.arange(N) % 3, jnp.float32)
    batch, logits = WeightedBatch(*BATCH, weights), jnp.asarray(RNG.normal(size=(N, 3)), jnp.float32)
    batch = batch._replace(y=jnp.asarray(np.arange(N) % 3))
    losses = np.asarray(cross_entropies(logits, batch.y))
    expected = max(np.average(losses[A == g], weights=weights[A == g]) for g in (False, True))
    found = GroupRobust(form="worst", num_classes=3).value((), Outputs(logits, {}), batch)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    term = GroupRobust(by="class_and_group", num_classes=3, num_groups=2)
    assert term.init(jax.random.key(0), Outputs(logits, {}), batch).shape == (6,)


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(Exception, match="form"):  # of types or of values, since tests check the types of arguments
        GroupRobust(form="best")
    with pytest.raises(ValueError, match="own_rate must be positive"):
        GroupRobust(own_rate=0.0)
