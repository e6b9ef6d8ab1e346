"""Run one contender in a process of its own: `python -m experiments.benchmarks.worker JOB.json RESULT.json`."""

import importlib
import json
import sys
import time
from pathlib import Path

from experiments.benchmarks import clock
from experiments.benchmarks.settings import from_plain


def main(job: Path, result: Path) -> None:
    """Run the function that a job names, and write its result.

    Args:
        job: JSON with `function` ("module.name" in this package), `settings` and further `arguments`.
        result: the path of the result, which is written at the end.
    """
    description = json.loads(job.read_text(encoding="utf-8"))
    module, _, name = description["function"].partition(".")
    start = time.perf_counter()
    function = getattr(importlib.import_module(f"experiments.benchmarks.{module}"), name)
    values = function(from_plain(description["settings"]), **description["arguments"])
    values = {"peak_memory_gib": clock.peak_memory_gib(), **values, "seconds": time.perf_counter() - start}
    result.write_text(json.dumps(values), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
