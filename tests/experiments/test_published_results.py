"""All tables, statistics, figures and the page of a reproduction, with a small data set instead of the real ones."""

import json
import shutil
import subprocess
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import MetricFrame, selection_rate, true_positive_rate
from sklearn.metrics import balanced_accuracy_score

from experiments.cli import PROGRAM
from experiments.first_paper import published, reproduce
from experiments.first_paper.settings import Reproduce
from fairjax import data, datasets, seeds
from fairjax.cli.parsing import updated
from fairjax.methods import METHODS
from fairjax.report import html
from fairjax.report.counts import inconsistency
from fairjax.runs import labels, workers
from fairjax.runs.postprocessors import POSTPROCESSORS
from fairjax.runs.structure import CELLS
from fairjax.seeds import stages
from fairjax.selection import ConstrainedObjective, Evaluation, ExpectedObjective

CONFIG = """
datasets: [compas, mimic]
simulations: [1, 2]
alphas: [0.5, 2.0]
thetas: []
each:
  seeds: [1, 2, 3]
  methods: [standard, threshold, random_perturbation, pruning, bias_gda, portfolio, group_thresholds, reject_option,
    reject_option_paper, equalized_odds]
  simulation: {rows: 300}
  portfolio: [bias_gda, pruning]
  network: {widths: [6]}
  training: {epochs: 20}
  random_perturbation: {draws: 20}
  pruning: {units: 2}
  bias_gda: {epochs: 30, learning_rate: 1e-3, batch_size: 64}
  save_every: 0
"""


def small(path=None, *, verify=True):
    """Return rows whose label depends on the group."""
    rng = np.random.default_rng(0)
    a = rng.random(600) < 0.5
    x = rng.normal(size=(600, 4))
    x[:, 1] += 1.5 * a
    return data.from_arrays(x, x[:, 0] + x[:, 1] + rng.normal(size=600) > 0.7, a, name="small", protected="group")


def absent(path=None, *, verify=True):
    raise FileNotFoundError("the file is nowhere")


