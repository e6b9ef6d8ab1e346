"""The page of `detect`, from made tables: figures, tables, findings, and what it says if something is missing."""

import re

import numpy as np
import pandas as pd
import pytest
from page_reader import Reader

from fairjax.report import detect_features, detect_page, detect_sections, detect_tables
from fairjax.report import detect_figures as figures
from fairjax.report.detect_about import About
from fairjax.report.detect_links import links_of, why
from fairjax.report.detect_summary import over_seeds, share_of_seeds
from fairjax.runs.detecting.computing import Computed
from fairjax.runs.detecting.sections import SECTIONS

GROUPS = ("sex = 0", "sex = 1")
SEEDS = (1, 2)
ABOUT = About("Made <data>", GROUPS, "sex", SEEDS, 1000, 200, "trained for this page", "sex", 0.5, "preactivation")


def table(index, names, **columns):
    """Make a table with one row per seed and name, with numbers that do not depend on the seed."""
    frames = []
    for seed in SEEDS:
        frame = pd.DataFrame({index: names, **columns})
        frame.insert(0, "seed", seed)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def features():
    names = ["wife", "sex", "age"]
    by_variable = pd.DataFrame({"variable": names, "difference": [-1.5, -0.4, 0.1], "low": [-2, -0.5, 0], "high": -0.1})
    by_variable = by_variable.assign(
        seeds_sd=0.1, importance=[0.9, 0.2, 0.5], **{"mean, sex = 0": -1.0, "mean, sex = 1": 0.5}
    )
    gap = pd.DataFrame({"seed": SEEDS, "gap": -1.8, "completeness_gap": 0.003, "all_low": -2.1, "all_high": -1.5})
    proxies = table(
        "variable",
        names,
        importance=[0.9, 0.2, 0.5],
        difference=[-1.5, -0.4, 0.1],
        strength=[0.6, 1.0, 0.02],
        p_holm=[1e-9, 0.0, 1.0],
        fairness_sensitive=[True, True, False],
        task_relevant=[False, False, True],
    )
    return {"bias_by_variable": by_variable, "logit_gap": gap, "proxies": proxies}


def counterfactuals():
    names = ["flip sex", "permute wife", "flip sex, shift the proxy"]
    frames = []
    for group, effect in (("all", 0.0), (GROUPS[0], 0.03), (GROUPS[1], -0.04)):
        frames.append(
            table(
                "perturbation",
                names,
                group=group,
                mean_effect=effect,
                to_positive=max(effect, 0.0),
                to_negative=max(-effect, 0.0),
                sign_flip_holm=[0.001, 0.5, np.nan],
            )
        )
    gaps = table(
        "perturbation",
        names,
        score_gap_before=-0.2,
        score_gap_after=[-0.15, -0.1, 0.01],
        selection_gap_before=-0.19,
        selection_gap_after=[-0.16, -0.12, 0.02],
    )
    return {"counterfactuals": pd.concat(frames, ignore_index=True), "counterfactual_gaps": gaps}


def concepts():
    layers = ["hidden_00", "hidden_01"]
    probes = table("layer", ["input", *layers], balanced_accuracy=[1.0, 0.9, 0.8], auc=0.9)
    probes["untrained_balanced_accuracy"] = np.tile([np.nan, 0.7, 0.6], 2)
    note = ["", "degenerate: the gradient is the same for all rows, so read the sensitivity"]
    tcav = table("layer", layers, score=[0.1, 0.0], random_score=0.5, p=[1e-5, np.nan], sensitivity=-0.2, note=note)
    addition = table("layer", layers, step=1.0, **{"effect, sex = 0": -0.02, "effect, sex = 1": -0.05})
    units = table("layer", layers, unit=0, d_prime=0.5, auc=[0.9, np.nan])
    return {"probes": probes, "tcav": tcav, "concept_addition": addition, "units": units}


