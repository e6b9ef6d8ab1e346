"""The heads that are explained, trained for all seeds on embeddings."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

import fairjax
from fairjax import Mlp, data, from_linen
from fairjax.metrics import probabilities
from fairjax.nn import Network, join_head, with_head
from fairjax.runs.detecting_text.corpus import Corpus, Encoder, load_corpus, open_encoder
from fairjax.runs.detecting_text.settings import TextSettings
from fairjax.runs.folder import RunFolder
from fairjax.runs.timings import Timings
from fairjax.types import Split, Variables


@dataclasses.dataclass(frozen=True)
class TextSubject:
    """Heads of all seeds on the embeddings of one encoder."""

    settings: TextSettings
    """The settings."""
    folder: RunFolder
    """The folder of the results."""
    console: Console
    """The console that shows progress."""
    timings: Timings
    """Records the time of each part."""
    encoder: Encoder
    """The encoder."""
    corpus: Corpus
    """The sentences."""
    head: Network
    """The head as a network of embeddings."""
    heads: Variables
    """Variables of the heads, with a leading axis of seeds."""
    splits: Split
    """One split per seed, of embeddings; planted sentences are in the train part."""
    epochs: tuple[int, ...]
    """Number of epochs that each head was trained."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds in the order of the variables."""
        return self.settings.seeds

    def scores(self, name: str, texts: Sequence[str], length: int | None = None) -> np.ndarray:
        """Return the scores of texts, (seeds, texts); see `Encoder.embed`."""
        return self.scores_of(self.encoder.embed(name, texts, length))

    def scores_of(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the scores of embedded texts, (seeds, texts)."""
        return np.asarray(scores_of_heads(self.head, self.heads, jnp.asarray(embeddings)))

    def accuracies(self) -> np.ndarray:
        """Return the accuracy of each head on the test part of its split."""
        return np.asarray(accuracies_of_heads(self.head, self.heads, self.splits))

    def classifier(self, number: int) -> tuple[Network, Variables]:
        """Return encoder and head of one seed as one network of tokens."""
        head = jax.tree.map(lambda leaf: leaf[number], self.heads)
        return with_head(self.encoder.network, self.head), join_head(self.encoder.variables, head)

    def key(self, purpose: int) -> jax.Array:
        """Return a random key for one purpose."""
        return jax.random.fold_in(jax.random.key(self.settings.key), purpose)


@contextmanager
def open_text_subject(settings: TextSettings, console: Console) -> Iterator[TextSubject]:
    """Embed the sentences, train the heads, and open the folder of results for the time of the block.

    Args:
        settings: the settings.
        console: the console that shows progress.

    Raises:
        ImportError, ValueError, OSError: if something is not installed, or files cannot be used.
    """
    encoder, corpus = open_encoder(settings), load_corpus(settings)
    identity = {"command": "detect", **settings.values()}
    with closing(RunFolder(settings.folder, identity)) as folder, Timings().listening() as timings:
        count = len(corpus.rated.texts)
        console.print(
            f"{settings.dataset}: {count:,} sentences, embedded once and kept in {encoder.cache}", soft_wrap=True
        )
        with timings.stage("embedding"):
            x = np.array(encoder.embed("snippets", corpus.rated.texts, settings.length))
            more = None if corpus.planted is None else encoder.embed("planted", corpus.planted.texts, settings.length)
        with timings.stage("training"):
            splits = _splits(settings, corpus, x, more)
            head = from_linen(Mlp(widths=settings.widths))
            keys = jax.vmap(jax.random.key)(jnp.asarray(settings.seeds, jnp.uint32))
            fitted = fairjax.fit_many(head, splits, keys=keys, training=settings.training())
        frozen = [seed for seed, diverged in zip(settings.seeds, np.asarray(fitted.diverged), strict=True) if diverged]
        if frozen:
            console.print(f"training: the outputs of seeds {', '.join(map(str, frozen))} stopped being finite")
        epochs = tuple(np.asarray(fitted.epochs).tolist())
        variables = jax.tree.map(jnp.asarray, jax.tree.map(np.asarray, fitted.variables))
        yield TextSubject(
            settings, folder, console, timings, encoder, corpus, head, variables, splits, epochs
        )  # fmt: skip


def _splits(settings: TextSettings, corpus: Corpus, x: np.ndarray, planted: np.ndarray | None) -> Split:
    """Split the rated sentences by documents, and add the planted ones to all train parts."""
    rated, none = corpus.rated, np.arange(len(x)) % 2 == 0  # sentences have no protected attribute, and none is used
    dataset = data.from_arrays(x, rated.y, none, standardise=False)
    splits = data.split_seeds(dataset, seeds=settings.seeds, identities=rated.identities)
    if planted is None or corpus.planted is None:
        return splits
    places = jnp.broadcast_to(len(x) + jnp.arange(len(planted)), (len(settings.seeds), len(planted)))
    return splits._replace(
        x=jnp.concatenate([jnp.asarray(splits.x), jnp.asarray(planted)]),
        y=jnp.concatenate([splits.y, jnp.asarray(corpus.planted.y)]),
        a=jnp.concatenate([splits.a, jnp.zeros(len(planted), splits.a.dtype)]),
        train=jnp.concatenate([splits.train, places.astype(splits.train.dtype)], axis=1),
    )


@jax.jit(static_argnums=0)
def scores_of_heads(head, heads, x):
    """Compute the scores of all heads, (seeds, n), from embeddings (n, features)."""
    return jax.vmap(lambda variables: probabilities(head.apply(variables, x)[0]))(heads)


@jax.jit(static_argnums=0)
def accuracies_of_heads(head, heads, splits):
    """Compute the accuracy of each head on the test part of its split."""

    def one(variables, split):
        test = split.part("test")
        return jnp.mean((head.apply(variables, test.x)[0] > 0) == test.y)

    return jax.vmap(one, in_axes=(0, fairjax.SHARED))(heads, splits)