@pytest.fixture(scope="module", autouse=True)
def here(kept):
    """Run AIF360's methods in this process, since starting others takes longer than the work."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(workers, "usable_cores", lambda: 1)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "config.yaml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(datasets.DATASETS, "compas", datasets.DATASETS["compas"]._replace(load=small))
        patched.setitem(datasets.DATASETS, "mimic", datasets.DATASETS["mimic"]._replace(load=absent))
        assert PROGRAM.main(["reproduce", "--config", str(folder / "config.yaml"), "--out", str(folder / "all")]) == 0
    return folder / "all"


@pytest.fixture(scope="module")
def results(finished) -> pd.DataFrame:
    return pd.read_csv(finished / "results.csv", keep_default_na=False)


def test_everything_is_written(finished):
    names = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    wanted = {"results.csv", "tables.md", "tables.csv", "run.json", "report.html"}
    statistic = ("shares", "comparisons", "row_bootstrap", "group_rates", "ranks", "pareto", "sensitivity")
    wanted |= {f"statistics/{name}.csv" for name in statistic}
    wanted |= {
        f"figures/{name}.{end}" for name in ("figure1", "figure3", "objectives", "pareto") for end in ("png", "svg")
    }
    wanted |= {
        f"compas/{measure}/{name}" for measure in ("spd", "eod") for name in ("results.csv", "trajectories.csv.gz")
    }
    assert wanted <= names
    assert json.loads((finished / "run.json").read_text())["left_out"] == ["mimic"]


def test_every_method_and_rule_has_a_row_for_each_split(results):
    rules = {"objective", "expected", "pooled"}
    for method, group in results.groupby("method"):
        expected = {
            "standard": {"none"},
            "threshold": {"objective", "expected"},
            "group_thresholds": {"objective", "expected"},
            "random_perturbation": {"objective"},
        }.get(method, {"none"} if method in POSTPROCESSORS else rules)
        assert set(group["rule"]) == expected
    assert not results.duplicated(["measure", "method", "rule", "seed", "part"]).any()
    assert set(results["seed"]) == {1, 2, 3} and set(results["measure"]) == {"spd", "eod"}


def test_counts_give_every_number(results):
    """All numbers follow from the counts: scikit-learn and Fairlearn agree with the table on rows made from them."""
    cells = [(d, y, a) for d in (0, 1) for y in (0, 1) for a in (0, 1)]
    for row in results.sample(60, random_state=0).itertuples():
        counts = [getattr(row, name) for name in CELLS]
        decision, y, a = (np.repeat([cell[i] for cell in cells], counts) for i in range(3))
        assert balanced_accuracy_score(y, decision) == pytest.approx(row.balanced_accuracy, abs=1e-5)
        rate = selection_rate if row.measure == "spd" else true_positive_rate
        by_group = MetricFrame(metrics=rate, y_true=y, y_pred=decision, sensitive_features=a).by_group
        assert by_group[0] - by_group[1] == pytest.approx(row.bias, abs=1e-5)
        assert row.satisfied in ("True", "False", True, False)
    assert inconsistency(results) < 1e-5
    sizes = results.groupby(["part", "seed"])[list(CELLS)].sum().sum(axis=1).unique()
    assert results[list(CELLS)].sum(axis=1).unique().tolist() == [120] and len(sizes) == 1


def test_both_measures_share_the_trained_networks(results):
    rows = results[(results["method"] == "standard") & (results["part"] == "test")]
    spd, eod = (rows[rows["measure"] == measure].set_index("seed") for measure in ("spd", "eod"))
    assert (spd[list(CELLS)] == eod[list(CELLS)]).all(axis=None)


def test_rules_choose_from_the_same_candidates(finished, results):
    curves = pd.read_csv(finished / "compas" / "spd" / "trajectories.csv.gz", keep_default_na=False)
    valid = curves[(curves["part"] == "valid") & (curves["method"] == "bias_gda") & (curves["seed"] == 2)]
    chosen = results[
        (results["method"] == "bias_gda") & (results["seed"] == 2) & (results["measure"] == "spd")
        & (results["part"] == "valid")
    ].set_index("rule")  # fmt: skip
    spread = np.sqrt(2 * 0.2 * valid["noise"].astype(float))
    from scipy.stats import norm

    inside = norm.cdf((0.05 - valid["bias"]) / spread) - norm.cdf((-0.05 - valid["bias"]) / spread)
    scores = (valid["balanced_accuracy"] * inside).to_numpy()
    assert scores[chosen.loc["expected", "selected"]] == pytest.approx(scores.max(), abs=1e-5)
    equation3 = np.where(valid["bias"].abs() < 0.04, valid["balanced_accuracy"], 0.0)
    assert equation3[chosen.loc["objective", "selected"]] == pytest.approx(equation3.max(), abs=1e-5)


@pytest.mark.parametrize("rule", ["objective", "expected"])
def test_the_portfolio_is_the_best_of_its_members_on_validation_data(finished, results, rule):
    curves = pd.read_csv(finished / "compas" / "eod" / "trajectories.csv.gz", keep_default_na=False)
    made = {"objective": ConstrainedObjective(), "expected": ExpectedObjective()}[rule]
    chosen = results[(results["measure"] == "eod") & (results["rule"] == rule)].set_index(["method", "part", "seed"])
    for seed in (1, 2, 3):
        scores = {}
        for method in ("bias_gda", "pruning"):
            step = chosen.loc[(method, "valid", seed), "selected"]
            row = curves[
                (curves["method"] == method) & (curves["seed"] == seed) & (curves["part"] == "valid")
                & (curves["step"] == step)
            ].iloc[0]  # fmt: skip
            values = (row[name] for name in ("threshold", "balanced_accuracy", "bias", "noise"))
            scores[method] = float(made(Evaluation(*(jnp.asarray(value, jnp.float32) for value in values))))
        best = max(scores, key=scores.get)
        for part in ("valid", "test"):
            mine, theirs = chosen.loc[("portfolio", part, seed)], chosen.loc[(best, part, seed)]
            assert (mine[list(CELLS)] == theirs[list(CELLS)]).all()
        offset = 0 if best == "bias_gda" else 31
        assert chosen.loc[("portfolio", "test", seed), "selected"] == offset + theirs["selected"]
    assert "portfolio" not in set(curves["method"])


def test_what_is_finished_is_not_done_again(finished, monkeypatch, capsys):
    monkeypatch.setitem(datasets.DATASETS, "compas", datasets.DATASETS["compas"]._replace(load=None))
    monkeypatch.setitem(datasets.DATASETS, "mimic", datasets.DATASETS["mimic"]._replace(load=absent))
    monkeypatch.setattr(stages, "advance_training", None)
    before = {path: path.read_bytes() for path in finished.rglob("*.csv")}
    config = finished.parent / "config.yaml"
    assert PROGRAM.main(["reproduce", "--config", str(config), "--out", str(finished)]) == 0
    assert "finished before" in " ".join(capsys.readouterr().out.split())
    assert before == {path: path.read_bytes() for path in finished.rglob("*.csv")}


def test_a_reproduction_that_is_stopped_goes_on(finished, tmp_path, monkeypatch):
    monkeypatch.setitem(datasets.DATASETS, "compas", datasets.DATASETS["compas"]._replace(load=small))
    words = ["reproduce", "--config", str(finished.parent / "config.yaml"), "--out", str(tmp_path / "r")]
    words += ["--datasets", "compas", "--measures", "spd", "--alphas", "--each.methods", "standard", "bias_gda"]
    words += ["--each.methods", "standard", "bias_gda", "equalized_odds"]
    calls, advance = [], seeds.advance_debiasing

    def stopping(*args, **options):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return advance(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(stages, "advance_debiasing", stopping)
        assert PROGRAM.main(words) == 130
    with monkeypatch.context() as patched:
        patched.setattr(stages, "advance_training", None)  # training is not done again
        assert PROGRAM.main(words) == 0
    keys = ["method", "rule", "seed", "part", "bias", "balanced_accuracy", *CELLS]
    mine = pd.read_csv(tmp_path / "r" / "results.csv", keep_default_na=False)[keys]
    whole = pd.read_csv(finished / "results.csv", keep_default_na=False)
    whole = whole[(whole["measure"] == "spd") & whole["method"].isin(mine["method"].unique())][keys]
    pd.testing.assert_frame_equal(mine, whole.reset_index(drop=True))


def test_a_sweep_has_each_simulation_at_each_value(finished):
    curves = pd.read_csv(finished / "simulations" / "loh" / "spd" / "trajectories.csv.gz", keep_default_na=False)
    first = curves[(curves["step"] == 0) & (curves["part"] == "test") & (curves["method"] == "bias_gda")]
    assert sorted(zip(first["seed"], first["parameter"], strict=True)) == [(1, 0.5), (1, 2.0), (2, 0.5), (2, 2.0)]
    points = pd.read_csv(finished / "statistics" / "sensitivity.csv")
    assert len(points) == 2 * 2 * 2 * 2 and set(points["epsilon"]) == {0.05, 0.1}
    row = points[(points["measure"] == "spd") & (points["method"] == "bias_gda") & (points["parameter"] == 2.0)].iloc[0]
    assert row["bias"] == pytest.approx(first.loc[first["parameter"] == 2.0, "bias"].mean(), abs=1e-5)


def test_every_method_can_be_chosen_and_has_a_stream_of_random_numbers_of_its_own():
    names = labels.names()
    assert names == (*METHODS, "portfolio", *POSTPROCESSORS)
    assert all(labels.needs_group(name) == (name in POSTPROCESSORS) for name in names)
    moving = [kind for name, kind in METHODS.items() if name not in ("standard", "threshold")]
    numbers = [*(kind.random_stream() for kind in moving), 0, 1]
    assert len(set(numbers)) == len(numbers)
    assert sorted(numbers) == [0, 1, *range(4, 14)]  # published results were made with these numbers


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datasets": ["loh"]}, "datasets are benchmark files, got loh"),
        ({"datasets": ["iris"]}, "there is no data set named 'iris'"),
        ({"measures": []}, "at least one measure"),
        ({"each": {"dataset": "compas", "path": "x"}}, "use alphas, thetas, FAIRJAX_DATA"),
        ({"each": {"methods": ["portfolio", "bias_gda"]}}, "put bias_gda, adversarial_debiasing, lagrangian there"),
        ({"each": {"portfolio": ["threshold"]}}, "portfolio must be methods with candidates of their own"),
    ],
)
def test_a_reproduction_refuses_what_it_cannot_do(changes, message):
    with pytest.raises(ValueError, match=message):
        updated(Reproduce(), changes)


def test_a_reproduction_without_any_data_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(datasets.DATASETS, "mimic", datasets.DATASETS["mimic"]._replace(load=absent))
    words = ["reproduce", "--datasets", "mimic", "--alphas", "--thetas", "--out", str(tmp_path / "r")]
    assert PROGRAM.main(words) == 2
    assert "the files of mimic are not there" in capsys.readouterr().err


def test_a_plan_has_one_run_a_data_set_and_measure(tmp_path):
    plan = reproduce.plan(updated(Reproduce(), {"datasets": ["adult", "bank"], "out": str(tmp_path)}))
    names = [(one.dataset, one.measure, bool(one.simulation.sweep)) for runs in plan for one in runs]
    assert names == [
        (name, measure, name in ("loh", "zafar"))
        for name in ("adult", "bank", "loh", "zafar")
        for measure in ("spd", "eod")
    ]
    assert plan[2][0].runs[:2] == [(42, 0.0), (73, 0.0)] and len(plan[2][0].runs) == 60


# comparison with the paper


def test_the_printed_numbers_are_the_paper_s():
    printed = published.published().set_index(["table", "dataset", "measure", "method"])
    assert len(printed) == 3 * 4 * 2 * 6 and not printed.index.duplicated().any()
    assert printed.loc[(1, "compas", "spd", "pruning"), ["center", "low", "high"]].tolist() == [0.62, 0.41, 0.64]
    assert printed.loc[(3, "adult", "eod", "bias_gda"), ["center", "deviation"]].tolist() == [0.82, 0.01]
    assert printed.loc[(4, "mimic", "spd", "standard"), ["center", "deviation"]].tolist() == [-0.19, 0.03]


def test_ours_stand_beside_the_printed_ones(results):
    found = published.compared(results)
    row = found[(found["table"] == 1) & (found["method"] == "pruning") & (found["measure"] == "spd")].iloc[0]
    mine = results[
        (results["method"] == "pruning") & (results["rule"] == "objective") & (results["part"] == "test")
        & (results["measure"] == "spd")
    ]["objective"]  # fmt: skip
    low, median, high = np.quantile(mine, [0.25, 0.5, 0.75])
    assert (row["ours"], row["low"], row["high"]) == pytest.approx((median, low, high))
    assert row["printed"] == 0.62 and row["difference"] == pytest.approx(median - 0.62)
    assert row["inside"] == (low - 0.005 <= 0.62 <= high + 0.005)
    assert found.loc[found["method"] == "portfolio", "printed"].isna().all()
    text, _ = published.write(results)
    assert text.count("## Table") == 3 and "(0.62" in text


# the page


def test_the_page_needs_nothing_from_elsewhere(finished):
    page = (finished / "report.html").read_text()
    assert "http://" not in page and "https://" not in page and "<script" not in page and 'src="data:image/png' in page
    for word in ("Which method", "Group thresholds", "needs a", "Wilcoxon", "paper 0.62", "TPR", "Figure 3", "jaxlib"):
        assert word in page, word
    assert page.count("<section") == page.count("</section>") and page.count('class="best"') >= 2


def test_the_page_of_a_single_run(finished, tmp_path, capsys):
    folder = tmp_path / "one"
    shutil.copytree(finished / "compas" / "spd", folder, ignore=shutil.ignore_patterns("states"))
    assert PROGRAM.main(["report", str(folder)]) == 0
    assert "report.html" in capsys.readouterr().out
    assert "COMPAS SPD" in (folder / "report.html").read_text()


def test_a_page_without_results_is_refused(finished, tmp_path, capsys):
    assert PROGRAM.main(["report", str(tmp_path)]) == 2
    assert "has no results.csv" in capsys.readouterr().err
    frame = pd.read_csv(finished / "results.csv", keep_default_na=False)
    frame.loc[5, "bias"] += 0.5
    frame.to_csv(tmp_path / "results.csv", index=False)
    assert PROGRAM.main(["report", str(tmp_path)]) == 2
    assert "contradicts itself" in capsys.readouterr().err
    frame.drop(columns="tn0").to_csv(tmp_path / "results.csv", index=False)
    assert PROGRAM.main(["report", str(tmp_path)]) == 2
    assert "lacks the columns tn0" in capsys.readouterr().err
    assert PROGRAM.main(["report"]) == 2 and PROGRAM.main(["report", "--help"]) == 0


CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_opens_in_a_browser(finished, tmp_path, width):
    """The page lays out without network access, and needs no sideways scrolling on a phone or a desktop."""
    page = tmp_path / "page.html"
    probe = (
        "<script>addEventListener('load', () => { const broken = [...document.images].filter(i => "
        "!i.naturalWidth).length;"
        "document.title = `${document.documentElement.scrollWidth} ${innerWidth} ${document.images.length} ${broken} "
        "${document.querySelectorAll('table').length}`; });</script>"
    )
    page.write_text((finished / "report.html").read_text().replace("</body>", f"{probe}</body>"))
    frame = tmp_path / "frame.html"  # headless Chromium has a minimum width, but a frame has none
    frame.write_text(
        f"<iframe id=f src=page.html width={width} height=800></iframe><script>addEventListener('load', () => "
        "setTimeout(() => { document.title = document.getElementById('f').contentDocument.title; }, 500));</script>"
    )
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    command += ["--virtual-time-budget=10000", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", frame.as_uri()]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    title = printed.partition("<title>")[2].partition("</title>")[0]
    wide, inner, pictures, broken, tables = map(int, title.split())
    assert wide <= inner <= width and pictures == 4 and broken == 0 and tables >= 10


def test_the_page_can_be_printed(finished, tmp_path):
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    target = tmp_path / "page.pdf"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--no-pdf-header-footer", f"--print-to-pdf={target}", (finished / "report.html").as_uri()]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    assert target.read_bytes()[:4] == b"%PDF" and target.stat().st_size > 50_000


def test_reports_are_deterministic(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy", ignore=shutil.ignore_patterns("states", "training"))
    html.write(tmp_path / "copy", published.EXTRAS)
    assert (tmp_path / "copy" / "report.html").read_bytes() == (finished / "report.html").read_bytes()
