"""Means over splits, paired comparisons, and which of our rows agree with the printed numbers."""

from typing import Any

import numpy as np
import pandas as pd

from experiments.second_paper.comparing import against
from experiments.second_paper.quantities import PRINTED, QUANTITIES
from experiments.second_paper.table3.printed import printed
from experiments.second_paper.table3.rows import ROWS

VARIANT = ["dataset", "duplicates"]

TESTED = ("accuracy", "balanced_accuracy", "min_parity", "abs_opportunity", "abs_odds")
"""The quantities that are compared; of differences, the distance from 0."""

AGREEMENT = 2.0
"""A printed number agrees with a row if it is within this number of standard deviations over splits of its mean."""

LARGEST_DEVIATION = 0.1
"""A number that varies more than this over splits agrees with nothing: almost any printed number would be near it."""

ROUNDING = 0.0005
"""Half a unit of the last printed digit."""


def summary(per_split: pd.DataFrame, facts: dict[tuple[str, str], dict[str, Any]]) -> pd.DataFrame:
    """Compute mean and standard deviation over splits of every quantity.

    Args:
        per_split: quantities by dataset, duplicates, row and seed.
        facts: facts about the data by data set and treatment of duplicates.

    Returns:
        One line per data set and row: for each quantity its mean, its deviation, and the number of splits on which it
        is undefined or infinite, which the mean leaves out. The row "data" has the parity of the labels alone.
    """
    lines = []
    for variant, group in per_split.groupby(VARIANT, sort=False):
        data = dict.fromkeys([f"{name}{end}" for name in QUANTITIES for end in ("", "_deviation")], np.nan)
        data |= {f"{name}_undefined": 0 for name in QUANTITIES}
        data["parity"] = facts[variant]["parity"]
        data["min_parity"] = min(data["parity"], 1 / data["parity"])
        lines.append({**dict(zip(VARIANT, variant, strict=True)), "row": "data", "splits": 0, **data})
        for row, of_row in group.groupby("row", sort=False):
            line: dict[str, Any] = {**dict(zip(VARIANT, variant, strict=True)), "row": row, "splits": len(of_row)}
            for name in QUANTITIES:
                values = of_row[name].to_numpy(np.float64)
                finite = values[np.isfinite(values)]
                line[name] = finite.mean() if len(finite) else np.nan
                line[f"{name}_deviation"] = finite.std(ddof=1) if len(finite) > 1 else np.nan
                line[f"{name}_undefined"] = len(values) - len(finite)
            lines.append(line)
    found = pd.DataFrame(lines)
    needs = {name: [getattr(ROWS[row], name) for row in found["row"]] for name in ("at_training", "at_test")}
    return found.assign(**needs)


def comparisons(per_split: pd.DataFrame) -> pd.DataFrame:
    """Compare every row with its baseline, and with the shared network, on the same splits.

    The test is Wilcoxon's signed-rank test, as for `reproduce`, with Holm's correction for all rows that are compared
    with one reference in one quantity.

    Returns:
        One line per quantity, row and reference: mean of row - reference with its bootstrap interval, and p-values.
    """
    table = per_split.assign(**{f"abs_{name}": per_split[name].abs() for name in ("opportunity", "odds")})
    lines = []
    for variant, group in table.groupby(VARIANT, sort=False):
        present = set(group["row"])
        for reference in dict.fromkeys(["dnn", *(ROWS[row].baseline for row in present)]):
            rows = [name for name in present if reference in ("dnn", ROWS[name].baseline) or name == reference]
            for quantity in TESTED:
                some = group[group["row"].isin(rows)]
                some = some[~some["row"].isin(set(some.loc[some[quantity].isna(), "row"]))]
                if reference not in set(some["row"]) or some["row"].nunique() < 2:
                    continue
                named = pd.DataFrame(
                    {"dataset": variant[0], "measure": quantity, "method": some["row"], "rule": "none", "part": "test"}
                    | {"seed": some["seed"], "objective": some[quantity]}
                )
                lines.append(against(named, reference).assign(duplicates=variant[1]))
    found = pd.concat(lines, ignore_index=True)
    order = {"row": list(ROWS), "quantity": list(TESTED)}
    columns = ["dataset", "duplicates", "quantity", "row", "reference"]
    columns += ["splits", "difference", "low", "high", "wilcoxon_p", "holm_p"]
    return found.sort_values(
        ["quantity", "row"], kind="stable", key=lambda column: column.map(order[str(column.name)].index)
    )[columns].reset_index(drop=True)


def agreements(found: pd.DataFrame) -> pd.DataFrame:
    """Compare the printed numbers of each row with all of our rows that it may be.

    Args:
        found: the summary.

    Returns:
        One line per printed row and candidate: for each printed number the distance from our mean in standard
        deviations over splits; `agrees`, how many are within two; `of`, how many there are. The row of the data has no
        deviation: its number agrees if it is equal in the printed digits.
    """
    lines = []
    for line in printed().itertuples():
        blocks = np.array([ROWS[row].block for row in found["row"]])
        ours = found[(found["dataset"] == line.dataset) & (blocks == line.row)]
        for own in ours.to_dict("records"):
            entry = {"dataset": line.dataset, "printed_row": line.row, "row": own["row"]}
            entry |= {"duplicates": own["duplicates"], "agrees": 0, "of": 0}
            for name in PRINTED:
                number = getattr(line, name)
                if np.isnan(number):
                    continue
                distance = number - own[name]
                spread = 0.0 if own["row"] == "data" else own[f"{name}_deviation"]
                entry[f"{name}_printed"], entry[f"{name}_ours"] = number, own[name]
                near = abs(distance) <= AGREEMENT * spread + ROUNDING
                entry[f"{name}_agrees"] = bool(near and spread <= LARGEST_DEVIATION)
                entry["agrees"] += entry[f"{name}_agrees"]
                entry["of"] += 1
            lines.append(entry)
    return pd.DataFrame(lines)
