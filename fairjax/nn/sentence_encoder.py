"""A transformer encoder that turns token arrays into sentence embeddings, with one unit per column of every layer."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.nn.layers import Units
from fairjax.types import AnyArray

PADDING = -1e9
"""Added to the attention scores of padding, whose weights become 0."""


class SentenceEncoder(nn.Module):
    """BERT-like encoder, mean over tokens, and normalisation to length 1, without dropout.

    Calling it with the arrays `input_ids` and `attention_mask` (1 = token, 0 = padding), both (n, length), returns
    embeddings (n, width), on which `with_head` puts a classifier. Its units are the columns of the output of every
    layer; all tokens share a unit's shift. `fairjax.adapters.text.sentence_encoder` reads pretrained weights.

    Example:
        >>> encoder = SentenceEncoder(vocabulary=20, positions=8, width=6, inner=12, layers=2, heads=2)
        >>> tokens = {"input_ids": jnp.array([[2, 7, 3]]), "attention_mask": jnp.ones((1, 3), jnp.int32)}
        >>> variables = encoder.init(jax.random.key(0), tokens)
        >>> encoder.apply(variables, tokens).shape, sorted(variables["masks"])
        ((1, 6), ['layer_00', 'layer_01'])

    References:
        Devlin, Chang, Lee, Toutanova (2019), BERT: pre-training of deep bidirectional transformers for language
        understanding, NAACL; Reimers, Gurevych (2019), Sentence-BERT, EMNLP, for the mean over tokens.
    """

    vocabulary: int
    positions: int
    width: int
    inner: int
    layers: int
    heads: int
    epsilon: float = 1e-12

    @nn.compact
    def __call__(self, x: dict[str, AnyArray], *, train: bool = False) -> Float[Array, "n width"]:
        """Embed sentences; `train` changes nothing, since there is no dropout."""
        tokens, mask = jnp.asarray(x["input_ids"]), jnp.asarray(x["attention_mask"])
        h = self._embedded(tokens)
        kept = mask.astype(h.dtype)
        bias = ((1.0 - kept) * PADDING)[:, None, None, :]
        for number in range(self.layers):
            h = EncoderLayer(self.width, self.inner, self.heads, self.epsilon, name=f"layer_{number:02d}")(h, bias)
        mean = jnp.sum(h * kept[:, :, None], axis=1) / jnp.maximum(jnp.sum(kept, axis=1), 1.0)[:, None]
        embedding = mean / jnp.maximum(jnp.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
        self.sow("intermediates", "features", embedding)  # for `fairjax.nn.with_head`
        return embedding

    def _embedded(self, tokens: AnyArray) -> Float[Array, "n length width"]:
        """Return the sum of the embeddings of words and positions, normalised."""
        length = tokens.shape[1]
        if length > self.positions:
            raise ValueError(f"a text may have up to {self.positions} tokens, got {length}: cut or split the texts")
        words = self.param("words", nn.initializers.normal(0.02), (self.vocabulary, self.width))
        positions = self.param("positions", nn.initializers.normal(0.02), (self.positions, self.width))
        h = jnp.take(words, tokens, axis=0) + positions[None, :length]
        return nn.LayerNorm(epsilon=self.epsilon, use_fast_variance=False, name="norm")(h)


class EncoderLayer(nn.Module):
    """Multi-head attention and a feed-forward network, each with a residual connection and then layer normalisation."""

    width: int
    inner: int
    heads: int
    epsilon: float

    @nn.compact
    def __call__(
        self, h: Float[Array, "n length width"], bias: Float[Array, "n 1 1 length"]
    ) -> Float[Array, "n length width"]:
        """Apply the layer; `bias` is added to the attention scores of each token."""
        split = (*h.shape[:2], self.heads, self.width // self.heads)
        query, key, value = (nn.Dense(self.width, name=name)(h).reshape(split) for name in ("query", "key", "value"))
        scores = jnp.einsum("nqhd,nkhd->nhqk", query, key) * split[3] ** -0.5 + bias
        attended = jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(scores, axis=-1), value).reshape(h.shape)
        h = self._normalised("attention_norm", nn.Dense(self.width, name="attention_output")(attended) + h)
        inner = jax.nn.gelu(nn.Dense(self.inner, name="intermediate")(h), approximate=False)
        h = self._normalised("output_norm", nn.Dense(self.width, name="output")(inner) + h)
        return Units(self.width, name="units")(h)

    def _normalised(self, name: str, h: Float[Array, "n length width"]) -> Float[Array, "n length width"]:
        return nn.LayerNorm(epsilon=self.epsilon, use_fast_variance=False, name=name)(h)
