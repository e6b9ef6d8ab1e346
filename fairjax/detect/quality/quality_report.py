"""The result of `quality_by_group`: measures per group with intervals, gaps, and the worst groups."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fairjax.detect.quality.equality import equality_of_estimates, equality_of_rates

if TYPE_CHECKING:
    import pandas as pd

    from fairjax.metrics import GroupReport

LOWER_IS_BETTER = ("error", "false_positive_rate", "brier_score", "calibration_error")
"""Measures whose greatest value is the worst."""

_RATES = ("accuracy", "true_positive_rate", "false_positive_rate", "precision")
"""Measures that are shares of rows, with Wilson intervals from `fairjax.by_group`."""

_SHORT = {
    "accuracy": "acc",
    "error": "error",
    "balanced_accuracy": "bal",
    "true_positive_rate": "TPR",
    "false_positive_rate": "FPR",
    "precision": "PPV",
    "auc": "AUC",
    "brier_score": "Brier",
    "calibration_error": "ECE",
}
_WIDE = 20
"""Width of the column with the names of groups in the printed table."""


@dataclass(frozen=True, eq=False)
class QualityByGroup:
    """Quality of a classifier in each group; prints as a table of at most 80 columns."""

    names: tuple[str, ...]
    """Names of the groups."""
    counts: np.ndarray
    """Number of rows of each group."""
    values: Mapping[str, np.ndarray]
    """The measures of each group, by name, such as "accuracy"; NaN where a measure is not estimable."""
    intervals: Mapping[str, np.ndarray]
    """The 95% interval (groups, 2) of each measure."""
    shrunk: Mapping[str, np.ndarray]
    """Rates shrunk towards each other by empirical Bayes, for measures that are rates."""
    sizes: Mapping[str, np.ndarray]
    """Number of rows in the denominator of each measure; 0 where it is not estimable."""
    draws: Mapping[str, np.ndarray]
    """Bootstrap draws (draws, groups) of each measure."""
    calibration_error_chance: np.ndarray | None
    """Mean calibration error that a classifier with these scores would have if it were calibrated, if there are
    scores."""
    calibration_p_value: np.ndarray | None
    """Probability that the calibration error of a calibrated classifier would be at least as large."""
    minimum: int
    """Least number of rows in the denominator of a measure."""
    index: "pd.Index"
    """The values of the attributes in each group."""

    @classmethod
    def of(
        cls,
        report: "GroupReport",
        values: Mapping[str, np.ndarray],
        sizes: Mapping[str, np.ndarray],
        draws: Mapping[str, np.ndarray],
        calibrated: np.ndarray | None,
        minimum: int,
    ) -> "QualityByGroup":
        """Build the result from a report by group, measures and draws, with NaN where a measure is not estimable."""
        chance = p_value = None
        intervals, shrunk = {}, {}
        for name, value in values.items():
            if name in _RATES:
                intervals[name], shrunk[name] = report.intervals[name], report.shrunk[name]
            elif name == "error":
                intervals[name], shrunk[name] = 1 - report.intervals["accuracy"][:, ::-1], 1 - report.shrunk["accuracy"]
            else:
                intervals[name] = np.stack(percentiles(draws[name]), axis=1)
            if name == "calibration_error" and calibrated is not None:
                chance, p_value, intervals[name] = _calibration(value, draws[name], intervals[name], calibrated)
            intervals[name] = np.where(np.isnan(value)[:, None], np.nan, intervals[name])
        index = report.to_frame().index
        return cls(
            report.names, report.counts, values, intervals, shrunk, sizes, draws, chance, p_value, minimum, index
        )

    def worst(self, measure: str) -> str:
        """Return the name of the group in which a measure is worst; empty if fewer than two groups are estimable.

        Args:
            measure: name of a measure, such as "accuracy".

        Raises:
            ValueError: if there is no such measure.
        """
        ends = self._ends(measure)
        return "" if ends is None else self.names[ends[0]]

    def gaps(self) -> "pd.DataFrame":
        """Return the gaps of all measures between the groups that are estimable.

        Returns:
            A frame with one row per measure: `difference`, the greatest minus the least value, with its interval `low`
            to `high`; `shrunk`, the difference of rates shrunk towards each other, NaN for measures that are not rates;
            `ratio` of the least to the greatest value; `p_value` of the test that all groups have the same value, which
            is Pearson's for rates, Cochran's for the others, and NaN for the calibration error; `worst` and `best`, the
            names of these groups, with `worst_value` and `best_value`; and the number of `groups` that are compared. If
            there are fewer than two, all others are NaN or empty.

        Example:
            >>> from fairjax.detect.quality.subgroup import quality_by_group
            >>> decisions, y = np.tile([0, 1, 1, 1], 20), np.tile([0, 1], 40)
            >>> gaps = quality_by_group(decisions, y, np.repeat(["a", "b"], 40), bootstrap=0).gaps()
            >>> gaps.loc["accuracy", ["difference", "ratio"]].tolist()
            [0.0, 1.0]
        """
        import pandas as pd

        rows = []
        for name, values in self.values.items():
            ends = self._ends(name)
            if ends is None:
                row: dict[str, Any] = dict.fromkeys(_GAP_NUMBERS, np.nan) | {"worst": "", "best": ""}
            else:
                low, high = percentiles(_spread(self.draws[name])[:, None])
                worst, best = ends
                greatest = np.nanmax(values)
                numbers = {
                    "difference": _spread(values),
                    "low": low[0],
                    "high": high[0],
                    "shrunk": _spread(self.shrunk[name]) if name in self.shrunk else np.nan,
                    "ratio": np.nanmin(values) / greatest if greatest > 0 else np.nan,
                    "p_value": self._p_value(name),
                    "worst_value": values[worst],
                    "best_value": values[best],
                }
                row = {key: float(number) for key, number in numbers.items()}
                row |= {"worst": self.names[worst], "best": self.names[best]}
            rows.append({**row, "groups": int((~np.isnan(values)).sum())})
        return pd.DataFrame(rows, index=pd.Index(self.values, name="measure"))

    def to_frame(self) -> "pd.DataFrame":
        """Return a frame with one row per group, indexed by the attributes.

        Returns:
            The frame: `count`; for each measure its value and the ends of its interval, `_low` and `_high`; with
            scores, `calibration_error_chance` and `calibration_p_value`; and `not_estimable`, the measures without
            enough rows in their denominators.

        Example:
            >>> from fairjax.detect.quality.subgroup import quality_by_group
            >>> quality = quality_by_group([1, 0, 1], [1, 1, 1], ["a", "a", "b"], minimum=2, bootstrap=0)
            >>> quality.to_frame()["accuracy"].tolist()
            [0.5, nan]
        """
        import pandas as pd

        columns: dict[str, Any] = {"count": self.counts}
        for name, values in self.values.items():
            columns[name] = values
            columns[f"{name}_low"], columns[f"{name}_high"] = self.intervals[name].T
        if self.calibration_error_chance is not None:
            columns["calibration_error_chance"] = self.calibration_error_chance
            columns["calibration_p_value"] = self.calibration_p_value
        columns["not_estimable"] = [
            ", ".join(name for name, values in self.values.items() if np.isnan(values[g]))
            for g in range(len(self.names))
        ]
        return pd.DataFrame(columns, index=self.index)

    def _p_value(self, measure: str) -> float:
        """Return the p-value of the test that all groups have the same value."""
        if measure in self.shrunk:
            return equality_of_rates(self.values[measure], self.sizes[measure])
        if measure == "calibration_error":  # not normal where it is small
            return np.nan
        return equality_of_estimates(self.values[measure], self.draws[measure])

    def _ends(self, measure: str) -> tuple[int, int] | None:
        """Return the numbers of the groups with the worst and the best value; None if there are fewer than two."""
        if measure not in self.values:
            raise ValueError(f"measure must be one of {', '.join(self.values)}, got {measure!r}")
        values = self.values[measure]
        if (~np.isnan(values)).sum() < 2:
            return None
        least, greatest = int(np.nanargmin(values)), int(np.nanargmax(values))
        return (greatest, least) if measure in LOWER_IS_BETTER else (least, greatest)

    def __str__(self) -> str:
        """Format as a table of at most 80 columns."""
        decisions = [name for name in self.values if name not in ("error", "auc", "brier_score", "calibration_error")]
        scores = [name for name in ("auc", "brier_score", "calibration_error") if name in self.values]
        lines = self._table(decisions, "accuracy")
        if scores:
            lines += ["", *self._table(scores, scores[0])]
        lines += ["", f"{'gap':<20}{'value':>6}  {'95% interval':<14}{'shrunk':>7}{'ratio':>7}{'p':>6}  worst"]
        for name, gap in self.gaps().iterrows():
            first, *others = textwrap.wrap(gap["worst"] or "not comparable", 15)
            interval = f"[{_text(gap['low'])}, {_text(gap['high'])}]"
            title = f"{str(name).replace('_', ' '):<20}"
            numbers = f"{_text(gap['difference']):>6}  {interval:<14}{_text(gap['shrunk']):>7}{_text(gap['ratio']):>7}"
            lines += [f"{title}{numbers}{_text(gap['p_value']):>6}  {first}", *(" " * 64 + other for other in others)]
        note = (
            f"-: not estimable, as there are fewer than {self.minimum} rows in the denominator, or not computed. p: "
            "test that all groups have the same value."
        )
        return "\n".join([*lines, *textwrap.wrap(note, 79)])

    def _table(self, measures: list[str], with_interval: str) -> list[str]:
        """Format measures, the first of which is followed by its interval."""
        head = "".join(
            f"{_SHORT[name]:>7}" + (f"  {'95% interval':<14}" if name == with_interval else "") for name in measures
        )
        lines = [f"{'group':<{_WIDE}}{'rows':>8}{head}".rstrip()]
        for g, name in enumerate(self.names):
            *before, last = textwrap.wrap(name, _WIDE) or [name]
            cells = ""
            for measure in measures:
                cells += f"{_text(self.values[measure][g]):>7}"
                if measure == with_interval:
                    low, high = self.intervals[measure][g]
                    cells += f"  {f'[{_text(low)}, {_text(high)}]':<14}"
            lines += [*before, f"{last:<{_WIDE}}{self.counts[g]:>8}{cells}".rstrip()]
        return lines


_GAP_NUMBERS = ("difference", "low", "high", "shrunk", "ratio", "p_value", "worst_value", "best_value")


def _spread(values: np.ndarray) -> Any:
    """Return the greatest minus the least value along the last axis; NaN unless at least two are not NaN."""
    known = ~np.isnan(values)
    least, greatest = np.where(known, values, np.inf).min(axis=-1), np.where(known, values, -np.inf).max(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.where(known.sum(axis=-1) >= 2, greatest - least, np.nan)


def percentiles(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of 95% percentile intervals from draws (draws, groups); NaN without draws."""
    known = ~np.isnan(draws)
    some = known.any(axis=0)
    if not some.any():
        return np.full(draws.shape[1], np.nan), np.full(draws.shape[1], np.nan)
    low, high = np.nanquantile(np.where(some, draws, 0.0), [0.025, 0.975], axis=0)
    return np.where(some, low, np.nan), np.where(some, high, np.nan)


def _calibration(
    error: np.ndarray, draws: np.ndarray, interval: np.ndarray, calibrated: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the calibration error by chance, its p-value, and an interval without the noise that resampling adds."""
    known = ~np.isnan(error) & (len(draws) > 0)
    count = max(len(draws), 1)
    chance = np.where(known, np.where(known, calibrated, 0.0).sum(axis=0) / count, np.nan)
    large = (calibrated >= error - 1e-12).sum(axis=0)
    p_value = np.where(known, (1 + large) / (1 + count), np.nan)
    usable = known & ~np.isnan(draws)  # a draw may have no rows of a group
    drawn = usable.sum(axis=0)
    mean = np.where(usable, draws, 0.0).sum(axis=0) / np.maximum(drawn, 1)
    bias = np.where(known & (drawn > 0), mean - error, np.nan)
    low, high = np.clip(interval - bias[:, None], 0, 1).T
    return chance, p_value, np.stack([np.where(p_value >= 0.05, 0.0, low), high], axis=1)


def _text(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"
