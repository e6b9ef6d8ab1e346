"""What the page of `detect` shows of each section: what was found, and what it does and does not mean."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from fairjax.report import detect_figures as figures
from fairjax.report import detect_tables as tables
from fairjax.report.detect_about import About
from fairjax.report.detect_features import features
from fairjax.report.detect_part import Part, meaning
from fairjax.report.detect_summary import over_seeds
from fairjax.report.layout import Section, Table
from fairjax.report.page import picture
from fairjax.runs.detecting.computing import Tables


def counterfactuals(found: Tables, about: About) -> Part:
    """Show how scores and decisions change when inputs are perturbed."""
    effects, gaps = found["counterfactuals"], found["counterfactual_gaps"]
    title = "Counterfactual effects"
    left_out = _left_out(found)
    if gaps.empty:
        text = "The attribute is not among the features, and no variable is clearly associated with it."
        text = f"{left_out}No other variable is clearly associated with the group." if left_out else text
        return Part([Section("counterfactuals", title, text=text)], [])
    unknown = _inapplicable(gaps)
    if effects.empty:
        return Part([Section("counterfactuals", title, text=f"{left_out}{unknown}")], [])
    text = (
        f"{left_out}The inputs of test rows are changed, and the networks are evaluated again. Flip: the attribute "
        "gets its other value. Swap: rows of two categories get the other of the two. Permute: a variable gets the "
        "values of other rows with the same label, of both groups. Shift: the associated variables are moved by the "
        "difference of the group means."
    )
    points = meaning(
        "what the networks would answer.",
        "what would happen to people. Changed rows may be unlike any that exist; and networks that hardly react to a "
        "flipped attribute can still treat groups differently by its proxies.",
    )
    points = [*points, unknown] if unknown else points
    caption = "Mean change of the score of changed rows; lines: 95 % t intervals over networks."
    means = over_seeds(effects, ["perturbation", "group"], "mean_effect")["mean"].dropna()
    listed = "; ".join(f"{name}, {group} {mean:+.3f}" for (name, group), mean in means.items() if group != "all")
    alt = f"Mean change of the score by perturbation and group: {listed or 'not estimable'}."
    section = Section(
        "counterfactuals",
        title,
        text=text,
        points=points,
        pictures=[picture(figures.effects_figure(effects, about.groups), alt, caption)],
        tables=[tables.gaps(gaps), tables.effects(effects, about.groups)],
        pictures_first=True,
    )
    return Part([section], _changes(effects, gaps, about))


def _inapplicable(gaps: pd.DataFrame) -> str:
    """Name the perturbations that some rows of every test part do not allow; nothing if there are none."""
    known = gaps["selection_gap_after"].notna().groupby(gaps["perturbation"], sort=False).any()
    names = "; ".join(f"{name}" for name in known.index[~known])
    return names and (f"Not applicable: {names}. Not all rows of the test parts can be changed in this way.")


def _left_out(found: Tables) -> str:
    """Say why the attribute is not changed, if it is a feature that cannot be."""
    if "counterfactuals_left_out" not in found:
        return ""
    (row,) = found["counterfactuals_left_out"].to_dict("records")
    return f"Not computed: {row['perturbation']}, since {row['reason']}. "


def _changes(effects: pd.DataFrame, gaps: pd.DataFrame, about: About) -> list[str]:
    """Say what flipping the attribute and permuting all proxies change."""
    finding = []
    flips = effects[effects["perturbation"].str.fullmatch("flip [^,]*")]
    if len(flips):
        changed = over_seeds(flips.assign(share=flips["to_positive"] + flips["to_negative"]), "group", "share")["mean"]
        score = over_seeds(flips, "group", "mean_effect")["mean"]
        parts = [
            f"{changed[group]:.1%} of those on {group} (score {score[group]:+.3f})"
            for group in about.groups
            if not np.isnan(changed[group])
        ]
        if parts:
            finding.append(f"Of the decisions, flipping only the attribute changes {' and '.join(parts)}.")
    after, before = over_seeds(gaps, "perturbation", "selection_gap_after")["mean"], gaps["selection_gap_before"].mean()
    together = [name for name in after.dropna().index if name.startswith(("flip", "swap", "permute all", "shift"))]
    listed = "; ".join(f"{after[name]:+.3f} after {name}" for name in together)
    if listed:
        finding.append(f"The gap of positive decisions is {before:+.3f}, and it is {listed}.")
    return finding


def concepts(found: Tables, about: About) -> Part:
    """Show whether layers encode the group, and whether the logit depends on it."""
    probes, tcav, units = found["probes"], found["tcav"], found["units"]
    accuracy = over_seeds(probes, "layer", "balanced_accuracy")["mean"].dropna()
    untrained = over_seeds(probes, "layer", "untrained_balanced_accuracy")["mean"]
    last = [layer for layer in dict.fromkeys(probes["layer"]) if layer != "input"][-1]
    text = (
        f"In each layer, a logistic regression separates the rows of {about.groups[0]} from the others; its normal is "
        "the direction of that group. Probe: how well the regression recognises the group on test rows. TCAV: for "
        "which share of the rows with a positive label the logit rises along the direction; sensitivity: by how "
        f"much. Units are looked at {_where(about)}."
    )
    learned = (
        "; whether it has learned to is not known without a probe of random weights."
        if probes["untrained_balanced_accuracy"].isna().all()
        else ", and has learned to if the probe is also above that of random weights."
    )
    points = [
        *meaning(
            f"a layer encodes the group as far as its probe is above chance{learned} The logit depends on the group as "
            "far as scores and sensitivities differ from those of random directions.",
            "that the networks look for the group itself: a direction also holds everything that goes along with the "
            "group, and layers of random weights pass much of the input on.",
        ),
        _units(units),
    ]
    degenerate = figures.degenerate_layers(tcav)
    if degenerate:
        points.append(
            f"At {', '.join(sorted(degenerate))} TCAV is degenerate in some networks: the gradient is the same for "
            "all rows, so that the score of every direction is 0 or 1 and its test is void. Read the sensitivity there."
        )
    if "input" not in accuracy:
        points.append(
            "The input is not probed: it has too many columns, holds codes, or the regression did not converge."
        )
    others = {"with random weights": untrained[last], "from the input": accuracy.get("input", np.nan), "by chance": 0.5}
    known = ", ".join(f"{value:.2f} {what}" for what, value in others.items() if np.isfinite(value))
    finding = f"Whether a linear probe tells the groups apart from the last layer, {last}, is not estimable."
    if last in accuracy:
        finding = (
            f"From the last layer, {last}, a linear probe tells the groups apart with a balanced accuracy of "
            f"{accuracy[last]:.2f} ({known})."
        )
    tested = tcav[tcav["p"].notna()]
    if len(tested):
        share = float((tested["p"] < 0.05).mean())
        finding += (
            f" TCAV scores differ from those of random directions in {share:.0%} of the tests of layers and networks."
        )
    listed = "; ".join(f"{layer} {value:.2f}" for layer, value in accuracy.items())
    alt = f"Balanced accuracy of probes by layer: {listed or 'not estimable'}."
    caption = "One dot per network, lines at the medians, layers in the order of the network."
    section = Section(
        "concepts",
        "Layers: is the group encoded, and used?",
        text=text,
        points=points,
        pictures=[picture(figures.layers_figure(probes, tcav), alt, caption)],
        tables=[tables.layers(probes, tcav, found["concept_addition"], about.groups)],
        pictures_first=True,
    )
    return Part([section], [finding])


def _where(about: About) -> str:
    """Say where in a layer activations are recorded."""
    where = {
        "preactivation": "before the ReLU",
        "normalised": "after batch normalisation",
        "activation": "after the ReLU",
    }
    return where.get(about.site, "as brought")


def _units(units: pd.DataFrame) -> str:
    """Say how selective single units are."""
    spread = (units["auc"] - 0.5).abs()
    constant = int(units["auc"].isna().sum())
    text = (
        f"Single units: {int((spread > 0.25).sum()):,} of {len(units):,} tell the groups apart with an AUC beyond "
        f"0.75, the most selective one with {0.5 + spread.max():.2f} ({units.loc[spread.idxmax(), 'layer']}); see "
        "units.csv."
        if spread.notna().any()
        else "Single units: none varies on the test parts."
    )
    return text + (f" {constant:,} are constant on their test part." if constant else "")


def quality(found: Tables, about: About) -> Part:
    """Show for whom networks work worse."""
    by_group, gaps = found["quality"], found["quality_gaps"]
    views = list(dict.fromkeys(by_group["attributes"]))
    finest = views[-1]
    text = f"Quality of scores and decisions on test parts, by {', and by '.join(views)}."
    points = list(
        meaning(
            "for whom the networks are wrong more often.",
            "that equal quality is fair treatment, or that labels are right. A group with fewer positive labels has a "
            "higher accuracy by that alone, and small groups have wide intervals.",
        )
    )
    shown = []
    for view in views:
        shown.append(tables.quality(by_group[by_group["attributes"] == view])._replace(title=f"By {view}"))
        shown.append(tables.quality_gaps(gaps[gaps["attributes"] == view])._replace(title=f"Gaps by {view}"))
    here = by_group[by_group["attributes"] == finest]
    means = here.groupby("group", sort=False)["accuracy"].mean().dropna()
    listed = "; ".join(f"{group} {value:.3f}" for group, value in means.items()) or "not estimable"
    alt = f"Accuracy by {finest}: {listed}."
    caption = (
        f"By {finest}. Large dots: means over networks; small dots: networks; lines: mean 95 % intervals over rows."
    )
    if "profiles" in found:
        shown.append(tables.profiles(found["profiles"], found["profiles_by_variable"], about.groups))
        points.append(
            "Attribution profiles, at the end, compare on which variables decisions on each group rest. Groups whose "
            "inputs are distributed differently have different profiles even under a network that ignores the group."
        )
    is_known = bool(figures.estimable(here))
    pictures = [picture(figures.quality_figure(here), alt, caption)] if is_known else []
    if not is_known:
        text += f" By {finest}, nothing is estimable: every group has too few rows."
    section = Section(
        "quality", "Quality by subgroup", text=text, points=points, tables=shown, pictures=pictures, pictures_first=True
    )
    return Part([section], _worst(gaps[gaps["attributes"] == finest], finest))


def _worst(gaps: pd.DataFrame, view: str) -> list[str]:
    """Say which group has the worst accuracy."""
    rows = gaps[(gaps["measure"] == "accuracy") & gaps["difference"].notna()]
    if rows.empty:
        return []
    worst = rows["worst"].value_counts()
    row = rows[rows["worst"] == worst.index[0]]
    clear = int((rows["p_value"] < 0.05).sum())
    return [
        f"By {view}, accuracy is worst for {worst.index[0]} (in {worst.iloc[0]} of {len(rows)} networks): "
        f"{row['worst_value'].mean():.3f}, against {row['best_value'].mean():.3f} where it is best. "
        + (
            f"In {clear} of {len(rows)} networks, chance does not explain the difference."
            if clear
            else "This may be chance."
        )
    ]


def maps(found: Tables, about: About) -> Part:
    """Show where in images networks look, by group."""
    shown, finding = _by_channel(found, about)
    if "maps" not in found:
        text = "The network shows no activations with positions, so there are no maps of where it looks."
        return Part([Section("maps", "Colours", text=text, tables=shown)], finding)
    table, images = found["maps"], found["mean_images"]
    layer = str(table["layer"].iloc[0])
    p = table["corrected_p_value"]
    tested = (p < 0.05)[p.notna()].groupby(table["seed"]).mean()  # by network, without those with too few maps
    text = (
        f"Grad-CAM weights the channels of {layer}, {_where(about)}, by how much the logit depends on them: a map is "
        "bright where an image holds evidence for the positive label. Maps are divided by their maximum and averaged "
        "by group."
    )
    text += "" if shown else " The network takes only whole numbers, so its logits are not attributed to colours."
    points = meaning(
        "where, on average, the networks find evidence in the images of each group.",
        "that a difference of maps is unfair: images of the groups may show different things in different places. "
        "Evidence that is everywhere, such as a colour, has no place on a map; the table of channels shows it.",
    )
    if tested.empty:
        finding.append("Whether the mean maps of the groups differ is not estimable: a group has too few maps.")
    else:
        several = table["seed"].nunique()
        which = "mean over networks" + (f", known of {len(tested)} of {several}" if len(tested) < several else "")
        finding.append(
            f"The mean maps of the groups differ at {tested.mean():.0%} of the positions of {layer} (corrected p < "
            f"0.05, {which})."
        )
    counts = found["maps_by_group"].groupby("group", sort=False)[["maps", "empty"]].mean()
    empty = "; ".join(
        f"{group}: {row['empty']:.0f} of {row['maps'] + row['empty']:.0f}" for group, row in counts.iterrows()
    )
    caption = (
        "Mean images: over all images of the data set. Mean maps: over test images and networks; on the right, "
        f"{about.difference}. Maps without any evidence are left out ({empty})."
    )
    largest = figures.greatest(np.abs(figures.grid_of(table, "difference")))
    alt = "Mean images and mean maps of both groups."
    alt += f" The maps differ by up to {largest:.2f}." if len(tested) else " A group has too few maps."
    section = Section(
        "maps",
        "Where networks look",
        text=text,
        points=points,
        pictures=[picture(figures.maps_figure(table, images, about.groups), alt, caption)],
        tables=shown,
        pictures_first=True,
    )
    return Part([section], finding)


def _by_channel(found: Tables, about: About) -> tuple[list[Table], list[str]]:
    """Show the gap of mean logits by colour channel, if it was computed."""
    if "bias_by_channel" not in found:
        return [], []
    channels = found["bias_by_channel"]
    shown = [tables.channels(channels)]
    gap = float(channels.groupby("seed")["gap"].first().mean())
    if np.isnan(gap):
        return shown, ["The gap of the mean logits is not estimable: a group has too few test images."]
    shares = over_seeds(channels, "channel", "difference")["mean"]
    listed = ", ".join(f"{name} {value:+.2f}" for name, value in shares.items())
    first, second = about.groups
    side = "below" if gap < 0 else "above"
    return shown, [f"The mean logit of {first} is {abs(gap):.2f} {side} that of {second}; by colour channel: {listed}."]


PARTS: dict[str, tuple[Callable[[Tables, About], Part], str]] = {
    "features": (features, "bias_by_variable"),
    "counterfactuals": (counterfactuals, "counterfactuals"),
    "concepts": (concepts, "probes"),
    "quality": (quality, "quality"),
    "maps": (maps, "mean_images"),
}
"""How the page shows each section of `fairjax.runs.detecting.sections.SECTIONS`, and a table that is there if it was
computed."""
