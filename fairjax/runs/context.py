"""What every part of a run uses: settings, folder, devices, console, timings and the background compiler."""

import dataclasses
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import jax
import numpy as np
from rich.console import Console

import fairjax
from fairjax.runs import hosts
from fairjax.runs.compiler import BackgroundCompiler
from fairjax.runs.folder import RunFolder
from fairjax.runs.identity import identity
from fairjax.runs.settings import Settings
from fairjax.runs.timings import Timings
from fairjax.seeds import Machine, mesh


@dataclasses.dataclass(frozen=True)
class RunContext:
    """What all functions of a run share; `dataclasses.replace` makes the context of another run."""

    settings: Settings
    """The settings of the run."""
    folder: RunFolder
    """The folder in which states and results are saved."""
    machine: Machine
    """Devices, and number of seeds per group."""
    console: Console
    """The console that shows progress."""
    timings: Timings
    """Records the time of each stage."""
    compiler: BackgroundCompiler
    """Compiles programs ahead of their use."""

    def report_diverged(self, diverged, stage: str) -> None:
        """Print the seeds that were frozen because their numbers were no longer finite."""
        labels = [f"{seed}" if value is None else f"{seed} at {value:g}" for seed, value in self.settings.runs]
        frozen = [label for label, flag in zip(labels, np.asarray(diverged), strict=True) if flag]
        if frozen:
            self.console.print(
                f"{stage}: the outputs of seeds {', '.join(frozen)}, or parameters of their adversaries, stopped being "
                "finite; these seeds were frozen there and keep the network of an earlier check",
                style="yellow",
                markup=False,
            )


@contextmanager
def open_run(settings: Settings, folder: RunFolder, console: Console) -> Iterator[RunContext]:
    """Return the context of a run on all devices; compilation ends with the block.

    Args:
        settings: the settings of the run.
        folder: the folder of the run.
        console: the console that shows progress.
    """
    machine = Machine(mesh(), settings.group_size)
    with Timings().listening() as timings, closing(BackgroundCompiler()) as compiler:
        yield RunContext(settings, folder, machine, console, timings, compiler)


def open_folder(settings: Settings, network: dict[str, Any] | None = None) -> RunFolder:
    """Open the folder of a run, after checking that all processes have the same settings and versions.

    Args:
        settings: the settings of the run.
        network: checksums of a given network.
    """
    hosts.check_same_on_all_processes("the configuration", fingerprint(settings, network))
    return RunFolder(settings.folder, identity(settings, network))


def fingerprint(settings: Settings, network: dict[str, Any] | None = None) -> str:
    """Return the settings and versions that must be the same in all processes."""
    versions = f"fairjax {fairjax.__version__}, jax {jax.__version__}"
    return f"{identity(settings, network)}, group size {settings.group_size}, {versions}"
