"""Statistics of results, compared with SciPy, statsmodels, resampled rows and plain loops."""

import numpy as np
import pandas as pd
import pytest
from holm_of_statsmodels import holm_of_statsmodels
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from experiments.first_paper import curves
from fairjax.metrics import MEASURES
from fairjax.report import noise, statistics
from fairjax.report.counts import inconsistency
from fairjax.runs.structure import BINARY, CELLS
from fairjax.selection import ConstrainedObjective, ExpectedObjective

CUBE = [(decision, y, a) for decision in (0, 1) for y in (0, 1) for a in (0, 1)]


def rows_of(counts):
    """Return decision, label and group of every row."""
    return (np.repeat([cell[i] for cell in CUBE], counts) for i in range(3))


def row(method, seed, counts, *, rule="none", measure="spd", part="test", epsilon=0.05, dataset="toy"):
    decision, y, a = rows_of(counts)
    accuracy = 0.5 * (decision[y == 1].mean() + 1 - decision[y == 0].mean())
    among = np.ones_like(y, bool) if measure == "spd" else y == 1
    bias = decision[among & (a == 0)].mean() - decision[among & (a == 1)].mean()
    entry = {"dataset": dataset, "measure": measure, "method": method, "rule": rule, "seed": seed, "part": part}
    entry |= {"balanced_accuracy": accuracy, "bias": bias, "objective": accuracy if abs(bias) < epsilon else 0.0}
    entry |= {"satisfied": abs(bias) < epsilon, "diverged": False, "threshold": 0.5, "selected": 0}
    return entry | dict(zip(CELLS, counts, strict=True))


def frame(methods=("one", "two", "three"), seeds=8, measure="spd", seed=0):
    rng = np.random.default_rng(seed)
    counts = {(m, s): rng.integers(20, 60, 8) + 5 * i for i, m in enumerate(methods) for s in range(seeds)}
    return pd.DataFrame([row(m, s, c, measure=measure) for (m, s), c in counts.items()])


def generator():
    return np.random.default_rng(7)


@pytest.mark.parametrize("measure", ["spd", "eod"])
def test_counts_and_numbers_agree(measure):
    results = frame(measure=measure)
    assert inconsistency(results) < 1e-6
    results.loc[3, "bias"] += 0.01
    assert inconsistency(results) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("measure", ["spd", "eod"])
def test_shares_are_counted_and_noise_is_written_out(measure):
    results = frame(measure=measure)
    found = statistics.shares(results, 0.05).set_index("method")
    for method, group in results.groupby("method"):
        met = int(group["satisfied"].sum())
        mine = found.loc[method]
        assert mine["splits"] == 8 and mine["share"] == met / 8
        assert (mine["low"], mine["high"]) == pytest.approx(proportion_confint(met, 8, method="wilson"))
        allowed = []
        for counts in group[list(CELLS)].to_numpy():
            decision, y, a = rows_of(counts)
            among = np.ones_like(y, bool) if measure == "spd" else y == 1
            p = decision[among].mean()
            error = np.sqrt(p * (1 - p) * sum(1 / (among & (a == group)).sum() for group in (0, 1)))
            allowed.append(stats.norm.cdf(0.05 / error) - stats.norm.cdf(-0.05 / error))
        assert mine["noise_share"] == pytest.approx(np.mean(allowed), rel=1e-5)


def test_noise_is_what_fair_classifiers_meet():
    """For decisions drawn independently of the group, the share inside the bound is the reported one."""
    rng, n = np.random.default_rng(0), np.array([200, 400])
    inside = []
    for _ in range(4000):
        accepted = rng.binomial(n, 0.3) / n
        inside.append(abs(accepted[0] - accepted[1]) < 0.05)
    counts = np.array([70, 140, 70, 140, 30, 60, 30, 60])  # 30 % of each group are accepted
    found = statistics.shares(pd.DataFrame([row("fair", 0, counts)]), 0.05)
    assert found["noise_share"][0] == pytest.approx(np.mean(inside), abs=0.02)


@pytest.mark.parametrize("measure", [name for name in MEASURES if not noise.is_permuted(name, BINARY)])
def test_the_formula_of_noise_agrees_with_random_groups(measure, monkeypatch):
    rows = pd.DataFrame([row("m", 0, np.array([70, 140, 50, 120, 30, 60, 60, 90]))])
    error, allowed = noise.noise_shares(rows, measure, BINARY, 0.05)
    monkeypatch.setattr(noise, "is_permuted", lambda *_: True)
    drawn_error, drawn_allowed = noise.noise_shares(rows, measure, BINARY, 0.05)
    assert error == pytest.approx(drawn_error, rel=0.1) and allowed == pytest.approx(drawn_allowed, abs=0.06)


def test_the_measures_of_one_proportion_have_a_formula():
    assert {name for name in MEASURES if not noise.is_permuted(name, BINARY)} == {"spd", "eod", "fprd", "accuracy"}


