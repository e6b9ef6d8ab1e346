"""Influence, compared with loops over rows, finite differences in NumPy, and the actual effect of cutting a unit."""

import functools

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from fairjax.metrics import MEASURES, spd
from fairjax.nn import Mlp, from_linen, masks
from fairjax.nn.influence import influence
from fairjax.types import Batch

SITES, CUTS = ("preactivation", "activation", "normalised"), ("incoming", "outgoing")
NAMES = ("spd", "eod", "ppd", "parity_ratio")  # the last two are not linear in the scores
WIDTHS, N, GONE = (5, 4), 30, 2
KEPT = np.arange(sum(WIDTHS)) != GONE


def network_of(site="preactivation", cut="incoming"):
    return from_linen(Mlp(widths=WIDTHS, site=site, cut=cut))


@pytest.fixture(scope="module")
def data():
    """Return rows, and variables with non-trivial masks and statistics; sites and cuts do not matter for them."""
    of_x, of_network, of_stats = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(of_x, (N, 3))
    variables = jax.jit(network_of().init)(of_network, x)
    params = jax.tree.map(lambda leaf: 2.0 * leaf, variables["params"])
    noise = jax.random.uniform(of_stats, (4,))
    stats = jax.tree.map(lambda leaf: leaf + jnp.resize(noise, leaf.shape), variables["batch_stats"])
    keep = {"hidden_00": {"units": {"keep": jnp.arange(5) != GONE}}, "hidden_01": variables["masks"]["hidden_01"]}
    variables = {**variables, "params": params, "batch_stats": stats, "masks": keep}
    return variables, Batch(x, x[:, 0] + x[:, 1] > 0, x[:, 1] > -0.3)


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0])


@functools.partial(jax.jit, static_argnums=(0, 1))
def measured(network, names, variables, batch):
    """Return influences, summed over rows, for several measures."""
    return {
        name: ravel_pytree(influence(MEASURES[name], network.apply, variables, batch, reduction="sum"))[0]
        for name in names
    }


@functools.partial(jax.jit, static_argnums=0)
def of_row(network, variables, x):
    """Return the score of one row, and its slope with respect to a shift of each unit for this row."""

    def score(shifts):
        return jax.nn.sigmoid(network.apply(variables, x[None], shifts=shifts)[0])[0]

    return jax.value_and_grad(score)(jax.tree.map(lambda keep: jnp.zeros(keep.shape), variables["masks"]))


