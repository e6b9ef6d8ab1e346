"""Masks and influence, against loops over rows and units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from fairjax import masks
from fairjax.influence import influence
from fairjax.nn import Mlp, from_linen
from fairjax.parity import MEASURES
from fairjax.types import Batch

SITES, CUTS = ("preactivation", "activation", "normalised"), ("incoming", "outgoing")


def make(site="preactivation", cut="incoming"):
    """A network with masks and statistics that are not neutral, and rows."""
    network = from_linen(Mlp(widths=(5, 4), site=site, cut=cut))
    of_x, of_network, of_stats = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(of_x, (30, 3))
    batch = Batch(x, x[:, 0] + x[:, 1] > 0, x[:, 1] > -0.3)
    variables = network.init(of_network, x)
    stats = variables["batch_stats"]
    noise = jax.random.uniform(of_stats, (4,))
    variables["batch_stats"] = jax.tree.map(lambda leaf: leaf + jnp.resize(noise, leaf.shape), stats)
    variables["masks"]["hidden_00"]["units"]["keep"] = jnp.array([True, True, False, True, True])
    return network, variables, batch


def scores_shifted(network, variables, batch, shifts):
    return jax.nn.sigmoid(network.apply(variables, batch.x, shifts=shifts)[0])


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", ["spd", "eod", "ppd", "parity_ratio"])
def test_influence_is_the_sum_over_rows_and_does_not_depend_on_chunks(site, cut, name):
    network, variables, batch = make(site, cut)
    measure = MEASURES[name]
    whole = influence(measure, network.apply, variables, batch, reduction="sum")
    zero = jax.tree.map(lambda keep: jnp.zeros(keep.shape), variables["masks"])
    slopes = jax.grad(measure)(scores_shifted(network, variables, batch, zero), batch.y, batch.a)

    @jax.jit
    def of_row(x, slope):  # one row at a time: chain rule by hand
        one = Batch(x[None], batch.y[:1], batch.a[:1])
        return jax.grad(lambda shifts: slope * scores_shifted(network, variables, one, shifts)[0])(zero)

    loop = sum(ravel_pytree(of_row(batch.x[i], slopes[i]))[0] for i in range(30))
    kept = ravel_pytree(variables["masks"])[0]
    np.testing.assert_allclose(ravel_pytree(whole)[0], jnp.where(kept, loop, 0.0), rtol=1e-4, atol=1e-6)
    assert ravel_pytree(whole)[0][2] == 0.0 and jnp.abs(ravel_pytree(whole)[0]).max() > 1e-4
    for chunk in (1, 7, 10, 30, 100):
        parts = influence(measure, network.apply, variables, batch, reduction="sum", chunk=chunk)
        np.testing.assert_allclose(ravel_pytree(parts)[0], ravel_pytree(whole)[0], rtol=1e-4, atol=1e-6)


def test_chunks_may_lack_a_group():
    network, variables, batch = make()
    order = jnp.argsort(batch.a, stable=True)
    ordered = Batch(*(array[order] for array in batch))
    assert not ordered.a[:5].any()
    whole = influence(MEASURES["spd"], network.apply, variables, batch)
    parts = influence(MEASURES["spd"], network.apply, variables, ordered, chunk=5)
    np.testing.assert_allclose(ravel_pytree(parts)[0], ravel_pytree(whole)[0], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("site", SITES)
def test_influence_is_the_slope_of_a_shift(site):
    network, variables, batch = make(site)
    measure = MEASURES["spd"]
    found, unravel = ravel_pytree(influence(measure, network.apply, variables, batch, reduction="sum"))
    value = jax.jit(lambda flat: measure(scores_shifted(network, variables, batch, unravel(flat)), batch.y, batch.a))
    for unit in (0, 4, 6):
        step = jnp.zeros(9).at[unit].set(1e-2)
        assert found[unit] == pytest.approx(float((value(step) - value(-step)) / 2e-2), rel=0.05, abs=1e-4)


def test_mean_is_the_sum_over_n_and_jit_and_vmap_change_nothing():
    network, variables, batch = make()
    measure = MEASURES["spd"]
    mean = ravel_pytree(influence(measure, network.apply, variables, batch))[0]
    total = ravel_pytree(influence(measure, network.apply, variables, batch, reduction="sum"))[0]
    np.testing.assert_allclose(mean * 30, total, rtol=1e-5)

    def one(variables):
        return ravel_pytree(influence(measure, network.apply, variables, batch))[0]

    np.testing.assert_allclose(jax.jit(one)(variables), mean, rtol=1e-4, atol=1e-7)
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), variables)
    np.testing.assert_allclose(jax.vmap(one)(both), jnp.stack([mean, mean]), rtol=1e-4, atol=1e-7)


def test_influence_predicts_what_cutting_a_small_unit_does():
    """To first order, cutting a unit whose activation is h for all rows changes the proxy by -h times its influence."""
    network, variables, batch = make()
    params = variables["params"]["hidden_00"]["linear"]
    linear = {"kernel": params["kernel"].at[:, 1].set(0.0), "bias": params["bias"].at[1].set(0.02)}
    variables["params"]["hidden_00"] = {**variables["params"]["hidden_00"], "linear": linear}
    measure = MEASURES["spd"]
    slope = influence(measure, network.apply, variables, batch, reduction="sum")["hidden_00"]["units"]["keep"][1]

    def proxy(masks):
        logits, _ = network.apply({**variables, "masks": masks}, batch.x)
        return measure(jax.nn.sigmoid(logits), batch.y, batch.a)

    one = jax.tree.map(jnp.zeros_like, variables["masks"])
    one["hidden_00"]["units"]["keep"] = jnp.arange(5) == 1
    scores = jax.tree.map(lambda flag: jnp.where(flag, 1.0, -jnp.inf), one)
    cut = masks.drop(variables["masks"], scores, 1)
    change = proxy(cut) - proxy(variables["masks"])
    assert change == pytest.approx(-0.02 * float(slope), rel=0.1, abs=1e-7)
    assert abs(change) > 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [({"chunk": 0}, "chunk must be a positive"), ({"reduction": "max"}, "reduction must be mean or sum")],
)
def test_what_means_nothing_is_refused(options, message):
    network, variables, batch = make()
    with pytest.raises((ValueError, TypeError), match=message if "chunk" in options else "reduction"):  # or by its type
        influence(MEASURES["spd"], network.apply, variables, batch, **options)


def tree(keep, scores):
    keep, scores = np.asarray(keep), np.asarray(scores, np.float32)
    return {"a": jnp.asarray(keep[:4]), "b": jnp.asarray(keep[4:])}, {
        "a": jnp.asarray(scores[:4]),
        "b": jnp.asarray(scores[4:]),
    }


@given(
    keep=st.lists(st.booleans(), min_size=9, max_size=9),
    scores=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, -np.inf]), min_size=9, max_size=9),
    k=st.integers(0, 9),
)
def test_drop_takes_the_highest_of_those_kept_and_ties_by_position(keep, scores, k):
    masks_, scores_ = tree(keep, scores)
    new = ravel_pytree(masks.drop(masks_, scores_, k))[0]
    candidates = [i for i in range(9) if keep[i] and scores[i] > -np.inf]
    gone = sorted(candidates, key=lambda i: (-scores[i], i))[:k]
    expected = [keep[i] and i not in gone for i in range(9)]
    assert new.tolist() == expected
    assert ravel_pytree(masks_)[0].tolist() == keep  # the given masks are as they were


@given(
    keep=st.lists(st.booleans(), min_size=9, max_size=9),
    scores=st.lists(st.floats(-2, 2, width=32), min_size=9, max_size=9),
    q=st.sampled_from([0.0, 0.5, 0.75, 8 / 9, 1.0]),
)
def test_drop_above_is_numpy_s_quantile_with_cut_units_at_0(keep, scores, q):
    masks_, scores_ = tree(keep, scores)
    new = ravel_pytree(masks.drop_above(masks_, scores_, q))[0]
    counted = np.where(keep, np.float32(scores), np.float32(0))
    cut = np.quantile(counted, q)
    for i in range(9):
        if abs(scores[i] - cut) > 1e-5:  # a score at the quantile may round either way
            assert new[i] == (keep[i] and not scores[i] > cut)


def test_spared_units_are_left_out_of_the_quantile():
    masks_, scores_ = tree([True] * 9, [-np.inf] * 4 + [1.0, 2.0, 3.0, 4.0, 5.0])
    new = ravel_pytree(masks.drop_above(masks_, scores_, 0.5))[0]
    assert new.tolist() == [True] * 7 + [False] * 2


def test_counting():
    masks_, scores_ = tree([True, False] * 4 + [True], range(9))
    assert (masks.count(masks_), masks.size(masks_)) == (5, 9)
    with pytest.raises(ValueError, match="between 0 and the number of units, 9, got 10"):
        masks.drop(masks_, scores_, 10)
