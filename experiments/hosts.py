"""Several processes, on one host or many, as one run: JAX's multi-controller runtime.

Every process runs the same commands; seeds are spread over the devices of all of them. The first process alone touches
the folder of results: what it reads reaches the others over the network, so the hosts need no shared disk.
"""

import dataclasses
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import jax
import numpy as np

from fairjax.storage import first_line

HEARTBEAT = 30
"""Seconds without a sign of life after which a process counts as lost, and all others end."""

PATIENCE = 24 * 3600 * 1000
"""Milliseconds that a process waits for what another one says; one that is lost ends the wait by its heartbeat."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hosts:
    """Processes that make one run together; each is given the same command. Leave all out for one process."""

    coordinator: str | None = None
    """HOST:PORT at which process 0 can be reached by the others; for processes that are started by hand."""
    processes: int | None = None
    """Number of processes, with coordinator."""
    process: int | None = None
    """Number of this process, from 0, with coordinator."""
    cluster: bool = False
    """Ask the launcher (Slurm, Open MPI, a TPU pod, Kubernetes) for all three, as jax.distributed.initialize does."""
    wait: int = 300
    """Seconds to wait for the other processes at the start."""

    def __post_init__(self):
        """Refuse halves of a description."""
        given = [name for name in ("coordinator", "processes", "process") if getattr(self, name) is not None]
        if self.cluster and given:
            raise ValueError(f"hosts.cluster asks the launcher for hosts.{given[0]}; give one or the other")
        if given and len(given) < 3:
            raise ValueError(
                f"hosts.coordinator, hosts.processes and hosts.process belong together, got only {', '.join(given)}"
            )
        if given:
            if ":" not in self.coordinator:
                raise ValueError(f"hosts.coordinator must be HOST:PORT, got {self.coordinator!r}")
            if not 0 <= self.process < self.processes:
                raise ValueError(
                    f"hosts.process must be from 0 to {self.processes - 1} for {self.processes} processes, "
                    f"got {self.process}"
                )
        if self.wait < 1:
            raise ValueError(f"hosts.wait must be at least 1 second, got {self.wait}")

    @property
    def several(self) -> bool:
        """Whether this is one process of several."""
        return self.cluster or self.coordinator is not None


class HostsError(ValueError):
    """Processes that cannot make a run together."""


def first() -> bool:
    """Whether this is the first process, which reads and writes for all."""
    return jax.process_index() == 0


@contextmanager
def together(hosts: Hosts) -> Iterator[None]:
    """Join the other processes while the block runs; with one process, nothing.

    An error ends this process at once, after its message, and so the others, each with a message of its own: they
    would wait for it in vain. What was saved stands.

    Raises:
        HostsError: if the others do not come.
    """
    if not hosts.several:
        yield
        return
    last_words = _LastWords()
    try:
        _join(hosts)
        yield
        from_first(lambda: "done")  # however long the first process takes to write
        jax.experimental.multihost_utils.sync_global_devices("end")
    except BaseException as error:
        last_words.spoken()
        _end(error)
    last_words.spoken()
    jax.distributed.shutdown()


def _join(hosts: Hosts) -> None:
    import jax.experimental.multihost_utils  # noqa: F401  (not imported by jax itself)

    explicit = {} if hosts.cluster else {"cluster_detection_method": "deactivate"}
    try:
        jax.distributed.initialize(
            coordinator_address=hosts.coordinator,
            num_processes=hosts.processes,
            process_id=hosts.process,
            initialization_timeout=hosts.wait,
            heartbeat_timeout_seconds=HEARTBEAT,
            **explicit,
        )
    except (RuntimeError, ValueError) as error:
        if hosts.cluster:
            raise HostsError(
                f"the launcher's processes did not come together ({first_line(error)}); start them by srun, mpirun or "
                "a pod's launcher, or say how they find one another by --hosts.coordinator, --hosts.processes and "
                "--hosts.process"
            ) from error
        raise HostsError(
            f"{hosts.processes} processes at {hosts.coordinator} did not come together within {hosts.wait} s "
            f"({first_line(error)}); start every process with the same command but its own --hosts.process, and see "
            "that the coordinator's port is free and reachable"
        ) from error
    agree("the number of devices of a process", str(jax.local_device_count()))


def _end(error: BaseException) -> NoReturn:
    """Say why this process ends, and end it without waiting for the others."""
    again = "what was saved stands; start all processes again with the same command"
    if isinstance(error, KeyboardInterrupt):
        text, status = f"{_name()} was stopped; {again}", 130
    elif isinstance(error, jax.errors.JaxRuntimeError) and any(word in str(error) for word in _LOST):
        text, status = f"{_name()} lost another process ({first_line(error)}); {again}", 1
    elif isinstance(error, ValueError | TypeError | OSError):
        text, status = f"error: {error}\n{_name()} ends, and so will the others", 2
    else:
        sys.excepthook(type(error), error, error.__traceback__)
        text, status = f"{_name()} ends, and so will the others", 1
    print(text, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    if jax.distributed.is_initialized() and first():
        time.sleep(1)  # the others may be about to read what went wrong here
    os._exit(status)  # the usual way out waits for processes that may be gone


_LOST = ("Gloo", "NCCL", "Connection", "connection", "UNAVAILABLE", "DEADLINE_EXCEEDED", "heartbeat", "coordination")
"""Words of errors that come of a process that is gone, not of this one's work."""