def numpy_scores(variables, x, site, cut, shift):
    """Compute the network in float64, with every unit shifted at the site."""
    tree = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables)
    shifts, h = np.split(shift, [WIDTHS[0]]), np.asarray(x, np.float64)
    for name, by in zip(("hidden_00", "hidden_01"), shifts, strict=True):
        params, stats = tree["params"][name], tree["batch_stats"][name]["norm"]
        keep = tree["masks"][name]["units"]["keep"]
        h = h @ params["linear"]["kernel"] + params["linear"]["bias"]
        h = h + by if site == "preactivation" else h
        h = h * keep if cut == "incoming" else h
        h = np.maximum(h, 0)
        h = h + by if site == "activation" else h
        h = (h - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * params["norm"]["scale"] + params["norm"]["bias"]
        h = h + by if site == "normalised" else h
        h = h * keep if cut == "outgoing" else h
    return 1 / (1 + np.exp(-(h @ tree["params"]["output"]["kernel"] + tree["params"]["output"]["bias"])[:, 0]))


def numpy_measure(name, f, y, a):
    if name == "spd":
        return f[~a].mean() - f[a].mean()
    if name == "eod":
        return f[y & ~a].mean() - f[y & a].mean()
    if name == "ppd":
        return f[y & ~a].sum() / f[~a].sum() - f[y & a].sum() / f[a].sum()
    return f[~a].mean() / f[a].mean() - 1


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("site", SITES)
def test_influence_is_the_sum_over_rows_and_the_slope_of_a_shift(site, cut, data):
    network, (variables, batch) = network_of(site, cut), data
    found = measured(network, NAMES, variables, batch)
    y, a = np.asarray(batch.y), np.asarray(batch.a)

    per_row = [of_row(network, variables, batch.x[i]) for i in range(N)]
    scores, slopes = jnp.stack([score for score, _ in per_row]), np.stack([flat(slope) for _, slope in per_row])
    np.testing.assert_allclose(scores, numpy_scores(variables, batch.x, site, cut, np.zeros(9)), atol=1e-6)
    for name in NAMES:
        loop = np.zeros(9)
        by_score = np.asarray(jax.grad(MEASURES[name])(scores, batch.y, batch.a))
        for i in range(N):  # d measure / d h(x_i), row by row
            loop += by_score[i] * slopes[i]
        np.testing.assert_allclose(found[name], loop * KEPT, rtol=1e-4, atol=1e-6)

        def value(shift, name=name):
            return numpy_measure(name, numpy_scores(variables, batch.x, site, cut, shift), y, a)

        differences = [(value(step) - value(-step)) / 2e-6 for step in np.eye(9) * 1e-6]
        np.testing.assert_allclose(found[name], differences * KEPT, rtol=1e-4, atol=2e-6)
        assert found[name][GONE] == 0.0
        assert np.sum(np.abs(found[name]) > 1e-3) >= 4, "the comparison says nothing"


def test_sites_differ(data):
    variables, batch = data
    one, two, three = (measured(network_of(site), ("spd",), variables, batch)["spd"] for site in SITES)
    assert not np.allclose(one, two, rtol=0.01) and not np.allclose(two, three, rtol=0.01)


def test_the_mean_is_the_sum_over_n(data):
    network, (variables, batch) = network_of(), data
    mean = flat(jax.jit(lambda tree: influence(spd, network.apply, tree, batch))(variables))
    np.testing.assert_allclose(mean * N, measured(network, ("spd",), variables, batch)["spd"], rtol=1e-5)


def test_eager_jit_and_vmap_agree(data):
    network, (variables, batch) = network_of(), data
    other = jax.tree.map(lambda leaf: leaf[::-1], variables)
    both = jax.tree.map(lambda one, two: jnp.stack([one, two]), variables, other)

    def one(variables):
        return influence(spd, network.apply, variables, batch)

    mapped = jax.jit(jax.vmap(one))(both)
    for i, tree in enumerate((variables, other)):
        eager = one(tree)
        np.testing.assert_allclose(flat(jax.jit(one)(tree)), flat(eager), rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(flat(jax.tree.map(lambda v, i=i: v[i], mapped)), flat(eager), rtol=1e-4, atol=1e-7)
        assert jax.tree.structure(eager) == jax.tree.structure(tree["masks"])


def test_influence_predicts_what_cutting_a_small_unit_does(data):
    """To first order, cutting a unit whose pre-activation is h for all rows changes the proxy by -h times the sum."""
    network, (variables, batch) = network_of(), data
    layer = variables["params"]["hidden_00"]
    kernel, bias = layer["linear"]["kernel"], layer["linear"]["bias"]
    small = {"kernel": kernel.at[:, 1].set(0.0), "bias": bias.at[1].set(0.02)}
    variables = {**variables, "params": {**variables["params"], "hidden_00": {**layer, "linear": small}}}
    slope = measured(network, ("spd",), variables, batch)["spd"][1]

    def proxy(keep):
        logits, _ = network.apply({**variables, "masks": keep}, batch.x)
        return spd(jax.nn.sigmoid(logits), batch.y, batch.a)

    scores = jax.tree.map(lambda keep: jnp.full(keep.shape, -jnp.inf), variables["masks"])
    scores["hidden_00"]["units"]["keep"] = jnp.where(jnp.arange(5) == 1, 1.0, -jnp.inf)
    cut = masks.drop(variables["masks"], scores, 1)
    assert masks.count(cut) == masks.count(variables["masks"]) - 1
    change = float(jax.jit(proxy)(cut) - jax.jit(proxy)(variables["masks"]))
    assert change == pytest.approx(-0.02 * float(slope), rel=0.1, abs=1e-7)
    assert abs(change) > 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": "max"}, "reduction must be mean or sum, got 'max'"),
    ],
)
def test_what_means_nothing_is_refused(options, message, data):
    variables, batch = data
    jaxtyping.config.update("jaxtyping_disable", True)  # otherwise the tests' type checks would fail first
    try:
        with pytest.raises(ValueError, match=message):
            influence(spd, network_of().apply, variables, batch, **options)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
