"""Write a self-contained page on why networks are biased: findings, and one section per question."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fairjax.report import detect_figures as figures
from fairjax.report import detect_tables as tables
from fairjax.report.detect_about import About
from fairjax.report.detect_summary import interval, over_seeds, share_of_seeds
from fairjax.report.layout import Fold, Section
from fairjax.report.page import picture, render
from fairjax.runs.detecting.sections import SECTIONS, Computed, Tables
from fairjax.runs.files import write_text

PAGE = "detect.html"


class Part(NamedTuple):
    """What the page shows of one section of detection."""

    sections: list[Section]
    findings: list[str]


def write(computed: Computed, about: About, folder: Path) -> Path:
    """Write the page.

    Args:
        computed: what the sections found.
        about: facts about the networks and the data.
        folder: the folder of the tables.

    Returns:
        The path of the page, `detect.html` in the folder.
    """
    path = folder / PAGE
    write_text(path, page(computed, about))
    return path


def page(computed: Computed, about: About) -> str:
    """Return the HTML of the page."""
    parts = _parts(computed, about)
    lead = (
        f"{about.networks[0].upper()}{about.networks[1:]} for {about.dataset} ({about.rows:,} rows), {about.source}, "
        f"explained on the test part of each network's split ({about.test_rows:,} rows). "
    )
    if len(about.groups) == 2:
        lead += f"Differences are {about.difference}. "
    lead += (
        f"A decision is positive if the score is above {about.threshold:g}. Test parts of different networks share rows, "
        "so intervals over networks say how far a number depends on the random split and initialisation, and not how it "
        "would vary among other people."
    )
    return render(
        f"Why networks for {about.dataset} are biased",
        lead,
        [
            Section("findings", "What was found", points=[line for part in parts for line in part.findings]),
            *(section for part in parts for section in part.sections),
            _limits(computed),
            Section("settings", "Settings", folds=[Fold("All settings", json.dumps(about.settings, indent=1))]),
        ],
    )


def findings(computed: Computed, about: About) -> list[str]:
    """Return what was found, in sentences."""
    return [line for part in _parts(computed, about) for line in part.findings]


def _parts(computed: Computed, about: About) -> list[Part]:
    """Return what the page shows of each section that was computed, in the order of `SECTIONS`."""
    found = []
    for section in SECTIONS:
        show, needed = PARTS[section.name]
        if needed in computed.tables:
            found.append(show(computed.tables, about))
    return found


def _features(found: Tables, about: About) -> Part:
    by_variable, gaps = found["bias_by_variable"], found["logit_gap"]
    gap = float(gaps["gap"].mean())
    low, high = float(gaps["all_low"].iloc[0]), float(gaps["all_high"].iloc[0])
    top = by_variable.head(3)
    listed = ", ".join(f"{row.variable} ({row.difference:+.2f})" for row in top.itertuples())
    first, second = about.groups
    finding = (
        f"The mean logit of {first} is {abs(gap):.2f} {'below' if gap < 0 else 'above'} that of {second} "
        f"{interval(low, high, '+.2f')}. The variables with the largest parts in this gap are {listed}."
    )
    if about.attribute:
        part = by_variable.loc[by_variable["variable"] == about.attribute, "difference"].iloc[0]
        finding += (
            f" The attribute itself, {about.attribute}, has {part:+.2f}; the rest passes through other variables."
        )
    rest = float(gaps["completeness_gap"].abs().max())
    text = (
        "Integrated gradients split a row's logit, less that of the mean row, into one part per variable. The mean parts "
        "of the two groups differ by numbers that sum to the gap of the mean logits. What it means: through which inputs "
        "of the network the gap passes. What it does not mean: that a variable causes a difference in the world, that it "
        "was used with intention, or that the gap would shrink by its part if the variable were removed, since a network "
        "that is trained without it can take the same information from others. The parts sum to the gap up to "
        f"{rest:.2g} logits, the error of numerical integration."
    )
    steps = figures.waterfall_steps(by_variable, gap)
    alt = "Waterfall of the gap by variable: " + "; ".join(
        f"{row.variable} {row.part:+.2f}" for row in steps.itertuples()
    )
    caption = "Parts of the variables, summed from top to bottom. Lines: 95 % intervals over rows and networks."
    carries = Section(
        "features",
        "What carries the bias",
        text=text,
        pictures=[picture(figures.waterfall(by_variable, gap, low, high, about.groups), f"{alt}.", caption)],
        tables=[tables.bias(by_variable, gap, about.attribute, about.groups)],
    )
    proxies, finding_of_proxies = _proxies(found, about, gap)
    return Part([carries, proxies], [finding, *finding_of_proxies])


def _proxies(found: Tables, about: About, gap: float) -> tuple[Section, list[str]]:
    summary = proxy_summary(found["proxies"])
    sensitive = summary[summary["sensitive"] >= 0.5]
    others = sensitive[sensitive["variable"] != about.attribute]
    part = float(sensitive["difference"].sum())
    finding = []
    if len(others):
        names = ", ".join(f"{row.variable} ({row.strength:.2f})" for row in others.head(5).itertuples())
        share = f", {part / gap:.0%} of it" if gap else ""
        finding = [
            f"{len(others)} important variable{'s are' if len(others) > 1 else ' is'} associated with {about.protected} and "
            f"can stand in for it: {names}{', ...' if len(others) > 5 else ''}. "
            f"{'With the attribute, they' if about.attribute else 'They'} carry {part:+.2f} of the gap of {gap:+.2f}{share}."
        ]
    else:
        finding = [f"No important variable beside the attribute is associated with {about.protected} by more than 0.1."]
    text = (
        "A proxy is a variable from which the group can be guessed. What it means: where to look first. What it does not "
        "mean: that a sensitive variable must not be used. It can be relevant for the task as well, which is for people to "
        "judge. An association in pairs also misses variables that give the group away only together; the probe of the "
        "input, below, sees those."
    )
    shown = ", ".join(f"{row.variable} (association {row.strength:.2f})" for row in sensitive.head(8).itertuples())
    caption = "Each dot is a variable, mean over networks. To the right: associated with the group; above: important."
    pictures = [
        picture(figures.proxies_figure(summary, about.attribute), f"Sensitive variables: {shown or 'none'}.", caption)
    ]
    table = tables.proxies(summary, about.attribute)
    return Section("proxies", "Proxies of the attribute", text=text, pictures=pictures, tables=[table]), finding


def proxy_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per variable with means over networks, the most sensitive and important first."""
    grouped = table.groupby("variable", sort=False)
    numbers = grouped[["strength", "importance", "difference"]].mean()
    numbers["p_holm"] = grouped["p_holm"].max()
    numbers["sensitive"] = grouped["fairness_sensitive"].mean()
    numbers["relevant"] = grouped["task_relevant"].mean()
    numbers["in_seeds"] = share_of_seeds(table, "variable", table["fairness_sensitive"].astype(bool))
    numbers = numbers.reset_index()
    order = np.lexsort((-numbers["importance"], -(numbers["sensitive"] >= 0.5).astype(int)))
    return numbers.iloc[order].reset_index(drop=True)


