"""Measures of parity across the groups of an audit, and how surely they are known."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fairjax.auditing.counts import Counts
from fairjax.metrics import Parity, make_measure
from fairjax.metrics import rates as _rates
from fairjax.metrics.group_report import RATES, large_enough, rate_from_table
from fairjax.metrics.intervals import effective_size, empirical_bayes
from fairjax.metrics.rates import Rate


@dataclasses.dataclass(frozen=True)
class MeasureGap:
    """A measure of parity across the groups of an attribute, or of intersections, with what is known about it."""

    measure: str
    """Name of the measure."""
    groups: str
    """The attribute, or the intersected attributes joined by " x "."""
    gap: float
    """Value of the measure; NaN if fewer than two groups can be compared."""
    low: float
    """Lower end of the 95% percentile interval."""
    high: float
    """Upper end of the 95% percentile interval."""
    shrunk: float
    """The measure of the rates shrunk towards each other (empirical Bayes), which noise does not inflate."""
    chance: float
    """The magnitude that 95% of samples of these sizes would stay below if all groups had the same rates."""
    p_value: float
    """Probability of a magnitude at least as large if all groups had the same rates, by simulation."""
    rate: str
    """The rate that the two extreme groups differ in."""
    lowest: str
    """The group with the least rate."""
    lowest_rate: float
    """Its rate."""
    highest: str
    """The group with the greatest rate."""
    highest_rate: float
    """Its rate."""
    left_out: str
    """The groups that are not compared, with the reason."""


def parity_for(name: str, num_groups: int, num_classes: int, minimum: float | int = 1) -> Parity:
    """Return a measure for any number of groups; the gap of two groups has no sign, as for more groups.

    Raises:
        ValueError: if the measure is a function of two groups.
    """
    measure = make_measure(name, max(num_groups, 3), num_classes, minimum=minimum)
    assert isinstance(measure, Parity)
    return dataclasses.replace(measure, num_groups=num_groups)


def gap_of(counts: Counts, draws: np.ndarray, name: str, minimum: int, random: np.random.Generator) -> MeasureGap:
    """Return a measure across the groups of counts, with its interval.

    Args:
        counts: the counts of the groups that are compared.
        draws: bootstrap draws of `counts.weights`, along the first axis.
        name: name of the measure.
        minimum: least denominator of a rate, in rows, for the group to be compared.
        random: generator for the simulation of equal rates.
    """
    parity = parity_for(name, len(counts.names), len(counts.classes))
    estimates = [Estimate.of(rate, counts, minimum) for rate in parity.rates]
    compared = np.stack([each.compared for each in estimates])
    values, sizes, overall = (
        np.stack([getattr(each, part) for each in estimates]) for part in ("values", "sizes", "overall")
    )
    left_out = "; ".join(f"{name} ({why})" for name, why in _left_out(counts, estimates, minimum).items())
    if (compared.sum(axis=1) < 2).any():
        unknown = dict.fromkeys(
            ("gap", "low", "high", "shrunk", "chance", "p_value", "lowest_rate", "highest_rate"), np.nan
        )
        return MeasureGap(name, counts.title, rate="", lowest="", highest="", left_out=left_out, **unknown)
    gap = float(_gaps(parity, values[None], sizes[None], compared, overall[None])[0])
    resampled = gap_from_weights(parity, draws, compared)
    low, high = interval(resampled)
    shrunk = np.stack([empirical_bayes(np.where(each.compared, each.values, np.nan), each.sizes) for each in estimates])
    chance, p_value = _under_parity(parity, values, sizes, compared, gap, len(draws), random)
    each = [dataclasses.replace(parity, rates=(rate,)) for rate in parity.rates]
    furthest = int(
        np.argmax(
            [
                abs(
                    _gaps(
                        one,
                        values[None, i : i + 1],
                        sizes[None, i : i + 1],
                        compared[i : i + 1],
                        overall[None, i : i + 1],
                    )[0]
                )
                for i, one in enumerate(each)
            ]
        )
    )
    known = np.where(compared[furthest], values[furthest], np.nan)
    lowest, highest = int(np.nanargmin(known)), int(np.nanargmax(known))
    return MeasureGap(
        measure=name,
        groups=counts.title,
        gap=gap,
        low=low,
        high=high,
        shrunk=float(_gaps(parity, shrunk[None], sizes[None], compared, overall[None])[0]),
        chance=chance,
        p_value=p_value,
        rate=name_of(parity.rates[furthest], counts.classes),
        lowest=counts.names[lowest],
        lowest_rate=float(known[lowest]),
        highest=counts.names[highest],
        highest_rate=float(known[highest]),
        left_out=left_out,
    )


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A rate of all groups, and which groups are compared."""

    values: np.ndarray
    sizes: np.ndarray
    """Denominators in rows; the effective number if rows have weights."""
    compared: np.ndarray
    overall: float

    @classmethod
    def of(cls, rate: Rate, counts: Counts, minimum: int) -> "Estimate":
        """Compute a rate from counts."""
        values = rate_from_table(rate, counts.weights)
        total, squared = (np.tensordot(np.asarray(rate.den), each, axes=2) for each in (counts.weights, counts.squares))
        sizes = effective_size(total, squared)
        overall = rate_from_table(rate, counts.weights.sum(axis=2, keepdims=True))[0]
        return cls(values, sizes, large_enough(sizes, minimum), float(overall))


