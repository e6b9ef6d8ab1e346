"""Run AIF360's post-processors for many seeds and methods in parallel, in separate processes."""

import contextlib
import dataclasses
import functools
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, NamedTuple

import numpy as np

from fairjax.registry import Registry

# NumPy and JAX read these on import, so a process must have them from its start. JAX's threads make fork unsafe, so
# each process imports fairjax, and with it JAX, which must not claim an accelerator.
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
    """One method for one seed. Arrays are converted to NumPy's, so that other processes need no device to read them."""

    method: str
    """A method in `POSTPROCESSORS`."""
    measure: str
    """`spd` or `eod`; equalised odds ignores it, since it has a criterion of its own."""
    seed: int
    """The seed, which identifies the job in errors and determines which rows equalised odds changes."""
    number: int = 0
    """A number by which the caller can identify the job."""
    valid_scores: np.ndarray
    """Scores of the validation data."""
    valid_y: np.ndarray
    """Labels of the validation data."""
    valid_a: np.ndarray
    """Groups of the validation data."""
    test_scores: np.ndarray
    """Scores of the test data."""
    test_a: np.ndarray
    """Groups of the test data."""
    threshold: float
    """The threshold of the scores, tuned on the validation data; reject option chooses its own."""
    bound: float = 0.05
    """The bound on |measure| for reject option."""
    search: str = "counts"
    """The search of reject option: see `fairjax.adapters.aif360_postprocessing.SEARCHES`."""

    def __post_init__(self):
        """Validate the method."""
        known = [name for name, entry in POSTPROCESSORS.items() if entry.decide is not None]
        if self.method not in known:
            raise ValueError(f"method must be one of {', '.join(known)}, got {self.method!r}")
        for name in _ARRAYS:
            object.__setattr__(self, name, np.asarray(getattr(self, name)))
        object.__setattr__(self, "threshold", float(self.threshold))


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


class Postprocessor(NamedTuple):
    """A method that changes decisions instead of the network; it needs the protected attribute at test time."""

    label: str
    """The display name in tables and figures."""
    reference: str
    """The method's source, as tables show it."""
    decide: Callable[[Job], tuple[np.ndarray, np.ndarray, dict[str, Any]]] | None
    """Return decisions on valid and test data and the fitted numbers for one seed. None for group thresholds, which one
    program computes for all seeds."""
    groups: float = 2
    """The maximum number of groups that the method supports."""
    measures: tuple[str, ...] | None = ("spd", "eod")
    """The measures that the method supports; None if it supports all."""
    classes: float = 2
    """The maximum number of classes that the method supports."""


_KAMIRAN, _HARDT = "Kamiran et al. 2012, AIF360", "Hardt et al. 2016, AIF360"

POSTPROCESSORS: Registry[Postprocessor] = Registry(
    "post-processor",
    {
        "group_thresholds": Postprocessor("Group thresholds", "Hardt et al. 2016", None, math.inf, None),
        "reject_option": Postprocessor("ROC", _KAMIRAN, functools.partial(_reject_option, polarity="one")),
        "reject_option_either": Postprocessor(
            "ROC, either way", _KAMIRAN, functools.partial(_reject_option, polarity="either")
        ),
        "reject_option_paper": Postprocessor(
            "ROC, paper's polarity", _KAMIRAN, functools.partial(_reject_option, polarity="crossed")
        ),
        "equalized_odds": Postprocessor("Eq. odds", _HARDT, functools.partial(_equalized_odds, threshold=None)),
        "equalized_odds_half": Postprocessor(
            "Eq. odds, cut at 0.5", _HARDT, functools.partial(_equalized_odds, threshold=0.5)
        ),
    },
)
"""All post-processors by name. `reject_option` takes 1 as the favourable label, `reject_option_either` takes 1 or 0,
whichever is better on validation data, and `reject_option_paper` works as in the first paper's runs on COMPAS.
`equalized_odds` starts from decisions at the tuned threshold, `equalized_odds_half` at 0.5."""
