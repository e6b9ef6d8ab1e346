"""Mitigation of a planted bias in classifiers of text: three ways, tested on other templates and on new names."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from rich.console import Console

import fairjax
from fairjax import Training
from fairjax.datasets.name_templates import NAMES
from fairjax.detect.text import replace_words, template_test
from fairjax.losses import Loss, TemplateGap
from fairjax.losses.template_gap import Form
from fairjax.preprocess import group_direction, principal_directions, project_out
from fairjax.report.markdown_table import markdown_table
from fairjax.runs.detecting_text.corpus import sentences_of
from fairjax.runs.detecting_text.settings import TextSettings
from fairjax.runs.detecting_text.subject import (
    TextSubject,
    accuracies_of_heads,
    open_text_subject,
    scores_of_heads,
)
from fairjax.runs.files import write_text
from fairjax.runs.signals import stop_if_asked
from fairjax.types import Split, Variables

TESTED = ("names", "other templates", "new names")
"""The sets of people and templates that are tested. Penalties and directions use the first one alone."""

PENALTIES: tuple[tuple[Form, float], ...] = (
    ("mean", 1.0),
    ("mean", 5.0),
    ("mean", 20.0),
    ("cells", 50.0),
    ("people", 1.0),
)
"""Forms and weights of the penalty over templates."""

NEUTRAL = "[MASK]"
"""The word that replaces names."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MitigateText:
    """Plant a bias in classifiers of text, mitigate it in several ways, and compare their accuracy and what is left."""

    plant: float = 0.6
    """Strength of the planted bias, as in `detect --dataset snippets`."""
    seeds: tuple[int, ...] = TextSettings.seeds
    """One head per seed."""
    epochs: int = 10
    """Epochs of fine-tuning with a penalty."""
    learning_rate: float = 1e-4
    """Adam's step size of fine-tuning."""
    cache: Path | None = None
    """Folder in which the sentences' embeddings are kept; by default the user's cache folder."""
    out: Path = Path("results/mitigate-text")
    """Folder of the results. An interrupted run continues from there."""

    def __post_init__(self):
        """Validate the settings before anything is loaded."""
        if not self.plant:
            raise ValueError("plant must be a bias to mitigate, such as 0.6, got 0")
        if self.epochs < 1 or not 0 < self.learning_rate < 1:
            raise ValueError(
                f"epochs must be at least 1 and learning_rate in (0, 1), got {self.epochs} and {self.learning_rate}"
            )
        self.text_settings()

    def text_settings(self) -> TextSettings:
        """Return the settings of the classifiers."""
        return TextSettings(plant=self.plant, seeds=self.seeds, cache=self.cache, out=self.out)


Mitigated = tuple[Variables, Split, dict[str, np.ndarray]]
"""Variables of the heads of all seeds, their splits, and the embeddings of the tests as the heads take them."""


def run(settings: MitigateText, console: Console) -> pd.DataFrame:
    """Compute all rows, print the table, and write it to the folder of results.

    Args:
        settings: the settings.
        console: the console that shows progress and the table.

    Returns:
        One row per mitigation and seed.

    Raises:
        ImportError, ValueError, OSError: if something is not installed, or files cannot be used.
    """
    with open_text_subject(settings.text_settings(), console) as subject:
        embeddings = {name: _embedded(subject, name) for name in TESTED}
        folder = subject.folder.path
        finished = folder / f"rows-{settings.epochs}-{settings.learning_rate:g}"  # what the folder's identity lacks
        finished.mkdir(exist_ok=True)
        tables = []
        for number, (name, compute) in enumerate(_mitigations(subject, settings, embeddings)):
            file = finished / f"{number:02d}.csv"
            if not file.exists():
                stop_if_asked()
                console.print(f"mitigation: {name}", highlight=False)
                rows = pd.DataFrame(_tested(subject, name, *compute()))
                write_text(file, rows.to_csv(index=False))  # at once, so that the row is complete or absent
            tables.append(pd.read_csv(file, dtype={"seed": str}))
        table = pd.concat(tables, ignore_index=True)
        table.to_csv(folder / "mitigation.csv", index=False)
        text = markdown_table(_summary(table))
        (folder / "mitigation.md").write_text(text + "\n")
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print(f"\ntables: {folder} (mitigation.csv, mitigation.md)", highlight=False, soft_wrap=True)
    return table


def _embedded(subject: TextSubject, name: str, texts: tuple[str, ...] | None = None) -> np.ndarray:
    """Return the embeddings of template sentences, (people, cells, features)."""
    sentences = sentences_of(name)
    label = name if texts is None else f"{name} neutral"
    x = np.asarray(subject.encoder.embed(label, sentences.texts if texts is None else texts))
    return x.reshape(len(sentences.people), -1, x.shape[1])


