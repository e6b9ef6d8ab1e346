"""Words on each printed row, as far as this run measured what explains it."""

from typing import Any

import pandas as pd

from experiments.second_paper.quantities import PRINTED, QUANTITIES
from experiments.second_paper.table3.printed import printed
from experiments.second_paper.table3.rows import ROWS

TREATMENTS = {"keep": "all rows", "drop": "without duplicates"}
"""What the treatments of duplicates are called."""

_MEANING = {
    "reweighing": "Weights that are constant within label and group leave the unchanged network's Opty and Odds on a "
    "reweighed test set as they are. ",
}
"""What holds whatever the run measures."""


def explanations(agreements: pd.DataFrame, facts: dict[tuple[str, str], dict[str, Any]]) -> pd.DataFrame:
    """Say for each printed row which of our rows agrees best with it.

    Args:
        agreements: how near our rows are, from `experiments.second_paper.summary.agreements`.
        facts: facts about the data.

    Returns:
        Columns dataset, printed_row, label, words; one line per printed row of the data sets that were measured.
    """
    lines = []
    for line in printed().itertuples():
        candidates = agreements[(agreements["dataset"] == line.dataset) & (agreements["printed_row"] == line.row)]
        if candidates.empty:
            continue
        words = _of_data(line, candidates, facts) if line.row == "data" else _of_row(line.row, candidates)
        lines.append({"dataset": line.dataset, "printed_row": line.row, "label": line.label, "words": words})
    return pd.DataFrame(lines)


def _of_row(row: str, candidates: pd.DataFrame) -> str:
    """Name the candidates with most numbers within two deviations, and how near the row itself is."""
    best = candidates["agrees"].max()
    count, whole = int(best), int(candidates["of"].max())
    if not best:
        return f"{_MEANING.get(row, '')}None of our rows has one of the {whole} printed numbers within 2 deviations."
    chosen = candidates[candidates["agrees"] == best]
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for entry in chosen.to_dict("records"):
        alike.setdefault(_missed(entry), []).append(entry)
    names = "; ".join(
        "; ".join(_name(entry) for entry in entries) + _distances(entries, missed) for missed, entries in alike.items()
    )
    first = candidates.iloc[0]["row"]
    own = candidates[candidates["row"] == first]
    beside = ""
    if first not in set(chosen["row"]):
        beside = f" {ROWS[first].label}: {int(own['agrees'].max())} of {whole}."
    return f"{_MEANING.get(row, '')}{count} of {whole} numbers within 2 deviations: {names}.{beside}"


def _name(entry: dict[str, Any]) -> str:
    return f"{ROWS[entry['row']].label}, {TREATMENTS[entry['duplicates']]}"


def _missed(entry: dict[str, Any]) -> tuple[str, ...]:
    """Return the printed numbers that a candidate does not have."""
    return tuple(name for name in PRINTED if entry.get(f"{name}_agrees") in (False, 0))


def _distances(entries: list[dict[str, Any]], missed: tuple[str, ...]) -> str:
    """Say how far the numbers are that candidates do not have; of several, those of the first."""
    if not missed:
        return ""
    entry = entries[0]
    listed = ", ".join(
        f"{QUANTITIES[name]} {entry[f'{name}_ours']:.3f}, printed {entry[f'{name}_printed']:.3f}" for name in missed
    )
    return f" (but {'in the first ' if len(entries) > 1 else ''}{listed})"


def _of_data(line: Any, candidates: pd.DataFrame, facts: dict[tuple[str, str], dict[str, Any]]) -> str:
    """Say which ratio of labels is the printed one."""
    ratios = {
        f"the ratio of favourable labels, {TREATMENTS[entry['duplicates']]}": entry["parity_ours"]
        for entry in candidates.to_dict("records")
    }
    other = facts.get((line.dataset, "keep"), {}).get("parity_recidivism")
    if other is not None:
        ratios["the ratio of recidivism, Caucasian to African-American, which is another coding"] = other
    listed = "; ".join(f"{name}: {value:.4f}" for name, value in ratios.items())
    nearest = min(ratios, key=lambda name: abs(ratios[name] - line.parity))
    return f"Nearest to the printed {line.parity:.3f}: {nearest} ({ratios[nearest]:.4f}). All: {listed}."
