"""Lower all programs of a thread in one MLIR context, which saves processes with many programs much time and memory."""

import threading

from jax._src.interpreters import mlir

_new_context = mlir.make_ir_context
_of_thread = threading.local()


def _context():
    """Return the context of this thread."""
    if not hasattr(_of_thread, "context"):
        _of_thread.context = _new_context()
    return _of_thread.context


def install():
    """Replace the function with which JAX makes contexts.

    JAX makes one per program and keeps it with the program. Each takes milliseconds and hundreds of kilobytes, and MLIR
    looks things up more slowly the more contexts there are: a long session would spend a third of its time on it.
    """
    mlir.make_ir_context = _context
