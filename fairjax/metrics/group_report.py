"""The table of rates per group that `by_group` returns, and its gaps."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from fairjax.metrics import rates as _rates
from fairjax.metrics.intervals import effective_size, empirical_bayes, resampled, wilson

RATES = {
    "selection_rate": _rates.selection(),
    "true_positive_rate": _rates.recall(),
    "false_positive_rate": _rates.false_positive_rate(),
    "precision": _rates.precision(),
    "accuracy": _rates.accuracy(),
    "base_rate": _rates.base_rate(),
}
"""The rates of the table, by name."""

_WIDE = 22
"""Width of the column with the names of groups in the printed table."""


@dataclass(frozen=True)
class LeftOut:
    """A group that is left out of the gaps of some rates, with the reason."""

    group: str
    """Name of the group."""
    rates: tuple[str, ...]
    """Names of the rates."""
    reason: str
    """The reason why the group is not compared."""


@dataclass(frozen=True)
class GroupGap:
    """A gap between groups, with a percentile interval."""

    name: str
    """Name of the gap, such as "selection_rate_difference"."""
    value: float
    """The gap; NaN if fewer than two groups can be compared."""
    low: float
    """Lower end of the 95% interval."""
    high: float
    """Upper end of the 95% interval."""
    shrunk: float
    """The gap of the rates shrunk towards each other, which noise does not inflate; NaN for ratios."""
    groups: int
    """Number of groups that are compared with at least one other."""
    draws: int
    """Number of draws in which the gap could be computed."""
    lowest: str
    """The group with the least rate of those between which the gap lies; empty if there is no gap."""
    highest: str
    """The group with the greatest rate."""


@dataclass(frozen=True)
class Gaps:
    """Several gaps between groups; prints as a table of at most 80 columns."""

    rows: tuple[GroupGap, ...]
    """The gaps, in the order in which they are printed."""
    note: str
    """Description of how the intervals were computed."""

    def __getitem__(self, name: str) -> GroupGap:
        """Return the gap with a given name.

        Args:
            name: name of a gap, such as "selection_rate_difference".

        Returns:
            The gap.

        Raises:
            KeyError: if there is no such gap; the message lists the existing ones.

        Example:
            >>> from fairjax import by_group
            >>> by_group([1, 0, 1], [1, 1, 0], ["a", "a", "b"]).gaps(bootstrap=0)["selection_rate_difference"].value
            0.5
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"{name}; there are {', '.join(row.name for row in self.rows)}")

    def to_frame(self) -> pd.DataFrame:
        """Return the gaps as a frame with one row per gap, indexed by the names of the gaps.

        Returns:
            The frame; its columns are the fields of `GroupGap`.

        Example:
            >>> from fairjax import by_group
            >>> gaps = by_group([1, 0, 1], [1, 1, 0], ["a", "a", "b"]).gaps(bootstrap=0)
            >>> gaps.to_frame().loc["selection_rate_difference", ["lowest", "highest"]].tolist()
            ['a', 'b']
        """
        return pd.DataFrame([vars(row) for row in self.rows]).set_index("name")

    def __str__(self) -> str:
        """Format as a table of at most 80 columns."""
        lines = [f"{'gap':<32}{'value':>8}  {'95% interval':<16}{'shrunk':>8}{'groups':>8}"]
        for row in self.rows:
            interval = f"[{_text(row.low)}, {_text(row.high)}]"
            lines.append(f"{row.name:<32}{_text(row.value):>8}  {interval:<16}{_text(row.shrunk):>8}{row.groups:>8}")
        return "\n".join(lines + textwrap.wrap(self.note, 79))


