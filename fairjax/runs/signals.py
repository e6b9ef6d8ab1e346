"""End a run on SIGTERM at a point at which everything is saved."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(KeyboardInterrupt):
    """Signals that SIGTERM was received; the run ends at a point where all results so far are saved."""

    status = 143
    """The exit status."""

    def __init__(self):
        """Initialise the exception with the message that is printed."""
        super().__init__("stopped by SIGTERM; the state is saved: run the same command again to resume")


_received: list[int] = []
"""SIGTERM signals that this process has received."""


@contextmanager
def stopping_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the run at the next point at which its state is saved; a second SIGTERM ends it at once.

    Runs of several processes do not use this, since JAX informs all of them when one receives SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def receive(number, frame):
        del frame
        if os.getpid() != owner or _received:  # not handled in forked processes
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        _received.append(number)

    _received.clear()
    before = signal.signal(signal.SIGTERM, receive)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _received.clear()


def stop_asked() -> bool:
    """Return whether SIGTERM was received."""
    return bool(_received)


def stop_if_asked() -> None:
    """End the run if SIGTERM was received; call this where everything is saved.

    Raises:
        Stopped: if SIGTERM was received.
    """
    if stop_asked():
        raise Stopped
