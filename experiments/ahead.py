"""Compile the programs of later stages while networks train, so that no stage waits for its own."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

from fairjax import parallel


class Ahead:
    """A thread that traces and compiles; calling a program later finds what is ready."""

    def __init__(self):
        """Start with nothing to do."""
        self._pool = ThreadPoolExecutor(1, "compile")
        self._futures: dict[str, Future] = {}
        self._go, self._closed = threading.Event(), False

    def add(self, stage: str, work: Callable[[], Any]) -> None:
        """Have the programs of a stage compiled, after those added before, from `begin` on."""
        if stage not in self._futures:
            self._futures[stage] = self._pool.submit(self._work, work)

    def _work(self, work: Callable[[], Any]) -> None:
        self._go.wait()
        if not self._closed:
            work()

    def begin(self) -> None:
        """The programs that are needed first are compiled: now is the time for the others."""
        self._go.set()

    def wait(self, stage: str) -> None:
        """Until the programs of a stage are ready; what cannot be compiled ahead fails where it is called, not here."""
        self.begin()
        future = self._futures.get(stage)
        if future is not None:
            future.exception()

    def close(self) -> None:
        """Begin nothing more; what is being compiled is finished."""
        self._closed = True
        self._go.set()
        self._pool.shutdown(wait=False, cancel_futures=True)


def compiled(program: Any, *args: Any, mesh: jax.sharding.Mesh, **static: Any) -> Any:
    """Compile a jitted function for arguments of these shapes on all devices of a mesh; the shapes of its results.

    Args:
        program: made by `jax.jit`.
        *args: arrays, or their shapes, and numbers.
        mesh: over which arrays are copied.
        **static: the static arguments, by name.
    """
    everywhere = parallel.everywhere_on(mesh)

    def shape(leaf):
        if not hasattr(leaf, "shape"):
            return leaf
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere)

    lowered = program.lower(*jax.tree.map(shape, args), **static)
    lowered.compile()
    return lowered.out_info