def _name() -> str:
    if not jax.distributed.is_initialized():
        return "this process"
    return f"process {jax.process_index()} of {jax.process_count()}"


class _LastWords:
    """A message for when this process is ended from outside, or by JAX because the first process is gone.

    Nothing can be said by a process that is killed, so another one waits for that, on a pipe that closes with this one.
    """

    PROGRAM = "import sys; sys.stdin.buffer.read() == b'spoken' or print(sys.argv[1], file=sys.stderr)"

    def __init__(self):
        text = (
            f"process {os.getpid()} ended before its work was done: it was killed, or another process or its host was "
            "lost or did not come; what was saved stands; start all processes again with the same command"
        )
        self._reader = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", self.PROGRAM, text], stdin=subprocess.PIPE, start_new_session=True
        )

    def spoken(self) -> None:
        """This process has said all itself."""
        try:
            self._reader.communicate(b"spoken", timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            self._reader.kill()


_turn = itertools.count()


def from_first(function: Callable[[], str]) -> str:
    """What a function returns in the first process, in all of them; an error too. It is called there alone.

    Raises:
        HostsError: in the other processes, if the function raised in the first.
    """
    if jax.process_count() == 1:
        return function()
    key, client = f"fairjax/{next(_turn)}", _client()
    if not first():
        kind, text = client.blocking_key_value_get(key, PATIENCE).split(":", 1)
        if kind == "error":
            raise HostsError(f"the first process could not go on: {text}")
        return text
    try:
        text = function()
    except Exception as error:
        client.key_value_set(key, f"error:{error}")
        raise
    client.key_value_set(key, f"value:{text}")
    return text


def first_says(yes: bool) -> bool:
    """The first process's answer, in all processes: for what clocks and disks decide."""
    return from_first(lambda: "yes" if yes else "no") == "yes"


def arrays_from_first(tree: Any) -> Any:
    """NumPy arrays of the first process in all processes; those of the others tell shapes and types."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(np.array, jax.experimental.multihost_utils.broadcast_one_to_all(tree))


def agree(what: str, value: str) -> None:
    """Refuse to go on where processes differ in something that all must have alike.

    Raises:
        HostsError: naming what differs.
    """
    if jax.process_count() == 1:
        return
    theirs = from_first(lambda: value)
    if theirs != value:
        start = max(0, len(os.path.commonprefix([theirs, value])) - 40)
        there, here = (text[start : start + 80] for text in (theirs, value))
        raise HostsError(
            f"{what} differs between process 0 and process {jax.process_index()}: ...{there}... there, ...{here}... "
            "here; give all processes the same command, version and data files"
        )


def preempted(step: int) -> bool:
    """Whether a process was asked to end (SIGTERM), as of a step that all processes pass alike."""
    if jax.process_count() == 1:
        return False
    return jax.experimental.multihost_utils.reached_preemption_sync_point(step)


def _client() -> Any:
    from jax._src import distributed  # JAX has no public name for its key-value store

    return distributed.global_state.client
