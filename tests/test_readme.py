"""Every Python block of the README runs by itself and does what the text around it says."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from fairjax import from_linen, objective, spd
from fairjax.influence import influence
from fairjax.nn.network import scores

README = Path(__file__).parents[1] / "README.md"
pytestmark = pytest.mark.usefixtures("quickly")


def blocks():
    """The Python blocks by the heading that they stand under."""
    found, heading = {}, ""
    text = README.read_text(encoding="utf-8")
    for title, code in re.findall(r"^#+ ([^\n]+)$|^```python\n(.*?)^```$", text, re.M | re.S):
        heading = title or heading
        if code:
            assert heading not in found, f"two blocks under {heading!r}: give one a heading of its own"
            found[heading] = code
    return found


def debiased(names):
    result, rule = names["result"], names["rule"]
    before, after = abs(result.trace.valid.bias[0]), abs(result.trace.valid.bias[result.selected])
    assert after < rule.bound < before
    assert result.satisfied
    assert names["logits"].shape == names["split"].test.shape


def debiased_by_groups(names):
    result, groups = names["result"], names["groups"]
    assert groups.names[-1] == "M, A" and len(groups) == 6 and not groups.left_out
    test = result.trace.test
    assert result.satisfied and test.bias[result.selected] < 0.2 < test.bias[0]
    assert test.table.shape[1:] == (2, 2, 6)


def trained_all(names):
    trained, seeds = names["trained"], names["seeds"]
    assert trained.epoch.tolist() == [10] * len(seeds)
    assert np.unique(np.asarray(trained.best_loss)).size == len(seeds)


def streamed(names):
    table, apply, variables = names["table"], names["network"].apply, names["variables"]
    whole = objective.best_threshold(spd, scores(apply, variables, table.x), table.y, table.a)
    assert names["evaluation"].threshold == whole.threshold
    np.testing.assert_array_equal(names["evaluation"].table, whole.table)
    expected = influence(spd, apply, variables, table)
    for found, one in zip(jax.tree.leaves(names["influence"]), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(found, one, rtol=1e-4, atol=1e-6 * np.abs(one).max())


def learned(names):
    """The loss falls, and with the proxy in it the bias stays small although the labels are biased."""
    losses, biases = names["losses"], names["biases"]
    assert losses[-1] < losses[0] - 0.03
    assert max(map(abs, biases[-10:])) < 0.1
    labels = np.asarray(names["y"])
    group = np.asarray(names["a"])
    assert labels[group].mean() - labels[~group].mean() > 0.2


def measured(names):
    report = names["report"]
    # the micro case on which AIF360 and Fairlearn agree
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
    assert list(blocks()) == list(CHECKS)


@pytest.mark.parametrize("heading", CHECKS)
def test_block_runs_and_is_true(heading):
    names = {"__name__": "readme"}
    exec(compile(blocks()[heading], f"README.md, {heading}", "exec"), names)  # noqa: S102
    CHECKS[heading](names)
