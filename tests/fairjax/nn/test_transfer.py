"""Transfer: layers are taken over, and a body from data rich in the minority serves data that are poor in it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fairjax
from fairjax import data
from fairjax.nn import Mlp, from_linen, transferred

NETWORK = from_linen(Mlp(widths=(16, 16), dropout=0.0))
X = jnp.ones((2, 6))


def of_groups(seed, rows, minority, angle):
    """Return a data set in which the minority follows a rule that is turned by an angle (degrees)."""
    rng = np.random.default_rng(seed)
    a = rng.random(rows) >= minority
    x = rng.normal(size=(rows, 6)).astype(np.float32)
    turn = np.where(a, 0.0, np.deg2rad(angle))
    y = np.cos(turn) * x[:, 0] + np.sin(turn) * x[:, 1] > 0
    x[:, 2] += np.where(a, 0.0, 3.0)
    return data.from_arrays(x, y.astype(int), a.astype(int), standardise=False)


def test_named_layers_are_new_and_the_others_are_taken_over():
    source = NETWORK.init(jax.random.key(0), X)
    start = transferred(NETWORK, source, X, key=jax.random.key(1))
    assert not jnp.any(start["params"]["output"]["kernel"] == source["params"]["output"]["kernel"])
    for collection in ("params", "masks", "batch_stats"):
        assert start[collection]["hidden_01"] is source[collection]["hidden_01"]
    whole = transferred(NETWORK, source, X, key=jax.random.key(1), new=())
    jax.tree.map(np.testing.assert_array_equal, whole, source)
    wider = from_linen(Mlp(widths=(16, 16), outputs=3))
    logits = wider.apply(transferred(wider, source, X, key=jax.random.key(1)), X)[0]
    assert logits.shape == (2, 3)


def test_layers_that_do_not_fit_are_named():
    source = NETWORK.init(jax.random.key(0), X)
    with pytest.raises(ValueError, match="new must be some of hidden_00, hidden_01, output, got head"):
        transferred(NETWORK, source, X, key=jax.random.key(1), new=("head",))
    other = from_linen(Mlp(widths=(16, 8)))
    with pytest.raises(ValueError, match=r"the layer hidden_01 must have masks of shapes .* name it in new"):
        transferred(other, source, X, key=jax.random.key(1))
    with pytest.raises(ValueError, match="the layer hidden_02 must have"):
        transferred(from_linen(Mlp(widths=(16, 16, 4))), source, X, key=jax.random.key(1))


def test_a_body_trained_where_the_minority_is_large_serves_where_it_is_small():
    config = fairjax.Training(epochs=20, batch_size=64, learning_rate=3e-3, check_every=20, keep="last")
    few = fairjax.Training(epochs=6, batch_size=64, learning_rate=1e-3, check_every=6, keep="last")
    keys = jax.random.split(jax.random.key(2), 2)
    source = data.split_seeds(of_groups(0, 2000, 0.5, 75.0), seeds=(1, 2))
    target = data.split_seeds(of_groups(1, 1000, 0.03, 75.0), seeds=(1, 2))
    test = of_groups(2, 4000, 0.5, 75.0)
    minority = ~np.asarray(test.a).astype(bool)

    def minority_accuracy(fitted):
        logits = jax.vmap(lambda variables: NETWORK.apply(variables, jnp.asarray(test.x))[0])(fitted.variables)
        return np.mean((np.asarray(logits) > 0)[:, minority] == np.asarray(test.y)[None, minority].astype(bool))

    body = fairjax.fit_many(NETWORK, source, keys=keys, training=config).variables
    start = jax.vmap(lambda key, variables: transferred(NETWORK, variables, X, key=key))(keys, body)
    from_source = fairjax.fit_many(NETWORK, target, keys=keys, training=few, start=start)
    from_scratch = fairjax.fit_many(NETWORK, target, keys=keys, training=few)
    assert minority_accuracy(from_source) > minority_accuracy(from_scratch) + 0.05