def quality():
    frames, gaps = [], []
    for view, names in (
        ("sex", GROUPS),
        ("sex and race", ("sex = 0, race = 0", "sex = 1, race = 0", "sex = 1, race = 1")),
    ):
        numbers = {}
        for name, values in (("accuracy", [0.9, 0.8, 0.7]), ("precision", [0.5, 0.4, np.nan])):
            values = np.array(values[: len(names)])
            numbers |= {name: values, f"{name}_low": values - 0.1, f"{name}_high": values + 0.1}
        frames.append(table("group", list(names), attributes=view, count=50, **numbers))
        gap = {
            "difference": [0.2, np.nan],
            "low": 0.1,
            "high": 0.3,
            "shrunk": 0.15,
            "p_value": 0.01,
            "worst_value": 0.7,
            "best_value": 0.9,
        }
        gaps.append(table("measure", ["accuracy", "precision"], attributes=view, worst=names[-1], best=names[0], **gap))
    profiles = pd.DataFrame({"seed": SEEDS, "total_variation": 0.2, "chance": 0.05, "rank_correlation": 0.9})
    shares = {
        "share, sex = 0": [0.7, 0.3],
        "share, sex = 1": [0.5, 0.5],
        "difference": [0.2, -0.2],
        "p_value": [0.01, 0.6],
    }
    return {
        "quality": pd.concat(frames, ignore_index=True),
        "quality_gaps": pd.concat(gaps, ignore_index=True),
        "profiles": profiles,
        "profiles_by_variable": table("variable", ["wife", "age"], **shares),
    }


def maps():
    rows, columns = (grid.ravel() for grid in np.indices((2, 2)))
    values = {"mean, sex = 0": 0.4, "mean, sex = 1": [0.1, 0.2, 0.3, 0.4], "difference": [0.3, 0.2, 0.1, 0.0]}
    made = table(
        "row", rows, column=columns, layer="block_01", p_value=0.5, corrected_p_value=[0.01, 1, 1, 1], **values
    )
    pixels, across = (grid.ravel() for grid in np.indices((4, 4)))
    images = pd.concat(
        [pd.DataFrame({"group": group, "row": pixels, "column": across, "brightness": 0.2}) for group in GROUPS]
    )
    counts = table("group", list(GROUPS), maps=40, empty=10)
    channels = table("channel", ["red", "green"], difference=[-1.0, -0.5], gap=-1.5)
    return {"maps": made, "mean_images": images, "maps_by_group": counts, "bias_by_channel": channels}


MADE = {
    "features": features,
    "counterfactuals": counterfactuals,
    "concepts": concepts,
    "quality": quality,
    "maps": maps,
}
TABLES = {name: frame for make in MADE.values() for name, frame in make().items()}


def test_every_section_has_a_part_of_the_page_and_made_tables():
    names = [section.name for section in SECTIONS]
    assert list(detect_sections.PARTS) == names == list(MADE)
    for name, (_, needed) in detect_sections.PARTS.items():
        assert needed in MADE[name]()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    computed = Computed(TABLES, {"text": "is for text, found a table"}, {})
    return detect_page.write(computed, ABOUT, tmp_path_factory.mktemp("detect"))


@pytest.fixture(scope="module")
def page(written):
    return written.path.read_text()


def test_the_page_is_one_file_whose_pictures_say_what_they_show(page):
    reader = Reader()
    reader.feed(page)
    assert not reader.open and len(reader.pictures) == 6
    assert all(re.search(r"\d\.\d", picture["alt"]) for picture in reader.pictures)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "Made &lt;data&gt;" in page and "Made <data>" not in page


def test_every_section_says_what_it_means_and_what_not(page):
    assert page.count("What it means: ") == page.count("What it does not mean: ") == 6
    assert "Not computed: text; it is for text, found a table." in page


def test_findings_are_sentences_with_the_numbers_of_the_tables(written, page):
    lines = written.findings
    assert page.count("<li>") > len(lines) > 5
    text = " ".join(lines)
    assert all(line.endswith(".") for line in lines)
    assert "The mean logit of sex = 0 is 1.80 below that of sex = 1, a gap of -1.80 [-2.10, -1.50]." in text
    assert "The attribute itself, sex, has a part of -0.40 in it." in text
    assert "1 important variable is associated with sex and can stand in for it: wife (0.60)." in text
    assert "With the attribute, it carries -1.90 of the gap of -1.80, 106% of it." in text
    assert "flipping only the attribute changes 3.0% of those on sex = 0 (score +0.030)" in text
    assert "-0.190, and it is -0.160 after flip sex; +0.020 after flip sex, shift the proxy." in text
    assert "balanced accuracy of 0.80 (0.60 with random weights, 1.00 from the input, 0.50 by chance)" in text
    assert "accuracy is worst for sex = 1, race = 1 (in 2 of 2 networks): 0.700, against 0.900" in text
    assert "by colour channel: red -1.00, green -0.50" in text and "at 25% of the positions of block_01" in text


