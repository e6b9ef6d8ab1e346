"""`debias` on a table of one's own, and `predict`: the same scores, the same decisions, clear refusals."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fairjax import checkpoint, from_linen
from fairjax.cli import main
from fairjax.data import split_seeds
from fairjax.data.own_table import TableColumns, own_table
from fairjax.metrics import probabilities

SEEDS = (42, 7)
OUT = Path("results") / "loans-sex-spd"

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "own-table.md"
DEBIAS, PREDICT, AUDIT = (line.split()[1:] for line in GUIDE.read_text().split("```")[1].splitlines()[1:])
"""The commands of the guide."""


@pytest.fixture(scope="module")
def loans():
    random, n = np.random.default_rng(0), 900
    sex = random.choice(["female", "male"], n)
    income = random.normal(10 + (sex == "male"), 2, n).round(3)
    repaid = np.where(income + random.normal(size=n) > 10.5, "yes", "no")
    job = random.choice(["cook", "clerk", "nurse"], n)
    return pd.DataFrame(
        {"customer": random.integers(0, 400, n), "sex": sex, "job": job, "income": income, "repaid": repaid}
    )


@pytest.fixture(scope="module")
def run(loans, tmp_path_factory):
    """An empty folder in which the guide's first command ran, with a small network."""
    folder = tmp_path_factory.mktemp("own")
    loans.to_csv(folder / "loans.csv", index=False)
    words = ["--seeds", *SEEDS, "--methods", "standard", "pruning", "--network.widths", 8, "--training.epochs", 5]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([*DEBIAS, *map(str, words)]) == 0
    return folder


def test_the_commands_of_the_guide_work(run, loans, monkeypatch, capsys):
    monkeypatch.chdir(run)
    loans.to_csv("new.csv", index=False)
    assert main(PREDICT) == 0
    assert main(AUDIT) == 0
    scores = pd.read_csv("scores.csv")
    assert scores.columns.tolist() == ["repaid", "sex", "score", "decision"]
    assert scores["repaid"].tolist() == loans["repaid"].tolist()
    accepted = scores.loc[scores["sex"] == "female", "decision"].mean()
    (table,) = Path().glob("**/by_group.csv")
    rates = pd.read_csv(table).set_index("sex")["selection_rate"]
    assert rates["female"] == pytest.approx(accepted, abs=1e-6)


def test_decisions_of_predict_are_those_of_the_published_test_parts(run, loans):
    out = run / "scores.csv"
    words = ["predict", "--network", run / OUT / "networks" / "pruning", "--table", run / "loans.csv", "--out", out]
    assert main(list(map(str, words))) == 0
    scores, results = pd.read_csv(out), pd.read_csv(run / OUT / "results.csv")
    columns = TableColumns("repaid", ("sex",), "yes", "male", split_by="customer")
    table = own_table(loans, columns)
    splits = split_seeds(table.dataset, SEEDS, identities=table.identities)
    saved = checkpoint.load(run / OUT / "networks" / "pruning")
    network = from_linen(saved.module)
    for i, seed in enumerate(SEEDS):
        x = (table.dataset.x - np.asarray(splits.mean[i])) / np.asarray(splits.scale[i])
        variables = {name: {key: leaf for key, leaf in part.items()} for name, part in saved.variables.items()}
        variables = _of_seed(variables, i)
        expected = probabilities(network.apply(variables, x)[0])
        np.testing.assert_allclose(scores[f"score_{seed}"], expected, atol=1e-6)
        rows = np.asarray(splits.test[i])
        y, a = table.dataset.y[rows], table.dataset.a[rows]
        decisions = scores[f"decision_{seed}"].to_numpy()[rows] == 1
        chosen = results.query("seed == @seed and method == 'pruning' and part == 'test'").iloc[0]
        assert chosen["tp1"] == (decisions & y & a).sum() and chosen["fp0"] == (decisions & ~y & ~a).sum()
        assert chosen["tn0"] == (~decisions & ~y & ~a).sum() and chosen["fn1"] == (~decisions & y & a).sum()


