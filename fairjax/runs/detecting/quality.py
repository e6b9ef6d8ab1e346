"""For whom networks work worse: quality by subgroup, and whether they rely on the same features in every group."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from fairjax.detect.attribution import integrated_gradients
from fairjax.detect.quality import ProfileComparison, compare_profiles, quality_by_group
from fairjax.metrics import probabilities
from fairjax.runs.detecting.applies import needs_table_and_two_groups
from fairjax.runs.detecting.features import mean_row
from fairjax.runs.detecting.subject import Subject

PROFILE_ROWS = 2000
"""Maximum number of rows of a test part whose attributions are compared between groups."""


def unfit(subject: Subject) -> str | None:
    """Return why the section does not apply; None if it does."""
    if subject.splits.a.ndim - (subject.axes.a == 0) != 1:
        return "needs groups that do not overlap: leave out --no-intersect"
    return None


def compute(subject: Subject) -> dict[str, pd.DataFrame]:
    """Measure quality by subgroup on the test part of each seed; and compare attribution profiles of two groups."""
    tables = _quality(subject)
    if needs_table_and_two_groups(subject) is None:
        tables |= _profiles(subject)
    return tables


def _quality(subject: Subject) -> dict[str, pd.DataFrame]:
    apply, settings = subject.network.apply, subject.settings

    def of_seed(variables: Any, split: Any, key: Any) -> jax.Array:
        del key
        return probabilities(apply(variables, split.part("test").x)[0])

    scores = subject.over_seeds(of_seed)
    classes = len(subject.structure.classes)
    by_group, gaps = [], []
    for number in range(len(subject.seeds)):
        test, score = subject.part_of(number, "test"), scores[number]
        predicted = score > np.float32(subject.thresholds[number]) if classes == 2 else score.argmax(axis=1)
        weights = getattr(test, "weights", None)
        options: Any = {"num_classes": classes, "bootstrap": settings.draws, "seed": settings.key}
        for view, members in _views(subject, number).items():
            columns = (predicted.astype(int), np.asarray(test.y).astype(int), members, score, weights)
            found = quality_by_group(*columns, **options)
            table = found.to_frame().reset_index(drop=True)
            table.insert(0, "group", found.names)
            table.insert(0, "attributes", view)
            by_group.append(subject.frame(number, table))
            gap = found.gaps().reset_index()
            gap.insert(0, "attributes", view)
            gaps.append(subject.frame(number, gap))
    return {
        "quality": pd.concat(by_group, ignore_index=True),
        "quality_gaps": pd.concat(gaps, ignore_index=True),
    }


def _views(subject: Subject, number: int) -> dict[str, pd.DataFrame]:
    """Return the groups of the rows of a test part: those of the run, and intersections with the other attributes.

    Other attributes are protected attributes of the benchmark that are among the features.
    """
    _, split = subject.of_seed(number)
    rows = np.asarray(split.test)
    names = np.array(subject.groups, object)
    protected = subject.facts.get("protected") or "group"
    own = pd.DataFrame({protected: names[np.asarray(split.a)[rows].astype(int)]})
    views = {protected: own}
    others = {}
    columns = subject.columns
    for attribute in subject.settings.benchmark.attributes:
        if columns is None or attribute not in columns.names or attribute in (*columns.attribute, protected):
            continue
        values = np.asarray(split.x)[rows, columns.names.index(attribute)]
        if len(np.unique(np.asarray(split.x)[:, columns.names.index(attribute)])) == 2:
            others[attribute] = [f"{attribute} = {value:g}" for value in values]
    if others:
        views[" and ".join((protected, *others))] = own.assign(**others)
    return views


def _profiles(subject: Subject) -> dict[str, pd.DataFrame]:
    """Compare the attribution profiles of two groups by variable, on some rows of each test part."""
    assert subject.columns is not None
    columns, settings, apply = subject.columns, subject.settings, subject.network.apply
    member = np.array([[variable == name for name in columns.distinct] for variable in columns.variables], np.float32)

    def of_seed(variables: Any, split: Any, key: Any) -> ProfileComparison:
        order_key, permutation_key = jax.random.split(key)
        rows = jax.random.permutation(order_key, split.test)[:PROFILE_ROWS]
        batch = split.batch(rows)
        attributions = integrated_gradients(apply, variables, batch.x, mean_row(split), nodes=settings.nodes)
        by_variable = jnp.matmul(attributions.astype(jnp.float32), member, precision="highest")
        return compare_profiles(by_variable, batch.a, permutation_key, settings.draws)

    found = subject.over_seeds(of_seed)
    overall = pd.DataFrame(
        {
            "seed": subject.seeds,
            "total_variation": found.total_variation[:, 0],
            "chance": found.chance[:, 0],
            "p_value": found.p_value[:, 0],
            "rank_correlation": found.rank_correlation[:, 0],
        }
    )
    frames = []
    for number in range(len(subject.seeds)):
        shares = {f"share, {name}": found.profiles[number, g] for g, name in enumerate(subject.groups)}
        difference = {"difference": found.difference[number, 0], "p_value": found.feature_p_value[number, 0]}
        frames.append(subject.frame(number, {"variable": columns.distinct, **shares, **difference}))
    return {"profiles": overall, "profiles_by_variable": pd.concat(frames, ignore_index=True)}
