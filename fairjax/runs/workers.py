"""Run AIF360's postprocessors for many seeds and methods in parallel, in separate processes."""

import contextlib
import functools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, NamedTuple

import numpy as np

from fairjax.runs.devices import usable_cores
from fairjax.runs.postprocessors import POSTPROCESSORS, Job

# NumPy and JAX read these on import, so a process must have them from its start. JAX's threads make fork unsafe, so
# each process imports fairjax, and with it JAX, which must not claim an accelerator.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}


class Answer(NamedTuple):
    """The result of a job."""

    job: Job
    """The job."""
    valid: np.ndarray
    """Decisions on the validation data."""
    test: np.ndarray
    """Decisions on the test data."""
    seconds: float
    """Time of fitting and deciding, in seconds."""
    fitted: dict[str, Any]
    """The fitted numbers by name."""


def decisions(jobs: Sequence[Job], *, processes: int | None = None) -> Iterator[Answer]:
    """Run jobs in parallel, and yield each answer as soon as it is available.

    The processes end when the last answer has been taken, when a job fails, and when the iterator is closed or
    interrupted. The results do not depend on the number of processes. A script that calls this function needs the usual
    `if __name__ == "__main__":`, since every process imports the script.

    Args:
        jobs: the jobs, in any order.
        processes: the maximum number of processes; by default one per usable core. With 1, jobs run in this process.

    Returns:
        An iterator over the answers, in the order in which they become available.

    Raises:
        ValueError: if `processes` is not positive.
        RuntimeError: from the iterator, if a job fails; the message names its method, measure and seed.
    """
    if processes is not None and processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    count = min(processes or usable_cores(), len(jobs))
    return _here(jobs) if count <= 1 else _side_by_side(jobs, count)


def _here(jobs: Sequence[Job]) -> Iterator[Answer]:
    for job in jobs:
        yield _answer(job, functools.partial(_work, job))


def _side_by_side(jobs: Sequence[Job], processes: int) -> Iterator[Answer]:
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_ignore_interrupts)
    try:
        with _environment(_ENVIRONMENT):  # processes start while jobs are submitted
            futures = {pool.submit(_work, job): job for job in jobs}
        for future in as_completed(futures):
            yield _answer(futures[future], future.result)
    except BaseException:  # including interrupts and a caller that closes the iterator
        _end(pool)
        raise
    pool.shutdown()


def _answer(job: Job, result: Callable[[], tuple]) -> Answer:
    try:
        return Answer(job, *result())
    except Exception as error:
        raise RuntimeError(f"{job.method} ({job.measure}) failed for seed {job.seed}: {error}") from error


def _end(pool: ProcessPoolExecutor) -> None:
    """Terminate the processes at once; from Python 3.14 on, `terminate_workers` does this."""
    for worker in list((pool._processes or {}).values()):
        worker.terminate()
    pool.shutdown(cancel_futures=True)  # waits for the processes


def _ignore_interrupts() -> None:
    """Ignore Ctrl-C, which also reaches the main process, and the main process ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _work(job: Job) -> tuple[np.ndarray, np.ndarray, float, dict[str, Any]]:
    import fairjax.adapters.aif360_postprocessing  # noqa: F401  (imported before the clock starts)

    start = time.perf_counter()
    decide = POSTPROCESSORS[job.method].decide
    assert decide is not None  # checked when the job was created
    valid, test, fitted = decide(job)
    return valid, test, time.perf_counter() - start, fitted
