"""Association of single units with a group, held against plain oracles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fairjax.detect.concepts import selectivity, unit_gradients, unit_scores
from fairjax.nn import Cnn, Mlp, Network, from_linen
from fairjax.types import Batch

N = 120
OF_X, OF_NETWORK = jax.random.split(jax.random.key(0))
X = np.asarray(jax.random.normal(OF_X, (N, 3)))
A = X[:, 0] + 0.3 * X[:, 1] > 0.2
BATCH = Batch(X, X[:, 1] > 0, A)
NETWORK = from_linen(Mlp(widths=(5, 5), site="activation"))
NAMES = ["hidden_00", "hidden_01"]
SCORES = ["selectivity", "probe", "concept"]


@pytest.fixture(scope="module")
def variables():
    """Return variables with one unit cut, and with weights that are not small."""
    initial = jax.jit(NETWORK.init)(OF_NETWORK, X)
    initial["masks"]["hidden_00"]["units"]["keep"] = jnp.arange(5) != 2
    return {**initial, "params": jax.tree.map(lambda leaf: 2.0 * leaf, initial["params"])}


score_units = jax.jit(unit_scores, static_argnums=(0, 3), static_argnames=("num_groups", "num_classes"))


def by_name(tree):
    return {name: np.asarray(tree[name]["units"]["keep"]) for name in NAMES}


def activations(variables):
    return by_name(NETWORK.activations(variables, X))


def test_selectivity_is_the_absolute_d_prime(variables):
    scores, expected = (
        by_name(score_units(NETWORK, variables, BATCH, "selectivity")),
        selectivity(NETWORK, variables, BATCH),
    )
    for name in NAMES:
        d_prime = np.asarray(expected[name].d_prime)
        np.testing.assert_allclose(scores[name], np.nan_to_num(np.abs(d_prime)), rtol=1e-4)
    assert scores["hidden_00"][2] == 0  # which is cut


def test_the_probe_is_scikit_learns_per_standard_deviation(variables):
    scores = by_name(score_units(NETWORK, variables, BATCH, "probe"))
    for name, h in activations(variables).items():
        theirs = LogisticRegression(class_weight="balanced", tol=1e-8, max_iter=2000).fit(h.astype(float), A)
        np.testing.assert_allclose(scores[name], np.abs(theirs.coef_[0]) * h.std(axis=0), rtol=2e-2, atol=2e-3)


def test_the_concept_is_the_gap_of_means_times_the_mean_gradient(variables):
    scores, gradients = (
        by_name(score_units(NETWORK, variables, BATCH, "concept")),
        unit_gradients(NETWORK, variables, X),
    )
    for name, h in activations(variables).items():
        gap = h[A].mean(axis=0) - h[~A].mean(axis=0)
        expected = np.abs(np.asarray(gradients[name]).mean(axis=0) * gap)
        np.testing.assert_allclose(scores[name], expected, rtol=1e-3, atol=1e-5)


def linear_network(outputs=1):
    """Return a network whose units are its inputs."""
    weights = np.array([1.0, 0.0, 2.0], np.float32)[:, None] * np.arange(1, outputs + 1, dtype=np.float32)

    def apply(variables, x, *, shifts=None, key=None):
        h = x if shifts is None else x + shifts["only"][None]
        logits = h @ weights
        return logits[:, 0] if outputs == 1 else logits, variables

    def init(key, x):
        return {"params": {}, "masks": {"only": jnp.ones(3, bool)}}

    return Network(init, apply, None, lambda variables, x: {"only": x})


LINEAR = linear_network()
UNITS = LINEAR.init(None, None)


def test_contributions_to_a_linear_network_sum_to_the_gap_of_logits():
    found = unit_scores(LINEAR, UNITS, Batch(np.abs(X) + A[:, None], A, A), "concept")["only"]
    logits = np.asarray(LINEAR.apply(UNITS, np.abs(X) + A[:, None])[0])
    assert found.sum() == pytest.approx(logits[A].mean() - logits[~A].mean(), rel=1e-4)


def test_a_unit_that_tells_groups_apart_is_first_and_a_dead_one_is_0():
    x = np.stack([A.astype(np.float32), np.full(N, 0.1, np.float32), A + 0.01 * X[:, 2]], axis=1).astype(np.float32)
    scores = np.asarray(score_units(LINEAR, UNITS, Batch(x, A, A), "selectivity")["only"])
    assert scores[0] == np.finfo(np.float32).max and scores[1] == 0 and 10 < scores[2] < 1000
    for score in ("probe", "concept"):
        found = np.asarray(score_units(LINEAR, UNITS, Batch(x, A, A), score)["only"])
        assert np.isfinite(found).all() and found[1] == 0 and found[0] > 0


def test_several_groups_are_each_compared_with_the_others():
    codes = np.arange(N) % 3
    x = (X + 0.5 * np.eye(3)[codes]).astype(np.float32)
    for score in SCORES:
        found = score_units(LINEAR, UNITS, Batch(x, A, codes), score, num_groups=3)["only"]
        one = [score_units(LINEAR, UNITS, Batch(x, A, codes == g), score)["only"] for g in range(3)]
        np.testing.assert_allclose(found, np.max(one, axis=0), rtol=1e-5)


def test_of_several_classes_the_largest_contribution_counts():
    one = unit_scores(LINEAR, UNITS, BATCH, "concept")["only"]
    found = unit_scores(linear_network(3), UNITS, BATCH, "concept", num_classes=3)["only"]
    np.testing.assert_allclose(found, 3 * one, rtol=1e-5)
    with pytest.raises(ValueError, match="one logit per row and class"):
        unit_scores(LINEAR, UNITS, BATCH, "concept", num_classes=3)


def test_networks_are_mapped(variables):
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf if leaf.dtype == bool else 0.5 * leaf]), variables)
    for score in SCORES:
        mapped = jax.jit(jax.vmap(lambda one, score=score: unit_scores(NETWORK, one, BATCH, score)))(both)
        for i in range(2):
            alone = score_units(NETWORK, jax.tree.map(lambda leaf, i=i: leaf[i], both), BATCH, score)
            for found, expected in zip(jax.tree.leaves(mapped), jax.tree.leaves(alone), strict=True):
                np.testing.assert_allclose(found[i], expected, rtol=2e-3, atol=1e-4)


def test_activations_at_positions_are_averaged():
    """Derivatives are those of a shift at all positions."""

    def apply(variables, x, *, shifts=None, key=None):
        h = x if shifts is None else x + shifts["only"][None, None]
        return jnp.tanh(h).sum(axis=(1, 2)), variables

    network, images = LINEAR._replace(apply=apply), np.stack([X, X + 1, 2 * X, -X], axis=1).astype(np.float32)
    pooled = images.mean(axis=1)
    for score in ("selectivity", "probe"):
        found = score_units(network, UNITS, BATCH._replace(x=images), score)["only"]
        np.testing.assert_allclose(
            found, score_units(LINEAR, UNITS, BATCH._replace(x=pooled), score)["only"], rtol=1e-3
        )
    slopes = (1 - np.tanh(images) ** 2).sum(axis=1).mean(axis=0)
    expected = np.abs(slopes * (pooled[A].mean(axis=0) - pooled[~A].mean(axis=0)))
    np.testing.assert_allclose(
        unit_scores(network, UNITS, BATCH._replace(x=images), "concept")["only"], expected, rtol=1e-3
    )


@pytest.mark.slow
def test_channels_are_scored_by_their_mean_over_positions():
    network = from_linen(Cnn(channels=(2, 3), site="activation"))
    x = np.asarray(jax.random.normal(jax.random.key(3), (40, 6, 6, 1)))
    a = x.mean(axis=(1, 2, 3)) > 0
    state = jax.jit(network.init)(jax.random.key(4), x)
    found = jax.jit(unit_scores, static_argnums=(0, 3))(network, state, Batch(x, a, a), "selectivity")
    for scores, h in zip(jax.tree.leaves(found), jax.tree.leaves(network.activations(state, x)), strict=True):
        pooled = np.asarray(h).mean(axis=(1, 2))
        spread = np.sqrt((pooled[a].var(axis=0, ddof=1) + pooled[~a].var(axis=0, ddof=1)) / 2)
        gap = np.abs(pooled[a].mean(axis=0) - pooled[~a].mean(axis=0))
        np.testing.assert_allclose(scores, np.where(spread > 0, gap / np.where(spread > 0, spread, 1), 0), rtol=1e-3)


def test_what_cannot_be_scored_is_refused_and_under_a_trace_is_nan():
    for batch, score, message in (
        (BATCH, "tcav", "score"),
        (BATCH._replace(a=np.eye(2)[A.astype(int)]), "probe", r"one group per row of x, 120, found shape \(120, 2\)"),
        (BATCH._replace(a=A & False), "probe", "rows of every group"),
        (BATCH._replace(a=A + 1), "probe", "batch.a must hold 0 and 1"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            unit_scores(LINEAR, UNITS, batch, score)
    with pytest.raises(ValueError, match="shows no activations, which concepts need"):
        unit_scores(LINEAR._replace(activations=None), UNITS, BATCH, "probe")
    for score in SCORES:
        for wrong in (A & False, A + 1):
            assert np.isnan(score_units(LINEAR, UNITS, BATCH._replace(a=wrong), score)["only"]).all()
