"""Measurements of time and memory."""

import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def repeated(function: Callable[[], Any], repetitions: int, work: float) -> list[float]:
    """Time a function repeatedly, in seconds per unit of work.

    Args:
        function: does the work and returns when it is done. Anything that is done only once, such as compilation, must
            have been done before.
        repetitions: the number of timed calls.
        work: units of work of one call, such as networks times steps.

    Returns:
        One number per repetition.
    """
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        function()
        seconds.append((time.perf_counter() - start) / work)
    return seconds


def median(raw: list[float]) -> float:
    """Return the median over repetitions."""
    return statistics.median(raw)


def peak_memory_gib() -> float:
    """Return the peak memory use of this process in GiB.

    On Linux a child process inherits its parent's `ru_maxrss`, so the process's own high-water mark is used if known.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20
    except (OSError, StopIteration, ValueError):
        unit = 2**30 if platform.system() == "Darwin" else 2**20  # macOS reports bytes, Linux KiB
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