@dataclass(frozen=True, eq=False)
class GroupReport:
    """Rates of every group, as arrays with one number per group in the order of `names`; prints as a table.

    A rate without a positive denominator is NaN. The arrays are read-only.
    """

    names: tuple[str, ...]
    """Names of the groups; for several attributes, the values joined by ", "."""
    attributes: tuple[str, ...]
    """Names of the attributes that define the groups."""
    levels: tuple[tuple[Any, ...], ...]
    """The value of each attribute in each group."""
    counts: np.ndarray
    """Number of rows of each group."""
    selection_rate: np.ndarray
    true_positive_rate: np.ndarray
    false_positive_rate: np.ndarray
    precision: np.ndarray
    accuracy: np.ndarray
    base_rate: np.ndarray
    intervals: Mapping[str, np.ndarray]
    """Wilson's 95% interval (groups, 2) of each rate."""
    sizes: Mapping[str, np.ndarray]
    """Number of rows in the denominator of each rate; Kish's effective number if rows are weighted."""
    shrunk: Mapping[str, np.ndarray]
    """The rates of the compared groups, shrunk towards each other by empirical Bayes."""
    auc: np.ndarray | None
    """Area under the ROC curve, if scores were given; NaN for a group with only one label."""
    brier_score: np.ndarray | None
    calibration_error: np.ndarray | None
    """Expected calibration error over 10 bins of equal width."""
    left_out: tuple[LeftOut, ...]
    """Groups that are left out of the gaps of some rates, with the reason."""
    minimum: float | int
    confusion: np.ndarray
    """Weighted number of rows by (decision, label, group)."""
    weighted: bool
    group_sizes: np.ndarray
    """Number of rows of each group; the effective number if rows are weighted."""
    cells: np.ndarray
    """Weighted number of rows by (decision, label, set of groups); the sets are the groups unless rows have several."""
    cell_sizes: np.ndarray
    """Number of rows of each of these cells; the effective number if rows are weighted."""
    members: np.ndarray | None
    """Whether each group (columns) is in each of these sets (rows); None if every row has exactly one group."""
    included: np.ndarray
    """Whether each group may be compared at all."""
    blocks: tuple[tuple[int, ...], ...]
    """Sets of groups that are compared with each other: all groups, those of each stratum, or those of each attribute
    if attributes are not intersected. The gap is that of the block in which it is widest."""

    def compared(self, rate: str) -> np.ndarray:
        """Return which groups have a denominator that is large enough for the gaps of a rate.

        Args:
            rate: name of a rate of the table, such as "precision".

        Returns:
            Booleans, one per group.

        Raises:
            ValueError: if there is no such rate.

        Example:
            >>> from fairjax import by_group
            >>> by_group([1, 0, 1], [1, 1, 0], ["a", "a", "b"]).compared("true_positive_rate").tolist()
            [True, False]
        """
        if rate not in RATES:
            raise ValueError(f"rate must be one of {', '.join(RATES)}, got {rate!r}")
        return large_enough(self.sizes[rate], self.minimum) & self.included

    def gaps(self, bootstrap: int = 1000, seed: int = 0) -> Gaps:
        """Compute differences and ratios between the greatest and the least rate, with percentile intervals.

        The bootstrap makes multinomial draws of the table of counts, which is equivalent to drawing rows with
        replacement; its cost does not depend on the number of rows. Counts must be whole numbers: for weighted rows,
        each cell of the table is a scaled Poisson draw of its effective number of rows, which has the mean and the
        variance of the sum of the weights of resampled rows.

        The difference between the greatest and the least of noisy rates is too large, in the draws even more than in
        the data. Keep this in mind if an interval excludes 0, and see `shrunk`.

        Args:
            bootstrap: number of draws; with 0, intervals are NaN.
            seed: seed of the draws.

        Returns:
            The gaps. Groups with too small a denominator are left out, both in the data and in the draws. If groups are
            compared within strata or within attributes, a gap is that of the stratum or attribute in which it is
            widest, as in `fairjax.metrics.Parity`, and the two groups that it names belong to that stratum or
            attribute.

        Raises:
            ValueError: if `bootstrap` or `seed` is not a whole number, or is negative.

        Example:
            >>> from fairjax import by_group
            >>> gap = by_group([1, 0, 1], [1, 1, 0], ["a", "a", "b"]).gaps(bootstrap=0)["selection_rate_difference"]
            >>> gap.value, gap.lowest, gap.highest
            (0.5, 'a', 'b')
        """
        if isinstance(bootstrap, bool) or not isinstance(bootstrap, int | np.integer) or bootstrap < 0:
            raise ValueError(f"bootstrap must be a number of draws, at least 0, got {bootstrap!r}")
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise ValueError(f"seed must be a whole number, at least 0, got {seed!r}")
        draws = self._draw(bootstrap, np.random.default_rng(seed))
        result: dict[str, GroupGap] = {}
        spreads = {}
        for name, rate in RATES.items():
            compared = self.compared(name)
            rates, drawn_rates = (
                np.where(compared, getattr(self, name), np.nan),
                np.where(compared, rate_from_table(rate, draws), np.nan),
            )
            gaps = [self._widest(_spread, values) for values in (rates, drawn_rates, self.shrunk[name])]
            count = int((compared & ~is_alone(compared, self.blocks)).sum())
            ends = self._extremes(_spread, rates)
            spreads[name] = (*gaps, count, *ends)
            result[f"{name}_difference"] = _row(f"{name}_difference", gaps, count, ends)
            if name == "selection_rate":
                ratios = [self._widest(_ratio, values, np.minimum) for values in (rates, drawn_rates)]
                ends = self._extremes(_ratio, rates, np.nanargmin) if ratios[0] == ratios[0] else ("", "")
                result["selection_rate_ratio"] = _row("selection_rate_ratio", (*ratios, np.nan), count, ends)
        true, false = spreads["true_positive_rate"], spreads["false_positive_rate"]
        odds = [
            np.maximum(true_value, false_value) for true_value, false_value in zip(true[:3], false[:3], strict=True)
        ]
        ends = (true if true[0] >= false[0] else false)[4:] if odds[0] == odds[0] else ("", "")
        name = "equalized_odds_difference"
        result[name] = _row(name, odds, min(true[3], false[3]), ends)
        del result["base_rate_difference"]
        method = (
            "Poisson draws of the effective numbers of rows" if self.weighted else "multinomial draws of the counts"
        )
        return Gaps(tuple(result.values()), f"{bootstrap} {method}. nan: not measured.")

    def _widest(self, gap: Any, rates: np.ndarray, choose: Any = np.maximum) -> Any:
        """Compute the gap of the block in which it is widest; NaN if no block has two groups or a gap."""
        block_rates = [rates[..., list(block)] for block in self.blocks]
        comparable = np.stack([(~np.isnan(block)).sum(axis=-1) >= 2 for block in block_rates])
        identity = -np.inf if choose is np.maximum else np.inf
        widest = choose.reduce(np.where(comparable, np.stack([gap(block) for block in block_rates]), identity))
        return np.where(comparable.any(axis=0), widest, np.nan)

    def _extremes(self, gap: Any, rates: np.ndarray, choose: Any = np.nanargmax) -> tuple[str, str]:
        """Return the names of the groups with the least and the greatest rate in the block with the widest gap."""
        block_gaps = np.array([gap(rates[list(block)]) for block in self.blocks])
        if np.isnan(block_gaps).all():
            return "", ""
        block = self.blocks[choose(block_gaps)]
        block_rates = rates[list(block)]
        return self.names[block[np.nanargmin(block_rates)]], self.names[block[np.nanargmax(block_rates)]]

    def _draw(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Draw confusion tables (2, 2, groups, draws)."""
        draws = resampled(self.cells, count, random, self.cell_sizes if self.weighted else None)
        return np.moveaxis(draws if self.members is None else draws @ self.members, 0, -1)

    def to_frame(self) -> pd.DataFrame:
        """Return a frame with one row per group, indexed by the attributes.

        Next to each rate are the ends of its interval and its value shrunk towards those of the other groups (empirical
        Bayes). `not_compared` gives the reason why a group is left out of all gaps, or of those of some rates, and is
        empty for other groups. If attributes are not intersected, the index consists of the names of the groups.

        Returns:
            The frame.

        Example:
            >>> from fairjax import by_group
            >>> frame = by_group([1, 0, 1], [1, 1, 1], ["a", "a", "b"]).to_frame()
            >>> frame["selection_rate"].tolist(), frame["selection_rate_shrunk"].round(3).tolist()
            ([0.5, 1.0], [0.667, 0.667])
        """
        columns: dict[str, Any] = {"count": self.counts}
        for name in RATES:
            columns[name] = getattr(self, name)
            columns[f"{name}_low"], columns[f"{name}_high"] = self.intervals[name].T
            columns[f"{name}_shrunk"] = self.shrunk[name]
        for name in ("auc", "brier_score", "calibration_error"):
            if getattr(self, name) is not None:
                columns[name] = getattr(self, name)
        reasons: dict[str, list[str]] = {}
        for entry in self.left_out:
            rates = "" if len(entry.rates) == len(RATES) else f" ({', '.join(entry.rates)})"
            reasons.setdefault(entry.group, []).append(entry.reason + rates)
        columns["not_compared"] = ["; ".join(reasons.get(name, ())) for name in self.names]
        if any(len(level) != len(self.attributes) for level in self.levels):
            index = pd.Index(self.names, name="group")
        elif len(self.attributes) == 1:
            index = pd.Index([level[0] for level in self.levels], name=self.attributes[0])
        else:
            index = pd.MultiIndex.from_tuples(self.levels, names=self.attributes)
        return pd.DataFrame(columns, index=index)

    def plot(self, rates: Sequence[str] = ("selection_rate", "true_positive_rate", "false_positive_rate")) -> Any:
        """Draw rates with their intervals, one panel per rate; needs matplotlib.

        Args:
            rates: names of rates, from `RATES`.

        Returns:
            The figure. Groups that are not compared are hollow; a line marks the rate of all rows.

        Raises:
            ValueError: if there is no such rate.

        Example:
            >>> from fairjax import by_group
            >>> figure = by_group([1, 0, 1], [1, 1, 1], ["a", "a", "b"]).plot(["precision"])  # doctest: +SKIP
            >>> figure.savefig("precision.png")  # doctest: +SKIP
        """
        rates = (rates,) if isinstance(rates, str) else rates
        unknown = [rate for rate in rates if rate not in RATES]
        if unknown or not rates:
            raise ValueError(f"rates must be some of {', '.join(RATES)}, got {', '.join(unknown) or 'none'}")
        from matplotlib.figure import Figure

        height = 0.32 * len(self.names) + 1.1
        figure = Figure(figsize=(2.6 * len(rates) + 1.8, height), layout="constrained")
        axes = figure.subplots(1, len(rates), sharey=True, squeeze=False)[0]
        positions = np.arange(len(self.names))
        for axis, rate in zip(axes, rates, strict=True):
            values, intervals = getattr(self, rate), self.intervals[rate]
            defined = ~np.isnan(values)
            axis.hlines(positions[defined], *intervals[defined].T, color="0.55", lw=2)
            compared = self.compared(rate)
            axis.plot(values[defined & compared], positions[defined & compared], "o", color="#1f5f8b")
            axis.plot(values[defined & ~compared], positions[defined & ~compared], "o", color="#1f5f8b", mfc="white")
            overall = rate_from_table(RATES[rate], self.confusion.sum(axis=2, keepdims=True))
            if not np.isnan(overall).any():
                axis.axvline(float(overall[0]), color="#c1440e", lw=0.9, ls=":")
            axis.set_title(rate.replace("_", " "), fontsize=10)
            axis.set_xlim(-0.03, 1.03)
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(axis="x", alpha=0.25)
        axes[0].set_yticks(
            positions, [f"{name} ({count:,})" for name, count in zip(self.names, self.counts, strict=True)]
        )
        axes[0].invert_yaxis()
        return figure

    def __str__(self) -> str:
        """Format as a table of at most 80 columns."""
        lines = [
            f"{'group':<{_WIDE}}{'rows':>9} {'selected':>8}  {'95% interval':<15}{'TPR':>5}{'FPR':>6}"
            f"{'prec':>6}{'acc':>6}"
        ]
        for g, name in enumerate(self.names):
            low, high = self.intervals["selection_rate"][g]
            *first_lines, name = _wrapped(name)
            rates = [self.true_positive_rate[g], self.false_positive_rate[g], self.precision[g], self.accuracy[g]]
            lines += first_lines
            lines.append(
                f"{name:<{_WIDE}}{self.counts[g]:>9} {_text(self.selection_rate[g]):>8}  [{_text(low)}, {_text(high)}] "
                + f"{_text(rates[0], 2):>5}"
                + "".join(f"{_text(rate, 2):>6}" for rate in rates[1:])
            )
        if self.auc is not None and self.brier_score is not None and self.calibration_error is not None:
            lines += ["", f"{'group':<{_WIDE}}{'AUC':>9}{'Brier':>9}{'ECE':>9}"]
            for g, name in enumerate(self.names):
                *first_lines, name = _wrapped(name)
                scores = (self.auc[g], self.brier_score[g], self.calibration_error[g])
                lines += first_lines
                lines.append(f"{name:<{_WIDE}}" + "".join(f"{_text(score):>9}" for score in scores))
        if sum(self.included) > 1:
            lines += ["", "Rates shrunk towards each other, by empirical Bayes, to take out noise:"]
            lines.append(f"{'group':<{_WIDE}}{'selected':>9}{'TPR':>8}{'FPR':>8}{'prec':>8}{'acc':>8}")
            for g, name in enumerate(self.names):
                *first_lines, name = _wrapped(name)
                rates = [self.shrunk[rate][g] for rate in list(RATES)[:5]]
                lines += first_lines
                lines.append(
                    f"{name:<{_WIDE}}{_text(rates[0]):>9}" + "".join(f"{_text(rate):>8}" for rate in rates[1:])
                )
        if self.left_out:
            lines += ["", "Not compared:"]
            for entry in self.left_out:
                sentence = f"{entry.group}: {entry.reason} ({', '.join(entry.rates)})"
                lines += textwrap.wrap(sentence, 79, initial_indent="  ", subsequent_indent="    ")
        return "\n".join(lines)


def report_from_sums(
    *,
    names: tuple[str, ...],
    attributes: tuple[str, ...],
    levels: tuple[tuple[Any, ...], ...],
    rows: np.ndarray,
    cells: np.ndarray,
    squares: np.ndarray,
    blocks: tuple[tuple[int, ...], ...] | None = None,
    left_out: Mapping[str, str] = MappingProxyType({}),
    members: np.ndarray | None = None,
    minimum: float | int = 1,
    weighted: bool = False,
    scale: float = 1.0,
    quality: Sequence[np.ndarray | None] = (None, None, None),
) -> GroupReport:
    """Make a report from sums over rows, which is all that it depends on.

    Args:
        names: names of the groups.
        attributes: names of the attributes.
        levels: the value of each attribute in each group.
        rows: number of rows by (decision, label, set of groups); the sets are the groups unless rows have several.
        cells: sums of weights, of the same shape.
        squares: sums of squared weights.
        blocks: sets of groups that are compared with each other; all of them if omitted.
        left_out: groups that are not compared, with the reason.
        members: whether each group (columns) is in each set (rows); None if the sets are the groups.
        minimum: least denominator of a rate, in rows, for the group to be compared in the rate's gaps.
        weighted: whether rows have weights.
        scale: number by which the weights were divided.
        quality: area under the curve, Brier score and calibration error of each group, if they are known.

    Returns:
        The report.

    Example:
        >>> cells = np.array([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [2.0, 4.0]]])
        >>> groups = {"names": ("a", "b"), "attributes": ("sex",), "levels": (("a",), ("b",))}
        >>> report_from_sums(**groups, rows=cells, cells=cells, squares=cells).selection_rate.tolist()
        [0.5, 1.0]
    """
    blocks = blocks or (tuple(range(len(names))),)
    included = np.array([name not in left_out for name in names])
    counts, table, table_squares = (array if members is None else array @ members for array in (rows, cells, squares))
    values, intervals, sizes, shrunk = {}, {}, {}, {}
    for name, rate in RATES.items():
        values[name] = _frozen(rate_from_table(rate, table))
        sizes[name] = _frozen(effective_size(contract(rate.den, table), contract(rate.den, table_squares)))
        intervals[name] = _frozen(np.stack(wilson(values[name], sizes[name]), axis=1))
        compared, estimates = large_enough(sizes[name], minimum) & included, np.full(len(names), np.nan)
        for block in blocks:
            index = list(block)
            estimates[index] = empirical_bayes(np.where(compared, values[name], np.nan)[index], sizes[name][index])
        shrunk[name] = _frozen(estimates)
    auc, brier_score, calibration_error = (None if array is None else _frozen(array) for array in quality)
    return GroupReport(
        names=names,
        attributes=attributes,
        levels=levels,
        counts=_frozen(counts.sum(axis=(0, 1)).astype(np.int64)),
        **values,
        intervals=intervals,
        sizes=sizes,
        shrunk=shrunk,
        auc=auc,
        brier_score=brier_score,
        calibration_error=calibration_error,
        left_out=_left_out(names, left_out, sizes, minimum, included, blocks),
        included=_frozen(included),
        blocks=blocks,
        minimum=minimum,
        confusion=_frozen(table * scale),
        weighted=weighted,
        cells=_frozen(cells * scale),
        cell_sizes=_frozen(effective_size(cells, squares)),
        members=None if members is None else _frozen(members),
        group_sizes=_frozen(effective_size(table.sum(axis=(0, 1)), table_squares.sum(axis=(0, 1)))),
    )


def _frozen(array: np.ndarray) -> np.ndarray:
    array = np.array(array)
    array.flags.writeable = False
    return array


def _left_out(
    names: tuple[str, ...],
    absent: Mapping[str, str],
    sizes: Mapping[str, np.ndarray],
    minimum: float | int,
    included: np.ndarray,
    blocks: tuple[tuple[int, ...], ...],
) -> tuple[LeftOut, ...]:
    entries = [LeftOut(name, tuple(RATES), why) for name, why in absent.items()]
    alone = {rate: is_alone(large_enough(size, minimum) & included, blocks) for rate, size in sizes.items()}
    for g, name in enumerate(names):
        if name in absent:
            continue
        reasons: dict[str, list[str]] = {}
        for rate, size in sizes.items():
            if not large_enough(size, minimum)[g]:
                rows = f"{size[g]:.4g}"
                explanation = "no rows in the denominator" if size[g] == 0 else f"{rows} rows in the denominator"
                reasons.setdefault(explanation + (f", fewer than {minimum:g}" if size[g] else ""), []).append(rate)
            elif alone[rate][g]:
                within = "" if len(blocks) == 1 else " in its stratum or attribute"
                reasons.setdefault(f"nothing to compare it with{within}", []).append(rate)
        entries += [LeftOut(name, tuple(rates), reason) for reason, rates in reasons.items()]
    return tuple(entries)


def is_alone(comparable: np.ndarray, blocks: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Return which groups are the only ones of their block that can be compared."""
    alone = np.zeros(len(comparable), bool)
    for block in blocks:
        groups = list(block)
        alone[groups] = comparable[groups] & (comparable[groups].sum() == 1)
    return alone


