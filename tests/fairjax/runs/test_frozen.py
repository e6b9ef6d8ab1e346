"""Runs whose results must not change by a single byte, compared with files whose checksums are recorded.

The files were written on one type of CPU with one version of JAX. On other machines the last digits may differ, so the
tests are skipped with a message. A commit that changes the numbers on purpose rewrites the files and explains why.
"""

import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

FOLDER = Path(__file__).parents[2] / "frozen"
ROOT = Path(__file__).parents[3]
FROZEN = json.loads((FOLDER / "frozen.json").read_text())


def cpu() -> str:
    """Describe this machine's CPU as reported by Linux; its name alone does not determine its instruction set."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    facts = {}
    for line in lines:
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    flags = hashlib.sha256(facts.get("flags", "").encode()).hexdigest()[:12]
    return " ".join(facts.get(name, "?") for name in ("model name", "cpu family", "model", "stepping")) + f" {flags}"


COMPAS = [
    *("--dataset", "compas", "--measure", "eod", "--seeds", "42", "73", "666", "777"),
    *("--methods", "standard", "pruning", "bias_gda", "random_perturbation"),
]
# The statistical parity difference is in the first run, and a table that is read in the second.
RUNS = {
    "smoke": ["--config", "experiments/configs/smoke.yaml"],
    "compas-eod": COMPAS,
}


def test_the_frozen_files_are_those_whose_checksums_are_recorded():
    for name, expected in FROZEN["sha256"].items():
        file = FOLDER / name
        content = file.read_bytes() if file.exists() else gzip.decompress((FOLDER / f"{name}.gz").read_bytes())
        assert hashlib.sha256(content).hexdigest() == expected, name


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_a_run_writes_the_frozen_bytes(run, tmp_path):
    if (cpu(), jax.__version__) != (FROZEN["cpu"], FROZEN["jax"]):
        pytest.skip(f"frozen on {FROZEN['cpu']} with JAX {FROZEN['jax']}, this is {cpu()} with JAX {jax.__version__}")
    if run != "smoke" and not Path(os.environ.get("FAIRJAX_DATA", "nowhere"), "compas").exists():
        pytest.skip("the data of COMPAS are not there: set FAIRJAX_DATA")
    command = [sys.executable, "-m", "experiments", "debias", *RUNS[run], "--out", str(tmp_path / "run")]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}  # compiled as users do
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("results", "trajectories"):
        found = hashlib.sha256((tmp_path / "run" / f"{name}.csv").read_bytes()).hexdigest()
        assert found == FROZEN["sha256"][f"{run}-{name}.csv"], (
            f"{name}.csv of {run} has other bytes than the frozen one"
        )
