import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fairjax
from fairjax import Loss, Training, data
from fairjax.arguments import checked_loss
from fairjax.losses import (
    CrossEntropy,
    Data,
    GroupRobust,
    Hsic,
    Mmd,
    ParityPenalty,
    Prejudice,
    Term,
    Wasserstein,
    WeightDecay,
    cross_entropy,
    mmd,
    prejudice,
    term,
)
from fairjax.metrics import spd
from fairjax.nn import Mlp, Network, from_linen
from fairjax.nn.flat import FlatVariables
from fairjax.selection import best_threshold
from fairjax.training import composed_gradients, init_terms

NETWORK = from_linen(Mlp(widths=(6, 5)))
TRAINING = Training(epochs=3, batch_size=32, check_every=3, keep="last")


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    a = rng.random(160) < 0.5
    x = rng.normal(size=(160, 4)) + np.outer(a, [1.0, 0.5, 0.0, 0.0])
    return data.from_arrays(x.astype(np.float32), x[:, 0] + x[:, 2] + rng.normal(size=160) > 0.5, a)


@pytest.fixture(scope="module")
def splits(dataset):
    return data.split_seeds(dataset, seeds=(1, 2))


@pytest.fixture(scope="module")
def split(dataset):
    return data.split(jax.random.key(0), dataset.x, dataset.y, dataset.a)


def of_seed(splits, i):
    names = ("train", "valid", "test", "mean", "scale")
    return splits._replace(**{name: getattr(splits, name)[i] for name in names})


@term
class Mixture(Term):
    """A term with a parameter of its own, for tests: params * mean logit, which the parameter descends to -1."""

    label: ClassVar[str] = "Mixture"
    own_rate: float = 0.1

    def init(self, key, outputs, batch):
        return jnp.ones(())

    def value(self, params, outputs, batch):
        return params * jnp.mean(jnp.square(outputs.logits))

    def own_loss(self, params, outputs, batch):
        return jnp.square(params + 1.0) + 0.0 * jnp.mean(outputs.logits)

    def own_optimiser(self):
        return optax.sgd(self.own_rate)


def gradients_of(split, loss, written):
    """Compare the gradient of a composed loss with that of the written-out sum."""
    batch = split.part("train")
    variables = NETWORK.init(jax.random.key(3), batch.x)
    flat = FlatVariables.ravel(variables)
    loss = loss.bind(Data(batch, measure=spd))
    state = init_terms(NETWORK, loss, jax.random.key(5), variables, batch)
    found, _, state, _ = jax.jit(lambda *args: composed_gradients(NETWORK, loss, *args))(
        flat, state, batch, jax.random.key(4)
    )

    def plain(params):
        variables = dataclasses.replace(flat, params=params).variables()
        h, logits, _ = NETWORK.features(variables, batch.x, key=jax.random.key(4))
        return written(variables["params"], h, logits, batch)

    expected = jax.jit(jax.grad(plain))(flat.params)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    return state


def test_gradients_are_those_of_the_written_out_sum(split):
    loss = Loss(
        terms=(Mmd(weight=2.0), Prejudice(weight=3.0), ParityPenalty(weight=0.5), WeightDecay(weight=0.1)),
    )

    def written(params, h, logits, batch):
        scores = jax.nn.sigmoid(logits)
        kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
        return (
            cross_entropy(logits, batch)
            + 2.0 * mmd(h, batch.a)
            + 3.0 * prejudice(scores, batch.a)
            + 0.5 * jnp.abs(spd(scores, batch.y, batch.a))
            + 0.1 * sum(jnp.sum(kernel**2) for kernel in kernels)
        )

    assert not jax.tree.leaves(gradients_of(split, loss, written))


def test_gradients_of_a_term_with_parameters_use_them_before_their_step(split):
    def written(params, h, logits, batch):
        return cross_entropy(logits, batch) + 0.5 * jnp.mean(logits**2)

    state = gradients_of(split, Loss(terms=(Mixture(weight=0.5),)), written)
    np.testing.assert_allclose(state.params[0], 1.0 - 0.1 * 2 * 2, rtol=1e-6)


TERMS_OF_FIT = {
    "mmd": Mmd(weight=2.0),
    "sliced": Wasserstein(layer="last", directions=4, weight=0.5),
    "robust": GroupRobust(weight=1.0),
    "decay": WeightDecay(weight=1e-3),
}


@pytest.fixture(scope="module")
def loss():
    return Loss(terms=tuple(TERMS_OF_FIT.values()))


@pytest.fixture(scope="module")
def fitted(split, loss):
    return fairjax.fit(NETWORK, split, key=jax.random.key(1), training=TRAINING, loss=loss)


def test_training_with_terms_changes_the_network_and_continues_from_a_start(fitted, split, loss):
    plain = fairjax.fit(NETWORK, split, key=jax.random.key(1), training=TRAINING)
    assert not fitted.diverged and fitted.epochs == 3 and jnp.isfinite(fitted.loss)
    assert not jnp.allclose(
        fitted.variables["params"]["output"]["kernel"], plain.variables["params"]["output"]["kernel"]
    )
    still = Training(epochs=1, batch_size=32, learning_rate=1e-9, keep="last")
    again = fairjax.fit(NETWORK, split, key=jax.random.key(2), training=still, loss=loss, start=fitted.variables)
    jax.tree.map(
        lambda new, old: np.testing.assert_allclose(new, old, atol=1e-6),
        again.variables["params"],
        fitted.variables["params"],
    )


