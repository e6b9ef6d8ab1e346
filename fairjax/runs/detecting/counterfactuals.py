"""How scores and decisions change when the attribute, its proxies, or several of them are perturbed."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from fairjax.detect.association import association
from fairjax.detect.counterfactual import (
    Effects,
    compose,
    counterfactual,
    effects_by_group,
    permute_within,
    shift_to_group,
)
from fairjax.runs.detecting.attribute_change import AttributeChange, change_of_attribute
from fairjax.runs.detecting.columns import Columns
from fairjax.runs.detecting.subject import Subject
from fairjax.types import Rows, weights_of

STRENGTH, LEVEL = 0.1, 0.05
"""Least strength, and greatest p-value, of the association with the group for a variable to count as a proxy."""

Make = Callable[[Rows, Rows, Any], Any]
"""Function of the train part, the test part and a key that makes a perturbation of the test part."""


def compute(subject: Subject) -> dict[str, pd.DataFrame]:
    """Perturb the test part of each seed.

    Returns:
        A table of effects by group, one of gaps before and after, and, if the attribute is a feature that cannot be
        changed, one that says why.
    """
    assert subject.columns is not None
    change = change_of_attribute(*_whole_table(subject), subject.columns)
    makers = _perturbations(subject, subject.columns, change)
    left_out = {}
    if change is not None and change.perturb is None:
        reason = {"perturbation": [change.name], "reason": [change.reason]}
        left_out["counterfactuals_left_out"] = pd.DataFrame(reason)
    if not makers:
        return {"counterfactuals": _no_effects(), "counterfactual_gaps": _no_gaps(), **left_out}
    apply = subject.network.apply

    def of_seed(variables: Any, split: Any, key: Any, threshold: Any) -> dict[str, Effects]:
        train, test = split.part("train"), split.part("test")
        keys = jax.random.split(key, len(makers))
        perturb = {name: make(train, test, keys[number]) for number, (name, make) in enumerate(makers.items())}
        return counterfactual(apply, variables, test.x, perturb, threshold=threshold)

    effects = subject.over_seeds(of_seed, jnp.asarray(subject.thresholds, jnp.float32))
    tables, gaps = [], []
    for number, seed in enumerate(subject.seeds):
        test = subject.part_of(number, "test")
        a = np.asarray(test.a)
        of_seed_effects = {name: jax.tree.map(lambda leaf: leaf[number], effects[name]) for name in makers}  # noqa: B023
        usable = {name: each for name, each in of_seed_effects.items() if np.isfinite(each.effect).all()}
        gaps += [_gaps(name, each, a, weights_of(test)) | {"seed": seed} for name, each in of_seed_effects.items()]
        if usable:
            key = jax.random.fold_in(jax.random.key(subject.settings.key), seed)
            options: Any = {"group_names": subject.groups, "draws": subject.settings.draws}
            tables.append(subject.frame(number, effects_by_group(usable, a, key=key, **options)))
    table = pd.concat(tables, ignore_index=True) if tables else _no_effects()
    return {"counterfactuals": table, "counterfactual_gaps": pd.DataFrame(gaps)[["seed", *_GAPS]], **left_out}


def _perturbations(subject: Subject, columns: Columns, change: AttributeChange | None) -> Mapping[str, Make]:
    """Return the perturbations by the names that tables show."""
    makers: dict[str, Make] = {}
    if change is not None and change.perturb is not None:
        makers[change.name] = lambda train, test, key: change.perturb
    variables = proxies_of(subject, columns)
    for variable in variables[: subject.settings.proxies]:
        makers[f"permute {variable}"] = _permuted(columns.numbers(variable))
    together = tuple(j for variable in variables for j in columns.numbers(variable))
    if len(variables) > 1:
        makers[f"permute all {len(variables)} proxies"] = _permuted(together)
    if together:
        what = "the proxy" if len(variables) == 1 else f"all {len(variables)} proxies"
        makers[f"shift {what}"] = lambda train, test, key: shift_to_group(together, train.x, train.a, rows_a=test.a)
        if change is not None and change.perturb is not None:
            makers[f"{change.name}, shift {what}"] = lambda train, test, key: compose(
                change.perturb, shift_to_group(together, train.x, train.a, rows_a=test.a)
            )
    return makers


def _permuted(numbers: tuple[int, ...]) -> Make:
    return lambda train, test, key: permute_within(numbers, test.y, key)


def proxies_of(subject: Subject, columns: Columns) -> tuple[str, ...]:
    """Return the variables that are associated with the group in the whole table, the most strongly so first.

    The protected attribute itself is not among them.
    """
    found = association(*_whole_table(subject), columns.names, columns.variables)
    strength = np.where(np.isnan(found.strength), 0.0, found.strength)
    order = np.argsort(-strength, kind="stable")
    names = [found.variables[v] for v in order if strength[v] > STRENGTH and found.p_holm[v] < LEVEL]
    return tuple(name for name in names if name not in columns.attribute_variables)


def _whole_table(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Return the features and the groups of all rows."""
    x = subject.splits.x if subject.axes.x is None else subject.splits.x[0]
    a = subject.splits.a if subject.axes.a is None else subject.splits.a[0]
    return np.asarray(x), np.asarray(a)


_GAPS = ("perturbation", "score_gap_before", "score_gap_after", "selection_gap_before", "selection_gap_after")


def _gaps(name: str, effects: Effects, a: np.ndarray, weights: Any = None) -> dict[str, Any]:
    """Return the gaps of mean scores and of selection rates, a = 0 minus a = 1, before and after a perturbation."""
    weights = np.ones(len(a)) if weights is None else np.asarray(weights, float)
    shares = [np.where(group, weights, 0.0) / (weights[group].sum() or np.nan) for group in (~a, a)]
    known = np.isfinite(effects.effect).all()
    after = np.where(known, effects.scores + effects.effect, np.nan)
    decided = np.where(known, effects.after.astype(float), np.nan)
    values = (effects.scores, after, effects.before.astype(float), decided)
    gaps = [float(np.sum(value * shares[0]) - np.sum(value * shares[1])) for value in values]
    return dict(zip(_GAPS, (name, *gaps), strict=True))


def _no_gaps() -> pd.DataFrame:
    return pd.DataFrame({name: [] for name in ("seed", *_GAPS)})


def _no_effects() -> pd.DataFrame:
    names = ["seed", "perturbation", "group", "rows", "changed", "mean_effect", "mean_logit_effect", "to_positive"]
    tests = [f"{test}_{kind}" for kind in ("p", "holm") for test in ("t", "wilcoxon", "sign_flip")]
    return pd.DataFrame({name: [] for name in (*names, "to_negative", *tests)})