def _mitigations(
    subject: TextSubject, settings: MitigateText, embeddings: dict[str, np.ndarray]
) -> Iterator[tuple[str, Callable[[], Mitigated]]]:
    """Yield the name of each mitigation, and what computes it."""
    heads, splits = subject.heads, subject.splits
    yield "none", lambda: (heads, splits, embeddings)

    white = np.asarray(sentences_of("names").white, bool)
    templates = jnp.asarray(embeddings["names"])

    def penalised(form: Form, weight: float) -> Mitigated:
        loss = Loss(terms=(TemplateGap(weight=weight, sentences=templates, a=white, form=form),))
        config = Training(epochs=settings.epochs, learning_rate=settings.learning_rate, batch_size=256, keep="last")
        return _fitted(subject, splits, config, loss=loss, start=heads), splits, embeddings

    for form, weight in PENALTIES:
        yield f"penalty, {form}, weight {weight:g}", functools.partial(penalised, form, weight)

    means = embeddings["names"].mean(axis=1)

    def projected(directions: Any, refit: bool) -> Mitigated:
        mapped = {name: np.asarray(project_out(x, directions)) for name, x in embeddings.items()}
        without = splits._replace(x=project_out(splits.x, directions))
        return _refitted(subject, without) if refit else heads, without, mapped

    for label, directions in (
        ("mean direction", group_direction(means, white)),
        ("10 principal directions", principal_directions(means, 10)),
    ):
        yield f"{label} projected out, same head", functools.partial(projected, directions, False)
        yield f"{label} projected out, head refitted", functools.partial(projected, directions, True)

    def replaced() -> Mitigated:
        neutral_splits, neutral = _neutral(subject, embeddings)
        return _refitted(subject, neutral_splits), neutral_splits, neutral

    yield "names replaced, head refitted", replaced


def _neutral(subject: TextSubject, embeddings: dict[str, np.ndarray]) -> tuple[Split, dict[str, np.ndarray]]:
    """Replace the names of the first list in all sentences; those of the second list are not known."""
    known = {person.subject: NEUTRAL for person in NAMES}
    corpus, length = subject.corpus, subject.settings.length
    assert corpus.planted is not None
    x = [
        np.asarray(subject.encoder.embed(name, replace_words(texts, known), length))
        for name, texts in (("snippets neutral", corpus.rated.texts), ("planted neutral", corpus.planted.texts))
    ]
    tests = {name: _embedded(subject, name, replace_words(sentences_of(name).texts, known)) for name in embeddings}
    return subject.splits._replace(x=jnp.concatenate([jnp.asarray(part) for part in x])), tests


def _refitted(subject: TextSubject, splits: Split) -> Variables:
    """Train new heads, as those of the subject were trained."""
    return _fitted(subject, splits, subject.settings.training())


def _fitted(subject: TextSubject, splits: Split, training: Training, **options: Any) -> Variables:
    keys = jax.vmap(jax.random.key)(jnp.asarray(subject.seeds, jnp.uint32))
    fitted = fairjax.fit_many(subject.head, splits, keys=keys, training=training, **options)
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), fitted.variables)


def _tested(
    subject: TextSubject, name: str, heads: Variables, splits: Split, embeddings: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Return accuracy and the differences between names of two races, one row per seed and one of the mean scores."""
    accuracy = np.asarray(accuracies_of_heads(subject.head, heads, splits))
    rows = {
        seed: {"mitigation": name, "seed": seed, "accuracy": a} for seed, a in zip(subject.seeds, accuracy, strict=True)
    }
    rows["all"] = {"mitigation": name, "seed": "all", "accuracy": accuracy.mean()}
    for place, (people, x) in enumerate(embeddings.items()):
        sentences = sentences_of(people)
        flat = jnp.asarray(x).reshape(-1, x.shape[-1])
        scores = np.asarray(scores_of_heads(subject.head, heads, flat)).reshape(len(subject.seeds), *sentences.shape)
        key = subject.key(1000 + place)
        for seed, values in (("all", scores.mean(axis=0)), *zip(subject.seeds, scores, strict=True)):
            found = template_test(values, sentences.white, key=key.copy(), strata=sentences.male, draws=100)
            column = people.replace(" ", "_")
            rows[seed] |= {
                f"difference_{column}": found.difference, f"low_{column}": found.low, f"high_{column}": found.high,
            }  # fmt: skip
    return list(rows.values())


def _summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per mitigation: mean accuracy, and the differences of mean scores with intervals over names."""
    rows = []
    for _, row in table[table.seed == "all"].iterrows():
        summary = {"mitigation": row.mitigation, "accuracy": f"{row.accuracy:.3f}"}
        for people in TESTED:
            column = people.replace(" ", "_")
            low, high = row[f"low_{column}"], row[f"high_{column}"]
            summary[people] = f"{row[f'difference_{column}']:+.3f} [{low:+.3f}, {high:+.3f}]"
        rows.append(summary)
    return pd.DataFrame(rows)
