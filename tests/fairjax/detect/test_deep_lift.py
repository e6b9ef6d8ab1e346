"""DeepLIFT, compared with captum and with the rule by hand."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax.detect import convergence_delta, deep_lift, gradient_times_input
from fairjax.nn import Cnn, Mlp, from_linen

N, D = 6, 4
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def rows():
    return jnp.asarray(np.random.default_rng(0).normal(size=(N, D)), jnp.float32)


def test_the_rescale_rule_is_applied_as_by_hand(rows):
    random = np.random.default_rng(1)
    w1, b1, w2 = random.normal(size=(D, 5)), random.normal(size=5), random.normal(size=5)
    x, base = np.asarray(rows, np.float64), random.normal(size=D)

    def apply(variables, x, *, shifts=None, key=None):
        return jnp.tanh(x @ variables["w1"] + variables["b1"][None]) @ variables["w2"], variables

    h, h0 = x @ w1 + b1, base @ w1 + b1
    multipliers = ((np.tanh(h) - np.tanh(h0)) / (h - h0) * w2) @ w1.T
    variables = {"w1": w1, "b1": b1, "w2": w2}
    variables = {name: jnp.asarray(leaf, jnp.float32) for name, leaf in variables.items()}
    found = deep_lift(apply, variables, rows, jnp.asarray(base, jnp.float32))
    close(found, (x - base) * multipliers)
    close(deep_lift(apply, variables, rows, jnp.asarray(base, jnp.float32), chunk=4), found)
    close(deep_lift(apply, variables, rows, rows), np.zeros((N, D)))  # nothing differs from the baseline


def test_networks_from_pytorch_are_attributed_as_captum_does(rows):
    torch = pytest.importorskip("torch", reason="PyTorch, the extra `torch`, is not installed")
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    random = np.random.default_rng(2)
    sizes = (D, 6), (6, 5), (5, 1)
    weights = [(random.normal(size=size).astype(np.float32), random.normal(size=size[1:])) for size in sizes]
    weights = [(w, b.astype(np.float32)) for w, b in weights]
    mean, var = random.normal(size=6).astype(np.float32), random.uniform(0.5, 2, 6).astype(np.float32)
    nn = torch.nn
    layers = [nn.Linear(*size) for size in sizes]
    for layer, (w, b) in zip(layers, weights, strict=True):
        layer.weight.data, layer.bias.data = torch.tensor(w.T), torch.tensor(b)
    norm = nn.BatchNorm1d(6)
    norm.running_mean, norm.running_var = torch.tensor(mean), torch.tensor(var)
    module = nn.Sequential(layers[0], nn.ReLU(), norm, nn.Dropout(0.5), layers[1], nn.Sigmoid(), layers[2]).eval()

    def apply(variables, x, *, shifts=None, key=None):
        (w0, b0), (w1, b1), (w2, b2) = variables["weights"]
        h = (jax.nn.relu(x @ w0 + b0[None]) - variables["mean"][None]) * jax.lax.rsqrt(variables["var"] + 1e-5)[None]
        return (jax.nn.sigmoid(h @ w1 + b1[None]) @ w2 + b2[None])[:, 0], variables

    variables = {"weights": [tuple(map(jnp.asarray, pair)) for pair in weights], "mean": mean, "var": jnp.asarray(var)}
    x, base = torch.tensor(np.asarray(rows)), torch.full((1, D), 0.2)
    with warnings.catch_warnings(action="ignore"):  # captum warns that it sets hooks
        expected = attr.DeepLift(module).attribute(x.requires_grad_(), base).detach()
    close(deep_lift(apply, variables, rows, jnp.full(D, 0.2)), expected)


def random_statistics(variables):
    """Return variables with a batch normalisation that does something, and in which ReLUs are not all off."""
    keys = iter(jax.random.split(jax.random.key(9), 20))

    def drawn(path, leaf):
        noise = jax.random.uniform(next(keys), leaf.shape)
        return 0.5 + noise if path[-1].key == "var" else 0.3 * (noise - 0.7)

    return {**variables, "batch_stats": jax.tree_util.tree_map_with_path(drawn, variables["batch_stats"])}


@pytest.mark.parametrize("name", ["mlp", pytest.param("cnn", marks=pytest.mark.slow)])
def test_attributions_of_fairjaxs_networks_are_complete(name, rows):
    module = Mlp(widths=(6,)) if name == "mlp" else Cnn(channels=(4, 4), halving="pooling")
    x = rows if name == "mlp" else jax.random.normal(jax.random.key(1), (3, 6, 6, 2))
    network = from_linen(module)
    variables = random_statistics(jax.jit(network.init)(jax.random.key(0), x))
    found = deep_lift(network.apply, variables, x)
    assert found.shape == x.shape and np.abs(found).max() > 1e-3
    close(convergence_delta(network.apply, variables, x, found), np.zeros(len(x)), atol=2e-6)
    mapped = jax.vmap(lambda variables: deep_lift(network.apply, variables, x))(
        jax.tree.map(lambda v: v[None], variables)
    )
    close(mapped[0], found)


@pytest.mark.parametrize("activation", [jax.nn.gelu, jax.nn.elu], ids=lambda function: function.__name__)
def test_activation_functions_of_several_operations_have_one_slope(activation):
    def apply(variables, x, *, shifts=None, key=None):
        return 2 * jax.jit(activation)(x[:, 0] - 3 * x[:, 1]), variables

    x, base = jnp.array([[1.0, 0.5], [-2.0, 0.2], [0.3, 0.1]]), jnp.array([0.5, -0.5])
    h, h0 = x[:, 0] - 3 * x[:, 1], base[0] - 3 * base[1]
    slope = 2 * (activation(h) - activation(h0)) / (h - h0)
    close(deep_lift(apply, {}, x, base), (x - base[None]) * jnp.stack([slope, -3 * slope], axis=1))


def test_values_that_nearly_agree_have_the_derivative(rows):
    def apply(variables, x, *, shifts=None, key=None):
        return jnp.sum(jnp.tanh(x), axis=1), variables

    found = deep_lift(apply, {}, rows, rows + 1e-6)
    close(found, 0, atol=1e-5)
    assert np.isfinite(found).all()


def test_linear_networks_have_the_gradient_times_the_input(rows):
    def apply(variables, x, *, shifts=None, key=None):
        return x["one"] * 2.0 + (x["many"] / 3.0).mean(axis=(1, 2)), variables

    x = {"one": rows[:, 0], "many": rows[:, :, None] * jnp.ones((1, 1, 2))}
    found, expected = deep_lift(apply, {}, x, chunk=4), gradient_times_input(apply, {}, x)
    jax.tree.map(close, found, expected)


def test_operations_without_a_rule_are_refused(rows):
    functions = {
        "mul of 2 values": lambda x: x[:, 0] * x[:, 1],
        "max of 2 values": lambda x: jnp.maximum(x[:, 0], x[:, 1]),
        "reduce_max": lambda x: x.max(axis=1),
        "dot_general of 2 values": lambda x: jnp.einsum("nd,nd->n", x, x),
        "sort": lambda x: jnp.sort(x, axis=1)[:, 0],
        "gt": lambda x: jnp.where(x[:, 0] > 0, x[:, 0], x[:, 1]),
    }
    for operation, function in functions.items():
        with pytest.raises(NotImplementedError, match=f"no rule for the operation {operation}.*integrated_gradients"):
            deep_lift(lambda variables, x, *, function=function, **_: (function(x), variables), {}, rows)


def test_rows_without_a_finite_logit_are_nan(rows):
    def apply(variables, x, *, shifts=None, key=None):
        return jax.nn.relu(x).sum(axis=1), variables

    found = deep_lift(apply, {}, rows.at[1, 2].set(jnp.nan))
    assert np.isnan(found[1]).all() and np.isfinite(np.delete(found, 1, axis=0)).all()
    assert np.isnan(deep_lift(apply, {}, rows, jnp.full(D, jnp.nan))).all()
