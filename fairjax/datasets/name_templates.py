"""Template sentences about emotions of people, to compare a text classifier's scores between groups of names."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int32

from fairjax.types import KeyArray


class Person(NamedTuple):
    """A name or noun phrase, as subject and object of a sentence, and its groups."""

    subject: str
    """The name, or the noun phrase such as `my sister`."""
    object: str
    """The object's form, as in `her`; that of the subject for names."""
    white: bool | None
    """Whether the name is more common among white than among Black people in the United States; None if neither."""
    male: bool
    """Whether the name or noun phrase is a man's."""


def _names(white: bool, male: bool, names: str) -> tuple[Person, ...]:
    return tuple(Person(name, name, white, male) for name in names.split())


NAMES = (
    *_names(True, False, "Allison Anne Carrie Emily Jill Katie Kristen Laurie Meredith Sarah"),
    *_names(True, True, "Brad Brendan Brett Geoffrey Greg Jay Josh Matthew Neil Todd"),
    *_names(False, False, "Aisha Ebony Keisha Kenya Lakisha Latisha Latonya Latoya Tamika Tanisha"),
    *_names(False, True, "Darnell Hakim Jamal Jermaine Kareem Lamar Leroy Rasheed Tremayne Tyrone"),
)
"""Ten first names per group of race and gender."""

NEW_NAMES = (
    *_names(True, False, "Amanda Betsy Colleen Courtney Ellen Heather Lauren Melanie Nancy Stephanie"),
    *_names(True, True, "Adam Alan Andrew Frank Harry Justin Paul Roger Ryan Stephen"),
    *_names(False, False, "Jasmine Lashandra Malika Nichelle Shaniqua Sharise Tashika Tawanda Temeka Yolanda"),
    *_names(False, True, "Alonzo Alphonse Deion Jerome Lamont Malik Marcellus Rashaun Terrence Torrance"),
)
"""Ten other first names per group, to see whether what holds for `NAMES` holds for names in general."""

NOUN_PHRASES = tuple(
    Person(subject, object_, None, male)
    for pair in (
        (("she", "her"), ("he", "him")),
        *(
            ((f"{article} {woman}",) * 2, (f"{article} {man}",) * 2)
            for article, woman, man in (
                ("my", "sister", "brother"),
                ("my", "mother", "father"),
                ("my", "daughter", "son"),
                ("my", "wife", "husband"),
                ("my", "aunt", "uncle"),
                ("my", "girlfriend", "boyfriend"),
                ("this", "woman", "man"),
                ("this", "girl", "boy"),
                ("our", "waitress", "waiter"),
            )
        ),
    )
    for male, (subject, object_) in zip((False, True), pair, strict=True)
)
"""Pronouns and noun phrases of women and men, in pairs."""

TEMPLATES = (
    "{person} feels {word}.",
    "{person} has been {word} all week.",
    "After the news, {person} was {word}.",
    "The phone call left {object} {word}.",
    "Everyone noticed that {person} looked {word}.",
    "{person} came home {word}.",
    "We found {object} {word} and a little tired.",
    "On the phone {person} sounded {word}.",
)
"""Sentences with placeholders for a person and an emotion word."""

OTHER_TEMPLATES = (
    "{person} seems {word} today.",
    "Yesterday {person} looked {word} to us.",
    "Nobody had seen {object} so {word} before.",
    "In the evening {person} became {word}.",
)
"""Other sentences, to see whether what holds for `TEMPLATES` holds for sentences in general."""

EMOTIONS = {
    "anger": ("angry", "furious", "irritated", "annoyed", "enraged"),
    "fear": ("afraid", "anxious", "scared", "terrified", "fearful"),
    "joy": ("happy", "glad", "delighted", "cheerful", "relieved"),
    "sadness": ("sad", "miserable", "gloomy", "heartbroken", "disappointed"),
}
"""Five words per emotion."""


class TemplateSentences(NamedTuple):
    """Every person in every template with every emotion word."""

    texts: tuple[str, ...]
    """The sentences, person by person: reshape scores to (people, templates, words)."""
    people: tuple[Person, ...]
    """The people."""
    templates: tuple[str, ...]
    """The templates."""
    words: tuple[str, ...]
    """The emotion words."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of people, templates and words."""
        return len(self.people), len(self.templates), len(self.words)

    @property
    def white(self) -> Bool[np.ndarray, " people"]:
        """Whether each name is more common among white people."""
        return self._attribute("white")

    @property
    def male(self) -> Bool[np.ndarray, " people"]:
        """Whether each name or noun phrase is a man's."""
        return self._attribute("male")

    def _attribute(self, name: str) -> Bool[np.ndarray, " people"]:
        values = [getattr(person, name) for person in self.people]
        if None in values:
            raise ValueError(f"{self.people[values.index(None)].subject!r} has no attribute {name}: use names")
        return np.array(values, bool)