def test_noise_vanishes_with_rows():
    few = np.array([70, 140, 70, 140, 30, 60, 30, 60])
    shares = [statistics.shares(pd.DataFrame([row("m", 0, few * k)]), 0.05)["noise_share"][0] for k in (1, 10, 100)]
    assert 0 < shares[0] < shares[1] < shares[2] <= 1


def test_comparisons_are_scipy_s_and_statsmodels():
    results = frame(seeds=12)
    results["objective"] = results["balanced_accuracy"]
    found = statistics.comparisons(results, generator())
    assert list(zip(found["method"], found["other_method"], strict=True)) == [
        ("one", "two"), ("one", "three"), ("two", "three"),
    ]  # fmt: skip
    wide = results.pivot(index="seed", columns="method", values="objective")
    for entry in found.itertuples():
        differences = (wide[entry.method] - wide[entry.other_method]).to_numpy()
        assert entry.mean == pytest.approx(differences.mean())
        assert entry.median == pytest.approx(np.median(differences))
        expected = stats.wilcoxon(differences, zero_method="pratt", method="approx").pvalue
        assert entry.wilcoxon_p == pytest.approx(expected)
        samples = generator().choice(differences, (20000, 12)).mean(axis=1)
        assert (entry.low, entry.high) == pytest.approx(tuple(np.quantile(samples, [0.025, 0.975])), abs=0.01)
    np.testing.assert_allclose(found["holm_p"], holm_of_statsmodels(found["wilcoxon_p"]))
    pd.testing.assert_frame_equal(found, statistics.comparisons(results, generator()))


def test_a_comparison_turned_round_changes_its_sign():
    results = frame()
    one, other = (
        statistics.comparisons(results, generator(), reference=(name, "none")).set_index("other_method")
        for name in ("one", "two")
    )
    assert one.loc["two", "mean"] == pytest.approx(-other.loc["one", "mean"])
    assert one.loc["two", "wilcoxon_p"] == pytest.approx(other.loc["one", "wilcoxon_p"])


def test_one_method_against_the_others_has_a_family_of_its_own():
    results = frame(seeds=12)
    found = statistics.comparisons(results, generator())
    mine = statistics.against(found, ("toy", "spd"), ("two", "none"))
    assert mine["other_method"].tolist() == ["one", "three"]
    pair = found[(found["method"] == "one") & (found["other_method"] == "two")].iloc[0]
    assert (mine["mean"][0], mine["low"][0], mine["high"][0]) == (-pair["mean"], -pair["high"], -pair["low"])
    np.testing.assert_allclose(mine["holm_p"], holm_of_statsmodels(mine["wilcoxon_p"]))
    assert statistics.against(found, ("toy", "eod"), ("two", "none")).empty


def test_methods_that_never_differ_are_not_told_apart():
    results = frame(methods=("one",))
    twin = results.assign(method="two")
    found = statistics.comparisons(pd.concat([results, twin]), generator())
    assert found[["mean", "low", "high"]].to_numpy().tolist() == [[0.0, 0.0, 0.0]]
    assert found["wilcoxon_p"][0] == found["holm_p"][0] == 1.0


def test_methods_run_on_other_splits_are_refused():
    results = frame()
    with pytest.raises(ValueError, match=r"toy spd: two/none has no result for the seeds \[3\]"):
        statistics.comparisons(results[(results["method"] != "two") | (results["seed"] != 3)], generator())


def test_a_bootstrap_of_counts_is_one_of_rows():
    counts = np.array([40, 80, 20, 30, 25, 30, 50, 90])
    found = statistics.row_bootstrap(pd.DataFrame([row("m", 0, counts), row("m", 1, counts)]), 0.05, generator()).iloc[
        0
    ]
    decision, y, a = rows_of(counts)
    rng, biases, accuracies = np.random.default_rng(1), [], []
    for _ in range(3000):
        drawn = rng.integers(0, len(y), len(y))
        d, label, group = decision[drawn], y[drawn], a[drawn]
        biases.append(d[group == 0].mean() - d[group == 1].mean())
        accuracies.append(0.5 * (d[label == 1].mean() + 1 - d[label == 0].mean()))
    assert found["bias_row_error"] == pytest.approx(np.std(biases), rel=0.06)
    assert found["balanced_accuracy_row_error"] == pytest.approx(np.std(accuracies), rel=0.06)
    assert found["met_over_rows"] == pytest.approx(np.mean(np.abs(biases) < 0.05), abs=0.03)
    low, high = np.quantile(biases, [0.025, 0.975])
    assert found["bias_row_half_interval"] == pytest.approx(0.5 * (high - low), rel=0.08)
    assert found["bias_split_deviation"] == 0


def test_group_rates_are_those_of_the_rows():
    results = frame(methods=("one",), seeds=3)
    found = statistics.group_rates(results).set_index("a")
    for group in (0, 1):
        rates = []
        for counts in results[list(CELLS)].to_numpy():
            decision, y, a = rows_of(counts)
            mine = a == group
            rates.append(
                (mine.sum(), (mine & (y == 1)).sum(), decision[mine].mean(), decision[mine & (y == 1)].mean(),
                 decision[mine & (y == 0)].mean())
            )  # fmt: skip
        columns = ["rows", "positives", "acceptance_rate", "true_positive_rate", "false_positive_rate"]
        np.testing.assert_allclose(found.loc[group, columns].astype(float), np.mean(rates, axis=0))


