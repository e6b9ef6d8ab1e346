"""`debias` on trained networks of PyTorch and Linen: their own scores, resuming, giving back, scoring new rows."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax import serialization

from fairjax import checkpoint
from fairjax.cli import main
from fairjax.data import split_seeds
from fairjax.data.own_table import TableColumns, own_table
from fairjax.runs.function_in_file import FunctionInFile
from fairjax.runs.given_network import given_network

pytestmark = pytest.mark.slow

SEEDS = (42, 7)
COLUMNS = ("--label", "repaid", "--positive", "yes", "--protected", "sex", "--privileged", "male")
SHORT = ("--seeds", *SEEDS, "--methods", "standard", "pruning", "--pruning.units", 1)

LINEN = """
import flax.linen as nn
import jax
import jax.numpy as jnp


class Classifier(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        h = nn.relu(nn.BatchNorm(use_running_average=not train, name="norm")(nn.Dense(6, name="hidden")(x)))
        return nn.Dense(1, name="out")(nn.Dropout(0.1, deterministic=not train)(h))


def make(example_x):
    module = Classifier()
    variables = module.init(jax.random.key(3), jnp.asarray(example_x), train=False)
    variables["params"]["hidden"]["kernel"] *= SCALE  # as if trained
    return module, variables
"""

GUIDE = (Path(__file__).parents[3] / "docs" / "guides" / "networks.md").read_text().split("### On the command line")[1]
_, TORCH, _, COMMANDS = GUIDE.split("```")[:4]
DEBIAS, PREDICT = (line.split()[1:] for line in COMMANDS.splitlines()[1:])
"""The file and the commands of the guide."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a table and two files that return networks of its two features."""
    random, n = np.random.default_rng(0), 400
    sex = random.choice(["female", "male"], n)
    income = random.normal(0.5 * (sex == "male"), 1, n).round(3)
    debt = random.normal(size=n).round(3)
    repaid = np.where(income - debt + random.normal(size=n) > 0, "yes", "no")
    path = tmp_path_factory.mktemp("given")
    frame = pd.DataFrame({"sex": sex, "income": income, "debt": debt, "repaid": repaid})
    frame.to_csv(path / "loans.csv", index=False)
    (path / "linen_file.py").write_text(LINEN.replace("SCALE", "2.0"))
    (path / "classifier.py").write_text(TORCH.removeprefix("python"))
    return path


def debias(folder, out, *words):
    command = ["debias", "--table", folder / "loans.csv", *COLUMNS, *SHORT, "--out", folder / out, *words]
    return main(list(map(str, command)))


@pytest.fixture(scope="module")
def linen_run(folder):
    assert debias(folder, "linen", "--network", folder / "linen_file.py:make", "--network.standardise") == 0
    return folder / "linen"


def data_of(folder, **options):
    columns = TableColumns("repaid", ("sex",), "yes", "male")
    table = own_table(pd.read_csv(folder / "loans.csv"), columns)
    return table, split_seeds(table.dataset, SEEDS, **options)


def scaled(table, splits, i):
    """Return the features, standardised as those of a seed, in NumPy."""
    return (np.asarray(table.dataset.x) - np.asarray(splits.mean[i])) / np.asarray(splits.scale[i])


def difference(results, method, i, scores, table, splits):
    """Return by how much the bias on a test part differs from that of scores, computed by hand."""
    rows = np.asarray(splits.test[i])
    chosen = (results["seed"] == SEEDS[i]) & (results["method"] == method) & (results["part"] == "test")
    (row,) = results[chosen].to_dict("records")
    decisions, a = np.asarray(scores)[rows] > np.float32(row["threshold"]), table.dataset.a[rows]
    return abs(row["bias"] - (decisions[~a].mean() - decisions[a].mean()))


def test_the_original_networks_are_the_given_one(folder, linen_run):
    table, splits = data_of(folder)
    x = scaled(table, splits, 0)[:32]
    given = given_network(FunctionInFile(folder / "linen_file.py", "make"), x, ("0", "1"))
    saved = checkpoint.load(linen_run / "networks" / "trained", like=None)
    for leaf, own in zip(jax.tree.leaves(saved.variables), jax.tree.leaves(given.variables), strict=True):
        np.testing.assert_array_equal(leaf, np.broadcast_to(own, (2, *own.shape)))
    results = pd.read_csv(linen_run / "results.csv")
    for i in range(len(SEEDS)):
        x = jnp.asarray(scaled(table, splits, i))
        scores = jax.nn.sigmoid(given.network.apply(given.variables, x)[0])
        assert difference(results, "standard", i, scores, table, splits) < 1e-6
    facts = json.loads((linen_run / "run.json").read_text())
    assert facts["epochs"] == [0, 0] and facts["data"]["columns"] == ["income", "debt"]
    card = (linen_run / "card.md").read_text()
    assert "the trained network that make of linen_file.py returned, with 37 parameters and 6 units" in card
    assert "network.standardise | True" in card and "training.epochs" not in card


def test_networks_are_given_back_with_zeros_for_cut_units(folder, linen_run):
    table, splits = data_of(folder)
    x = scaled(table, splits, 1)
    module, variables = FunctionInFile(folder / "linen_file.py", "make").call(x)
    file = linen_run / "given_back" / "pruning" / "7.msgpack"
    pruned = serialization.from_bytes(variables, file.read_bytes())
    logits = module.apply(pruned, jnp.asarray(x), train=False)[:, 0]
    words = ["predict", "--network", linen_run / "networks" / "pruning", "--table", folder / "loans.csv", "--seeds", 7]
    assert main([*map(str, words), "--code", f"{folder}/linen_file.py:make"]) == 0
    scores = pd.read_csv(linen_run / "networks" / "pruning" / "scores.csv")
    np.testing.assert_allclose(scores["score"], jax.nn.sigmoid(logits), atol=1e-6)


def test_predict_needs_the_code_and_refuses_another_network(folder, linen_run, capsys):
    words = ["predict", "--network", linen_run / "networks" / "pruning", "--table", folder / "loans.csv"]
    assert main(list(map(str, words))) == 2
    assert f"not its code: add --code {folder}/linen_file.py:make" in capsys.readouterr().err
    (folder / "wider.py").write_text(LINEN.replace("SCALE", "2.0").replace("nn.Dense(6", "nn.Dense(7"))
    assert main([*map(str, words), "--code", f"{folder}/wider.py:make"]) == 2
    assert "wider.py:make returns another network than the one that was debiased" in capsys.readouterr().err


def test_a_finished_run_is_reused_but_not_for_other_weights(folder, linen_run, capsys):
    before = (linen_run / "results.csv").read_bytes()
    shutil.copy(folder / "linen_file.py", folder / "renamed.py")
    assert debias(folder, "linen", "--network", folder / "renamed.py:make", "--network.standardise") == 0
    assert (linen_run / "results.csv").read_bytes() == before
    (folder / "other.py").write_text(LINEN.replace("SCALE", "2.5"))
    assert debias(folder, "linen", "--network", folder / "other.py:make", "--network.standardise") == 2
    error = capsys.readouterr().err
    assert "holds a run of another configuration (network.given.code was" in error and "Traceback" not in error


def test_a_method_that_does_not_fit_is_named_before_anything_runs(folder, capsys):
    words = ["--network", folder / "linen_file.py:make", "--methods", "standard", "last_layer"]
    assert debias(folder, "refused", *words) == 2
    error = capsys.readouterr().err
    assert "last_layer cannot be applied: layers must be some of hidden, norm, out, got output" in error
    assert "choose with --last-layer.layers or leave the method out" in error and error.count("\n") == 1


def test_the_commands_of_the_guide_debias_a_pytorch_module_and_give_it_back(folder, monkeypatch):
    torch = pytest.importorskip("torch", reason="PyTorch is the extra torch")
    monkeypatch.chdir(folder)
    table, splits = data_of(folder, standardise=False)
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    x, y = torch.from_numpy(np.array(table.dataset.x)), torch.from_numpy(np.array(table.dataset.y, np.float32))
    optimiser = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(50):
        optimiser.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(module(x)[:, 0], y).backward()
        optimiser.step()
    torch.save(module.state_dict(), "classifier.pt")
    shutil.copy("loans.csv", "new.csv")
    words = ["--methods", "standard", "pruning", "bias_gda", "--bias-gda.epochs", "2"]
    assert main([*DEBIAS, *map(str, SHORT[:3]), *words]) == 0
    assert main(PREDICT) == 0
    out = Path("results") / "loans-sex-spd-classifier"
    results, cut = pd.read_csv(out / "results.csv"), 0
    for method in ("standard", "pruning", "bias_gda"):
        for i, seed in enumerate(SEEDS):
            state = torch.load(out / "given_back" / method / f"{seed}.pt")
            module.load_state_dict(state)
            with torch.no_grad():
                scores = torch.sigmoid(module(x)[:, 0]).numpy()
            assert difference(results, method, i, scores, table, splits) < 0.03  # a score may be at the threshold
            if method == "pruning":
                np.testing.assert_allclose(pd.read_csv("scores.csv")[f"score_{seed}"], scores, atol=1e-5)
                cut += int((state["0.weight"] == 0).all(dim=1).sum())
    assert cut > 0
