"""Every Python block of the README and the documentation runs by itself and does what the surrounding text says."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from fairjax import MEASURES, METHODS, from_linen, selection, spd
from fairjax.nn.influence import influence
from fairjax.nn.network import scores

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
pytestmark = pytest.mark.usefixtures("quickly")


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
        (names["again"], names["same_variables"]),
    ):
        np.testing.assert_allclose(from_linen(module).apply(variables, x)[0], logits, atol=1e-5)
    assert names["smaller"].widths == (5, 8) and names["saved"].about == {"data": "compas"}


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


CHECKS = {
    "Measure": measured_in_short,
    "Train with a parity loss": penalised,
    "Debias a trained network": debiased,
    "Many seeds at once": mapped,
    "Debias one network": debiased,
    "Any number of groups and classes": debiased_by_groups,
    "Many splits at once": trained_all,
    "More rows than memory holds": streamed,
    "A parity loss in a Linen training step": learned,
    "A parity loss in an NNX training step": learned,
    "A parity loss in a plain JAX training step": learned,
    "Parity measures as metrics": measured,
    "Rates by group": grouped,
    "Networks in and out": in_and_out,
    "A measure": added_measure,
    "A method": added_method,
    "A data set": added_data,
}


def test_every_block_is_checked():
    assert set(blocks()) == set(CHECKS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_between_documents_lead_somewhere(document):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("heading", CHECKS)
def test_block_runs_and_is_true(heading):
    names = {"__name__": "readme"}
    known = [(registry, set(registry)) for registry in (MEASURES, METHODS)]
    with jax.numpy_dtype_promotion("standard"):  # as users have it; optax mixes dtypes
        exec(compile(blocks()[heading], f"document, {heading}", "exec"), names)  # noqa: S102
    CHECKS[heading](names)
    for registry, names_before in known:
        for name in set(registry) - names_before:
            del registry[name]