def simulated_curves(seeds=5, steps=20, seed=0, **labels):
    rng = np.random.default_rng(seed)
    rows = []
    for one in range(seeds):
        for part in ("valid", "test"):
            for step in range(steps):
                fade = 1 - step / steps
                rows.append(
                    {"dataset": "toy", "measure": "spd", "method": "m", "seed": one, "part": part, "step": step}
                    | labels
                    | {"balanced_accuracy": 0.6 + 0.2 * fade + 0.02 * rng.normal(), "noise": 0.01, "threshold": 0.5}
                    | {"bias": 0.3 * fade + 0.02 * rng.normal()}
                )
    return pd.DataFrame(rows).sample(frac=1.0, random_state=1)  # in random order


RULES = {
    "objective": lambda epsilon: ConstrainedObjective(epsilon=epsilon, margin=0.2 * epsilon),
    "expected": lambda epsilon: ExpectedObjective(epsilon=epsilon),
}


def test_a_pareto_curve_is_a_plain_loop_over_bounds_and_seeds():
    trajectories, epsilons = simulated_curves(), (0.03, 0.1, 0.25)
    found = curves.pareto(trajectories, RULES, epsilons).set_index(["rule", "epsilon"])
    for epsilon in epsilons:
        accuracy, bias = [], []
        for seed in range(5):
            mine = trajectories[trajectories["seed"] == seed].set_index(["part", "step"]).sort_index()
            valid, test = mine.loc["valid"], mine.loc["test"]
            scores = np.where(valid["bias"].abs() < 0.8 * epsilon, valid["balanced_accuracy"], 0)
            accuracy.append(test["balanced_accuracy"][scores.argmax()])
            bias.append(test["bias"][scores.argmax()])
        accuracy, bias = np.array(accuracy), np.array(bias)
        entry = found.loc[("objective", epsilon)]
        assert entry["balanced_accuracy"] == pytest.approx(accuracy.mean(), abs=1e-5)
        assert entry["absolute_bias"] == pytest.approx(np.abs(bias).mean(), abs=1e-5)
        reached = np.where(np.abs(bias) < epsilon, accuracy, 0)
        low, median, high = np.quantile(reached, [0.25, 0.5, 0.75])
        assert (entry["low"], entry["objective"], entry["high"]) == pytest.approx((low, median, high), abs=1e-5)
        assert entry["share"] == (np.abs(bias) < epsilon).mean()
    assert len(found) == 6
    assert curves.pareto(trajectories[trajectories["step"] == 0], RULES, epsilons).empty


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_nothing_on_the_front_is_beaten(points):
    frame = pd.DataFrame(points, columns=["balanced_accuracy", "absolute_bias"]).assign(dataset="toy", measure="spd")
    for flag, (accuracy, bias) in zip(curves.front(frame), points, strict=True):
        beaten = any(x >= accuracy and b <= bias and (x > accuracy or b < bias) for x, b in points)
        assert flag == (not beaten)


def test_sensitivity_is_summarised_by_parameter():
    one, two = simulated_curves(parameter=0.5), simulated_curves(parameter=1.5, seed=3)
    trajectories = pd.concat([one, two])
    found = curves.sensitivity(trajectories, lambda bound: RULES["objective"](bound), (0.05, 0.1))
    assert list(found["parameter"]) == [0.5, 0.5, 1.5, 1.5] and list(found["epsilon"]) == [0.05, 0.1] * 2
    first = one[(one["step"] == 0) & (one["part"] == "test")]
    assert found["bias"][0] == pytest.approx(first["bias"].mean(), abs=1e-5)
    assert found["bias_deviation"][0] == pytest.approx(first["bias"].std(ddof=1), abs=1e-5)
    curve = curves.pareto(one, {"objective": RULES["objective"]}, (0.05, 0.1))
    assert found["objective"][:2].tolist() == pytest.approx(curve["objective"].tolist())


def test_ranks_know_who_needs_the_attribute():
    results = pd.concat(
        [frame(methods=(name,)).assign(objective=value) for name, value in
         (("blind", 0.70), ("tied", 0.704), ("worse", 0.5), ("seeing", 0.8))]
    )  # fmt: skip
    found = statistics.ranks(results, lambda method: method == "seeing").set_index("method")
    assert found["rank"].to_dict() == {"blind": 2, "tied": 2, "worse": 3, "seeing": 1}
    assert found["blind_rank"].dropna().to_dict() == {"blind": 1, "tied": 1, "worse": 2}
    assert found["median"]["tied"] == pytest.approx(0.704)


def test_one_split_is_enough():
    found = statistics.everything(frame(seeds=1), 0.05, lambda method: False)
    assert set(found) == {"shares", "comparisons", "row_bootstrap", "group_rates", "ranks"}
    assert (found["comparisons"]["splits"] == 1).all() and found["comparisons"]["holm_p"].between(0, 1).all()
