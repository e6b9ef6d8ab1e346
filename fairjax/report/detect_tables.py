"""Tables of the page of `detect`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fairjax.report.detect_summary import interval, over_seeds, p_text, share_of_seeds
from fairjax.report.layout import Cell, Row, Table, shown

MOST = 15
"""Number of variables of a table on the page; the csv files have all."""


def bias(by_variable: pd.DataFrame, gap: float, attribute: str, groups: Sequence[str]) -> Table:
    """Return the parts of the largest variables."""
    several = "seeds_sd" in by_variable.columns and by_variable["seeds_sd"].notna().any()
    rows = []
    for row in by_variable.head(MOST).to_dict("records"):
        cells = [
            Cell(row["variable"], "the attribute" if row["variable"] == attribute else ""),
            Cell(shown(row["difference"], "+.3f"), interval(row["low"], row["high"], "+.3f")),
            Cell(shown(row["difference"] / gap if gap else np.nan, ".0%")),
            *([Cell(shown(row["seeds_sd"], ".3f"))] if several else []),
            Cell(shown(row["importance"], ".3f")),
            *(Cell(shown(row[f"mean, {group}"], "+.3f")) for group in groups),
        ]
        rows.append(Row(cells))
    columns = ["variable", "difference", "share of the gap", *(["sd over networks"] if several else []), "importance"]
    columns += [f"mean, {group}" for group in groups]
    note = (
        "In logits. In brackets: 95 % bootstrap interval over rows and networks together. Importance: mean absolute "
        "attribution over all rows. A share above 100 % or below 0 means that other variables work in the other "
        "direction."
    )
    left = len(by_variable) - len(rows)
    note += f" bias_by_variable.csv has {left} more variables." if left else ""
    return Table(columns, rows, note=note)


def proxies(summary: pd.DataFrame, attribute: str) -> Table:
    """Return the association and annotation of the variables that stand out."""
    chosen = summary[(summary["sensitive"] >= 0.5) | (summary["importance"].rank(ascending=False) <= 6)]
    rows = []
    for row in chosen.head(MOST).to_dict("records"):
        kind = "sensitive" if row["sensitive"] >= 0.5 else "task-relevant" if row["relevant"] >= 0.5 else "neither"
        kind += ", or by chance" if kind == "sensitive" and not row["p_holm"] < 0.05 else ""
        kind = "the attribute" if row["variable"] == attribute else kind
        cells = [
            Cell(row["variable"]),
            Cell(shown(row["strength"], ".2f")),
            Cell(p_text(row["p_holm"])),
            Cell(shown(row["importance"], ".3f")),
            Cell(shown(row["difference"], "+.3f")),
            Cell(kind),
            Cell(row["in_seeds"]),
        ]
        rows.append(Row(cells))
    note = (
        "Association: Cramér's V of categories, else the absolute correlation, on the train part, mean over splits. p: "
        "the largest over splits, after Holm's correction for all variables. Sensitive: associated by more than 0.1, "
        "and among the variables that together have 95 % of the importance; task-relevant: the other ones of those. "
        "proxies.csv has all variables and splits."
    )
    columns = ["variable", "association", "p (Holm)", "importance", "difference", "annotation", "sensitive in"]
    return Table(columns, rows, note=note)


def effects(table: pd.DataFrame, groups: Sequence[str]) -> Table:
    """Return effects of perturbations by group."""
    key = ["perturbation", "group"]
    means = {name: over_seeds(table, key, name) for name in ("mean_effect", "to_positive", "to_negative")}
    significant = share_of_seeds(table, key, (table["sign_flip_holm"] < 0.05).where(table["sign_flip_holm"].notna()))
    rows = []
    for name in dict.fromkeys(table["perturbation"]):
        for group in groups:
            if (name, group) not in means["mean_effect"].index:
                continue
            effect = means["mean_effect"].loc[(name, group)]
            cells = [
                Cell(name),
                Cell(group),
                Cell(shown(effect["mean"], "+.3f"), interval(effect["low"], effect["high"], "+.3f")),
                *(Cell(shown(means[way].loc[(name, group)]["mean"], ".1%")) for way in ("to_positive", "to_negative")),
                Cell(significant.loc[(name, group)]),
            ]
            rows.append(Row(cells))
    columns = ["perturbation", "group", "change of the score", "becomes positive", "becomes negative", "p < 0.05 in"]
    note = (
        "Means over networks of means over the test rows that the perturbation changed; in brackets: 95 % t interval "
        "over networks. p: sign-flip permutation test of the change of the score against 0, corrected by Holm for "
        "the number of perturbations; counterfactuals.csv has the t-test and Wilcoxon's test beside it. With "
        "thousands of rows, tiny changes are significant: look at their size."
    )
    return Table(columns, rows, "Changes by group", note)


def gaps(table: pd.DataFrame) -> Table:
    """Return the gaps of scores and decisions before and after perturbations."""
    names = ("score_gap_before", "score_gap_after", "selection_gap_before", "selection_gap_after")
    means = {name: over_seeds(table, "perturbation", name) for name in names}
    rows = []
    for name in dict.fromkeys(table["perturbation"]):
        cells = [Cell(name)]
        for column in names:
            row = means[column].loc[name]
            after = column.endswith("after")
            cells.append(Cell(shown(row["mean"], "+.3f"), interval(row["low"], row["high"], "+.3f") if after else ""))
        rows.append(Row(cells))
    columns = ["perturbation", "score gap", "after", "gap of positive decisions", "after"]
    note = (
        "Difference between groups of the mean score, and of the share of positive decisions, before and after the "
        "perturbation of both groups; means over networks. A flip or a shift lets the groups change places, so that a "
        "gap that these inputs carry alone changes its sign; permuted inputs no longer differ between groups, so that "
        "the gap that they carry vanishes, but for what labels differ."
    )
    return Table(columns, rows, "Gaps between groups before and after", note)


def layers(probes: pd.DataFrame, tcav: pd.DataFrame, addition: pd.DataFrame, groups: Sequence[str]) -> Table:
    """Return probes and TCAV by layer."""
    accuracy = over_seeds(probes, "layer", "balanced_accuracy")
    untrained = over_seeds(probes, "layer", "untrained_balanced_accuracy")
    found = {name: over_seeds(tcav, "layer", name) for name in ("score", "random_score", "sensitivity")}
    significant = share_of_seeds(tcav, "layer", (tcav["p"] < 0.05).where(tcav["p"].notna()))
    notes = layer_notes(tcav)
    added = {group: over_seeds(addition, "layer", f"effect, {group}") for group in groups}
    rows = []
    for layer in dict.fromkeys(probes["layer"]):
        row = accuracy.loc[layer].copy()
        row[["low", "high"]] = row[["low", "high"]].clip(0, 1)
        cells = [
            Cell(layer, notes.get(layer, "")),
            Cell(shown(row["mean"], ".3f"), interval(row["low"], row["high"], ".3f")),
        ]
        cells.append(Cell(shown(untrained.loc[layer]["mean"], ".3f")))
        if layer in found["score"].index:
            score, random = found["score"].loc[layer], found["random_score"].loc[layer]
            cells += [Cell(shown(score["mean"], ".2f")), Cell(shown(random["mean"], ".2f"))]
            cells.append(Cell(significant.loc[layer]))
            change = found["sensitivity"].loc[layer]
            cells.append(Cell(shown(change["mean"], "+.3f"), interval(change["low"], change["high"], "+.3f")))
            cells += [Cell(shown(added[group].loc[layer]["mean"], "+.3f")) for group in groups]
        else:
            cells += [Cell("–")] * (4 + len(groups))
        rows.append(Row(cells))
    columns = ["layer", "probe", "random weights", "TCAV", "random", "p < 0.05 in", "sensitivity"]
    columns += [f"step, {group}" for group in groups]
    note = (
        "Probe: balanced accuracy on test rows of a logistic regression that predicts the group (0.5 is chance), and "
        "the same in the layer with random weights; in brackets: 95 % t interval over networks. TCAV: share of test "
        "rows with the positive label whose logit rises along the direction of the first group, beside that of "
        "random directions; p: Welch's test, Bonferroni over layers. Step: change of the score if every row is moved "
        "along the direction by the distance between the group means."
    )
    return Table(columns, rows, note=note)


def layer_notes(tcav: pd.DataFrame) -> dict[str, str]:
    """Say for each layer in how many networks TCAV was refused, degenerate or not estimable."""
    notes = tcav.assign(kind=tcav["note"].fillna("").astype(str).str.split(":").str[0])
    texts = {}
    for layer, rows in notes.groupby("layer", sort=False):
        counts = rows["kind"][rows["kind"] != ""].value_counts()
        texts[str(layer)] = "; ".join(f"{kind} in {count} of {len(rows)}" for kind, count in counts.items())
    return texts


_MEASURES = {
    "accuracy": "accuracy",
    "true_positive_rate": "TPR",
    "false_positive_rate": "FPR",
    "precision": "precision",
    "auc": "AUC",
    "calibration_error": "calibration error",
}


def quality(table: pd.DataFrame) -> Table:
    """Return the quality of each group, means over networks."""
    measures = [name for name in _MEASURES if name in table.columns and table[name].notna().any()]
    rows = []
    for group, of_group in table.groupby("group", sort=False):
        cells = [Cell(str(group)), Cell(shown(of_group["count"].mean(), ",.0f"))]
        for name in measures:
            low, high = of_group[f"{name}_low"].mean(), of_group[f"{name}_high"].mean()
            cells.append(Cell(shown(of_group[name].mean(), ".3f"), interval(low, high, ".3f")))
        rows.append(Row(cells))
    note = (
        "Means over networks. In brackets: the mean of the 95 % intervals of single test parts (Wilson, or bootstrap "
        "of counts), which say how far a test part of this size determines the number. A dash: too few rows."
    )
    return Table(["group", "test rows", *(_MEASURES[name] for name in measures)], rows, note=note)


def quality_gaps(table: pd.DataFrame) -> Table:
    """Return the gaps of quality, and the group that is worst."""
    rows = []
    for name, of_measure in table.groupby("measure", sort=False):
        known = of_measure[of_measure["difference"].notna()]
        if known.empty or name == "error":  # 1 less the accuracy
            continue
        tested = int(known["p_value"].notna().sum())
        worst = known["worst"].value_counts()
        cells = [
            Cell(_MEASURES.get(str(name)) or str(name).replace("_", " ").replace("brier", "Brier")),
            Cell(shown(known["difference"].mean(), ".3f"), interval(known["low"].mean(), known["high"].mean(), ".3f")),
            Cell(shown(known["shrunk"].mean(), ".3f")),
            Cell(f"{int((known['p_value'] < 0.05).sum())} of {tested}" if tested else "–"),
            Cell(str(worst.index[0])),
            Cell(f"{worst.iloc[0]} of {len(known)}"),
            Cell(shown(known["worst_value"].mean(), ".3f")),
            Cell(shown(known["best_value"].mean(), ".3f")),
        ]
        rows.append(Row(cells))
    note = (
        "Gap: greatest less least value of a group, mean over networks, and the mean of the intervals of single test "
        "parts. The extremes of noisy rates are too far apart; shrunk: after empirical Bayes. p: the test that all "
        "groups have the same value. Worst: the group that most often is."
    )
    columns = ["measure", "gap", "shrunk", "p < 0.05 in", "worst group", "worst in", "worst value", "best value"]
    return Table(columns, rows, "Gaps between groups", note)


def profiles(overall: pd.DataFrame, by_variable: pd.DataFrame, groups: Sequence[str]) -> Table:
    """Return the variables whose share of the attributions differs most between the groups."""
    means = by_variable.groupby("variable", sort=False)[[*(f"share, {group}" for group in groups), "difference"]].mean()
    p = (by_variable["p_value"] < 0.05).where(by_variable["p_value"].notna())
    significant = share_of_seeds(by_variable, "variable", p)
    rows = []
    for name in means["difference"].abs().sort_values(ascending=False).index[:8]:
        cells = [Cell(str(name)), *(Cell(shown(means.loc[name, f"share, {group}"], ".1%")) for group in groups)]
        cells += [Cell(shown(means.loc[name, "difference"], "+.1%")), Cell(significant.loc[name])]
        rows.append(Row(cells))
    distance, chance = overall["total_variation"].mean(), overall["chance"].mean()
    note = "Share of each variable in the mean absolute attribution of a group. "
    note += (
        "How far the profiles differ is not estimable: a group has too few rows."
        if np.isnan(distance)
        else f"The two profiles differ by {distance:.3f} in total variation (0: equal, 1: disjoint), where chance "
        f"alone gives {chance:.3f}; the rank correlation is {shown(overall['rank_correlation'].mean(), '.2f')}."
    )
    note += " p: permutation of the group labels, corrected for all variables."
    return Table(["variable", *groups, "difference", "p < 0.05 in"], rows, "Attribution profiles", note)


def channels(table: pd.DataFrame) -> Table:
    """Return the parts of colour channels in the gap of mean logits."""
    means, gap = over_seeds(table, "channel", "difference"), over_seeds(table.assign(all="all"), "all", "gap")
    rows = []
    for name, row in means.iterrows():
        ends = interval(row["low"], row["high"], "+.3f")
        rows.append(Row([Cell(str(name)), Cell(shown(row["mean"], "+.3f"), ends)]))
    row = gap.loc["all"]
    rows.append(
        Row([Cell("all channels"), Cell(shown(row["mean"], "+.3f"), interval(row["low"], row["high"], "+.3f"))])
    )
    note = "In logits, mean over networks with 95 % t intervals; the baseline is a black image."
    return Table(["channel", "part of the gap"], rows, "The gap of mean logits by channel", note)
