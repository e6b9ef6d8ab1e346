"""Several processes, on one host or many, as one run: JAX's multi-controller runtime.

Every process runs the same command, and seeds are spread over the devices of all processes. Only the first process
accesses the folder of results and sends what it reads to the others over the network, so hosts need no shared disk.
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

from fairjax.checkpoint import first_line

HEARTBEAT = 30
"""Seconds without a heartbeat after which a process counts as lost and all others stop."""

PATIENCE = 24 * 3600 * 1000
"""Milliseconds that a process waits for a message of another one; the heartbeat ends the wait if that one is lost."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hosts:
    """Several processes that make one run, each started with the same command; not needed for one process."""

    coordinator: str | None = None
    """HOST:PORT at which the other processes can reach process 0, if processes are started by hand."""
    processes: int | None = None
    """Number of processes; required with coordinator."""
    process: int | None = None
    """Number of this process, counted from 0; required with coordinator."""
    cluster: bool = False
    """Get all three from the launcher (Slurm, Open MPI, a TPU pod, Kubernetes), as jax.distributed.initialize does."""
    wait: int = 300
    """Seconds to wait for the other processes at the start."""

    def __post_init__(self):
        """Validate the settings."""
        given = [name for name in ("coordinator", "processes", "process") if getattr(self, name) is not None]
        if self.cluster and given:
            raise ValueError(f"hosts.cluster gets hosts.{given[0]} from the launcher: set one of the two")
        if given and len(given) < 3:
            raise ValueError(
                f"hosts.coordinator, hosts.processes and hosts.process must be set together, got only "
                f"{', '.join(given)}"
            )
        if self.coordinator is not None and self.processes is not None and self.process is not None:
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
        """Whether this is one of several processes."""
        return self.cluster or self.coordinator is not None


class HostsError(ValueError):
    """Processes that cannot run together."""


def is_primary() -> bool:
    """Return whether this is the first process, which reads and writes for all."""
    return jax.process_index() == 0


@contextmanager
def joined(hosts: Hosts) -> Iterator[None]:
    """Connect to the other processes while the block runs; do nothing for a single process.

    After an error this process prints its message and exits at once, since the others would wait for it forever. They
    exit as well, each with a message of its own. Saved states are kept.

    Raises:
        HostsError: if the other processes cannot be reached.
    """
    if not hosts.several:
        yield
        return
    exit_message = _ExitMessage()
    try:
        _join(hosts)
        yield
        broadcast(lambda: "done")  # wait until the first process has written everything, however long that takes
        multihost_utils().sync_global_devices("end")
    except BaseException as error:
        exit_message.cancel()
        _end(error)
    exit_message.cancel()
    jax.distributed.shutdown()


def multihost_utils() -> Any:
    """Import JAX's functions for several processes, which JAX itself does not import."""
    from jax.experimental import multihost_utils

    return multihost_utils


def _join(hosts: Hosts) -> None:
    multihost_utils()
    explicit: dict[str, Any] = {} if hosts.cluster else {"cluster_detection_method": "deactivate"}
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
                f"the launcher's processes could not connect ({first_line(error)}); start them with srun, mpirun or "
                "the launcher of a pod, or set --hosts.coordinator, --hosts.processes and --hosts.process"
            ) from error
        raise HostsError(
            f"{hosts.processes} processes at {hosts.coordinator} could not connect within {hosts.wait} s "
            f"({first_line(error)}); start every process with the same command but its own --hosts.process, and check "
            "that the coordinator's port is free and reachable"
        ) from error
    check_same_on_all_processes("the number of devices of a process", str(jax.local_device_count()))


