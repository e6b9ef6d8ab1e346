"""Every program of a run is exported for GPUs and TPUs, which finds compilation errors without such a device."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from fairjax import METHODS, RULES
from fairjax.runs.labels import PORTFOLIO
from fairjax.runs.postprocessors import POSTPROCESSORS

ROOT = Path(__file__).parents[1]


def test_every_program_of_a_run_is_exported_for_cuda_and_tpu():
    # in a separate process, since `jax.jit` is replaced, and the tests' type checks reject shapes in place of arrays
    done = subprocess.run(
        [sys.executable, "tests/lowering.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    programs_of_postprocessors = [name for name, entry in POSTPROCESSORS.items() if entry.decide is None]
    results = {(method, rule) for kind, method, rule in lines if kind == "result"}
    assert {method for method, _ in results} == {*METHODS, PORTFOLIO, *programs_of_postprocessors}
    assert {rule for method, rule in results if method == PORTFOLIO} == set(RULES)
    programs = [(name, int(count)) for kind, name, count in lines if kind == "program"]
    assert not [name for name, count in programs if name.startswith(("fairjax.seeds", "fairjax.runs")) and not count]
    defined = Counter(name.rpartition(".<locals>")[0] or name for name, _ in programs)
    assert defined["fairjax.runs.loading._redrawn"] == 2, "one program draws the tables, and one splits them"
    exported = dict(programs)
    assert exported["fairjax.datasets.simulated._draw"] and exported["fairjax.data.splits._parts_by_seed"]
    steps = [name for name in METHODS if name not in ("standard", "threshold")]
    assert exported["fairjax.seeds.programs.begin_debiasing"] == len(steps)
    assert exported["fairjax.seeds.programs.advance_debiasing"] >= len(steps)