def test_a_strong_term_does_what_it_is_for(split):
    training = Training(epochs=40, batch_size=128, learning_rate=1e-2, check_every=40, keep="last")

    def of(loss):
        fitted = fairjax.fit(NETWORK, split, key=jax.random.key(1), training=training, loss=loss)
        train = split.part("train")
        h, logits, _ = NETWORK.features(fitted.variables, train.x)
        scores = jax.nn.sigmoid(logits)
        return jnp.array([mmd(h, train.a), prejudice(scores, train.a), jnp.abs(spd(scores, train.y, train.a))])

    plain, fair = of(Loss()), of(Loss(terms=(Mmd(weight=20.0), Prejudice(weight=20.0))))
    assert jnp.all(fair < plain / 3)


def test_a_path_of_weights_and_seeds_is_the_single_fits(splits):
    keys, weights = jax.random.split(jax.random.key(1)), jnp.array([0.5, 4.0])
    terms = (Hsic(weight=weights, linear=jnp.array([0.0, 1.0])),)
    many = fairjax.fit_many(NETWORK, splits, keys=keys, training=TRAINING, loss=Loss(terms=terms), loss_axis=0)
    for i in range(2):
        one = Loss(terms=(Hsic(weight=weights[i], linear=jnp.array([0.0, 1.0])[i]),))
        single = fairjax.fit(NETWORK, of_seed(splits, i), key=keys[i], training=TRAINING, loss=one)
        np.testing.assert_allclose(many.loss[i], single.loss, rtol=1e-4)
        jax.tree.map(
            lambda all_seeds, alone, i=i: np.testing.assert_allclose(all_seeds[i], alone, rtol=5e-3, atol=5e-4),
            many.variables["params"],
            single.variables["params"],
        )


def test_fine_tuning_descends_the_composed_loss(fitted, split):
    method = fairjax.ComposedFineTuning(
        loss=Loss(base=CrossEntropy(), terms=(Mmd(weight=20.0), ParityPenalty(weight=2.0))),
        learning_rate=1e-2,
        batch_size=64,
        epochs=5,
    )
    result = fairjax.debias(method, NETWORK, spd, fitted.variables, split, key=jax.random.key(2))
    assert result.trace.valid.bias.shape == (6,)
    frozen = dataclasses.replace(method, layers=("output",))
    task = fairjax.Task(NETWORK, spd)
    parts = fairjax.methods.Parts.of(split)
    scores = jax.nn.sigmoid(NETWORK.apply(fitted.variables, parts.valid.x)[0])
    evaluation = best_threshold(spd, scores, parts.valid.y, parts.valid.a)
    state = frozen.init(task, jax.random.key(2), fitted.variables, parts, evaluation)
    after = jax.jit(lambda state: frozen.step(task, parts, state))(state)
    before, tuned = (frozen.candidate(one, jnp.zeros((), jnp.int32)).variables()["params"] for one in (state, after))
    assert jnp.all(before["hidden_00"]["linear"]["kernel"] == tuned["hidden_00"]["linear"]["kernel"])
    assert jnp.any(before["output"]["kernel"] != tuned["output"]["kernel"])


def test_losses_are_made_of_instances():
    for terms in ((Mmd,), Mmd(), ("mmd",)):  # the message is the loss's own, or that of the check of types in tests
        with pytest.raises(TypeError, match="parameter 'terms'|terms must be a tuple of terms, such as"):
            Loss(terms=terms)
        plain = object.__new__(Loss)
        for name, entry in (("base", CrossEntropy()), ("terms", terms), ("num_groups", None)):
            object.__setattr__(plain, name, entry)
        with pytest.raises(TypeError, match="terms must be a tuple of terms, such as"):
            plain.__post_init__()
    with pytest.raises(TypeError, match="parameter 'base'|base must be a loss of the labels"):
        Loss(base=CrossEntropy)
    for weight in (-1.0, float("nan"), float("inf"), jnp.array([1.0, -2.0])):
        with pytest.raises(ValueError, match="the weight of MMD must be a finite number, at least 0"):
            Loss(terms=(Mmd(weight=weight),))


def test_messages_name_layers_networks_and_terms(split):
    def fit(loss, network=NETWORK):
        return fairjax.fit(network, split, key=jax.random.key(0), training=TRAINING, loss=loss)

    with pytest.raises(ValueError, match="the layer 'hidden_07'.*choose last, output, hidden_00, hidden_01"):
        fit(Loss(terms=(Mmd(layer="hidden_07"),)))
    with pytest.raises(ValueError, match="has no `features`"):
        fit(Loss(terms=(Mmd(),)), Network(NETWORK.init, NETWORK.apply))
    with pytest.raises(ValueError, match="shows no activations"):
        fit(Loss(terms=(Hsic(layer="hidden_00"),)), Network(NETWORK.init, NETWORK.apply, NETWORK.features))
    with pytest.raises(ValueError, match="the term parity needs a measure"):
        fit(Loss(terms=(ParityPenalty(),)))
    with pytest.raises(TypeError, match="loss must be a fairjax.losses.Loss, got Mmd: pass Loss"):
        checked_loss(Mmd(), split)