def _end(error: BaseException) -> NoReturn:
    """Print why this process stops, and exit without waiting for the others."""
    again = "saved states are kept; start all processes again with the same command"
    if isinstance(error, KeyboardInterrupt):
        text, status = f"{_name()} was stopped; {again}", 130
    elif isinstance(error, jax.errors.JaxRuntimeError) and any(word in str(error) for word in _LOST):
        text, status = f"{_name()} lost another process ({first_line(error)}); {again}", 1
    elif isinstance(error, ValueError | TypeError | OSError):
        text, status = f"error: {error}\n{_name()} stops, and the other processes will stop too", 2
    else:
        sys.excepthook(type(error), error, error.__traceback__)
        text, status = f"{_name()} stops, and the other processes will stop too", 1
    print(text, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    if jax.distributed.is_initialized() and is_primary():
        time.sleep(1)  # the others may be about to read the error message of this process
    os._exit(status)  # a normal exit waits for processes that may be gone


_LOST = ("Gloo", "NCCL", "Connection", "connection", "UNAVAILABLE", "DEADLINE_EXCEEDED", "heartbeat", "coordination")
"""Words in errors that are caused by the loss of another process, not by the work of this one."""


def _name() -> str:
    if not jax.distributed.is_initialized():
        return "this process"
    return f"process {jax.process_index()} of {jax.process_count()}"


class _ExitMessage:
    """A message that is printed if this process is killed, or stopped by JAX because the first process is lost.

    A killed process cannot print, so a helper process prints the message when its pipe to this process closes.
    """

    PROGRAM = "import sys; sys.stdin.buffer.read() == b'cancel' or print(sys.argv[1], file=sys.stderr)"

    def __init__(self):
        text = (
            f"process {os.getpid()} stopped early: it was killed, or another process was lost or never connected; "
            "saved states are kept; start all processes again with the same command"
        )
        self._reader = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", self.PROGRAM, text], stdin=subprocess.PIPE, start_new_session=True
        )

    def cancel(self) -> None:
        """Stop the helper process without a message, because this process has reported everything itself."""
        try:
            self._reader.communicate(b"cancel", timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            self._reader.kill()


_messages = itertools.count()


def broadcast(function: Callable[[], str]) -> str:
    """Call a function in the first process only, and return its result, or raise its error, in all processes.

    Raises:
        HostsError: in the other processes, if the function raised an error in the first process.
    """
    if jax.process_count() == 1:
        return function()
    key, client = f"fairjax/{next(_messages)}", _client()
    if not is_primary():
        kind, text = client.blocking_key_value_get(key, PATIENCE).split(":", 1)
        if kind == "error":
            raise HostsError(f"the first process failed: {text}")
        return text
    try:
        text = function()
    except Exception as error:
        client.key_value_set(key, f"error:{error}")
        raise
    client.key_value_set(key, f"value:{text}")
    return text


def broadcast_flag(yes: bool) -> bool:
    """Return the first process's answer in all processes, for decisions that depend on clocks and disks."""
    return broadcast(lambda: "yes" if yes else "no") == "yes"


def broadcast_arrays(tree: Any) -> Any:
    """Broadcast the NumPy arrays of the first process; the arrays of the other processes define shapes and types."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(np.array, multihost_utils().broadcast_one_to_all(tree))


def check_same_on_all_processes(what: str, value: str) -> None:
    """Check that a value is the same in all processes.

    Raises:
        HostsError: if it differs; the message names what differs.
    """
    if jax.process_count() == 1:
        return
    theirs = broadcast(lambda: value)
    if theirs != value:
        start = max(0, len(os.path.commonprefix([theirs, value])) - 40)
        first, own = (text[start : start + 80] for text in (theirs, value))
        raise HostsError(
            f"{what} differs between process 0 and process {jax.process_index()}: ...{first}... and ...{own}...; start "
            "all processes with the same command, version and data files"
        )


def preempted(step: int) -> bool:
    """Return whether any process has received SIGTERM, as of a step that all processes pass."""
    if jax.process_count() == 1:
        return False
    return multihost_utils().reached_preemption_sync_point(step)


def _client() -> Any:
    from jax._src import distributed  # JAX has no public name for its key-value store

    return distributed.global_state.client