@pytest.mark.parametrize("name", list(MADE))
def test_a_page_of_one_section_and_one_network_needs_no_other(name):
    alone = {key: frame[frame["seed"] == 1] if "seed" in frame else frame for key, frame in MADE[name]().items()}
    about = ABOUT._replace(seeds=(1,))
    text = detect_page.page(detect_page.parts_of(Computed(alone, {}, {}), about), {}, about)
    assert "One network for Made" in text and "nan" not in re.sub(r'src="[^"]*"', "", text).lower()


def without_nan(part):
    """Check that no sentence, table or description of a figure says nan, and return all of it."""
    shown = [
        section._replace(pictures=[each._replace(data="") for each in section.pictures]) for section in part.sections
    ]
    text = "\n".join([*part.findings, *map(str, shown)])
    assert not re.search(r"\bnan\b", text)
    return text


def test_a_gap_that_is_not_estimable_is_said_and_not_drawn():
    made = features()
    made["logit_gap"].loc[0, ["gap", "all_low", "all_high"]] = np.nan
    made["bias_by_variable"][["difference", "low", "high", "mean, sex = 0"]] = np.nan
    made["proxies"]["difference"] = np.nan
    part = detect_sections.features(made, ABOUT)
    text = without_nan(part)
    assert "not estimable: in 1 of 2 test parts, a group has fewer than 10 rows" in part.findings[0]
    assert "wife (0.60)" in part.findings[1] and "carries" not in part.findings[1]
    assert "What carries the bias" in text and not part.sections[0].pictures


def test_quality_that_is_not_estimable_is_said_and_not_drawn():
    made = quality()
    finest = made["quality"]["attributes"] == "sex and race"
    made["quality"].loc[finest, [name for name in made["quality"] if name.startswith(("accuracy", "precision"))]] = (
        np.nan
    )
    finest = made["quality_gaps"]["attributes"] == "sex and race"
    made["quality_gaps"].loc[finest, ["difference", "low", "high", "shrunk", "p_value", "worst_value"]] = np.nan
    made["profiles"][["total_variation", "chance", "rank_correlation"]] = np.nan
    made["profiles_by_variable"][["share, sex = 0", "difference", "p_value"]] = np.nan
    part = detect_sections.quality(made, ABOUT)
    assert "How far the profiles differ is not estimable" in without_nan(part)
    assert "By sex and race, nothing is estimable" in without_nan(part)
    assert not part.findings and not part.sections[0].pictures


def test_maps_of_a_group_with_too_few_images_are_not_said_to_be_equal():
    made = maps()
    made["maps"][["corrected_p_value", "difference", "mean, sex = 0"]] = np.nan
    made["bias_by_channel"][["difference", "gap"]] = np.nan
    part = detect_sections.maps(made, ABOUT)
    assert "%" not in " ".join(part.findings) and " ".join(part.findings).count("not estimable") == 2
    assert "A group has too few maps." in without_nan(part)
    some = maps()
    some["maps"].loc[some["maps"]["seed"] == 2, "corrected_p_value"] = np.nan
    assert "at 25% of the positions of block_01 (corrected p < 0.05, mean over networks, known of 1 of 2)" in " ".join(
        detect_sections.maps(some, ABOUT).findings
    )


def test_the_page_of_a_given_network_does_not_speak_of_several(page):
    about = ABOUT._replace(is_given=True, site="", source="returned by model.py:make")
    several = detect_page.page([], {}, about)
    assert "One network for Made" in several and "the same network on 2 test parts" in several
    assert "initialisation" not in several and "random split and initialisation" in page
    one = detect_page.page([], {}, about._replace(seeds=(1,)))
    assert "One test part says nothing" in one and "initialisation" not in one
    section = detect_sections.maps(maps(), about).sections[0]
    assert "block_01, as brought, by" in section.text
    assert section.pictures[0].caption.startswith("Mean images: over all images of the data set.")


