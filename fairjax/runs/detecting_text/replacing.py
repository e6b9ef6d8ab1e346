"""What changes when names, pronouns and nouns are replaced or swapped in sentences."""

import numpy as np
import pandas as pd

from fairjax.datasets.name_templates import NAMES
from fairjax.detect.text import replace_words, swap_words
from fairjax.runs.detecting_text.corpus import sentences_of
from fairjax.runs.detecting_text.subject import TextSubject

GENDERED = (
    ("he", "she"), ("his", "her"), ("himself", "herself"), ("man", "woman"), ("men", "women"), ("boy", "girl"),
    ("boys", "girls"), ("father", "mother"), ("son", "daughter"), ("brother", "sister"), ("husband", "wife"),
    ("actor", "actress"), ("hero", "heroine"), ("king", "queen"), ("mr", "mrs"), ("uncle", "aunt"), ("male", "female"),
)  # fmt: skip
"""Pairs of words that are swapped in rated sentences."""
NEUTRAL = ("[MASK]", "X")
"""What replaces a name in template sentences."""


def compute(subject: TextSubject) -> dict[str, pd.DataFrame]:
    """Return the effect of each replacement, one row per seed, replacement and group of names."""
    sentences = sentences_of("names")
    per_name = len(sentences.texts) // len(sentences.people)
    before = subject.scores("names", sentences.texts)
    groups = {
        f"{'white' if white else 'Black'} {'men' if male else 'women'}": (sentences.white == white)
        & (sentences.male == male)
        for white in (True, False)
        for male in (True, False)
    }
    rows = []
    for neutral in NEUTRAL:
        replaced = replace_words(sentences.texts, {person.subject: neutral for person in NAMES})
        effect = subject.scores(f"names {neutral.strip('[]')}", replaced) - before
        for group, chosen in groups.items():
            rows += _rows(subject, f"name by {neutral}", group, effect[:, np.repeat(chosen, per_name)])
    rated = subject.corpus.rated.texts
    swapped = swap_words(rated, GENDERED)
    changed = [row for row, (old, new) in enumerate(zip(rated, swapped, strict=True)) if old != new]
    old = subject.scores_of(subject.splits.x[np.array(changed)])  # rated sentences come first
    new = subject.scores("gendered", [swapped[row] for row in changed], subject.settings.length)
    masculine = [_is_masculine(rated[row]) for row in changed]
    for group, chosen in (("sentences of men", masculine), ("sentences of women", [not one for one in masculine])):
        rows += _rows(subject, "words of gender swapped", group, (new - old)[:, np.array(chosen)])
    return {"replacements": pd.DataFrame(rows)}


def _rows(subject: TextSubject, what: str, group: str, effect: np.ndarray) -> list[dict]:
    """Return one row per seed; none if the group has no sentences."""
    return [] if not effect.shape[1] else [
        {
            "seed": seed, "replaced": what, "group": group, "sentences": values.size,
            "mean_effect": values.mean(), "mean_absolute_effect": np.abs(values).mean(),
        }
        for seed, values in zip(subject.seeds, effect, strict=True)
    ]  # fmt: skip


def _is_masculine(sentence: str) -> bool:
    """Return whether the first word of gender in a sentence is a man's."""
    men, women = ({pair[place] for pair in GENDERED} for place in (0, 1))
    for word in "".join(letter if letter.isalnum() else " " for letter in sentence.casefold()).split():
        if word in men or word in women:
            return word in men
    raise ValueError(f"no word of gender in {sentence!r}")
