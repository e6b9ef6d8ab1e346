"""AIF360's post-processors for many seeds and methods at once, in processes of their own."""

import contextlib
import dataclasses
import functools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, NamedTuple

import numpy as np

# Read when NumPy and JAX are imported, so a process must have them from its start. JAX threads make fork unsafe, so
# each process imports fairjax, and with it JAX, which must not reach for an accelerator.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}

_ARRAYS = ("valid_scores", "valid_y", "valid_a", "test_scores", "test_a")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """One method for one seed. Arrays become NumPy's, so that no other process needs a device to read them."""

    method: str
    """A name in `METHODS`."""
    measure: str
    """`spd` or `eod`; equalised odds has a criterion of its own and ignores it."""
    seed: int
    """Names the job in errors, and chooses the rows that equalised odds changes."""
    number: int = 0
    """For the caller to find the job again."""
    valid_scores: np.ndarray
    """Scores of the validation data."""
    valid_y: np.ndarray
    """Its classes."""
    valid_a: np.ndarray
    """Its groups."""
    test_scores: np.ndarray
    """Scores of the test data."""
    test_a: np.ndarray
    """Its groups."""
    threshold: float
    """Where scores are cut, as tuned on the validation data; reject option finds its own."""
    bound: float = 0.05
    """Bound on |measure|, for reject option."""
    search: str = "counts"
    """How reject option searches: see `fairjax.adapters.aif360_postprocessing.SEARCHES`."""

    def __post_init__(self):
        """Refuse an unknown method."""
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        for name in _ARRAYS:
            object.__setattr__(self, name, np.asarray(getattr(self, name)))
        object.__setattr__(self, "threshold", float(self.threshold))


class Answer(NamedTuple):
    """What came of a job."""

    job: Job
    """The job."""
    valid: np.ndarray
    """Decisions on the validation data."""
    test: np.ndarray
    """Decisions on the test data."""
    seconds: float
    """Time of fitting and deciding."""
    fitted: dict[str, Any]
    """The numbers that were fitted, by name."""


def decisions(jobs: Sequence[Job], *, processes: int | None = None) -> Iterator[Answer]:
    """Run jobs side by side, and give each answer as soon as it is there.

    The processes are ended when the last answer was taken, when a job fails, and when the iterator is closed or
    interrupted. Their results do not depend on their number. A script that calls this needs the usual
    `if __name__ == "__main__":`, since every process imports it.

    Args:
        jobs: the jobs, in any order.
        processes: at most so many processes; one for each usable core if omitted. 1 runs the jobs in this process.

    Returns:
        An iterator over the answers, in the order in which they are ready.

    Raises:
        ValueError: if `processes` is not positive.
        RuntimeError: from the iterator, if a job fails, naming its method, measure and seed.
    """
    if processes is not None and processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    count = min(processes or _cores(), len(jobs))
    return _here(jobs) if count <= 1 else _side_by_side(jobs, count)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _here(jobs: Sequence[Job]) -> Iterator[Answer]:
    for job in jobs:
        yield _answer(job, functools.partial(_work, job))


def _side_by_side(jobs: Sequence[Job], processes: int) -> Iterator[Answer]:
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_ignore_interrupts)
    try:
        with _environment(_ENVIRONMENT):  # the processes start while jobs are submitted
            futures = {pool.submit(_work, job): job for job in jobs}
        for future in as_completed(futures):
            yield _answer(futures[future], future.result)
    except BaseException:  # also an interrupt, and a caller who wants no more
        _end(pool)
        raise
    pool.shutdown()


def _answer(job: Job, result: Callable[[], tuple]) -> Answer:
    try:
        return Answer(job, *result())
    except Exception as error:
        raise RuntimeError(f"{job.method} ({job.measure}) failed for seed {job.seed}: {error}") from error


def _end(pool: ProcessPoolExecutor) -> None:
    """End the processes at once; `terminate_workers` does it from Python 3.14 on."""
    for worker in list((pool._processes or {}).values()):
        worker.terminate()
    pool.shutdown(cancel_futures=True)  # waits for them


def _ignore_interrupts() -> None:
    """The first process hears of Ctrl-C too, and ends the others."""
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
    import fairjax.adapters.aif360_postprocessing  # noqa: F401  (seconds that are not the job's)

    start = time.perf_counter()
    valid, test, fitted = METHODS[job.method](job)
    return valid, test, time.perf_counter() - start, fitted


def _reject_option(job: Job, polarity: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    from fairjax.adapters.aif360_postprocessing import reject_option

    fit = reject_option(
        job.valid_scores,
        job.valid_y,
        job.valid_a,
        measure=job.measure,
        bound=job.bound,
        polarity=polarity,
        search=job.search,
    )
    return fit.decide(job.valid_scores, job.valid_a), fit.decide(job.test_scores, job.test_a), fit._asdict()


def _equalized_odds(job: Job, threshold: float | None) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    from fairjax.adapters.aif360_postprocessing import equalized_odds

    cut = job.threshold if threshold is None else threshold
    valid, test = job.valid_scores > cut, job.test_scores > cut
    fit = equalized_odds(valid, job.valid_y, job.valid_a, seed=job.seed)
    return fit.decide(valid, job.valid_a), fit.decide(test, job.test_a), {"threshold": cut, **fit._asdict()}


METHODS: dict[str, Callable[[Job], tuple[np.ndarray, np.ndarray, dict[str, Any]]]] = {
    "reject_option": functools.partial(_reject_option, polarity="one"),
    "reject_option_either": functools.partial(_reject_option, polarity="either"),
    "reject_option_paper": functools.partial(_reject_option, polarity="crossed"),
    "equalized_odds": functools.partial(_equalized_odds, threshold=None),
    "equalized_odds_half": functools.partial(_equalized_odds, threshold=0.5),
}
"""`reject_option` with 1 favourable; with 1 or 0, whichever is better on validation data (`either`); as in the first
paper's runs on COMPAS (`paper`). `equalized_odds` of decisions cut at the tuned threshold, or at 0.5 (`half`)."""