def test_the_model_card_has_the_rates_of_the_results(run):
    text = (run / OUT / "card.md").read_text()
    results = pd.read_csv(run / OUT / "results.csv").query("method == 'pruning' and part == 'test'")
    tp, fn, fp, tn = (results[f"{cell}0"].mean() for cell in ("tp", "fn", "fp", "tn"))
    line = next(line for line in text.partition("### Pruning")[2].splitlines() if line.startswith("| unprivileged"))
    cells = [cell.split() for cell in line.strip("|").split("|")]
    assert float(cells[2][0]) == pytest.approx((tp + fp) / (tp + fn + fp + tn), abs=0.0051)
    assert float(cells[3][0]) == pytest.approx(tp / (tp + fn), abs=0.0051)
    for words in (
        "loans.csv, 900 rows",
        "of the columns job, income",
        "| pruning.",
        "| training.epochs | 5 |",
        "the rows of a customer in one part",
        "## Limits",
    ):
        assert words in text
    assert main(["report", str(run / OUT)]) == 0
    assert "Model card" in (run / OUT / "report.html").read_text()


def _of_seed(tree, i):
    return {name: _of_seed(leaf, i) for name, leaf in tree.items()} if isinstance(tree, dict) else tree[i]


def test_a_run_is_resumed_and_another_table_is_refused(run, loans, capsys):
    words = [
        "--label",
        "repaid",
        "--positive",
        "yes",
        "--protected",
        "sex",
        "--privileged",
        "male",
        "--out",
        run / OUT,
    ]
    loans.assign(income=0.5).to_csv(run / "other.csv", index=False)
    assert main(list(map(str, ["debias", "--table", run / "other.csv", *words]))) == 2
    assert "holds a run of another configuration" in capsys.readouterr().err


def test_rows_that_do_not_fit_are_refused_in_one_line(run, loans, tmp_path, capsys):
    network = run / OUT / "networks" / "pruning"
    cases = {
        "new.csv, which did not occur when the network was trained": loans.assign(job="pilot"),
        "has no column 'income'": loans.drop(columns="income"),
        "income must be a number, found 'low' in line 2 of": loans.assign(income="low"),
    }
    for message, frame in cases.items():
        frame.to_csv(tmp_path / "new.csv", index=False)
        assert main(["predict", "--network", str(network), "--table", str(tmp_path / "new.csv")]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    loans.assign(job="pilot").to_csv(tmp_path / "new.csv", index=False)
    words = ["predict", "--network", network, "--table", tmp_path / "new.csv", "--unknown", "zeros", "--seeds", 7]
    words += ["--keep", "sex", "--out", tmp_path / "scores.csv"]
    assert main(list(map(str, words))) == 0
    assert pd.read_csv(tmp_path / "scores.csv").columns.tolist() == ["sex", "score", "decision"]
    assert main(["predict", "--network", str(network), "--table", str(tmp_path / "new.csv"), "--seeds", "9"]) == 2
    assert "seeds must be some of 42, 7, got 9" in capsys.readouterr().err


def test_a_refused_table_does_not_occupy_the_folder(loans, tmp_path, capsys):
    loans.to_csv(tmp_path / "loans.csv", index=False)
    words = [
        "debias",
        "--table",
        tmp_path / "loans.csv",
        "--label",
        "repaid",
        "--protected",
        "sex",
        "--out",
        tmp_path / "o",
    ]
    assert main(list(map(str, words))) == 2
    assert "say which is positive with --positive yes" in capsys.readouterr().err
    assert main([*map(str, words), "--positive", "maybe"]) == 2
    assert "the positive value 'maybe' does not occur in repaid" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["--label", "y"], "label describe the columns of your own table: name its file with --table"),
        (["--table", "t.csv"], "a table needs --label and --protected"),
        (["--table", "t.csv", "--label", "y", "--protected", "a", "--path", "x"], "path is for benchmark files"),
    ],
)
def test_settings_of_tables_are_checked_before_any_work(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["debias", *words])
    assert message in capsys.readouterr().err