def large_enough(size, minimum: float | int) -> np.ndarray:
    """Return whether each number of rows is positive and reaches the minimum."""
    return (size > 0) & ((size >= minimum * (1 - 1e-9)) | (minimum <= 1))


def contract(matrix, table):
    """Sum confusion tables over predicted classes and labels, weighted by a rate's matrix."""
    return np.tensordot(np.asarray(matrix), table, axes=2)


def rate_from_table(rate, table):
    """Compute a rate per group from confusion tables; NaN for a group without rows."""
    top, size = contract(rate.num, table), contract(rate.den, table)
    return np.where(size > 0, top / np.where(size > 0, size, 1), np.nan).T


def _ends(rates):
    """Return the least and the greatest rate along the last axis; NaN unless at least two rates are not NaN."""
    defined = ~np.isnan(rates)
    enough = defined.sum(axis=-1) >= 2
    least = np.min(rates, axis=-1, where=defined, initial=np.inf)
    greatest = np.max(rates, axis=-1, where=defined, initial=-np.inf)
    return np.where(enough, least, np.nan), np.where(enough, greatest, np.nan)


def _spread(rates):
    least, greatest = _ends(rates)
    return greatest - least


def _ratio(rates):
    least, greatest = _ends(rates)
    return np.where(greatest > 0, least / np.where(greatest > 0, greatest, 1), np.nan)


def _row(name: str, values: Sequence[Any], groups: int, ends: Sequence[str]) -> GroupGap:
    value, draws, shrunk = values
    lowest, highest = ends
    draws = draws[~np.isnan(draws)]
    low, high = np.quantile(draws, [0.025, 0.975]) if draws.size else (np.nan, np.nan)
    return GroupGap(
        name, float(value), float(low), float(high), float(shrunk), groups, int(draws.size), lowest, highest
    )


def _wrapped(name: str) -> list[str]:
    """Wrap a name for the printed table; the numbers are printed next to the last line."""
    return textwrap.wrap(name, _WIDE) or [name]


def _text(value: float, digits: int = 3) -> str:
    return f"{'nan':>{digits + 2}}" if np.isnan(value) else f"{value:.{digits}f}"
