"""Contents of the package: public names, version, and consistent presets and configurations."""

import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

import fairjax
from experiments.cli import parse_debias as parse
from fairjax.runs.identity import identity

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "experiments" / "configs").glob("*.yaml"))


def test_public_names_exist_once():
    assert len(set(fairjax.__all__)) == len(fairjax.__all__)
    assert all(hasattr(fairjax, name) for name in fairjax.__all__)


def test_modules_are_not_shadowed_by_functions():
    for name in ("loop", "training", "methods", "metrics", "selection", "seeds", "streaming", "data", "datasets"):
        assert getattr(fairjax, name).__name__ == f"fairjax.{name}"


def test_version_is_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"[{project['version']}]" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {project['version']}\n" in (ROOT / "CITATION.cff").read_text()
    if fairjax.__version__ == "0+unknown":
        pytest.skip("fairjax is not installed here")
    assert fairjax.__version__ == project["version"]


def test_typed():
    assert files("fairjax").joinpath("py.typed").is_file()


def test_import_is_light():
    """Importing starts no device, so that their number can still be set, and loads heavy modules only on use."""
    program = (
        "import sys, fairjax\n"
        "import jax\n"
        "jax.config.update('jax_num_cpu_devices', 3)\n"
        "assert jax.local_device_count('cpu') == 3\n"
        "heavy = {'aif360', 'matplotlib', 'orbax.checkpoint', 'pandas', 'pooch', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert fairjax.data.Dataset and fairjax.datasets.DATASETS and fairjax.by_group and fairjax.checkpoint.load\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, cwd=ROOT)


def test_documents_name_every_measure_and_method():
    readme = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    for name in (*fairjax.MEASURES, *fairjax.METHODS, *fairjax.RULES, *fairjax.datasets.DATASETS):
        assert f"`{name}`" in readme, name


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configuration_is_valid_and_named_for_its_contents(path):
    settings = parse(["--config", str(path)])
    if path.stem != "smoke":
        assert path.stem.startswith(f"{settings.dataset}-{settings.measure}")
    assert settings.folder == Path("results") / path.stem


def test_paper_configuration_is_the_preset():
    file = parse(["--config", str(ROOT / "experiments/configs/compas-spd-paper.yaml")])
    assert identity(file) == identity(parse(["--preset", "paper", "--dataset", "compas"]))
