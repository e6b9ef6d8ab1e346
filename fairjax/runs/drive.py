"""Drive the chunks of a stage: show progress, save states, resume, and stop when asked."""

import dataclasses
import itertools
import time
from collections.abc import Callable
from typing import Any

import jax

from fairjax.runs import hosts
from fairjax.runs.context import RunContext
from fairjax.runs.signals import stop_asked, stop_if_asked

_boundaries = itertools.count()
"""Numbers of the chunk boundaries, which all processes pass in the same order."""


def _nothing(state: Any = None) -> None:
    del state


@dataclasses.dataclass(frozen=True)
class SavingDrive:
    """A `fairjax.seeds.Drive` that saves states at intervals and at the end, and resumes from the newest one.

    The numbers do not depend on where the chunks are cut, so an interrupted and resumed stage gives the same results as
    an uninterrupted one.
    """

    run: RunContext
    """The run."""
    stage: str
    """Name of the stage, of its time and of its saved states."""
    show: Callable[[Any], None]
    """Shows the progress of a state."""
    ready: Callable[[Any], None] = _nothing
    """Called at the beginning with the first state, or its shapes if a saved state is restored."""
    before: Callable[[Any], None] = _nothing
    """Called before every chunk with the state."""
    after: Callable[[], None] = _nothing
    """Called once a chunk was started, while it is still running."""

    def __call__(
        self, begin: Callable[[bool], Any], advance: Callable[[Any], Any], finished: Callable[[Any], bool]
    ) -> Any:
        """Run from the first or the saved state to the last one; see `fairjax.seeds.Drive`."""
        run, timings, name = self.run, self.run.timings, self.stage
        saved_states = run.folder.stage(name)
        with timings.stage(name):
            state = begin(saved_states.has_checkpoint())  # if there is a saved state, `begin` returns shapes only
        self.ready(state)
        saved = saved_states.restore({"state": state, "seconds": timings.of(name)}, run.machine.mesh)
        number = 0
        if saved is not None:
            number, state = saved[0], saved[1]["state"]
            timings.add(name, saved[1]["seconds"])

        def save():
            seconds = timings.of(name)
            with timings.stage("saving"):
                saved_states.save(number, {"state": state, "seconds": seconds})

        saved_at, unsaved = time.perf_counter(), False
        self.show(state)
        while not finished(state):
            with timings.stage(name):
                self.before(state)
                state = advance(state)
                self.after()
                state = jax.block_until_ready(state)
            self.show(state)
            number, unsaved = number + 1, True
            stop = hosts.preempted(next(_boundaries)) or stop_asked()
            if stop or hosts.broadcast_flag(time.perf_counter() - saved_at >= run.settings.save_every):
                save()
                saved_at, unsaved = time.perf_counter(), False
            if stop:
                stop_if_asked()
                raise KeyboardInterrupt
        if unsaved:
            save()
        return state
