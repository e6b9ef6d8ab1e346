"""Runs with composed losses and preprocessors: what the command line trains is what `fit_many` trains."""

import functools
import json
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

import fairjax
from fairjax import checkpoint, fit_many, from_linen
from fairjax.cli.commands import PROGRAM, parse_debias
from fairjax.losses import Loss, ParityPenalty
from fairjax.preprocess import Reweighing, prepare_many
from fairjax.runs.detecting.saved import load_run
from fairjax.runs.detecting.settings import DetectSettings
from fairjax.runs.loading import PREPROCESSING_STREAM, TRAINING_STREAM, fold_in_all, keys_of, load
from fairjax.runs.training import load_data
from fairjax.training import Training

SMALL = (
    "--seeds 1 2 --simulation.rows 400 --network.widths 4 --training.epochs 4 --training.check-every 2 "
    "--composed.epochs 2 --save-every 0 --methods standard composed group_thresholds equalized_odds_half"
).split()
COMPOSED = [*SMALL, *"--loss.terms parity:2 --preprocess reweighing --composed.terms parity:3,penalty=absolute".split()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("composed") / "run"
    assert PROGRAM.main(["debias", *COMPOSED, "--out", str(out)]) == 0
    return out


def test_the_networks_are_those_of_fit_many_on_preprocessed_splits(finished):
    settings = parse_debias(COMPOSED)
    splits, axes, _, _ = load(parse_debias(SMALL))
    keys = keys_of(settings)
    prepared = prepare_many(Reweighing(), fold_in_all(keys, PREPROCESSING_STREAM), splits, axes=axes)
    loss = Loss(terms=(ParityPenalty(measure=fairjax.spd, weight=2.0),))
    training, network = Training(epochs=4, check_every=2), from_linen(settings.module(2))
    fitted = fit_many(
        network, prepared.splits, keys=fold_in_all(keys, TRAINING_STREAM), training=training, loss=loss,
        axes=prepared.axes,
    )  # fmt: skip
    saved = checkpoint.load(finished / "networks" / "trained").variables
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), saved, fitted.variables)


def test_all_methods_start_from_the_composed_networks_and_change_them(finished):
    results = pd.read_csv(finished / "results.csv")
    assert set(results["method"]) == {"standard", "composed", "group_thresholds", "equalized_odds_half"}
    assert results[["balanced_accuracy", "bias"]].notna().all(axis=None)
    written = json.loads((finished / "configuration.json").read_text())
    assert written["loss"] == {"base": "cross_entropy", "terms": ["parity:2"]}
    assert written["preprocess"] == ["reweighing"] and written["composed"]["terms"] == ["parity:3"]


def test_a_file_of_settings_resumes_the_run_of_flags(finished, tmp_path, capsys):
    lines = ["loss:", "  terms: ['parity:2']", "preprocess: [reweighing]", "composed:", "  terms:", "  - parity:3"]
    (tmp_path / "run.yaml").write_text("\n".join(lines))
    before = (finished / "results.csv").read_bytes()
    words = ["debias", "--config", str(tmp_path / "run.yaml"), *SMALL, "--out", str(finished)]
    assert PROGRAM.main(words) == 0
    assert (finished / "results.csv").read_bytes() == before
    assert PROGRAM.main([*words, "--loss.terms", "parity:2.5"]) == 2
    assert "loss.terms was ['parity:2'], is now ['parity:2.5']" in capsys.readouterr().err
    assert PROGRAM.main([*words, "--preprocess", "resampling"]) == 2
    assert "preprocess was ['reweighing'], is now ['resampling']" in capsys.readouterr().err


def test_seeds_whose_adversary_diverges_are_named(tmp_path, capsys):
    words = [*SMALL[: SMALL.index("--methods")], "--methods", "standard", "--out", str(tmp_path / "run")]
    assert PROGRAM.main(["debias", *words, "--loss.terms", "adversary:1,own_rate=1e38"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "training: the outputs of seeds 1, 2, or parameters of their adversaries, stopped being finite" in said
    assert checkpoint.load(tmp_path / "run" / "networks" / "trained") is not None


def test_detection_explains_the_preprocessed_data_of_the_run(finished):
    found = load_run(DetectSettings(saved_network=finished / "networks" / "trained")).settings
    assert found.preprocess == ("reweighing",) and found.loss.terms == ("parity:2",)
    splits, axes, _, _ = load_data(found)
    assert axes.weights == 0 and splits.weights.shape == (2, 400)


def test_features_are_preprocessed_for_each_seed():
    plainly, axes, _, _ = load(parse_debias(SMALL))
    splits, own, _, _ = load(parse_debias([*SMALL, "--preprocess", "removal,columns=0", "resampling"]))
    assert axes.x is None and own.x == 0
    for seed in range(2):
        split = jax.tree.map(lambda leaf, axis, seed=seed: leaf if axis is None else leaf[seed], splits, own)
        assert np.abs(split.part("test").x[:, 0]).max() == 0
        y = plainly.y[plainly.test[seed]]
        np.testing.assert_array_equal(split.part("test").y, y)
    assert not np.array_equal(splits.y[0, splits.train[0]], plainly.y[plainly.train[0]]), "rows are resampled"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preprocess", "removal,columns=income"], "preprocess: "),
        (["--preprocess", "removal,columns=19"], "preprocess: x has no column 19"),
    ],
)
def test_preprocessors_that_do_not_suit_the_data_are_refused(words, message, tmp_path, capsys):
    assert PROGRAM.main(["debias", *SMALL, *words, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err


def test_the_card_and_predict_know_the_preprocessing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    random, n = np.random.default_rng(0), 600
    income, sex = random.normal(size=n).round(3), random.choice(["f", "m"], n)
    repaid = (income + random.normal(size=n) > 0).astype(int)
    pd.DataFrame({"income": income, "age": random.normal(size=n), "sex": sex, "repaid": repaid}).to_csv(
        "loans.csv", index=False
    )
    words = "--table loans.csv --label repaid --protected sex --privileged m --seeds 1 2 --network.widths 4".split()
    words += "--training.epochs 2 --methods standard group_thresholds".split()
    words += "--preprocess removal,columns=age --loss.terms parity:2 --out run".split()
    assert PROGRAM.main(["debias", *words]) == 0
    card = Path("run/card.md").read_text()
    assert "* **Loss**: cross_entropy + parity:2." in card
    assert "* **Preprocessing** by maps and weights of the train part: removal,columns=age." in card
    assert PROGRAM.main("predict --network run/networks/trained --table loans.csv".split()) == 2
    assert "features that removal,columns=age changed by a map" in capsys.readouterr().err
