"""Measure how long the stages of a run take, with compilation counted separately."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

_COMPILATION = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)


class Timings:
    """Seconds of work and of compilation by stage.

    Compilation includes JAX's tracing and lowering; only the time that a stage waits for it is counted.
    """

    def __init__(self):
        """Initialise without any stages."""
        self.seconds: dict[str, float] = {}
        self.compilation: dict[str, float] = {}
        self._heard: dict[int, list[tuple[float, float]]] = {}  # by thread

    @property
    def _compiled(self) -> float:
        return self._of_thread(threading.get_ident())

    def _of_thread(self, thread: int) -> float:
        return sum(duration for _, duration in self._heard.get(thread, []))

    @property
    def ahead(self) -> float:
        """Seconds of compilation in other threads, in parallel with the work."""
        return sum(self._of_thread(thread) for thread in list(self._heard) if thread != threading.get_ident())

    @contextmanager
    def listening(self) -> Iterator["Timings"]:
        """Record compilation events while the block runs."""

        def hear(event: str, duration_secs: float, **_: Any) -> None:
            if event not in _COMPILATION:
                return
            begun, heard = time.perf_counter() - duration_secs, self._heard.setdefault(threading.get_ident(), [])
            while heard and heard[-1][0] >= begun:  # traced inside this function and included in its time
                heard.pop()
            heard.append((begun, duration_secs))

        jax.monitoring.register_event_duration_secs_listener(hear)
        try:
            yield self
        finally:
            jax.monitoring.unregister_event_duration_listener(hear)

    def copy(self) -> "Timings":
        """Return an independent copy."""
        made = Timings()
        made.seconds, made.compilation = dict(self.seconds), dict(self.compilation)
        made._heard = {thread: list(heard) for thread, heard in self._heard.items()}
        return made

    def of(self, name: str) -> np.ndarray:
        """Return the seconds of a stage's work and of its compilation."""
        return np.array([self.seconds.get(name, 0.0), self.compilation.get(name, 0.0)], np.float32)

    def add(self, name: str, seconds: Any) -> None:
        """Add the seconds that an earlier call spent on a stage."""
        work, compilation = map(float, seconds)
        self.seconds[name] = self.seconds.get(name, 0.0) + work
        self.compilation[name] = self.compilation.get(name, 0.0) + compilation

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the block, which waits for another thread to compile, as compilation of the current stage."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._heard.setdefault(threading.get_ident(), []).append((begun, time.perf_counter() - begun))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        begun, compiled = time.perf_counter(), self._compiled
        try:
            yield
        finally:
            spent = self._compiled - compiled
            self.compilation[name] = self.compilation.get(name, 0.0) + spent
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun - spent
