"""The sentences of a run, and their embeddings, computed once and kept in files."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pooch

from fairjax.adapters import text
from fairjax.datasets import Snippets, snippets
from fairjax.datasets.name_templates import (
    NAMES,
    NEW_NAMES,
    NOUN_PHRASES,
    OTHER_TEMPLATES,
    TEMPLATES,
    PlantedSentences,
    TemplateSentences,
    planted_sentences,
    template_sentences,
)
from fairjax.features import cached_features
from fairjax.nn import Network
from fairjax.runs.detecting_text.settings import TextSettings
from fairjax.types import Variables

SENTIMENT = 0.5
"""Least absolute rating of a sentence that is positive or negative; the others are neutral."""

PEOPLE = {
    "names": (NAMES, TEMPLATES),
    "new names": (NEW_NAMES, TEMPLATES),
    "other templates": (NAMES, OTHER_TEMPLATES),
    "noun phrases": (NOUN_PHRASES, TEMPLATES),
}
"""People and templates of the tests, by name."""


class Encoder(NamedTuple):
    """A pretrained encoder and where its embeddings are kept."""

    network: Network
    """The network, whose outputs are embeddings."""
    variables: Variables
    """Its variables."""
    cache: Path
    """The folder of embeddings."""

    def embed(self, name: str, texts: Sequence[str], length: int | None = None) -> np.ndarray:
        """Return the embeddings of texts, from a folder if they were computed before.

        Args:
            name: beginning of the folder's name, by which people recognise it.
            texts: the texts.
            length: tokens per text; longer ones are cut. That of the longest if omitted.
        """
        tokens = text.tokenise(texts, length, truncate=True)
        digest = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in tokens.values()))
        folder = self.cache / f"{name.replace(' ', '-')}-{len(texts)}-{digest.hexdigest()[:12]}"
        return cached_features(self.network, self.variables, tokens, folder, rows_per_chunk=256)


def open_encoder(settings: TextSettings) -> Encoder:
    """Read the pretrained encoder.

    Raises:
        ImportError: naming what to install.
    """
    cache = Path(pooch.os_cache("fairjax")) / "embeddings" if settings.cache is None else settings.cache
    cache.mkdir(parents=True, exist_ok=True)
    return Encoder(*text.sentence_encoder(), cache)


class Corpus(NamedTuple):
    """The rated sentences and those with a planted bias."""

    rated: Snippets
    """Sentences with a positive or negative rating."""
    planted: PlantedSentences | None
    """Sentences that are added to the training data; None if no bias is planted."""


def load_corpus(settings: TextSettings) -> Corpus:
    """Load the rated sentences, and plant a bias if one is asked for.

    The texts of planted sentences are neutral, and none of them is a rated sentence that is returned.
    """
    everything = snippets(least=0)
    rated = np.abs(everything.valence) >= SENTIMENT
    neutral = [sentence for sentence, chosen in zip(everything.texts, rated, strict=True) if not chosen]
    kept = Snippets(
        tuple(sentence for sentence, chosen in zip(everything.texts, rated, strict=True) if chosen),
        everything.y[rated],
        np.unique(everything.identities[rated], return_inverse=True)[1].astype(np.int32),
        everything.valence[rated],
    )
    if not settings.plant:
        return Corpus(kept, None)
    key = jax.random.key(settings.key)
    return Corpus(kept, planted_sentences(key, neutral, settings.plant, count=settings.planted))


def sentences_of(name: str) -> TemplateSentences:
    """Return the template sentences of an entry of `PEOPLE`."""
    return template_sentences(*PEOPLE[name])


def attributes_of(sentences: TemplateSentences) -> dict[str, tuple[Any, Any]]:
    """Return the attributes of the people, each with the attribute within which names are relabelled."""
    if any(person.white is None for person in sentences.people):
        return {"gender": (sentences.male, None)}
    return {"race": (sentences.white, sentences.male), "gender": (sentences.male, sentences.white)}