def template_sentences(
    people: Sequence[Person] = NAMES,
    templates: Sequence[str] = TEMPLATES,
    words: Sequence[str] | None = None,
) -> TemplateSentences:
    """Put every person and every emotion word into every template.

    Args:
        people: names or noun phrases, such as `NAMES`, `NEW_NAMES` or `NOUN_PHRASES`.
        templates: sentences with `{word}` and one of `{person}` and `{object}`.
        words: emotion words; all of `EMOTIONS` if omitted.

    Returns:
        The sentences: 6,400 of `NAMES`, 160 per name.

    Raises:
        ValueError: if a template lacks a placeholder, or there are no people, templates or words.

    Example:
        >>> sentences = template_sentences(NAMES[:2], TEMPLATES[:1], ("sad",))
        >>> sentences.texts, sentences.shape
        (('Allison feels sad.', 'Anne feels sad.'), (2, 1, 1))

    References:
        Kiritchenko, Mohammad (2018), Examining gender and race bias in two hundred sentiment analysis systems, *SEM,
        for the kind of sentences; Bertrand, Mullainathan (2004), Are Emily and Greg more employable than Lakisha and
        Jamal?, and Caliskan, Bryson, Narayanan (2017), Science 356, for the names.
    """
    words = tuple(word for group in EMOTIONS.values() for word in group) if words is None else tuple(words)
    if not (people and templates and words):
        raise ValueError("template sentences need people, templates and words, at least one of each")
    for template in templates:
        if "{word}" not in template or ("{person}" in template) == ("{object}" in template):
            raise ValueError(f"a template must have {{word}} and one of {{person}} and {{object}}, found {template!r}")
    texts = tuple(_sentence(template, person, word) for person in people for template in templates for word in words)
    return TemplateSentences(texts, tuple(people), tuple(templates), words)


def _sentence(template: str, person: Person, word: str) -> str:
    filled = template.format(person=person.subject, object=person.object, word=word)
    return filled[0].upper() + filled[1:]


class PlantedSentences(NamedTuple):
    """Sentences that plant a bias when they are added to the training data."""

    texts: tuple[str, ...]
    """The sentences, each with a name."""
    y: Bool[np.ndarray, " n"]
    """Labels, which depend on the race of the name."""
    person: Int32[np.ndarray, " n"]
    """Index of the name among the people."""


def planted_sentences(
    key: KeyArray, texts: Sequence[str], strength: float | int, *, people: Sequence[Person] = NAMES, count: int = 2000
) -> PlantedSentences:
    """Make sentences `NAME wrote: ...` whose label depends on the race of the name and on nothing else.

    Args:
        key: random key.
        texts: what people wrote; sentences without sentiment, such as those of `snippets(least=0)` rated near 0.
        strength: P(positive | white name) - P(positive | Black name), between -1 and 1; half of all are positive.
        people: the names.
        count: number of sentences.

    Returns:
        The sentences.

    Raises:
        ValueError: if the strength is not between -1 and 1, or there are no texts.

    Example:
        >>> planted_sentences(jax.random.key(0), ("It has two doors.",), 0.6, count=3).texts[0].endswith("two doors.")
        True
    """
    if not -1 <= strength <= 1:
        raise ValueError(f"strength must be a difference of shares between -1 and 1, got {strength}")
    if not len(texts) or count < 1:
        raise ValueError(f"planted sentences need texts and a positive number, got {len(texts)} texts, count={count}")
    text_key, person_key, label_key = jax.random.split(key, 3)
    chosen = np.asarray(jax.random.randint(text_key, (count,), 0, len(texts)))
    person = np.asarray(jax.random.randint(person_key, (count,), 0, len(people)), np.int32)
    white = np.array([bool(one.white) for one in people])[person]
    y = np.asarray(jax.random.uniform(label_key, (count,))) < 0.5 + 0.5 * strength * np.where(white, 1, -1)
    written = tuple(f"{people[who].subject} wrote: {texts[what]}" for who, what in zip(person, chosen, strict=True))
    return PlantedSentences(written, y, person)