def test_the_page_says_which_numbers_use_weights_if_there_are_weights(page):
    weighted = detect_page.page([], {}, ABOUT._replace(is_weighted=True))
    assert "Without weights, every row counts once: associations" in weighted and "weights of rows" not in page


def test_the_waterfall_ends_at_the_gap_and_sums_what_is_not_shown():
    bias = pd.DataFrame({"variable": list("abcde"), "difference": [5.0, -3.0, 2.0, 1.0, 0.5], "low": 0.0, "high": 1.0})
    steps = figures.waterfall_steps(bias, 5.5, most=2)
    assert steps["variable"].tolist() == ["a", "b", "3 others", "all variables"]
    assert steps["part"].tolist() == [5.0, -3.0, 3.5, 5.5]
    assert steps["start"].tolist() == [0.0, 5.0, 2.0, 0.0]
    whole = figures.waterfall_steps(bias.head(3), 4.0, most=2)
    assert "others" not in " ".join(whole["variable"]), "one more variable takes no more room than its sum"


def test_variables_that_may_be_associated_by_chance_are_not_found():
    made = features()
    made["proxies"]["p_holm"] = 1.0
    text = " ".join(detect_sections.features(made, ABOUT).findings)
    assert "No important variable beside the attribute is clearly associated with sex." in text
    kinds = detect_tables.proxies(detect_features.proxy_summary(made["proxies"]), "sex").rows
    assert {row.cells[0].text: row.cells[5].text for row in kinds} == {
        "wife": "sensitive, or by chance",
        "sex": "the attribute",
        "age": "task-relevant",
    }


def test_without_proxies_and_attribute_there_are_no_counterfactual_effects():
    made = {name: frame.head(0) for name, frame in counterfactuals().items()}
    part = detect_sections.counterfactuals(made, ABOUT._replace(attribute=""))
    assert not part.findings and "no variable is clearly associated" in part.sections[0].text


def test_perturbations_that_do_not_apply_are_named_and_left_out_of_sentences():
    made = counterfactuals()
    after = ["score_gap_after", "selection_gap_after"]
    gaps = made["counterfactual_gaps"]
    gaps.loc[gaps["perturbation"].str.startswith("flip"), after] = np.nan
    effects = made["counterfactuals"]
    made["counterfactuals"] = effects[~effects["perturbation"].str.startswith("flip")]
    part = detect_sections.counterfactuals(made, ABOUT)
    assert not part.findings
    assert "Not applicable: flip sex; flip sex, shift the proxy." in without_nan(part)
    gaps[after] = np.nan
    part = detect_sections.counterfactuals({**made, "counterfactuals": effects.head(0)}, ABOUT)
    assert "Not applicable: flip sex; permute wife;" in part.sections[0].text and not part.sections[0].pictures


def test_effects_and_probes_that_are_missing_are_left_out_of_sentences():
    made = counterfactuals()
    of_first = made["counterfactuals"]["group"] == GROUPS[0]
    made["counterfactuals"].loc[of_first, ["mean_effect", "to_positive", "to_negative"]] = np.nan
    assert "changes 4.0% of those on sex = 1 (score -0.040)." in without_nan(
        detect_sections.counterfactuals(made, ABOUT)
    )
    made = concepts()
    made["probes"].loc[made["probes"]["layer"] == "input", "balanced_accuracy"] = np.nan
    made["probes"]["untrained_balanced_accuracy"] = np.nan
    assert "balanced accuracy of 0.80 (0.50 by chance)." in without_nan(detect_sections.concepts(made, ABOUT))
    made["probes"]["balanced_accuracy"] = np.nan
    assert "is not estimable." in without_nan(detect_sections.concepts(made, ABOUT))


