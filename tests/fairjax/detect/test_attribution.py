"""Attributions of single rows, compared with captum, linear networks by hand, and the axioms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax.detect import (
    convergence_delta,
    gradient_times_input,
    gradients,
    integrated_gradients,
    smooth_gradients,
)

N, D = 7, 4
METHODS = {
    "gradients": gradients,
    "gradient_times_input": gradient_times_input,
    "integrated_gradients": functools.partial(integrated_gradients, nodes=5),
    "smooth_gradients": lambda *args, **options: smooth_gradients(jax.random.key(3), *args, samples=3, **options),
}


def linear(variables, x, *, shifts=None, key=None):
    return x @ variables["w"] + variables["b"], variables


def tanh_network(variables, x, *, shifts=None, key=None):
    h = jnp.tanh(x @ variables["w1"] + variables["b1"][None])
    return h @ variables["w2"], variables


def relu_network(variables, x, *, shifts=None, key=None):
    return jax.nn.relu(x @ variables["w1"] + variables["b1"][None]) @ variables["w2"], variables


@pytest.fixture(scope="module")
def rows():
    return jnp.asarray(np.random.default_rng(0).normal(size=(N, D)), jnp.float32)


@pytest.fixture(scope="module")
def weights():
    random = np.random.default_rng(1)
    shapes = {"w1": (D, 6), "b1": (6,), "w2": (6,)}
    return {name: jnp.asarray(random.normal(size=shape), jnp.float32) for name, shape in shapes.items()}


def test_linear_networks_are_attributed_as_by_hand(rows):
    w, b = np.array([1.0, -2.0, 0.0, 3.0], np.float32), np.float32(0.5)
    variables, x = {"w": jnp.asarray(w), "b": jnp.asarray(b)}, np.asarray(rows)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    close(gradients(linear, variables, x), np.broadcast_to(w, x.shape))
    close(gradients(linear, variables, x, target=0), np.broadcast_to(-w, x.shape))
    close(gradient_times_input(linear, variables, x), x * w)
    close(smooth_gradients(jax.random.key(0), linear, variables, x), np.broadcast_to(w, x.shape))
    for baseline in (None, np.ones(D, np.float32), np.asarray(rows)[::-1]):
        origin = 0.0 if baseline is None else baseline
        found = integrated_gradients(linear, variables, x, baseline, nodes=3)
        close(found, (x - origin) * w)
        close(convergence_delta(linear, variables, x, found, baseline), np.zeros(N), atol=2e-6)


def test_trees_of_arrays_are_attributed_leaf_by_leaf(rows):
    def apply(variables, x, *, shifts=None, key=None):
        return 2.0 * x["age"] + x["image"].sum((1, 2)) * x["age"], variables

    x = {"age": rows[:, 0], "image": rows[:, :, None] * jnp.ones((1, 1, 2))}
    slopes = gradients(apply, {}, x, chunk=3)
    np.testing.assert_allclose(slopes["age"], 2 + x["image"].sum((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(slopes["image"], np.broadcast_to(x["age"][:, None, None], (N, D, 2)), rtol=1e-5)
    baseline = {"age": jnp.array(1.0), "image": x["image"][::-1]}  # one row for all, and one for each
    found = integrated_gradients(apply, {}, x, baseline, nodes=4, chunk=2)
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, x)
    np.testing.assert_allclose(convergence_delta(apply, {}, x, found, baseline, chunk=3), np.zeros(N), atol=3e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients:UserWarning")
def test_networks_from_pytorch_are_attributed_as_captum_does():
    torch = pytest.importorskip("torch", reason="PyTorch, the extra `torch`, is not installed")
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    from fairjax.adapters.torch import bring

    with torch.random.fork_rng():
        torch.manual_seed(0)
        nn = torch.nn
        hidden = nn.Linear(D, 6), nn.ReLU(), nn.BatchNorm1d(6), nn.Dropout(0.2), nn.Linear(6, 5), nn.Tanh()
        module = nn.Sequential(*hidden, nn.Linear(5, 3))
        module(torch.randn(30, D))  # statistics of the batch normalisation
        module.eval()
        x, base = torch.randn(9, D), torch.randn(1, D)
    brought = bring(module, x.numpy())
    ours = brought.network.apply, brought.variables, x.numpy()
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    close(gradients(*ours, target=2), attr.Saliency(module).attribute(x, 2, abs=False).detach())
    close(gradient_times_input(*ours, target=2), attr.InputXGradient(module).attribute(x, 2).detach())
    expected = attr.IntegratedGradients(module).attribute(x, base, 2, n_steps=50, method="gausslegendre")
    close(integrated_gradients(*ours, base.numpy()[0], target=2), expected.detach())


def test_integrated_gradients_equal_those_of_captum_in_double_precision(rows, weights):
    torch = pytest.importorskip("torch", reason="PyTorch, the extra `torch`, is not installed")
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    double = {name: np.asarray(leaf, np.float64) for name, leaf in weights.items()}
    w1, b1, w2 = (torch.tensor(leaf) for leaf in double.values())
    x, base = np.asarray(rows, np.float64), np.full(D, 0.3)
    explained = attr.IntegratedGradients(lambda x: torch.relu(x @ w1 + b1) @ w2)
    options = {"n_steps": 20, "method": "gausslegendre"}
    expected = explained.attribute(torch.tensor(x), torch.tensor(base)[None], **options)
    with jax.enable_x64(True):
        variables = jax.tree.map(jnp.asarray, double)
        found = integrated_gradients(relu_network, variables, jnp.asarray(x), base, nodes=20)
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)  # captum's nodes are in single


def test_attributions_are_complete_and_more_so_with_more_nodes(rows, weights):
    found = integrated_gradients(tanh_network, weights, rows)
    difference = tanh_network(weights, rows)[0] - tanh_network(weights, 0 * rows)[0]
    np.testing.assert_allclose(found.sum(axis=1), difference, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        convergence_delta(tanh_network, weights, rows, found), found.sum(axis=1) - difference, atol=1e-6
    )
    deltas = []
    for nodes in (4, 400):
        found = integrated_gradients(relu_network, weights, rows, nodes=nodes)
        deltas.append(np.abs(convergence_delta(relu_network, weights, rows, found)).max())
    assert deltas[1] < 0.02 < deltas[0]


def test_the_axioms_hold(rows, weights):
    compute = functools.partial(integrated_gradients, nodes=20)
    of_relu = compute(relu_network, weights, rows)
    # sensitivity: nothing for a feature that the network does not read
    blind = {**weights, "w1": weights["w1"].at[1].set(0.0)}
    assert not np.any(compute(relu_network, blind, rows)[:, 1])
    # implementation invariance: units in another order, and scaled back after a ReLU
    order = np.array([3, 1, 0, 5, 4, 2])
    other = {"w1": 4 * weights["w1"][:, order], "b1": 4 * weights["b1"][order], "w2": weights["w2"][order] / 4}
    np.testing.assert_allclose(compute(relu_network, other, rows), of_relu, rtol=1e-4, atol=1e-5)

    # linearity
    def combined(variables, x, *, shifts=None, key=None):
        return 2 * relu_network(variables, x)[0] - 3 * tanh_network(variables, x)[0], variables

    expected = 2 * of_relu - 3 * compute(tanh_network, weights, rows)
    np.testing.assert_allclose(compute(combined, weights, rows), expected, rtol=1e-4, atol=1e-5)
    # symmetry: equal features with equal weights have equal parts
    equal = {**weights, "w1": weights["w1"].at[1].set(weights["w1"][0])}
    found = compute(tanh_network, equal, rows.at[:, 1].set(rows[:, 0]))
    np.testing.assert_allclose(found[:, 1], found[:, 0], rtol=1e-5, atol=1e-6)


def test_smooth_gradients_average_over_the_noise(rows):
    def cubes(variables, x, *, shifts=None, key=None):
        return jnp.sum(x**3, axis=1), variables

    found = smooth_gradients(jax.random.key(0), cubes, {}, rows, scale=0.5, samples=4000)
    expected = 3 * rows**2 + 3 * 0.5**2  # E 3 (x + e)^2
    error = 3 * np.sqrt(4 * np.asarray(rows) ** 2 * 0.25 + 2 * 0.0625) / np.sqrt(4000)
    assert (np.abs(found - expected) < 4.5 * error).all()


@pytest.mark.parametrize("name", METHODS)
def test_eager_jit_vmap_and_chunks_agree(name, rows, weights):
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), weights)
    compute = functools.partial(METHODS[name], tanh_network)
    mapped = jax.jit(jax.vmap(lambda variables: compute(variables, rows, chunk=None)))(many)
    first = jax.tree.map(lambda leaf: leaf[0], many)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    close(mapped[0], compute(first, rows, chunk=None))
    close(mapped[0], compute(first, rows, chunk=3))
    assert np.abs(mapped[0] - mapped[1]).max() > 0


@pytest.mark.parametrize("name", METHODS)
def test_rows_without_a_finite_logit_are_nan_and_others_are_not(name, rows, weights):
    x = rows.at[2, 1].set(jnp.nan)
    found = METHODS[name](relu_network, weights, x)  # the gradient of a ReLU at NaN is 0
    assert np.isnan(found[2]).all()
    assert np.isfinite(np.delete(found, 2, axis=0)).all()


@pytest.mark.parametrize("name", METHODS)
def test_half_precision_is_summed_in_single_precision(name, rows):
    variables = {"w": jnp.ones(D, jnp.float16), "b": jnp.zeros((), jnp.float16)}
    found = METHODS[name](linear, variables, rows.astype(jnp.float16))
    dtype = np.float16 if name in ("gradients", "gradient_times_input") else np.float32
    assert found.dtype == dtype and np.isfinite(found).all()


def test_what_cannot_be_attributed_is_refused(rows, weights):
    for method in METHODS.values():
        with pytest.raises(TypeError, match="int32, with respect to which a logit has no derivative.*embeddings"):
            method(relu_network, weights, jnp.ones((3, D), jnp.int32))
    with pytest.raises(TypeError, match=r"x\['mask'\] holds bool.*masks as 0.0 and 1.0"):
        gradients(relu_network, weights, {"mask": np.ones((3, D), bool), "x": rows[:3]})
    with pytest.raises(ValueError, match="at least one"):
        gradients(relu_network, weights, rows[:0])
    compute = functools.partial(integrated_gradients, relu_network, weights, rows)
    with pytest.raises(ValueError, match=r"baseline must have the shape of one row, \(4,\).*found \(3,\)"):
        compute(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=r"one row per row of x, \(7, 4\), found \(6, 4\)"):
        compute(rows[:6])
    with pytest.raises(ValueError, match="structure of x.*pass one array for each array of x"):
        compute({"x": rows})
    with pytest.raises(ValueError, match="nodes must be a positive number"):
        compute(nodes=0)
    with pytest.raises(ValueError, match="target must be 0 or 1"):
        compute(target=2)
    with pytest.raises(ValueError, match="chunk must be a positive"):
        compute(chunk=0)
    with pytest.raises(ValueError, match="samples must be a positive"):
        smooth_gradients(jax.random.key(0), relu_network, weights, rows, samples=0)
    with pytest.raises(ValueError, match="scale must be a standard deviation"):
        smooth_gradients(jax.random.key(0), relu_network, weights, rows, scale=-1.0)
    with pytest.raises(ValueError, match="attributions must have the shapes of x"):
        convergence_delta(relu_network, weights, rows, rows[:, :2])


def test_networks_whose_rows_depend_on_each_other_are_refused(rows):
    def centred(variables, x, *, shifts=None, key=None):
        return (x - x.mean(axis=0, keepdims=True)).sum(axis=1) ** 2, variables

    for method in METHODS.values():
        with pytest.raises(ValueError, match="depends on the other rows"):
            method(centred, {}, rows)
