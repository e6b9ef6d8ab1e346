"""Postprocessors by name: AIF360's methods for one seed, and those that one program applies to all seeds."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from fairjax.methods import METHODS, RESERVED
from fairjax.postprocess import Cost, calibrated_equalized_odds, corpus_level, corpus_shares
from fairjax.registry import Registry, brief
from fairjax.types import AnyArray, KeyArray

_ARRAYS = ("valid_scores", "valid_y", "valid_a", "test_scores", "test_a")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """One method for one seed. Arrays are converted to NumPy's, so that other processes need no device to read them."""

    method: str
    """A method in `POSTPROCESSORS`."""
    measure: str
    """`spd` or `eod`; equalised odds ignores it, since it has a criterion of its own."""
    seed: int
    """The seed, which identifies the job in errors and determines which rows equalised odds changes."""
    number: int = 0
    """A number by which the caller can identify the job."""
    valid_scores: Any
    """Scores of the validation data."""
    valid_y: Any
    """Labels of the validation data."""
    valid_a: Any
    """Groups of the validation data."""
    test_scores: Any
    """Scores of the test data."""
    test_a: Any
    """Groups of the test data."""
    threshold: float
    """The threshold of the scores, tuned on the validation data; reject option chooses its own."""
    bound: float = 0.05
    """The bound on |measure| for reject option."""
    search: str = "counts"
    """The search of reject option: see `fairjax.adapters.aif360_postprocessing.SEARCHES`."""

    def __post_init__(self):
        """Validate the method."""
        known = [name for name, entry in POSTPROCESSORS.items() if entry.decide is not None]
        if self.method not in known:
            raise ValueError(f"method must be one of {', '.join(known)}, got {self.method!r}")
        for name in _ARRAYS:
            object.__setattr__(self, name, np.asarray(getattr(self, name)))
        object.__setattr__(self, "threshold", float(self.threshold))