def _counterfactuals(found: Tables, about: About) -> Part:
    effects, gaps = found["counterfactuals"], found["counterfactual_gaps"]
    text = (
        "The inputs of test rows are changed and the network is asked again. Flip: the attribute gets its other value. "
        "Permute: a variable gets the values of other rows with the same label, of both groups. Shift: the associated "
        "variables are moved by the difference of the group means. What it means: what the network would answer. What it "
        "does not mean: what would happen to people; changed rows may be unlike any that exist, and a network that does "
        "not react to a flipped attribute can still treat groups differently by their proxies."
    )
    if effects.empty:
        points = ["The attribute is not among the features, and no variable is associated with it by more than 0.1."]
        section = Section("counterfactuals", "Counterfactual effects", text=text, points=points)
        return Part([section], [])
    lines = []
    means = over_seeds(gaps, "perturbation", "selection_gap_after")
    before = gaps["selection_gap_before"].mean()
    for name in [name for name in means.index if name.startswith(("flip", "permute all"))][:3]:
        lines.append(f"{name}: {before:+.3f} becomes {means.loc[name, 'mean']:+.3f}")
    of_flip = effects[effects["perturbation"].str.fullmatch("flip [^,]*")]
    finding = []
    if len(of_flip):
        shares = of_flip.assign(changed_decisions=of_flip["to_positive"] + of_flip["to_negative"])
        changed = over_seeds(shares, "group", "changed_decisions")["mean"]
        score = over_seeds(of_flip, "group", "mean_effect")["mean"]
        finding.append(
            "If only the attribute is flipped, "
            + " and ".join(
                f"{changed[group]:.1%} of the decisions on {group} change (score {score[group]:+.3f})"
                for group in about.groups
                if group in changed.index
            )
            + "."
        )
    if lines:
        finding.append(f"Gap of positive decisions after a perturbation: {'; '.join(lines)}.")
    alt = "Mean change of the score by perturbation and group: " + "; ".join(
        f"{name}, {group} {row['mean']:+.3f}"
        for (name, group), row in over_seeds(effects, ["perturbation", "group"], "mean_effect").iterrows()
        if group in about.groups
    )
    caption = "Mean change of the score of changed rows; lines: 95 % t intervals over networks."
    section = Section(
        "counterfactuals",
        "Counterfactual effects",
        text=text,
        pictures=[picture(figures.effects_figure(effects, about.groups), f"{alt}.", caption)],
        tables=[tables.gaps(gaps), tables.effects(effects, about.groups)],
    )
    return Part([section], finding)


