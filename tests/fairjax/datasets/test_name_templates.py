"""Template sentences and planted sentences."""

import itertools

import jax
import numpy as np
import pytest

from fairjax.datasets.name_templates import (
    NAMES,
    NEW_NAMES,
    NOUN_PHRASES,
    OTHER_TEMPLATES,
    TEMPLATES,
    planted_sentences,
    template_sentences,
)


def test_lists_have_ten_different_names_per_group():
    names = [person.subject for person in NAMES + NEW_NAMES]
    assert len(set(names)) == 80
    for people in (NAMES, NEW_NAMES):
        for white, male in itertools.product((True, False), repeat=2):
            assert sum(person.white is white and person.male is male for person in people) == 10
    assert not set(TEMPLATES) & set(OTHER_TEMPLATES)
    assert [person.male for person in NOUN_PHRASES] == [False, True] * (len(NOUN_PHRASES) // 2)


def test_every_person_is_in_every_template_with_every_word():
    sentences = template_sentences()
    assert sentences.shape == (40, 8, 20) and len(set(sentences.texts)) == 6400
    texts = np.array(sentences.texts).reshape(sentences.shape)
    for person, row in zip(NAMES, texts, strict=True):
        assert all(person.subject in text for text in row.ravel())
    assert all(word in text for text in texts[3, 5] for word in [sentences.words[list(texts[3, 5]).index(text)]])
    assert sentences.white.sum() == sentences.male.sum() == 20


def test_pronouns_have_their_case_and_sentences_begin_with_capitals():
    sentences = template_sentences(NOUN_PHRASES[:2], ("{person} left.{word}", "We saw {object} {word}."), ("sad",))
    assert sentences.texts == ("She left.sad", "We saw her sad.", "He left.sad", "We saw him sad.")
    assert sentences.male.tolist() == [False, True]
    with pytest.raises(ValueError, match="'she' has no attribute white: use names"):
        _ = sentences.white


def test_planted_labels_depend_on_the_race_of_the_name_as_strongly_as_asked():
    sentences = planted_sentences(jax.random.key(0), ("One.", "Two."), 0.6, count=4000)
    white = np.array([person.white for person in NAMES])[sentences.person]
    gap = sentences.y[white].mean() - sentences.y[~white].mean()
    assert abs(gap - 0.6) < 4 * 2 * (0.16 / 4000) ** 0.5 * 1.5 and abs(sentences.y.mean() - 0.5) < 0.04
    name = NAMES[sentences.person[0]].subject
    assert sentences.texts[0] in (f"{name} wrote: One.", f"{name} wrote: Two.")
    none = planted_sentences(jax.random.key(0), ("One.",), 0.0, count=4000)
    assert abs(none.y[white].mean() - none.y[~white].mean()) < 0.07


def test_bad_templates_and_strengths_are_refused():
    for template in ("{person} is.", "{word}", "{person} saw {object} {word}."):
        with pytest.raises(ValueError, match="must have {word} and one of {person} and {object}"):
            template_sentences(NAMES, (template,))
    with pytest.raises(ValueError, match="at least one of each"):
        template_sentences(())
    with pytest.raises(ValueError, match="between -1 and 1, got 2"):
        planted_sentences(jax.random.key(0), ("One.",), 2)
    with pytest.raises(ValueError, match="got 0 texts"):
        planted_sentences(jax.random.key(0), (), 0.5)
