"""Attribution of the logit to the words of template sentences, and what names contribute to it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy import stats

from fairjax.adapters import text
from fairjax.datasets.name_templates import NAMES, NEW_NAMES, TEMPLATES, template_sentences
from fairjax.detect import integrated_gradients
from fairjax.detect.text import baseline, embed, embedding_of, sum_by_word
from fairjax.runs.detecting_text.subject import TextSubject

EXPLAINED = (TEMPLATES[0], TEMPLATES[4])
"""Templates whose words are explained."""
WORDS = ("happy", "sad")
"""Emotion words of the sentences that are explained."""
ROWS = 16
"""Number of sentences that are explained at a time."""


def compute(subject: TextSubject) -> dict[str, pd.DataFrame]:
    """Return the attribution of each name, and their differences between groups, per explained network."""
    by_name, differences = [], []
    for number in range(min(subject.settings.explained, len(subject.seeds))):
        for people, names in (("names", NAMES), ("new names", NEW_NAMES)):
            sentences = template_sentences(names, EXPLAINED, WORDS)
            found, gap = _of_names(subject, number, sentences.texts, [person.subject for person in names])
            found = found.reshape(len(names), -1).mean(axis=1)
            about = {"seed": subject.seeds[number], "people": people}
            by_name.append(
                pd.DataFrame({**about, "person": [person.subject for person in names], "attribution": found})
            )
            for attribute, a in (("race", sentences.white), ("gender", sentences.male)):
                test = stats.ttest_ind(found[~a], found[a], equal_var=False)
                low, high = test.confidence_interval(0.95)
                row = {"attribute": attribute, "difference": found[~a].mean() - found[a].mean(), "low": low}
                row |= {"high": high, "t": test.statistic, "p": test.pvalue, "completeness_gap": gap}
                differences.append({**about, **row})
    if not by_name:
        return {}
    return {"name_attributions": pd.concat(by_name), "name_attribution_tests": pd.DataFrame(differences)}


def _of_names(subject: TextSubject, number: int, texts, names) -> tuple[np.ndarray, float]:
    """Return the attribution of the name in each text, and the mean distance from completeness, in logits."""
    network, variables = subject.classifier(number)
    tokens, words = text.tokenise(texts), text.words_of(texts)
    per_name = len(texts) // len(names)
    places = [found.index(names[row // per_name]) for row, found in enumerate(words.words)]
    embedded = embed(network.apply, variables, tokens, table="params.body.words")
    mask = text.tokenise(["[MASK]"])["input_ids"][0, 1]
    blank = baseline(embedded, words.numbers >= 0, embedding_of(embedded, variables, int(mask)))
    explain = _explain(network.apply, subject.settings.nodes)
    found, gaps = [], []
    for start in range(0, len(texts), ROWS):
        part = slice(start, min(start + ROWS, len(texts)))
        x, base = (jax.tree.map(lambda leaf, part=part: leaf[part], tree) for tree in (embedded.x, blank))
        attributions, difference = explain(variables, x, base)
        by_word = np.asarray(sum_by_word(attributions, words.numbers[part]))
        found.extend(by_word[row, places[start + row]] for row in range(len(by_word)))
        gaps.extend(np.abs(np.nansum(by_word, axis=1) - np.asarray(difference)))
    return np.array(found), float(np.mean(gaps))


@functools.cache
def _explain(apply, nodes: int):
    """Compile the attribution of a few embedded texts."""
    from fairjax.detect.text.embeddings import EmbeddedApply

    embedded = EmbeddedApply(apply, ("params", "body", "words"), "input_ids", ("attention_mask",))

    @jax.jit
    def explain(variables, x, blank):
        found = integrated_gradients(embedded, variables, x, blank, nodes)
        difference = embedded(variables, x)[0] - embedded(variables, blank)[0]
        return jnp.asarray(found["embeddings"]), difference

    return explain