def _concepts(found: Tables, about: About) -> Part:
    probes, tcav, units = found["probes"], found["tcav"], found["units"]
    accuracy = over_seeds(probes, "layer", "balanced_accuracy")["mean"]
    layers = [layer for layer in accuracy.index if layer != "input"]
    last = layers[-1]
    untrained = over_seeds(probes, "layer", "untrained_balanced_accuracy")["mean"]
    degenerate = figures.degenerate_layers(tcav)
    text = (
        f"The direction of a group in a layer is the normal of a logistic regression that separates its rows ({about.groups[0]}) "
        "from the others. Probe: how well the group is recognised. TCAV: for which share of rows the logit rises along "
        "that direction; sensitivity: by how much. What it means: a layer encodes the group if its probe is above that of "
        "random weights or stays high to the last layer, and uses it if the logit depends on the direction more than on "
        "random ones. What it does not mean: that the network learned the group on purpose; random weights pass much of the "
        "input on, and a direction also holds everything that goes along with the group."
    )
    if degenerate:
        text += (
            f" At {', '.join(sorted(degenerate))} TCAV is degenerate: the gradient is the same for all rows, so a score is 0 "
            "or 1 and its test is void. Read the sensitivity there."
        )
    if about.site:
        where = {"preactivation": "before the ReLU", "activation": "after the ReLU"}.get(
            about.site, "after normalisation"
        )
        text += f" Units are looked at {where} (network.site {about.site})."
    finding = (
        f"From the last layer, {last}, a linear probe tells the groups apart with a balanced accuracy of "
        f"{accuracy[last]:.2f} (random weights: {untrained[last]:.2f}; input: {accuracy.get('input', np.nan):.2f}; chance: 0.50)."
    )
    tested = tcav[tcav["p"].notna()]
    if len(tested):
        share = float((tested["p"] < 0.05).mean())
        finding += f" TCAV differs from random directions in {share:.0%} of the tests of layers and networks."
    spread = (units["auc"] - 0.5).abs().groupby(units["layer"], sort=False).max() + 0.5
    dead = int(units["auc"].isna().sum())
    note = f"The most selective unit tells the groups apart with an AUC of {spread.max():.2f} ({spread.idxmax()})."
    note += f" {dead:,} of {len(units):,} units are constant on their test part." if dead else ""
    alt = "Balanced accuracy of probes by layer: " + "; ".join(
        f"{layer} {accuracy[layer]:.2f}" for layer in accuracy.index
    )
    caption = "One dot per network, lines at the medians. Layers are in the order of the network."
    section = Section(
        "concepts",
        "Layers: is the group encoded, and used?",
        text=text,
        pictures=[picture(figures.layers_figure(probes, tcav), f"{alt}.", caption)],
        tables=[tables.layers(probes, tcav, found["concept_addition"], about.groups)],
        points=[note],
    )
    return Part([section], [finding])


def _quality(found: Tables, about: About) -> Part:
    quality, gaps = found["quality"], found["quality_gaps"]
    views = list(dict.fromkeys(quality["attributes"]))
    finest = views[-1]
    text = (
        "Quality on the test part, by group and by intersections of attributes. What it means: for whom the networks are "
        "wrong more often. What it does not mean: that equal quality is fair treatment, or that labels are right; and a "
        "group with fewer positive labels has a higher accuracy by that alone. Small groups have wide intervals."
    )
    shown, pictures = [], []
    for view in views:
        here = quality[quality["attributes"] == view]
        made = tables.quality(here)
        shown.append(made._replace(title=f"By {view}"))
        shown.append(tables.quality_gaps(gaps[gaps["attributes"] == view])._replace(title=f"Gaps by {view}"))
    here = quality[quality["attributes"] == finest]
    alt = f"Quality by {finest}: " + "; ".join(
        f"{group} accuracy {value:.3f}" for group, value in here.groupby("group", sort=False)["accuracy"].mean().items()
    )
    caption = (
        f"By {finest}. Large dots: means over networks; small dots: networks; lines: mean 95 % intervals over rows."
    )
    pictures = [picture(figures.quality_figure(here), f"{alt}.", caption)]
    finding = _worst(gaps[gaps["attributes"] == finest], finest, len(about.seeds))
    if "profiles" in found:
        shown.append(tables.profiles(found["profiles"], found["profiles_by_variable"], about.groups))
        text += (
            " Attribution profiles compare on which variables the decisions on each group rest; groups whose inputs are "
            "distributed differently have different profiles even under a network that ignores the group."
        )
    return Part([Section("quality", "Quality by subgroup", text=text, tables=shown, pictures=pictures)], finding)


