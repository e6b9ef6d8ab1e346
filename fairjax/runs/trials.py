"""Results of methods, before they become tables."""

from typing import Any, NamedTuple

import jax
import numpy as np

from fairjax.nn import Network
from fairjax.nn.flat import FlatVariables
from fairjax.result import Trace
from fairjax.runs import programs
from fairjax.runs.given_network import Given
from fairjax.runs.structure import Structure
from fairjax.training import TrainingState
from fairjax.types import Split


class Trial(NamedTuple):
    """The result of a method under a selection rule; all arrays have a leading axis of runs."""

    trace: Trace
    """The evaluations of all candidates, or of the single result of a method without candidates."""
    selected: Any
    """The index of the selected candidate."""
    diverged: Any
    """Whether the outputs of a network or candidate were not finite."""
    networks: FlatVariables | None
    """The selected networks; None for methods that change only decisions, and for additional rules."""

    @classmethod
    def of_one(cls, trace: Trace, finite: Any, networks: FlatVariables | None = None) -> "Trial":
        """Return a trial of one candidate per run."""
        trace, finite = jax.tree.map(np.asarray, (trace, finite))
        trace = jax.tree.map(lambda entry: entry[:, None], trace)
        return cls(trace, np.zeros(finite.shape, np.int32), ~finite, networks)

    def reselected(self, rule: Any) -> "Trial":
        """Return the trial with the candidates that another rule selects, without their networks."""
        return self._replace(selected=np.asarray(programs.select(rule, self.trace)), networks=None)


def best_of_trials(members: list[Trial], rule: Any) -> Trial:
    """Select by a rule the best of the candidates that several methods selected by that rule."""
    best = programs.best_of(rule, [trial.trace for trial in members], [trial.selected for trial in members])
    joined, which, selected = jax.tree.map(np.asarray, best)
    runs, networks = np.arange(len(which)), [trial.networks for trial in members if trial.networks is not None]

    def chosen(*leaves):
        return np.stack([np.asarray(leaf) for leaf in leaves])[which, runs]

    picked = jax.tree.map(chosen, *networks) if len(networks) == len(members) else None
    return Trial(joined, selected, chosen(*(trial.diverged for trial in members)), picked)


class GivenNetworks(NamedTuple):
    """Copies of a network that was trained elsewhere, one per run, in place of a `TrainingState`."""

    best: FlatVariables
    """The given variables."""
    epoch: np.ndarray
    """Number of epochs of training: 0."""


class Prepared(NamedTuple):
    """The data and the trained networks."""

    splits: Split
    axes: Split
    facts: dict[str, Any]
    structure: Structure
    network: Network
    trained: TrainingState | GivenNetworks
    given: Given | None = None
    """The network that the user gave, if there is one."""


class Outcome(NamedTuple):
    """All results of a run."""

    prepared: Prepared
    trials: dict[tuple[str, str], Trial]
    """Results by method and rule; the rule is `none` for methods that need no selection."""
