"""Tests of names in templates, and scores by name."""

import numpy as np
import pandas as pd

from fairjax.adapters import text
from fairjax.detect.text import template_test
from fairjax.runs.detecting_text.corpus import PEOPLE, attributes_of, sentences_of
from fairjax.runs.detecting_text.subject import TextSubject


def compute(subject: TextSubject) -> dict[str, pd.DataFrame]:
    """Return the tests, one row per seed, set of people and attribute, and the mean scores of each person."""
    tests, people = [], []
    for place, name in enumerate(PEOPLE):
        sentences = sentences_of(name)
        scores = subject.scores(name, sentences.texts).reshape(len(subject.seeds), *sentences.shape)
        for offset, (attribute, (a, strata)) in enumerate(attributes_of(sentences).items()):
            key = subject.key(10 * place + offset)
            # one test of the mean score over networks, and one per network
            for seed, values in (("all", scores.mean(axis=0)), *zip(subject.seeds, scores, strict=True)):
                found = template_test(values, a, key=key.copy(), strata=strata, draws=subject.settings.draws)._asdict()
                zero, one = found.pop("names")
                tests.append({"seed": seed, "people": name, "attribute": attribute, "zero": zero, "one": one, **found})
        if name != "other templates":
            people.append(_by_person(name, sentences.people, scores))
    accuracy = pd.DataFrame({"seed": subject.seeds, "accuracy": subject.accuracies(), "epochs": subject.epochs})
    return {"template_tests": pd.DataFrame(tests), "people": pd.concat(people), "accuracy": accuracy}


def _by_person(name: str, people, scores: np.ndarray) -> pd.DataFrame:
    """Return the mean score of each person, and how many word pieces the name has."""
    subjects = [person.subject for person in people]
    pieces = text.tokenise(subjects)["attention_mask"].sum(axis=1) - 2
    means = scores.mean(axis=(2, 3))
    return pd.DataFrame(
        {
            "people": name,
            "person": subjects,
            "white": [person.white for person in people],
            "male": [person.male for person in people],
            "pieces": pieces,
            "score": means.mean(axis=0),
            "seeds_sd": means.std(axis=0, ddof=1) if len(means) > 1 else np.nan,
        }
    )