def test_an_attribute_that_cannot_be_changed_is_named():
    reason = pd.DataFrame({"perturbation": ["flip age"], "reason": ["age has more than two values, 60"]})
    made = counterfactuals() | {"counterfactuals_left_out": reason}
    made["counterfactual_gaps"].loc[
        made["counterfactual_gaps"]["perturbation"] == "flip sex", "selection_gap_after"
    ] = np.nan
    part = detect_sections.counterfactuals(made, ABOUT)
    assert part.sections[0].text.startswith(
        "Not computed: flip age, since age has more than two values, 60. The inputs"
    )
    assert "nan" not in " ".join(part.findings) and "after flip sex, shift the proxy" in part.findings[-1]
    none = {name: frame if name == "counterfactuals_left_out" else frame.head(0) for name, frame in made.items()}
    text = detect_sections.counterfactuals(none, ABOUT).sections[0].text
    assert text.endswith(
        "since age has more than two values, 60. No other variable is clearly associated with the group."
    )


def test_degenerate_layers_are_named():
    part = detect_sections.concepts(concepts(), ABOUT)
    assert any(point.startswith("At hidden_01 TCAV is degenerate") for point in part.sections[0].points)
    assert detect_tables.layer_notes(concepts()["tcav"]) == {"hidden_00": "", "hidden_01": "degenerate in 2 of 2"}


def test_means_over_seeds_have_t_intervals():
    made = pd.DataFrame({"seed": [1, 2, 3, 1], "layer": ["a", "a", "a", "b"], "auc": [0.5, 0.6, 0.7, 0.9]})
    summary = over_seeds(made, "layer", "auc")
    half = 4.302653 * 0.1 / np.sqrt(3)
    np.testing.assert_allclose(summary.loc["a"], [0.6, 0.6 - half, 0.6 + half, 3], rtol=1e-6)
    assert summary.loc["b", "mean"] == 0.9 and np.isnan(summary.loc["b", "low"])
    missing = made.assign(p=[0.01, np.nan, 0.2, np.nan])
    met = (missing["p"] < 0.05).where(missing["p"].notna())
    assert share_of_seeds(missing, "layer", met).to_dict() == {"a": "1 of 2", "b": "–"}


def test_pages_of_runs_link_to_those_of_detect(tmp_path):
    assert links_of(tmp_path) == [] and why(tmp_path) is None
    (tmp_path / "networks" / "pruning").mkdir(parents=True)
    section = why(tmp_path)
    assert not section.links and f"fairjax detect --network {tmp_path}/networks/pruning" in section.text
    (tmp_path / "networks" / "trained").mkdir()
    for folder in (tmp_path, tmp_path / "detect-trained", tmp_path / "detect-a b"):
        folder.mkdir(exist_ok=True)
        (folder / "detect.html").write_text("")
    assert links_of(tmp_path) == [
        ("detect.html", "Why the networks are biased"),
        ("detect-a%20b/detect.html", "Why the networks are biased: a b"),
        ("detect-trained/detect.html", "Why the networks are biased: trained"),
    ]
    assert "networks/trained`" in why(tmp_path).text and len(why(tmp_path).links) == 3


def test_images_without_maps_or_without_channels_say_so():
    whole = maps()
    (section,), findings = detect_sections.maps(
        {name: whole[name] for name in ("mean_images", "bias_by_channel")}, ABOUT
    )
    assert "no activations with positions" in section.text and len(section.tables) == len(findings) == 1
    (section,), findings = detect_sections.maps({k: v for k, v in whole.items() if k != "bias_by_channel"}, ABOUT)
    assert "takes only whole numbers" in section.text and not section.tables and "mean maps" in findings[0]


def test_the_page_says_at_which_thresholds_networks_decide(page):
    assert "if the score is above 0.5. " in page
    for thresholds, between in (((0.4,), "0.40"), ((0.38, 0.551), "from 0.38 to 0.55")):
        text = detect_page.page([], {}, ABOUT._replace(threshold=None, thresholds=thresholds))
        assert f"above the threshold that debias selects, {between}. " in text
    probed = concepts()["probes"].assign(balanced_accuracy=[np.nan, 0.8, 0.9] * len(SEEDS))
    wide = concepts() | {"probes": probed}
    part = detect_sections.concepts(wide, ABOUT)
    assert any(point.startswith("The input is not probed") for point in part.sections[0].points)
