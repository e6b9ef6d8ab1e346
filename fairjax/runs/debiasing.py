"""Debias the trained networks of a run, method by method."""

from fairjax.runs.context import RunContext
from fairjax.runs.progress import progress_of
from fairjax.runs.signals import stop_if_asked
from fairjax.runs.stages import Trials, evaluate_originals, stages_of
from fairjax.runs.trials import Outcome, Prepared


def debias_all(run: RunContext, prepared: Prepared) -> Outcome:
    """Debias trained networks by all methods, or resume where an earlier call was interrupted.

    Args:
        run: the run.
        prepared: the result of `prepare` for the same data, network and training.

    Returns:
        All results.
    """
    originals = evaluate_originals(run, prepared)
    trials: Trials = {}
    with progress_of(run.console) as progress:
        for stage in stages_of(run, originals.networks):
            stop_if_asked()
            trials |= stage.compute(originals, progress, trials)
    return Outcome(prepared, trials)