def _worst(gaps: pd.DataFrame, view: str, seeds: int) -> list[str]:
    rows = gaps[(gaps["measure"] == "accuracy") & gaps["difference"].notna()]
    if rows.empty:
        return []
    worst = rows["worst"].value_counts()
    row = rows[rows["worst"] == worst.index[0]]
    return [
        f"By {view}, the accuracy is worst for {worst.index[0]} (in {worst.iloc[0]} of {seeds} networks): "
        f"{row['worst_value'].mean():.3f}, against {row['best_value'].mean():.3f} where it is best."
    ]


def _maps(found: Tables, about: About) -> Part:
    maps, images, channels = found["maps"], found["mean_images"], found["bias_by_channel"]
    layer = str(maps["layer"].iloc[0])
    significant = (maps["corrected_p_value"] < 0.05).groupby(maps["seed"]).mean()
    text = (
        f"Grad-CAM weights the channels of {layer} by how much the logit depends on them: a map is bright where an image "
        "holds evidence for the positive label. Maps are divided by their maximum and averaged by group. What it means: "
        "where, on average, the network finds evidence in the images of each group. What it does not mean: that a "
        "difference of maps is unfair; images of the groups may show different things in different places. Evidence that "
        "is everywhere, such as a colour, does not show in the place of a map; the table of channels shows it."
    )
    if about.site == "preactivation":
        text += " The maps are computed before the ReLU (network.site preactivation)."
    shares = over_seeds(channels, "channel", "difference")["mean"]
    gap = float(channels.groupby("seed")["gap"].first().mean())
    listed = ", ".join(f"{name} {value:+.2f}" for name, value in shares.items())
    first, second = about.groups
    finding = [
        f"The mean logit of {first} is {abs(gap):.2f} {'below' if gap < 0 else 'above'} that of {second}; by colour channel: "
        f"{listed}.",
        f"The mean maps of the groups differ at {significant.mean():.0%} of the positions of {layer} (corrected p < 0.05, mean "
        "over networks).",
    ]
    counts = found["maps_by_group"].groupby("group", sort=False)[["maps", "empty"]].mean()
    empty = "; ".join(
        f"{group}: {row['empty']:.0f} of {row['maps'] + row['empty']:.0f}" for group, row in counts.iterrows()
    )
    caption = f"Means over test images and networks; on the right, {about.difference}. Maps without any evidence are left out ({empty})."
    difference = figures.grid_of(maps, "difference")
    alt = f"Mean images and mean maps of both groups. The maps differ by up to {np.abs(difference).max():.2f}."
    section = Section(
        "maps",
        "Where networks look",
        text=text,
        pictures=[picture(figures.maps_figure(maps, images, about.groups), alt, caption)],
        tables=[tables.channels(channels)],
    )
    return Part([section], finding)


PARTS: dict[str, tuple[Callable[[Tables, About], Part], str]] = {
    "features": (_features, "bias_by_variable"),
    "counterfactuals": (_counterfactuals, "counterfactuals"),
    "concepts": (_concepts, "probes"),
    "quality": (_quality, "quality"),
    "maps": (_maps, "maps"),
}
"""How each section is shown, and the table that is there if it was computed. Its names are those of `SECTIONS`."""


def _limits(computed: Computed) -> Section:
    points = [f"Not computed: {name}, which {reason}." for name, reason in computed.left_out.items()]
    return Section("limits", "What this page cannot tell", points=[*points, *_ALWAYS])


_ALWAYS: tuple[Any, ...] = (
    "Whether a difference is justified: the page says how networks produce it, not whether they may.",
    "Whether labels are right: networks that learn biased labels well repeat them, and are accurate by these labels.",
    "What happens under another network, other data or later: all numbers are of these networks on these test parts.",
    "Anything about groups and attributes that the data do not name.",
)
