"""The sentence encoder: padding does not matter, units can be shifted and cut, a head makes it a classifier."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax import Mlp, from_linen
from fairjax.nn import SentenceEncoder, join_head, with_head

ENCODER = SentenceEncoder(vocabulary=20, positions=8, width=6, inner=12, layers=2, heads=2)
NETWORK = from_linen(ENCODER)
TOKENS = {
    "input_ids": jnp.array([[2, 7, 3, 0, 0], [2, 9, 11, 4, 3]], jnp.int32),
    "attention_mask": jnp.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], jnp.int32),
}


@pytest.fixture(scope="module")
def variables():
    return NETWORK.init(jax.random.key(0), TOKENS)


@pytest.fixture(scope="module")
def apply():
    return jax.jit(lambda variables, tokens, shifts: NETWORK.apply(variables, tokens, shifts=shifts)[0])


@pytest.fixture(scope="module")
def zeros(variables):
    return jax.tree.map(lambda keep: jnp.zeros(keep.shape), variables["masks"])


def test_embeddings_have_length_1_and_do_not_depend_on_padding_or_on_other_texts(variables, apply, zeros):
    found = apply(variables, TOKENS, zeros)
    np.testing.assert_allclose(jnp.linalg.norm(found, axis=1), 1, rtol=1e-6)
    short = {name: leaf[:1, :3] for name, leaf in TOKENS.items()}
    np.testing.assert_allclose(NETWORK.apply(variables, short)[0], found[:1], atol=1e-6)


def test_units_are_the_columns_of_each_layer_as_they_are_shown_shifted_and_cut(variables, apply, zeros):
    shown = NETWORK.activations(variables, TOKENS)
    assert jax.tree.map(np.shape, shown) == {f"layer_0{i}": {"units": {"keep": (2, 5, 6)}} for i in range(2)}
    last = shown["layer_01"]["units"]["keep"]
    moved = {**zeros, "layer_01": {"units": {"keep": zeros["layer_01"]["units"]["keep"].at[2].set(0.5)}}}
    kept = TOKENS["attention_mask"][:, :, None].astype(jnp.float32)
    mean = jnp.sum((last + 0.5 * jax.nn.one_hot(2, 6)[None, None]) * kept, axis=1) / jnp.sum(kept, axis=1)
    expected = mean / jnp.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(apply(variables, TOKENS, moved), expected, atol=1e-6)
    masks = {**variables["masks"], "layer_01": {"units": {"keep": jnp.arange(6) != 3}}}
    assert jnp.all(apply({**variables, "masks": masks}, TOKENS, zeros)[:, 3] == 0)


def test_with_a_head_it_is_a_classifier_of_texts_with_the_units_of_both(variables):
    head = from_linen(Mlp(widths=(3,)))
    trained = head.init(jax.random.key(1), jnp.ones((2, 6)))
    classifier, joined = with_head(NETWORK, head), join_head(variables, trained)
    expected = head.apply(trained, NETWORK.apply(variables, TOKENS)[0])[0]
    np.testing.assert_array_equal(classifier.apply(joined, TOKENS)[0], expected)
    assert sorted(classifier.activations(joined, TOKENS)) == ["body", "head"]


def test_a_text_longer_than_the_positions_is_refused(variables):
    with pytest.raises(ValueError, match="up to 8 tokens, got 9"):
        NETWORK.apply(variables, {name: jnp.ones((1, 9), jnp.int32) for name in TOKENS})
