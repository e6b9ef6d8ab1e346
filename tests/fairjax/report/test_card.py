"""The model card: intervals by textbook formulas, settings, and weights as effective numbers of rows."""

import numpy as np
import pandas as pd
import pytest

from fairjax.report.card import card
from fairjax.runs.settings import Debias
from fairjax.runs.structure import CELLS, Structure

SEEDS = (1, 2, 3)
STRUCTURE = Structure(groups=("unprivileged", "privileged"))
VERSIONS = {
    "versions": {"jax": "1"}, "python": "3", "device": {"count": 1, "kind": "cpu", "platform": "cpu"},
    "command": ["fairjax", "debias"],
}  # fmt: skip


def settings(**changes):
    given = {"table": ("loans.csv",), "label": "repaid", "protected": ("sex",), "privileged": "male"}
    return Debias(**{**given, "seeds": SEEDS, "methods": ("standard", "pruning"), **changes})


def facts(**changes):
    encoder = [{"column": "age", "kind": "number", "values": [], "median": 40.0}]
    encoder += [{"column": "job", "kind": "category", "values": ["clerk", "cook"], "median": None}]
    data = {"rows": 900, "features": 3, "protected": "sex", "encoder": encoder, "warnings": ["id identifies the rows"]}
    return {"data": data | changes, **VERSIONS}


@pytest.fixture(scope="module")
def results():
    random, rows = np.random.default_rng(0), []
    for method, rule in (("standard", "none"), ("pruning", "objective")):
        for seed in SEEDS:
            for part in ("valid", "test"):
                counts = dict(zip(CELLS, random.integers(20, 60, 8).tolist(), strict=True))
                entry = {"method": method, "rule": rule, "seed": seed, "part": part, "satisfied": True}
                rows.append(entry | {"bias": random.normal(), "balanced_accuracy": random.random()} | counts)
    return pd.DataFrame(rows)


def cells_of(text, start, name):
    """The cells of the row of a name in the first table behind a heading."""
    line = next(line for line in text.partition(start)[2].splitlines() if line.startswith(f"| {name} "))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_bias_and_accuracy_have_intervals_over_seeds(results):
    text = card(settings(), STRUCTURE, results, facts())
    for name, place in (("balanced_accuracy", 0), ("bias", 1)):
        values = results.query("method == 'pruning' and part == 'test'")[name].to_numpy()
        half = 4.302653 * np.sqrt(((values - values.mean()) ** 2).sum() / 2 / 3)  # the 97.5 % point of t with 2 degrees
        mean, low, high = values.mean(), values.mean() - half, values.mean() + half
        told = cells_of(text, "and accuracy", "Pruning")[place]
        assert told.startswith(f"{mean:.3f} [{low:.3f}, {high:.3f}] ± ")
    assert "95 % t interval of the mean" in text and "The test parts share rows" in text


def test_one_seed_and_undefined_biases_have_no_interval(results):
    rows = results[results["seed"] == 1].assign(bias=np.nan)
    text = card(settings(seeds=(1,)), STRUCTURE, rows, facts())
    accuracy, bias, _ = cells_of(text, "and accuracy", "Pruning")
    expected = rows.query("method == 'pruning' and part == 'test'")["balanced_accuracy"].item()
    assert float(accuracy) == pytest.approx(expected, abs=6e-4)
    assert bias == "–" and "There is one test part" in text


def test_rates_of_weighted_rows_have_intervals_of_effective_sizes(results):
    weights = {"sums": [600.0, 900.0], "squares": [1800.0, 900.0]}
    text = card(settings(weight="w"), STRUCTURE, results, facts(weights=weights))
    test = results.query("method == 'pruning' and part == 'test'")[list(CELLS)].mean()
    for a, name in enumerate(("unprivileged", "privileged")):
        tn, fn, fp, tp = (test[f"{cell}{a}"] for cell in ("tn", "fn", "fp", "tp"))
        weight, share = tn + fn + fp + tp, (tp + fp) / (tn + fn + fp + tp)
        n = weight / (weights["squares"][a] / weights["sums"][a])
        z = 1.959964  # Wilson's interval
        centre, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
        low, high = ((centre + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
        expected = [f"{weight:.1f}", f"{n:.0f}", f"{share:.2f} [{low:.2f}, {high:.2f}]"]
        assert cells_of(text, "### Pruning", name)[:3] == expected
    assert "effective number of rows (Kish" in text and "the rows count by the column w" in text


def test_the_card_tells_the_settings_and_what_became_of_columns(results):
    chosen = settings(missing="indicate", drop=("customer", "zip"))
    text = card(chosen, STRUCTURE, results, facts())
    for line in (
        "| training.epochs | 1000 |", "| training.learning_rate | 0.001 |", "| missing | indicate |",
        "| seeds | 1, 2, 3 |", "| drop | customer, zip |", "| weight | – |", "| network.dropout | 0.05 |",
    ):  # fmt: skip
        assert line in text
    assert "| pruning." in text and "| bias_gda." not in text  # of the methods that ran
    assert "**Missing values**: filled in for age:" in text
    assert "categories and medians are those of all rows of the table, test parts included" in text
    assert "**Dropped columns**: customer, zip." in text
    assert "**Protected columns** are not features." in text
