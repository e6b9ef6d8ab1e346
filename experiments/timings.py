"""How long the stages of a run take, compilation apart."""

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
    """Seconds by stage; what it waits for JAX to trace, lower and compile is counted apart."""

    def __init__(self):
        """Start with no stage."""
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
        """Seconds that other threads have compiled beside the work."""
        return sum(self._of_thread(thread) for thread in list(self._heard) if thread != threading.get_ident())

    @contextmanager
    def listening(self) -> Iterator["Timings"]:
        """Hear of compilations while the block runs."""

        def hear(event: str, duration: float, **_) -> None:
            if event not in _COMPILATION:
                return
            begun, heard = time.perf_counter() - duration, self._heard.setdefault(threading.get_ident(), [])
            while heard and heard[-1][0] >= begun:  # a function traced inside this one: counted with it
                heard.pop()
            heard.append((begun, duration))

        jax.monitoring.register_event_duration_secs_listener(hear)
        try:
            yield self
        finally:
            jax.monitoring.unregister_event_duration_listener(hear)

    def copy(self) -> "Timings":
        """Another count that begins with the same seconds."""
        made = Timings()
        made.seconds, made.compilation = dict(self.seconds), dict(self.compilation)
        made._heard = {thread: list(heard) for thread, heard in self._heard.items()}
        return made

    def of(self, name: str) -> np.ndarray:
        """Seconds of a stage's work and of its compilation."""
        return np.array([self.seconds.get(name, 0.0), self.compilation.get(name, 0.0)], np.float32)

    def add(self, name: str, seconds: Any) -> None:
        """Add what an earlier call spent on a stage."""
        work, compilation = map(float, seconds)
        self.seconds[name] = self.seconds.get(name, 0.0) + work
        self.compilation[name] = self.compilation.get(name, 0.0) + compilation

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the block as compilation of the stage that it is in: it waits for another thread to compile."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._heard.setdefault(threading.get_ident(), []).append((begun, time.perf_counter() - begun))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the block's time to a stage."""
        begun, compiled = time.perf_counter(), self._compiled
        try:
            yield
        finally:
            spent = self._compiled - compiled
            self.compilation[name] = self.compilation.get(name, 0.0) + spent
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun - spent
