"""Token embeddings as inputs, and attributions to words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax import Mlp, from_linen
from fairjax.detect import integrated_gradients
from fairjax.detect.text import baseline, embed, embedding_of, sum_by_word
from fairjax.nn import SentenceEncoder, join_head, with_head

BODY = from_linen(SentenceEncoder(vocabulary=20, positions=8, width=6, inner=12, layers=1, heads=2))
HEAD = from_linen(Mlp(widths=(3,), dropout=0.0))
NETWORK = with_head(BODY, HEAD)
TOKENS = {
    "input_ids": np.array([[2, 7, 3, 0], [2, 9, 11, 3]], np.int32),
    "attention_mask": np.array([[1, 1, 1, 0], [1, 1, 1, 1]], np.int32),
}
WORDS = np.array([[-1, 0, -1, -1], [-1, 0, 1, -1]])


@pytest.fixture(scope="module")
def variables():
    body = BODY.init(jax.random.key(0), TOKENS)
    return join_head(body, HEAD.init(jax.random.key(1), jnp.ones((2, 6))))


@pytest.fixture(scope="module")
def embedded(variables):
    return embed(NETWORK.apply, variables, TOKENS)


def test_the_table_is_found_and_embeddings_give_the_logits_of_tokens(variables, embedded):
    assert embedded.apply.table == ("params", "body", "words")
    expected = NETWORK.apply(variables, TOKENS)[0]
    np.testing.assert_allclose(embedded.apply(variables, embedded.x)[0], expected, atol=1e-6)
    named = embed(NETWORK.apply, variables, TOKENS, table="params.body.words")
    assert named.apply == embedded.apply


def test_attributions_of_words_sum_to_the_difference_of_logits(variables, embedded):
    blank = baseline(embedded, WORDS >= 0, embedding_of(embedded, variables, 1))
    found = integrated_gradients(
        embedded.apply, variables, embedded.x, blank, nodes=400
    )  # the ReLU makes the error fall slowly
    np.testing.assert_array_equal(found["attention_mask"], 0)
    words = sum_by_word(found["embeddings"], WORDS)
    assert words.shape == (2, 2) and np.isnan(words[0, 1])
    masked = {**TOKENS, "input_ids": np.where(WORDS >= 0, 1, TOKENS["input_ids"])}
    difference = NETWORK.apply(variables, TOKENS)[0] - NETWORK.apply(variables, masked)[0]
    np.testing.assert_allclose(np.nansum(words, axis=1), difference, atol=1e-3)


def test_zeros_replace_words_when_no_embedding_is_given(embedded):
    blank = baseline(embedded, WORDS >= 0)["embeddings"]
    np.testing.assert_array_equal(blank[WORDS >= 0], 0)
    np.testing.assert_array_equal(blank[WORDS < 0], embedded.x["embeddings"][WORDS < 0])


def test_the_network_of_embeddings_can_be_compiled_and_mapped_over_seeds(variables, embedded):
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), variables)
    mapped = jax.jit(jax.vmap(lambda variables: embedded.apply(variables, embedded.x)[0]))(both)
    expected = embedded.apply(variables, embedded.x)[0]
    np.testing.assert_allclose(mapped, jnp.stack([expected, expected]), atol=1e-6)


def test_networks_and_inputs_that_cannot_be_embedded_are_refused(variables, embedded):
    ids = TOKENS["input_ids"]

    def looks_at_tokens(variables, x, *, shifts=None, key=None):
        logits, _ = NETWORK.apply(variables, x)
        return logits + jnp.sum(x["input_ids"] == 3, axis=1).astype(logits.dtype), variables

    cases = [
        (NETWORK.apply, ids, {}, "must be a dictionary with the tokens 'input_ids', got ndarray"),
        (NETWORK.apply, {"tokens": ids}, {}, "got the inputs tokens: name them by tokens="),
        (NETWORK.apply, {**TOKENS, "input_ids": ids.astype(float)}, {}, r"must be integers \(n, length\), got float64"),
        (NETWORK.apply, TOKENS, {"table": "words"}, "no table 'words'.*params.body.words"),
        (looks_at_tokens, TOKENS, {}, "no table of the variables gives.*params.body.words .logits differ by"),
    ]
    for apply, x, options, message in cases:
        with pytest.raises(ValueError, match=message):
            embed(apply, variables, x, **options)
    with pytest.raises(ValueError, match="name it by table="):
        jax.jit(lambda variables: embed(NETWORK.apply, variables, TOKENS).x)(variables)
    with pytest.raises(ValueError, match=r"shape \(2, 4\), got \(2, 3\)"):
        baseline(embedded, WORDS[:, :3] >= 0)
    with pytest.raises(ValueError, match=r"embedding must have shape \(6,\)"):
        baseline(embedded, WORDS >= 0, np.ones(5))
    with pytest.raises(ValueError, match="numbers must have the shape of the tokens"):
        sum_by_word(embedded.x["embeddings"], WORDS[:1])
    with pytest.raises(ValueError, match="use the network of tokens to train"):
        embedded.apply(variables, embedded.x, key=jax.random.key(0))


def test_attributions_of_a_brought_network_are_those_of_captum():
    torch = pytest.importorskip("torch", reason='needs PyTorch: pip install "fairjax[torch]"')
    attr = pytest.importorskip("captum.attr", reason="needs captum: pip install captum")
    from fairjax.adapters.torch import bring

    class Texts(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words = torch.nn.Embedding(9, 5)
            self.hidden, self.out = torch.nn.Linear(5, 4), torch.nn.Linear(4, 1)

        def forward(self, input_ids, attention_mask):
            kept = attention_mask[:, :, None].float()
            mean = (torch.tanh(self.words(input_ids)) * kept).sum(1) / kept.sum(1)
            return self.out(torch.tanh(self.hidden(mean)))[:, 0]

    torch.manual_seed(0)
    module = Texts().eval()
    module.words.weight.requires_grad_(False)  # a frozen table is no parameter
    tokens = {"input_ids": np.array([[1, 2, 8], [3, 4, 0]]), "attention_mask": np.array([[1, 1, 1], [1, 1, 0]])}
    brought = bring(module, tokens)
    embedded = embed(brought.network.apply, brought.variables, tokens)
    every = np.ones((2, 3), bool)
    found = integrated_gradients(
        embedded.apply,
        brought.variables,
        embedded.x,
        baseline(embedded, every, embedding_of(embedded, brought.variables, 5)),
    )
    ids, mask = (torch.as_tensor(tokens[name]) for name in ("input_ids", "attention_mask"))
    expected = attr.LayerIntegratedGradients(module, module.words).attribute(
        ids, torch.full_like(ids, 5), additional_forward_args=(mask,), n_steps=50, method="gausslegendre"
    )
    np.testing.assert_allclose(found["embeddings"], expected.numpy(), atol=1e-6)


def test_tables_in_lists_are_found_and_logits_that_do_not_depend_on_tokens_are_refused():
    def apply(variables, x, *, shifts=None, key=None):
        first, words = variables["params"]
        return jnp.tanh(words[x["ids"]].sum(axis=1) @ first[:2]) @ variables["head"], variables

    random = np.random.default_rng(0)
    params = [jnp.asarray(random.normal(size=shape), jnp.float32) for shape in ((9, 3), (5, 2))]
    x = {"ids": np.array([[0, 4], [2, 3]], np.int32)}
    variables = {"params": params, "head": jnp.ones(3)}
    embedded = embed(apply, variables, x, tokens="ids")
    assert embedded.apply.table == ("params", "1")
    np.testing.assert_allclose(embedded.apply(variables, embedded.x)[0], apply(variables, x)[0], atol=1e-6)
    np.testing.assert_array_equal(embedding_of(embedded, variables, 3), params[1][3])
    untrained = {**variables, "head": jnp.zeros(3)}
    with pytest.raises(ValueError, match=r"params.1 \(logits do not depend on it\).*name the table by table="):
        embed(apply, untrained, x, tokens="ids")
    assert embed(apply, untrained, x, tokens="ids", table="params.1").apply == embedded.apply
