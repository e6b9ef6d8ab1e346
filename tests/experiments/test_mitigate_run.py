"""The command `mitigate` on small simulated data: what it counts, what it writes, and how it resumes."""

import json

import jax
import numpy as np
import pandas as pd
import pytest

from experiments.cli import PROGRAM
from experiments.second_paper.mitigate import measuring, page
from experiments.second_paper.mitigate.entries import ENTRIES
from experiments.second_paper.mitigate.subject import prepared
from fairjax import checkpoint, data, from_linen
from fairjax.runs.structure import CELLS

NAMES = (
    "nothing", "reweighing", "mmd", "grid_search", "bias_gda", "corpus_level_parity",
    "equalized_odds",
)  # fmt: skip
WORDS = "mitigate --datasets compas --measures spd --seeds 1 2 --widths 6 4 --epochs 3 --batch-size 64".split()


def made_subject(name, seeds):
    x, y, a = data.loh(jax.random.key(0), 600)
    return prepared(data.from_arrays(x, y, a, name=name)._replace(protected="x1"), seeds)


@pytest.fixture(scope="module")
def patched():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "subject", made_subject)
        patch.setattr(measuring, "entries_for", lambda dataset: {name: ENTRIES[name] for name in NAMES})
        yield patch


@pytest.fixture(scope="module")
def finished(patched, tmp_path_factory):
    out = tmp_path_factory.mktemp("mitigate") / "run"
    assert PROGRAM.main([*WORDS, "--out", str(out)]) == 0
    return out


def test_every_row_is_counted_on_all_test_rows(finished):
    found = pd.read_csv(finished / "per_split.csv")
    assert set(found["row"]) == set(NAMES) and len(found) == len(NAMES) * 2
    assert np.allclose(found[list(CELLS)].sum(axis=1), 180), "30 % of 600 rows"
    assert len(pd.read_csv(finished / "frontier.csv").query("row == 'mmd'")) == 3
    assert (finished / "mitigate.html").read_text().count("<h3>") >= 2
    assert page.heading("compas", "spd") in (finished / "mitigate.md").read_text()


def test_the_counts_are_those_of_the_saved_networks(finished):
    saved = checkpoint.load(finished / "compas" / "base")
    network, splits = from_linen(saved.module), made_subject("compas", (1, 2)).splits
    rows = json.loads((finished / "compas" / "rows" / "nothing.json").read_text())
    (candidate,) = rows["candidates"]
    for seed in range(2):
        own = {name: getattr(splits, name)[seed] for name in ("train", "valid", "test", "mean", "scale")}
        test = splits._replace(**own).part("test")
        logits = network.apply(jax.tree.map(lambda leaf, seed=seed: leaf[seed], saved.variables), test.x)[0]
        table = np.zeros((2, 2, 2))
        np.add.at(table, tuple(np.asarray(part).astype(int) for part in (logits > 0, test.y, test.a)), 1)
        assert candidate["tables"]["half"]["test"][seed] == table.ravel().tolist()
        assert 0.4 < candidate["probe"][seed] <= 1.0


def test_a_finished_row_is_not_computed_again_and_a_lost_one_is(finished, patched, capsys):
    file = finished / "compas" / "rows" / "corpus_level_parity.json"
    before = json.loads(file.read_text())["candidates"]
    file.unlink()
    assert PROGRAM.main([*WORDS, "--out", str(finished)]) == 0
    printed = capsys.readouterr().out
    assert "corpus_level_parity:" in printed and "mmd:" not in printed
    assert json.loads(file.read_text())["candidates"] == before
    assert PROGRAM.main([*WORDS, "--epsilon", "0.1", "--out", str(finished)]) == 2
    assert "another configuration (epsilon was 0.05, is now 0.1)" in capsys.readouterr().err
