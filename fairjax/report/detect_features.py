"""What the page of `detect` shows of features: what carries the bias, and which variables are proxies."""

import numpy as np
import pandas as pd

from fairjax.report import detect_figures as figures
from fairjax.report import detect_tables as tables
from fairjax.report.detect_about import About
from fairjax.report.detect_part import Part, meaning
from fairjax.report.detect_summary import interval, share_of_seeds
from fairjax.report.layout import Section
from fairjax.report.page import picture
from fairjax.runs.detecting.computing import Tables


def features(found: Tables, about: About) -> Part:
    """Show what carries the bias, and which variables are proxies."""
    by_variable, gaps = found["bias_by_variable"], found["logit_gap"]
    gap = float(gaps["gap"].mean(skipna=False))
    low, high = float(gaps["all_low"].iloc[0]), float(gaps["all_high"].iloc[0])
    others = by_variable[by_variable["variable"] != about.attribute]
    listed = ", ".join(f"{row.variable} ({row.difference:+.2f})" for row in others.head(3).itertuples())
    first, second = about.groups
    proxies, finding_of_proxies = _proxies(found, about, gap)
    if np.isnan(gap):
        section = Section("features", "What carries the bias", text=_not_estimable(gaps))
        return Part([section, proxies], [_not_estimable(gaps), finding_of_proxies])
    finding = (
        f"The mean logit of {first} is {abs(gap):.2f} {'below' if gap < 0 else 'above'} that of {second}, a gap of "
        f"{gap:+.2f} {interval(low, high, '+.2f')}. "
    )
    if about.attribute:
        part = by_variable.loc[by_variable["variable"] == about.attribute, "difference"].iloc[0]
        finding += f"The attribute itself, {about.attribute}, has a part of {part:+.2f} in it. "
    other = "other " if about.attribute else ""
    finding += f"The {other}variables with the largest parts are {listed}."
    rest = float(gaps["completeness_gap"].abs().max())
    text = (
        "Integrated gradients split a row's logit, less that of the mean row, into one part per variable. The mean "
        "parts of the two groups differ by numbers that sum to the gap of the mean logits (here up to "
        f"{rest:.2g} logits, the error of numerical integration)."
    )
    points = meaning(
        "through which inputs of the networks the gap passes.",
        "that a variable causes a difference in the world, or that the gap would shrink by its part without it: a "
        "network that is trained without a variable can take the same information from others.",
    )
    steps = figures.waterfall_steps(by_variable, gap)
    bars = "; ".join(f"{row.variable} {row.part:+.2f}" for row in steps.itertuples())
    caption = "Parts of the variables, summed from top to bottom. Lines: 95 % intervals over rows and networks."
    drawn = figures.waterfall(by_variable, gap, low, high, about.groups)
    carries = Section(
        "features",
        "What carries the bias",
        text=text,
        points=points,
        pictures=[picture(drawn, f"Waterfall of the gap by variable: {bars}.", caption)],
        tables=[tables.bias(by_variable, gap, about.attribute, about.groups)],
        pictures_first=True,
    )
    return Part([carries, proxies], [finding, finding_of_proxies])


def _not_estimable(gaps: pd.DataFrame) -> str:
    """Say why the gap of mean logits, and so the parts of variables, are missing."""
    return (
        f"The gap of the mean logits is not estimable: in {int(gaps['gap'].isna().sum())} of {len(gaps)} test parts, a "
        "group has fewer than 10 rows, or logits are not numbers. logit_gap.csv has the numbers of rows."
    )


def _proxies(found: Tables, about: About, gap: float) -> tuple[Section, str]:
    summary = proxy_summary(found["proxies"])
    sensitive = summary[summary["sensitive"] >= 0.5]
    clear = sensitive[(sensitive["p_holm"] < 0.05) & (sensitive["variable"] != about.attribute)]
    with_attribute = sensitive[(sensitive["variable"] == about.attribute) | sensitive.index.isin(clear.index)]
    part = float(with_attribute["difference"].sum())
    if len(clear):
        names = ", ".join(f"{row.variable} ({row.strength:.2f})" for row in clear.head(5).itertuples())
        several = len(clear) > 1
        share = f", {part / gap:.0%} of it" if gap else ""
        finding = (
            f"{len(clear)} important variable{'s are' if several else ' is'} associated with {about.protected} and can "
            f"stand in for it: {names}{', ...' if len(clear) > 5 else ''}."
        )
        if not np.isnan(gap):
            finding += (
                f" {'With the attribute, ' if about.attribute else ''}{'they carry' if several else 'it carries'}"
                f" {part:+.2f} of the gap of {gap:+.2f}{share}."
            )
    else:
        finding = (
            f"No important variable {'beside the attribute ' if about.attribute else ''}is clearly associated with "
            f"{about.protected}."
        )
    text = (
        "A proxy is a variable from which the group can be guessed. Sensitive variables are important to the networks "
        "and associated with the group; task-relevant ones are important and not associated."
    )
    points = meaning(
        "where to look first.",
        "that a sensitive variable must not be used: it can be relevant for the task as well, which is for people to "
        "judge. Variables that give the group away only together are not seen here, but by the probe of the input.",
    )
    shown = ", ".join(f"{row.variable} (association {row.strength:.2f})" for row in sensitive.head(8).itertuples())
    caption = "Each dot is a variable, mean over networks. To the right: associated with the group; above: important."
    drawn = figures.proxies_figure(summary, about.attribute)
    section = Section(
        "proxies",
        "Proxies of the attribute",
        text=text,
        points=points,
        pictures=[picture(drawn, f"Sensitive variables: {shown or 'none'}.", caption)],
        tables=[tables.proxies(summary, about.attribute)],
        pictures_first=True,
    )
    return section, finding


def proxy_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per variable with means over networks, the sensitive and most important first."""
    grouped = table.groupby("variable", sort=False)
    numbers = grouped[["strength", "importance", "difference"]].mean()
    numbers["p_holm"] = grouped["p_holm"].max()
    numbers["sensitive"] = grouped["fairness_sensitive"].mean()
    numbers["relevant"] = grouped["task_relevant"].mean()
    numbers["in_seeds"] = share_of_seeds(table, "variable", table["fairness_sensitive"].astype(bool))
    numbers = numbers.reset_index()
    order = np.lexsort((-numbers["importance"], -(numbers["sensitive"] >= 0.5).astype(int)))
    return numbers.iloc[order].reset_index(drop=True)
