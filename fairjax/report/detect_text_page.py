"""Write a self-contained page on bias in text classifiers."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from fairjax.report import detect_text_figures as figures
from fairjax.report.detect_links import PAGE
from fairjax.report.detect_page import Written
from fairjax.report.detect_summary import interval, over_seeds, p_text
from fairjax.report.layout import Cell, Fold, Row, Section, Table, shown
from fairjax.report.page import picture, render
from fairjax.runs.detecting.computing import Computed, Tables
from fairjax.runs.files import write_text

FIRST = {"race": "Black names less white names", "gender": "women less men"}
"""What differences are, by attribute."""


def write(computed: Computed, settings: dict[str, Any], sentences: int, folder: Path) -> Written:
    """Write the page, `detect.html` in a folder.

    Args:
        computed: what the sections found.
        settings: the settings, as plain values.
        sentences: number of rated sentences.
        folder: the folder of the tables.
    """
    tables, findings = computed.tables, []
    sections = []
    for name, show in (("template_tests", _names), ("name_attributions", _words), ("replacements", _replaced)):
        if name in tables:
            made, found = show(tables)
            sections += made
            findings += found
    if "name_probes" in tables:
        made, found = _concepts(tables)
        sections += made
        findings += found
    accuracy = tables["accuracy"]["accuracy"]
    plant = settings["plant"]
    lead = (
        f"{len(accuracy)} classifiers of sentiment, heads on a pretrained sentence encoder, trained on {sentences:,} "
        f"rated sentences with other splits of the documents; accuracy on their test parts {accuracy.mean():.3f}. "
    )
    lead += (
        f"A bias was planted: in {settings['planted']:,} further training sentences, the share of positive labels is "
        f"{'larger' if plant > 0 else 'smaller'} by {abs(plant):g} for white names."
        if plant
        else "No bias was planted."
    )
    html = render(
        "Do classifiers of sentiment treat names differently?",
        lead,
        [
            Section("findings", "What was found", points=findings),
            *sections,
            Section("limits", "What this page cannot tell", points=_LIMITS),
            Section("settings", "Settings", folds=[Fold("All settings", json.dumps(settings, indent=1))]),
        ],
    )
    write_text(folder / PAGE, html)
    return Written(folder / PAGE, findings)


def _names(tables: Tables) -> tuple[list[Section], list[str]]:
    tests = tables["template_tests"]
    whole = tests[tests["seed"].astype(str) == "all"]
    findings = []
    for attribute in ("race", "gender"):
        row = whole[(whole["attribute"] == attribute) & (whole["people"] == "names")].iloc[0]
        other = whole[(whole["attribute"] == attribute) & (whole["people"] == "new names")].iloc[0]
        differs = row["high"] < 0 or row["low"] > 0
        findings.append(
            f"{attribute.capitalize()}: mean scores of {FIRST[attribute]} differ by {row['difference']:+.3f} "
            f"{interval(row['low'], row['high'], '+.3f')} over names (p = {p_text(row['p'])}); with other names "
            f"{other['difference']:+.3f} {interval(other['low'], other['high'], '+.3f')}. "
            + ("This is more than names of one group differ by chance." if differs else "Chance can explain it.")
        )
    alarms = whole[whole["people"] == "names"]["false_alarms"].mean()
    rows = []
    for row in whole.to_dict("records"):
        per_network = tests[
            (tests["people"] == row["people"]) & (tests["attribute"] == row["attribute"])
            & (tests["seed"].astype(str) != "all")
        ]  # fmt: skip
        cells = [
            Cell(f"{row['attribute']}, {row['people']}"),
            Cell(f"{row['zero']} and {row['one']}"),
            Cell(shown(row["difference"], "+.3f"), interval(row["low"], row["high"], "+.3f")),
            Cell(p_text(row["p"])),
            Cell(p_text(row["p_relabelled"])),
            Cell(interval(row["low_templates"], row["high_templates"], "+.3f")),
            Cell(p_text(row["p_cells"])),
            Cell(shown(row["false_alarms"], ".0%")),
            Cell(f"{int((per_network['p'] < 0.05).sum())} of {len(per_network)}"),
        ]
        rows.append(Row(cells))
    columns = [
        "attribute and people", "people", "difference", "p, names", "p, relabelled", "over templates",
        "p, cells", "false alarms of cells", "networks with p < 0.05",
    ]  # fmt: skip
    note = (
        "Scores are means over networks. In brackets: 95 % intervals. p, names: Welch's t-test with one number per "
        "name. p, relabelled: labels permuted within the other attribute. Over templates: interval for these names "
        "alone. p, cells: t-test over cells of template and word, which is unreliable: false alarms is the share of "
        "random relabellings in which it gives p < 0.05."
    )
    text = (
        "Every name is put into the same sentences. Names are a sample of all names, so they are the units of the "
        f"tests. A test over sentences would find a difference between any two sets of names: here in {alarms:.0%} of "
        "random relabellings."
    )
    points = (
        "What it means: whether scores depend on the kind of name, for other names too if they do for the new names.",
        "What it does not mean: that they depend on race or gender and on nothing else. Names differ in how frequent "
        "they are, in the word pieces that they are cut into, and in who is known by them.",
    )
    people = tables["people"]
    named = people[people["people"].isin(["names", "new names"])]
    pieces = _pieces(named)
    drawn = [
        picture(
            figures.tests_figure(tests),
            "; ".join(
                f"{row['attribute']}, {row['people']}: {row['difference']:+.3f}" for row in whole.to_dict("records")
            ),
            "Differences of mean scores with 95 % intervals over names; grey: single networks.",
        ),
        picture(
            figures.name_scores_figure(named),
            "Mean scores of all names by race and gender.",
            "Each dot is a name, mean over sentences and networks; lines are means of groups.",
        ),
    ]
    section = Section("names", "Names in templates", text=text, points=points, pictures=drawn, tables=[
        Table(columns, rows, note=note), pieces,
    ])  # fmt: skip
    return [section], findings


def _pieces(people: pd.DataFrame) -> Table:
    """Return mean scores by the number of word pieces of names."""
    rows = []
    for pieces, group in people.groupby("pieces"):
        cells = [Cell(str(pieces)), Cell(str(len(group))), Cell(shown(group["score"].mean(), ".3f"))]
        cells += [Cell(str(int((~group["white"].astype(bool)).sum())))]
        rows.append(Row(cells))
    note = "A name that the encoder's vocabulary does not hold is cut into several pieces."
    return Table(["word pieces of the name", "names", "mean score", "of them Black"], rows, "By word pieces", note)


def _words(tables: Tables) -> tuple[list[Section], list[str]]:
    tests = tables["name_attribution_tests"]
    rows = []
    for (people, attribute), group in tests.groupby(["people", "attribute"], sort=False):
        for row in group.to_dict("records"):
            cells = [Cell(f"{attribute}, {people}"), Cell(str(row["seed"]))]
            cells += [Cell(shown(row["difference"], "+.3f"), interval(row["low"], row["high"], "+.3f"))]
            rows.append(Row([*cells, Cell(p_text(row["p"])), Cell(shown(row["completeness_gap"], ".3f"))]))
    columns = ["attribute and names", "network", "difference of the name's part", "p", "completeness gap"]
    note = (
        "In logits, with 95 % intervals over names. Completeness gap: mean distance of the sum of all words' parts "
        "from the difference of logits, the error of numerical integration."
    )
    text = (
        "Integrated gradients split the logit of a sentence, less that of the same sentence with [MASK] for every "
        "word, into one part per word. The table compares the parts of the names."
    )
    points = (
        "What it means: how much the name itself moves the logit.",
        "What it does not mean: that the rest of the sentence is read in the same way whoever it is about.",
    )
    main = tests[(tests["people"] == "names") & (tests["attribute"] == "race")]
    found = (
        f"The names' own parts in the logit differ by {main['difference'].mean():+.2f} between Black and white names "
        f"(mean of {len(main)} explained network{'s' if len(main) > 1 else ''}; p < 0.05 in "
        f"{int((main['p'] < 0.05).sum())})."
    )
    return [Section("words", "What the names contribute", text=text, points=points, tables=[
        Table(columns, rows, note=note)
    ])], [found]  # fmt: skip


def _replaced(tables: Tables) -> tuple[list[Section], list[str]]:
    table = tables["replacements"]
    key = ["replaced", "group"]
    mean, absolute = (over_seeds(table, key, name) for name in ("mean_effect", "mean_absolute_effect"))
    counts = table.groupby(key, sort=False)["sentences"].first()
    rows = [
        Row(
            [
                Cell(f"{what}: {group}"),
                Cell(f"{counts.loc[(what, group)]:,}"),
                Cell(shown(row["mean"], "+.3f"), interval(row["low"], row["high"], "+.3f")),
                Cell(shown(absolute.loc[(what, group)]["mean"], ".3f")),
            ]
        )
        for (what, group), row in mean.iterrows()
    ]
    text = "Words of a sentence are replaced, and the classifiers are evaluated again."
    points = (
        "What it means: what the classifiers would answer.",
        "What it does not mean: that the new sentence is one that people write. Small differences remain for any "
        "change of words.",
    )
    note = "Changes of the score: mean over networks with 95 % t interval, and mean of absolute changes."
    shown_table = Table(["replacement: sentences", "sentences", "mean change", "mean absolute change"], rows, note=note)
    return [Section("replacements", "Words replaced", text=text, points=points, tables=[shown_table])], []


def _concepts(tables: Tables) -> tuple[list[Section], list[str]]:
    probes, scores = tables["name_probes"], tables["name_tcav"]
    accuracy = over_seeds(probes, ["attribute", "layer"], "balanced_accuracy")
    untrained = over_seeds(probes, ["attribute", "layer"], "untrained")
    rows = []
    for (attribute, layer), row in accuracy.iterrows():
        of = scores[(scores["attribute"] == attribute) & (scores["layer"] == layer)]
        cells = [
            Cell(f"{attribute}, {layer}"),
            Cell(shown(row["mean"], ".3f"), interval(row["low"], row["high"], ".3f")),
        ]
        cells.append(Cell(shown(untrained.loc[(attribute, layer)]["mean"], ".3f")))
        if len(of):
            cells += [Cell(shown(of["score"].mean(), ".2f")), Cell(shown(of["random_score"].mean(), ".2f"))]
            cells.append(Cell(f"{int((of['p'] < 0.05).sum())} of {int(of['p'].notna().sum())}"))
        else:
            cells += [Cell("")] * 3
        rows.append(Row(cells))
    note = (
        "Probes are fitted on sentences with the first list of names and evaluated on the new names; in brackets: 95 % "
        "t interval over networks. TCAV: share of the sentences with new names whose logit rises in the direction from "
        "white to Black names, or from men's to women's, beside directions between names relabelled at random; p: "
        "share of relabellings in which the mean derivative is at least as large."
    )
    columns = ["attribute, layer", "probe", "untrained head", "TCAV", "random", "networks with p < 0.05"]
    best = accuracy.loc[("race", "embedding")]["mean"], accuracy.loc[("gender", "embedding")]["mean"]
    race = scores[scores["attribute"] == "race"]
    used, known = int((race["p"] < 0.05).sum()), int(race["p"].notna().sum())
    findings = [
        f"Race and gender of a new name can be read from the embeddings with balanced accuracy {best[0]:.2f} and "
        f"{best[1]:.2f}. The logit depends on the direction of race, more than on directions between names relabelled "
        f"at random (p < 0.05), in {used} of {known} heads and layers."
    ]
    text = "Is the group of a name encoded in the embedding and in the head's units, and does the logit depend on it?"
    points = (
        "What it means: what could be read by a linear probe, and in which direction the logit moves.",
        "What it does not mean: that an encoded attribute is used. Any two sets of names differ in some direction, so "
        "directions are compared with those between names relabelled at random.",
    )
    return [Section("concepts", "Names in representations", text=text, points=points, tables=[
        Table(columns, rows, note=note)
    ])], findings  # fmt: skip


_LIMITS = (
    "Whether other encoders, heads or training data would do the same: all numbers are of these networks.",
    "How people with these names are treated: the sentences are made from templates, and nobody wrote them.",
    "Anything about groups that names do not tell apart.",
)