def _gaps(
    parity: Parity, values: np.ndarray, sizes: np.ndarray, compared: np.ndarray, overall: np.ndarray
) -> np.ndarray:
    """Compute a measure of many draws of rates (draws, rates, groups); groups without a rate in a draw are left out."""
    present = compared & ~np.isnan(values)
    sizes = np.broadcast_to(sizes, values.shape)
    return np.asarray(
        _over_draws(parity, np.where(present, values, 0.0), sizes, present, np.nan_to_num(overall)), float
    )


@functools.partial(jax.jit, static_argnums=0)
def _over_draws(parity: Parity, values: Any, sizes: Any, compared: Any, overall: Any) -> Any:
    return jax.vmap(parity.of_rates)(values, sizes, compared, overall)


def _under_parity(
    parity: Parity, values, sizes, compared, gap: float, count: int, random: np.random.Generator
) -> tuple[float, float]:
    """Simulate the measure if all compared groups had the same rates: its 95% quantile, and the p-value of a gap."""
    if not count:
        return np.nan, np.nan
    rows = np.where(compared, np.rint(sizes), 0).astype(np.int64)
    total = np.maximum((rows * compared).sum(axis=1, keepdims=True), 1)
    pooled = (np.where(compared, np.nan_to_num(values), 0.0) * rows).sum(axis=1, keepdims=True) / total
    drawn = random.binomial(rows, np.clip(pooled, 0, 1), (count, *rows.shape)) / np.maximum(rows, 1)
    simulated = np.abs(_gaps(parity, drawn, sizes[None], compared, np.broadcast_to(pooled[:, 0], (count, len(pooled)))))
    simulated = simulated[np.isfinite(simulated)]
    if not simulated.size:
        return np.nan, np.nan
    return float(np.quantile(simulated, 0.95)), float((1 + (simulated >= abs(gap) - 1e-9).sum()) / (1 + simulated.size))


def interval(draws: np.ndarray) -> tuple[float, float]:
    """Return the 95% percentile interval of the finite draws; NaN if there are none."""
    finite = draws[np.isfinite(draws)]
    low, high = np.quantile(finite, [0.025, 0.975]) if finite.size else (np.nan, np.nan)
    return float(low), float(high)


def gap_from_weights(parity: Parity, weights: np.ndarray, compared: np.ndarray) -> np.ndarray:
    """Return a measure of many tables of counts.

    Args:
        parity: the measure.
        weights: counts with the axes (draw, decision, label, group).
        compared: whether each group (columns) is compared in each rate (rows).
    """
    tables = np.moveaxis(weights, 0, -1)
    values = np.stack([rate_from_table(rate, tables) for rate in parity.rates], axis=1)
    whole = np.stack([rate_from_table(rate, tables.sum(axis=2, keepdims=True))[:, 0] for rate in parity.rates], axis=1)
    sizes = np.stack([np.tensordot(np.asarray(rate.den), tables, axes=2).T for rate in parity.rates], axis=1)
    return _gaps(parity, values, sizes, compared, whole)


def _left_out(counts: Counts, estimates: Sequence[Estimate], minimum: int) -> dict[str, str]:
    reasons = {}
    for g, name in enumerate(counts.names):
        short = [each.sizes[g] for each in estimates if not each.compared[g]]
        if short:
            rows = f"{min(short):.4g} rows in the denominator"
            reasons[name] = rows + (f", fewer than {minimum}" if min(short) > 0 else "")
    return reasons


def name_of(rate: Rate, classes: Sequence[str]) -> str:
    """Return the name of a rate of the table by group, with its class if there are more than two."""
    if len(classes) == 2:
        return next((name for name, known in RATES.items() if known == rate), "")
    makers = {
        "selection_rate": _rates.selection,
        "true_positive_rate": _rates.recall,
        "false_positive_rate": _rates.false_positive_rate,
        "precision": _rates.precision,
    }
    for k, of_class in enumerate(classes):
        for name, make in makers.items():
            if make(k, len(classes)) == rate:
                return f"{name} of {of_class}"
    return "accuracy" if rate == _rates.accuracy(len(classes)) else ""
