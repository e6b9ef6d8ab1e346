"""A trained network in a user's file: how it is loaded, brought and named, and what is refused."""

import jax
import numpy as np
import pytest

from fairjax import Mlp, from_linen
from fairjax.cli.commands import parse_debias
from fairjax.cli.parsing import updated
from fairjax.runs.function_in_file import FunctionInFile
from fairjax.runs.given_network import given_network
from fairjax.runs.identity import identity
from fairjax.runs.settings import Debias, NetworkSettings

X = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
COLUMNS = ("age", "income", "debt")
CLASSES = ("0", "1")

NETWORKS = """
import flax.linen as nn
import jax
import jax.numpy as jnp

from fairjax import Mlp, adapters, from_linen


class Classifier(nn.Module):
    outputs: int = 1

    @nn.compact
    def __call__(self, x, train: bool):
        return nn.Dense(self.outputs)(nn.relu(nn.Dense(4)(x)))


def of_width(features, outputs=1):
    module = Classifier(outputs)
    return module, module.init(jax.random.key(0), jnp.ones((2, features)), train=False)


def pair():
    return of_width(3)


def narrow():
    return of_width(2)


def three():
    return of_width(3, outputs=3)


def brought(example_x):
    return adapters.linen.bring(*of_width(example_x.shape[1]), example_x)


def own(x, seed=0):
    network = from_linen(Mlp(widths=(4,)))
    return network, network.init(jax.random.key(seed), jnp.asarray(x))


def narrow_own():
    network = from_linen(Mlp(widths=(4,)))
    return network, network.init(jax.random.key(0), jnp.ones((2, 2)))


def module_of_fairjax(x):
    return Mlp(widths=(4,)), own(x)[1]


def alone():
    return Classifier()


def no_masks():
    return from_linen(Mlp(widths=(4,))), {"params": {}}


def nothing():
    pass


def pair_of_texts():
    return "a", "b"


def fails():
    weights = {}
    return weights["fc"]


def greedy(x, names):
    return pair()


class Probability(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        return nn.sigmoid(nn.Dense(1)(nn.relu(nn.Dense(4)(x))))


def probability():
    return Probability(), Probability().init(jax.random.key(0), jnp.ones((2, 3)), train=False)


constant = 3
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("networks") / "networks.py"
    path.write_text(NETWORKS)
    return path


def load(file, name, x=X, classes=CLASSES, **options):
    return given_network(FunctionInFile(file, name), x, classes, columns=COLUMNS, **options)


@pytest.mark.parametrize("name", ["pair", "brought", "own", "module_of_fairjax"])
def test_every_kind_of_result_is_a_network_with_the_logits_of_the_module(file, name):
    given = load(file, name)
    logits = np.asarray(given.network.apply(given.variables, X)[0])
    params = jax.tree.map(np.asarray, given.variables["params"])
    if name in ("pair", "brought"):  # two dense layers, by hand
        hidden, out = params["Dense_1"], params["Dense_0"]  # numbered in the order in which they are made
        expected = (np.maximum(X @ hidden["kernel"] + hidden["bias"], 0) @ out["kernel"] + out["bias"])[:, 0]
    else:
        expected = np.asarray(from_linen(Mlp(widths=(4,))).apply(given.variables, X)[0])
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    assert (given.brought is None) == (name in ("own", "module_of_fairjax")) and not given.warnings


def test_the_checksum_is_that_of_the_file_and_the_variables(file, tmp_path):
    given, other = load(file, "own"), load(file, "brought")
    copy = tmp_path / "copy.py"
    copy.write_text(NETWORKS)
    assert load(copy, "own").identity == given.identity
    assert other.identity["variables"] != given.identity["variables"]
    copy.write_text(NETWORKS.replace("seed=0", "seed=1"))
    changed = load(copy, "own").identity
    assert changed["variables"] != given.identity["variables"] and changed["code"] != given.identity["code"]
    settings = Debias(network=NetworkSettings(file=f"{file}:own"))
    written = identity(settings, given.identity)
    assert written["network"]["given"] == given.identity and "training" not in written
    assert written != identity(settings, changed)
    assert "file" not in identity(Debias())["network"]  # as in folders of earlier versions


def test_several_classes_need_as_many_outputs(file):
    given = load(file, "three", classes=("a", "b", "c"))
    assert given.network.apply(given.variables, X)[0].shape == (8, 3)


def test_outputs_that_look_like_probabilities_give_a_warning_with_the_way_out(file):
    given = load(file, "probability")
    assert "--network.output probability" in given.warnings[0]
    given = load(file, "probability", output="probability")
    logits = np.asarray(given.network.apply(given.variables, X)[0])
    assert not given.warnings and (logits.min() < 0 or logits.max() > 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mak", "networks.py:mak does not exist: there is no function named 'mak'"),
        ("constant", "networks.py:constant does not exist"),
        ("fails", "networks.py, line 70, raises KeyError: 'fc'"),
        ("greedy", "networks.py:greedy requires 2 arguments, and gets at most 1"),
        ("nothing", "networks.py:nothing must return the result of fairjax.adapters.*.bring, a pair"),
        ("pair_of_texts", "found str and str"),
        ("alone", "networks.py:alone returns a Linen module alone: return the pair (module, variables)"),
        ("no_masks", "the variables that "),
        ("narrow", "a row of the data has 3 features, in this order: age, income, debt"),
        ("narrow_own", "cannot be applied to rows of the data"),
        ("narrow_own", "a row of the data has 3 features, in this order: age, income, debt"),
        ("three", "networks.py:three has outputs for 3 classes, and the label has 2 classes, 0, 1"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(file, name, message):
    with pytest.raises(ValueError) as error:
        load(file, name)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_network_of_two_classes_is_refused_for_three(file):
    with pytest.raises(ValueError, match="has outputs for 2 classes, and the label has 3 classes, a, b, c"):
        load(file, "own", classes=("a", "b", "c"))


def test_the_kind_of_output_is_said_to_bring_if_the_file_brings(file):
    with pytest.raises(ValueError, match="pass output= to bring there"):
        load(file, "brought", output="probability")


def test_a_row_of_an_image_is_described_by_its_shape(file):
    images = np.zeros((4, 6, 6, 3), np.uint8)
    with pytest.raises(ValueError, match=r"a row of the data has shape \(6, 6, 3\) of type uint8"):
        given_network(FunctionInFile(file, "pair"), images, CLASSES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import torhc\n", "line 1, needs torhc, which is not installed: pip install torhc"),
        ("def make():\n    return (\n", "line 2, raises SyntaxError"),
        ("x = 1\nraise SystemExit(3)\n", "line 2, raises SystemExit: 3"),
        ("x = 1\n", "does not exist: it defines no function"),
    ],
)
def test_a_file_that_cannot_be_run_is_named_with_the_line(tmp_path, text, message):
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises((ValueError, ImportError)) as error:
        FunctionInFile(tmp_path / "broken.py", "make").call(X)
    assert "broken.py" in str(error.value) and message in str(error.value) and "\n" not in str(error.value)


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "equinox", None)
    (tmp_path / "eqx.py").write_text("import equinox\n")
    with pytest.raises(ImportError, match=r'needs equinox, which is not installed: pip install "fairjax\[equinox\]"'):
        FunctionInFile(tmp_path / "eqx.py", "make").call()


def test_a_file_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ValueError, match="cannot read .*none.py, which should define make: No such file"):
        FunctionInFile(tmp_path / "none.py", "make").call()


def test_a_file_imports_modules_beside_it_and_nothing_is_written_there(tmp_path, monkeypatch):
    (tmp_path / "weights_beside.py").write_text("value = 7\n")
    (tmp_path / "user.py").write_text("import weights_beside\ndef make(): return weights_beside.value\n")
    monkeypatch.setattr("sys.dont_write_bytecode", True)  # of the module beside it
    assert FunctionInFile(tmp_path / "user.py", "make").call(X) == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["user.py", "weights_beside.py"]
    assert str(tmp_path) not in __import__("sys").path


@pytest.mark.parametrize("content", [{"network": "my.py:make"}, {"network": {"file": "my.py:make"}}])
def test_a_file_of_settings_names_the_network(content):
    assert updated(Debias(), content).network == NetworkSettings(file="my.py:make")


def test_the_flag_of_a_given_network_is_that_of_the_group():
    settings = parse_debias(["--network", "a/my.py:make", "--network.standardise"])
    assert settings.network == NetworkSettings(file="a/my.py:make", standardise=True)
    assert settings.folder.name == "loh-spd-my"
    assert parse_debias(["--network.kind", "mlp"]).network == NetworkSettings(kind="mlp")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--network cnn", "network.file must be FILE.py:FUNCTION, such as mymodule.py:make, got 'cnn': --network.kind"),
        ("--network my.py", "network.file must be FILE.py:FUNCTION, such as mymodule.py:make, got 'my.py'"),
        ("--network my.py:2", "network.file must be FILE.py:FUNCTION"),
        ("--network my.py:make --network.widths 3", "network.widths would change nothing for the network of my.py"),
        ("--network my.py:make --training.epochs 3", "training.epochs would change nothing for the network of my.py"),
        ("--network.standardise", "network.standardise would change nothing without --network FILE.py:FUNCTION"),
        ("--network my.py:make --dataset digits --network.standardise", "network.standardise is for tables"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse_debias(words.split())
    assert message in capsys.readouterr().err
