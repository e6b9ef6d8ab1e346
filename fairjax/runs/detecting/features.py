"""Which features carry the bias: the gap between mean logits by feature, and which variables are proxies."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd

from fairjax.detect.annotation import annotate
from fairjax.detect.association import association
from fairjax.detect.attribution import BiasByFeature, bias_by_feature
from fairjax.runs.detecting.columns import Columns
from fairjax.runs.detecting.subject import Subject
from fairjax.types import Split


def compute(subject: Subject) -> dict[str, pd.DataFrame]:
    """Decompose the gap of each network on its test part, and annotate variables by associations in its train part."""
    assert subject.columns is not None
    bias = _bias(subject, subject.columns)
    columns, groups = subject.columns, subject.groups
    by_variable = bias.table(columns.names, columns.variables, groups=groups)
    by_feature = bias.table(columns.names, groups=groups)
    return {
        "bias_by_variable": by_variable.rename(columns={"feature": "variable"}),
        "bias_by_feature": by_feature,
        "bias_of_seeds": _of_seeds(subject, bias),
        "logit_gap": _gap(subject, bias),
        "proxies": _proxies(subject, bias),
    }


def _bias(subject: Subject, columns: Columns) -> BiasByFeature:
    settings, apply = subject.settings, subject.network.apply

    def of_seed(variables: Any, split: Any, key: Any) -> BiasByFeature:
        options: Any = {"nodes": settings.nodes, "draws": settings.draws, "columns": columns.variables}
        return bias_by_feature(apply, variables, split.part("test"), mean_row(split), key=key, **options)

    return subject.over_seeds(of_seed)


def mean_row(split: Split) -> Any:
    """Return the baseline of attributions: the mean row of the train part, or None, for zeros, if standardised."""
    return jnp.mean(split.part("train").x, axis=0) if split.mean is None else None


def _one(bias: BiasByFeature, number: int) -> BiasByFeature:
    """Return the result of one seed by its position."""
    return BiasByFeature(*(None if field is None else field[number] for field in bias))


def _of_seeds(subject: Subject, bias: BiasByFeature) -> pd.DataFrame:
    """Return one row per seed and variable."""
    assert subject.columns is not None
    names, columns = subject.columns.names, subject.columns.variables
    frames = []
    for number in range(len(subject.seeds)):
        table = _one(bias, number).table(names, columns, groups=subject.groups)
        frames.append(subject.frame(number, table.rename(columns={"feature": "variable"})))
    return pd.concat(frames, ignore_index=True)


def _gap(subject: Subject, bias: BiasByFeature) -> pd.DataFrame:
    """Return one row per seed, and one for all, with the gap that the differences of the features sum to."""
    frames = []
    for number in range(len(subject.seeds)):
        one = _one(bias, number)
        low, high = one.gap_interval()
        row = {"gap": one.gap, "low": low, "high": high, "completeness_gap": one.completeness_gap}
        row |= {"largest_delta": one.largest_delta}
        row |= {f"logit, {name}": logit for name, logit in zip(subject.groups, one.logits, strict=True)}
        row |= {f"rows, {name}": count for name, count in zip(subject.groups, one.counts, strict=True)}
        frames.append(subject.frame(number, {name: [value] for name, value in row.items()}))
    low, high = bias.gap_interval()
    return pd.concat(frames, ignore_index=True).assign(all_low=low, all_high=high)


def _proxies(subject: Subject, bias: BiasByFeature) -> pd.DataFrame:
    """Return one row per seed and variable with its association with the group and its annotation."""
    assert subject.columns is not None
    columns = subject.columns
    attribute = next(iter(columns.attribute_variables), None)
    frames = []
    for number in range(len(subject.seeds)):
        train = subject.part_of(number, "train")
        found = association(train.x, train.a, columns.names, columns.variables)
        table = annotate(_one(bias, number), found, attribute, columns.names, columns.variables)
        tests = dict(zip(found.variables, found.test, strict=True))
        table["test"] = table["variable"].map(tests)
        table["is_attribute"] = table["variable"].isin(columns.attribute_variables)
        frames.append(subject.frame(number, table))
    return pd.concat(frames, ignore_index=True).replace({"importance": {np.inf: np.nan}})
