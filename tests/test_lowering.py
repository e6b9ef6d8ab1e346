"""Every program of a run is lowered for GPUs and TPUs, which finds compilation errors without such a device."""

import os
import subprocess
import sys
from pathlib import Path

from fairjax import METHODS, RULES

ROOT = Path(__file__).parents[1]


def test_every_program_of_a_run_lowers_for_cuda_and_tpu():
    # in a separate process, since the tests' type checks reject the objects that JAX uses instead of arrays
    done = subprocess.run(
        [sys.executable, "tests/lowering.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    expected = ["training", *(f"method {name}" for name in METHODS), *(f"rule {name}" for name in RULES)]
    assert done.stdout.splitlines() == expected
