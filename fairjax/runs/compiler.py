"""Compile the programs of later stages while networks train, so that no stage has to wait for its compilation."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

from fairjax import seeds


class BackgroundCompiler:
    """A thread that traces and compiles programs; a later call of such a program reuses the compiled result."""

    def __init__(self):
        """Initialise an empty queue."""
        self._pool = ThreadPoolExecutor(1, "compile")
        self._futures: dict[str, Future] = {}
        self._go, self._closed = threading.Event(), False

    def add(self, stage: str, work: Callable[[], Any]) -> None:
        """Queue the compilation of a stage's programs. The queue is processed in order once `start` has been called."""
        if stage not in self._futures:
            self._futures[stage] = self._pool.submit(self._work, work)

    def _work(self, work: Callable[[], Any]) -> None:
        self._go.wait()
        if not self._closed:
            work()

    def start(self) -> None:
        """Start compiling the queued programs; called when the programs that are needed first have been compiled."""
        self._go.set()

    def wait(self, stage: str) -> None:
        """Wait until the programs of a stage are compiled.

        A program that cannot be compiled ahead raises its error where it is called, not here.
        """
        self.start()
        future = self._futures.get(stage)
        if future is not None:
            future.exception()

    def close(self) -> None:
        """Start no further compilation; a compilation that is in progress is finished."""
        self._closed = True
        self._go.set()
        self._pool.shutdown(wait=False, cancel_futures=True)


def lower_and_compile(program: Any, *args: Any, mesh: jax.sharding.Mesh, **static: Any) -> Any:
    """Compile a jitted function for arguments of the given shapes on all devices of a mesh.

    Args:
        program: a function made by `jax.jit`.
        *args: arrays, or their shapes, and numbers.
        mesh: the devices over which arrays are replicated.
        **static: the static arguments, by name.

    Returns:
        The shapes and types of the function's results.
    """
    everywhere = seeds.replicated_sharding(mesh)

    def shape(leaf):
        if not hasattr(leaf, "shape"):
            return leaf
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere)

    lowered = program.lower(*jax.tree.map(shape, args), **static)
    lowered.compile()
    return lowered.out_info