def _reject_option(job: Job, polarity: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    from fairjax.adapters.aif360_postprocessing import reject_option

    fit = reject_option(
        job.valid_scores,
        job.valid_y,
        job.valid_a,
        measure=job.measure,
        bound=job.bound,
        polarity=polarity,
        search=job.search,
    )
    return fit.decide(job.valid_scores, job.valid_a), fit.decide(job.test_scores, job.test_a), fit._asdict()


def _equalized_odds(job: Job, threshold: float | None) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    from fairjax.adapters.aif360_postprocessing import equalized_odds

    cut = job.threshold if threshold is None else threshold
    valid, test = job.valid_scores > cut, job.test_scores > cut
    fit = equalized_odds(valid, job.valid_y, job.valid_a, seed=job.seed)
    return fit.decide(valid, job.valid_a), fit.decide(test, job.test_a), {"threshold": cut, **fit._asdict()}


class ScoredSeed(NamedTuple):
    """What a postprocessor that is a JAX function decides from: scores, labels and groups of one seed."""

    key: KeyArray
    """Random key of the seed and the method."""
    train_y: Bool[AnyArray, " m"]
    train_a: Any
    valid_scores: Float[AnyArray, " v"]
    valid_y: Bool[AnyArray, " v"]
    valid_a: Any
    test_scores: Float[AnyArray, " n"]
    test_a: Any
    threshold: Float[AnyArray, ""]
    """The threshold of the scores, tuned on the validation data."""
    num_groups: int
    """Number of groups, which is not traced."""
    train_weights: Float[AnyArray, " m"] | None = None
    """Weights of the train rows."""
    valid_weights: Float[AnyArray, " v"] | None = None
    """Weights of the validation rows."""


class Decided(NamedTuple):
    """Decisions on validation and test data as 0 and 1; NaN if they cannot be computed."""

    valid: Float[Array, " v"]
    test: Float[Array, " n"]
    threshold: Float[AnyArray, ""]
    """The threshold of the scores that were not changed."""


def _corpus_level(seed: ScoredSeed, *, parity: bool) -> Decided:
    """Give groups the shares among accepted rows that they have among all training rows, or among those with y = 1."""
    among = jnp.ones_like(seed.train_y) if parity else seed.train_y
    target = corpus_shares(among, seed.train_a, num_groups=seed.num_groups, weights=seed.train_weights).shares
    parts = (seed.valid_scores, seed.valid_a), (seed.test_scores, seed.test_a)
    valid, test = (corpus_level(scores - seed.threshold, a, target) for scores, a in parts)
    return Decided(
        _or_nan(valid.decisions, valid.valid), _or_nan(test.decisions, test.valid), jnp.asarray(seed.threshold)
    )


def _calibrated_equalized_odds(seed: ScoredSeed, *, cost: Cost) -> Decided:
    """Mix scores at the rates of the validation data, and accept those above 0.5."""
    columns = seed.valid_scores, seed.valid_y, seed.valid_a
    fit = calibrated_equalized_odds(*columns, cost=cost, weights=seed.valid_weights, num_groups=seed.num_groups)
    valid_key, test_key = jax.random.split(seed.key)
    valid = fit.decide(seed.valid_scores, seed.valid_a, key=valid_key)
    test = fit.decide(seed.test_scores, seed.test_a, key=test_key)
    is_fitted = ~jnp.any(jnp.isnan(fit.mix_rates))
    return Decided(_or_nan(valid, is_fitted), _or_nan(test, is_fitted), jnp.full_like(seed.threshold, 0.5))


def _or_nan(decisions: Bool[Array, " n"], valid: Bool[Array, ""]) -> Float[Array, " n"]:
    return jnp.where(valid, decisions.astype(jnp.float32), jnp.nan)


class Postprocessor(NamedTuple):
    """A method that changes decisions instead of the network; it needs the protected attribute at test time."""

    label: str
    """The display name in tables and figures."""
    reference: str
    """The method's source, as tables show it."""
    decide: Callable[[Job], tuple[np.ndarray, np.ndarray, dict[str, Any]]] | None
    """Return decisions on valid and test data and the fitted numbers for one seed. None for group thresholds, which
    depend on the selection rule, and for functions of JAX arrays."""
    groups: float = 2
    """The maximum number of groups that the method supports."""
    measures: tuple[str, ...] | None = ("spd", "eod")
    """The measures that the method supports; None if it supports all."""
    classes: float = 2
    """The maximum number of classes that the method supports."""
    overlapping: bool = False
    """Whether a row may belong to several groups."""
    margin: bool = True
    """Whether the method keeps the margin of the selection settings to the bound."""
    program: Callable[[ScoredSeed], Decided] | None = None
    """In place of `decide`, a pure function of JAX arrays, which one program applies to all seeds."""


def _check_entry(name: str, entry: Any) -> None:
    """Check an entry of `POSTPROCESSORS`."""
    if not isinstance(entry, Postprocessor):
        what = f"the postprocessor {name!r} must be a fairjax.runs.postprocessors.Postprocessor"
        raise TypeError(f"{what}, got {brief(entry)}")


def _of_arrays(label: str, reference: str, program: Callable[[ScoredSeed], Decided]) -> Postprocessor:
    """Return the entry of a function of JAX arrays that supports any measure and number of groups."""
    return Postprocessor(label, reference, None, math.inf, None, program=program)


_KAMIRAN, _HARDT = "Kamiran et al. 2012, AIF360", "Hardt et al. 2016, AIF360"
_ZHAO, _PLEISS = "Zhao et al. 2017", "Pleiss et al. 2017"

POSTPROCESSORS: Registry[Postprocessor] = Registry(
    "postprocessor",
    {
        "group_thresholds": Postprocessor("Group thresholds", "Hardt et al. 2016", None, math.inf, None),
        "corpus_level": _of_arrays("Corpus level", _ZHAO, functools.partial(_corpus_level, parity=False)),
        "corpus_level_parity": _of_arrays("Corpus level, parity", _ZHAO, functools.partial(_corpus_level, parity=True)),
        "reject_option": Postprocessor("ROC", _KAMIRAN, functools.partial(_reject_option, polarity="one")),
        "reject_option_either": Postprocessor(
            "ROC, either way", _KAMIRAN, functools.partial(_reject_option, polarity="either")
        ),
        "reject_option_paper": Postprocessor(
            "ROC, paper's polarity", _KAMIRAN, functools.partial(_reject_option, polarity="crossed"), margin=False
        ),
        "equalized_odds": Postprocessor("Eq. odds", _HARDT, functools.partial(_equalized_odds, threshold=None)),
        "equalized_odds_half": Postprocessor(
            "Eq. odds, cut at 0.5", _HARDT, functools.partial(_equalized_odds, threshold=0.5)
        ),
        "calibrated_equalized_odds": _of_arrays(
            "Calibrated eq. odds", _PLEISS, functools.partial(_calibrated_equalized_odds, cost="weighted")
        ),
        "calibrated_equalized_odds_fnr": _of_arrays(
            "Calibrated eq. odds, FNR", _PLEISS, functools.partial(_calibrated_equalized_odds, cost="fnr")
        ),
        "calibrated_equalized_odds_fpr": _of_arrays(
            "Calibrated eq. odds, FPR", _PLEISS, functools.partial(_calibrated_equalized_odds, cost="fpr")
        ),
    },
    check=_check_entry,
)
"""All postprocessors by name. `reject_option` takes 1 as the favourable label, `reject_option_either` takes 1 or 0,
whichever is better on validation data, and `reject_option_paper` works as in the first paper's runs on COMPAS.
`equalized_odds` starts from decisions at the tuned threshold, `equalized_odds_half` at 0.5.
`calibrated_equalized_odds` equalises the cost in its name on validation data, by default the weighted one, and cuts
scores at 0.5.
`corpus_level` gives the groups the shares among accepted rows that they have among training rows with label 1, and
`corpus_level_parity` their shares among all training rows; if train rows were preprocessed, those of validation rows.
Valid and test rows are each decided as a whole."""

METHODS.reserve(POSTPROCESSORS, "a postprocessor")
POSTPROCESSORS.reserve(METHODS, "a method")
POSTPROCESSORS.reserve(RESERVED, "a setting of the command line")
