"""Timings: how often, of what, and how much memory."""

import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def repeated(function: Callable[[], Any], repetitions: int, work: float) -> list[float]:
    """Seconds a unit of work, once a repetition.

    Args:
        function: does the work and returns when it is done; everything that is done only once, such as compilation,
            was done before.
        repetitions: how often.
        work: units of work of one call, such as networks times steps.

    Returns:
        A number a repetition.
    """
    seconds = []
    for _ in range(repetitions):
        begun = time.perf_counter()
        function()
        seconds.append((time.perf_counter() - begun) / work)
    return seconds


def median(raw: list[float]) -> float:
    """The median of repetitions."""
    return statistics.median(raw)


def peak_memory_gib() -> float:
    """The most memory that this process has had in use, in GiB.

    Linux hands a parent's `ru_maxrss` on to its child, so the process's own high-water mark is read where there is one.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20
    except (OSError, StopIteration, ValueError):
        unit = 2**30 if platform.system() == "Darwin" else 2**20  # bytes there, KiB elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
