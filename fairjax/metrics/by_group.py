"""A table of how groups fare, to be read: rates with intervals, gaps with intervals, and who was left out."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
import pandas as pd

from fairjax import checks
from fairjax.metrics import rates as _rates
from fairjax.metrics.groups import Groups, intersections
from fairjax.metrics.intervals import effective_size, empirical_bayes, wilson

RATES = {
    "selection_rate": _rates.selection(),
    "true_positive_rate": _rates.recall(),
    "false_positive_rate": _rates.false_positive_rate(),
    "precision": _rates.precision(),
    "accuracy": _rates.accuracy(),
    "base_rate": _rates.base_rate(),
}
"""The rates of the table, by name."""

BINS = 10


@dataclass(frozen=True)
class Left:
    """A group that takes no part in the gaps of some rates, and why."""

    group: str
    rates: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class GroupGap:
    """A gap between groups, with a percentile interval."""

    name: str
    value: float
    """The gap, NaN if fewer than two groups can be compared."""
    low: float
    high: float
    shrunk: float
    """The gap of the rates shrunk towards each other, which noise does not widen; NaN for ratios."""
    groups: int
    """Number of groups compared."""
    draws: int
    """Number of draws in which the gap could be computed."""
    lowest: str
    """The group of the least rate, of those that the gap is between; empty if there is no gap."""
    highest: str
    """The group of the greatest rate."""


@dataclass(frozen=True)
class Gaps:
    """The gaps between groups, one after the other; prints as a table of at most 80 columns."""

    rows: tuple[GroupGap, ...]
    note: str

    def __getitem__(self, name: str) -> GroupGap:
        """The gap of that name."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"{name}; there are {', '.join(row.name for row in self.rows)}")

    def to_frame(self) -> pd.DataFrame:
        """Return the gaps as a frame with one row per gap."""
        return pd.DataFrame([vars(row) for row in self.rows]).set_index("name")

    def __str__(self) -> str:
        """A table of at most 80 columns."""
        lines = [f"{'gap':<32}{'value':>8}  {'95% interval':<16}{'shrunk':>8}{'groups':>8}"]
        for row in self.rows:
            interval = f"[{_text(row.low)}, {_text(row.high)}]"
            lines.append(f"{row.name:<32}{_text(row.value):>8}  {interval:<16}{_text(row.shrunk):>8}{row.groups:>8}")
        return "\n".join(lines + textwrap.wrap(self.note, 79))


@dataclass(frozen=True, eq=False)
class GroupReport:
    """Rates of every group, as arrays with one number per group in the order of `names`. It prints as a table.

    A rate without denominator is NaN. Do not change the arrays: they are read-only.
    """

    names: tuple[str, ...]
    """The groups; of several attributes, the values joined by ", "."""
    attributes: tuple[str, ...]
    """Names of the attributes that the groups are made of."""
    levels: tuple[tuple[Any, ...], ...]
    """The value of each attribute in each group."""
    counts: np.ndarray
    """Number of rows."""
    selection_rate: np.ndarray
    true_positive_rate: np.ndarray
    false_positive_rate: np.ndarray
    precision: np.ndarray
    accuracy: np.ndarray
    base_rate: np.ndarray
    intervals: Mapping[str, np.ndarray]
    """Wilson's 95% interval (groups, 2) of each rate."""
    sizes: Mapping[str, np.ndarray]
    """Rows in the denominator of each rate; effective rows (Kish) where rows are weighted."""
    shrunk: Mapping[str, np.ndarray]
    """The rates of the groups that are compared, shrunk towards each other by empirical Bayes."""
    auc: np.ndarray | None
    """Area under the ROC curve, where scores were given; NaN in a group of one label."""
    brier_score: np.ndarray | None
    calibration_error: np.ndarray | None
    """Expected calibration error over 10 bins of equal width."""
    left_out: tuple[Left, ...]
    """Groups that take no part in the gaps of some rates, and why."""
    minimum: float | int
    confusion: np.ndarray
    """Weighted number of rows by (decision, label, group)."""
    weighted: bool
    group_sizes: np.ndarray
    """Rows of each group; effective rows where rows are weighted."""
    included: np.ndarray
    """Whether each group is to be compared at all."""
    blocks: tuple[tuple[int, ...], ...]
    """Groups that are compared with each other: all of them, or those of each stratum. The gap is that of the block in
    which it is widest."""

    def compared(self, rate: str) -> np.ndarray:
        """Which groups take part in the gaps of a rate."""
        return _there(self.sizes[rate], self.minimum) & self.included

    def gaps(self, bootstrap: int = 1000, seed: int = 0) -> Gaps:
        """The greatest rate less the least, and the least over the greatest, with percentile intervals.

        Rows are drawn anew as multinomial draws of the table of counts, which is what drawing rows with replacement
        comes to; the cost does not depend on the number of rows. Counts have to be whole numbers: for weighted rows
        each group's cells are drawn on their own, as many rows as the group's effective size, and scaled back.

        The greatest of noisy rates less the least is too large, in the draws more so than in the data: read an
        interval that leaves out 0 with that in mind, and see `shrunk`.

        Args:
            bootstrap: number of draws; 0 for none, and intervals of NaN.
            seed: of the draws.

        Returns:
            The gaps. Groups with too small a denominator are left out, in the data as in the draws. Where groups are
            compared within strata, a gap is that of the stratum in which it is widest.

        Raises:
            ValueError: if `bootstrap` is not a whole number of draws, or negative.
        """
        if isinstance(bootstrap, bool) or not isinstance(bootstrap, int | np.integer) or bootstrap < 0:
            raise ValueError(f"bootstrap must be a number of draws, at least 0, got {bootstrap!r}")
        draws = self._draw(bootstrap, np.random.default_rng(seed))
        found: dict[str, GroupGap] = {}
        spreads = {}
        for name, rate in RATES.items():
            there = self.compared(name)
            rates, drawn = np.where(there, getattr(self, name), np.nan), np.where(there, _of(rate, draws), np.nan)
            each = [self._widest(_spread, values) for values in (rates, drawn, self.shrunk[name])]
            spreads[name] = *each, int(there.sum()), *self._extremes(_spread, rates)
            found[f"{name}_difference"] = _row(f"{name}_difference", *spreads[name])
            if name == "selection_rate":
                least = [self._widest(_ratio, values, np.fmin) for values in (rates, drawn)]
                ends = self._extremes(_ratio, rates, np.nanargmin)
                found["selection_rate_ratio"] = _row("selection_rate_ratio", *least, np.nan, int(there.sum()), *ends)
        true, false = spreads["true_positive_rate"], spreads["false_positive_rate"]
        odds = [np.maximum(one, other) for one, other in zip(true[:3], false[:3], strict=True)]
        ends = (true if true[0] >= false[0] else false)[4:] if odds[0] == odds[0] else ("", "")
        name = "equalized_odds_difference"
        found[name] = _row(name, *odds, min(true[3], false[3]), *ends)
        del found["base_rate_difference"]
        how = "each group's effective number of rows" if self.weighted else "the table of counts"
        return Gaps(tuple(found.values()), f"{bootstrap} multinomial draws of {how}. nan: not measured.")

    def _widest(self, gap: Any, rates: np.ndarray, choose: Any = np.fmax) -> Any:
        """The gap of the block in which it is widest; NaN where no block has two groups."""
        return choose.reduce([gap(rates[..., list(block)]) for block in self.blocks])

    def _extremes(self, gap: Any, rates: np.ndarray, choose: Any = np.nanargmax) -> tuple[str, str]:
        """Names of the groups of the least and the greatest rate in the block of the widest gap."""
        each = np.array([gap(rates[list(block)]) for block in self.blocks])
        if np.isnan(each).all():
            return "", ""
        block = self.blocks[choose(each)]
        inside = rates[list(block)]
        return self.names[block[np.nanargmin(inside)]], self.names[block[np.nanargmax(inside)]]

    def _draw(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Tables (2, 2, groups, draws)."""
        table = self.confusion.reshape(4, -1)
        if not self.weighted:
            total = table.sum()
            if total == 0:
                return np.zeros((2, 2, table.shape[1], count))
            drawn = random.multinomial(round(total), table.ravel() / total, size=count)
            return np.moveaxis(drawn.reshape(count, 2, 2, table.shape[1]), 0, -1).astype(float)
        drawn = np.zeros((table.shape[1], count, 4))
        for g, size in enumerate(self.group_sizes):
            total = table[:, g].sum()
            if total > 0:
                size = max(round(size), 1)
                drawn[g] = random.multinomial(size, table[:, g] / total, size=count) * (total / size)
        return np.moveaxis(drawn, 2, 0).reshape(2, 2, table.shape[1], count)

    def to_frame(self) -> pd.DataFrame:
        """Return a frame with one row per group, indexed by the attributes.

        Beside each rate are the ends of its interval and its value shrunk towards the other groups' (empirical Bayes);
        `not_compared` says why a group takes part in no gap, and is empty for the others.
        """
        columns: dict[str, Any] = {"count": self.counts}
        for name in RATES:
            columns[name] = getattr(self, name)
            columns[f"{name}_low"], columns[f"{name}_high"] = self.intervals[name].T
            columns[f"{name}_shrunk"] = self.shrunk[name]
        for name in ("auc", "brier_score", "calibration_error"):
            if getattr(self, name) is not None:
                columns[name] = getattr(self, name)
        reasons = {left.group: left.reason for left in self.left_out if len(left.rates) == len(RATES)}
        columns["not_compared"] = [reasons.get(name, "") for name in self.names]
        if len(self.attributes) == 1:
            index = pd.Index([level[0] for level in self.levels], name=self.attributes[0])
        else:
            index = pd.MultiIndex.from_tuples(self.levels, names=self.attributes)
        return pd.DataFrame(columns, index=index)

    def plot(self, rates: Sequence[str] = ("selection_rate", "true_positive_rate", "false_positive_rate")) -> Any:
        """Draw rates with their intervals, one panel per rate; needs matplotlib.

        Args:
            rates: some of `RATES`.

        Returns:
            The figure. Groups that are not compared are hollow; a line marks the rate of all rows.

        Raises:
            ValueError: if there is no such rate.
        """
        unknown = [rate for rate in rates if rate not in RATES]
        if unknown or not rates:
            raise ValueError(f"rates must be some of {', '.join(RATES)}, got {', '.join(unknown) or 'none'}")
        from matplotlib.figure import Figure

        height = 0.32 * len(self.names) + 1.1
        figure = Figure(figsize=(2.6 * len(rates) + 1.8, height), layout="constrained")
        axes = figure.subplots(1, len(rates), sharey=True, squeeze=False)[0]
        place = np.arange(len(self.names))
        for axis, rate in zip(axes, rates, strict=True):
            values, intervals = getattr(self, rate), self.intervals[rate]
            known = ~np.isnan(values)
            axis.hlines(place[known], *intervals[known].T, color="0.55", lw=2)
            compared = self.compared(rate)
            axis.plot(values[known & compared], place[known & compared], "o", color="#1f5f8b")
            axis.plot(values[known & ~compared], place[known & ~compared], "o", color="#1f5f8b", mfc="white")
            whole = _of(RATES[rate], self.confusion.sum(axis=2, keepdims=True))
            if not np.isnan(whole).any():
                axis.axvline(float(whole[0]), color="#c1440e", lw=0.9, ls=":")
            axis.set_title(rate.replace("_", " "), fontsize=10)
            axis.set_xlim(-0.03, 1.03)
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(axis="x", alpha=0.25)
        axes[0].set_yticks(place, [f"{name} ({count:,})" for name, count in zip(self.names, self.counts, strict=True)])
        axes[0].invert_yaxis()
        return figure

    def __str__(self) -> str:
        """A table of at most 80 columns."""
        lines = [
            f"{'group':<22}{'rows':>9} {'selected':>8}  {'95% interval':<15}{'TPR':>5}{'FPR':>6}{'prec':>6}{'acc':>6}"
        ]
        for g, name in enumerate(self.names):
            low, high = self.intervals["selection_rate"][g]
            name = name if len(name) <= 22 else name[:19] + "..."
            rest = [self.true_positive_rate[g], self.false_positive_rate[g], self.precision[g], self.accuracy[g]]
            lines.append(
                f"{name:<22}{self.counts[g]:>9} {_text(self.selection_rate[g]):>8}  [{_text(low)}, {_text(high)}] "
                + f"{_text(rest[0], 2):>5}"
                + "".join(f"{_text(each, 2):>6}" for each in rest[1:])
            )
        if self.auc is not None and self.brier_score is not None and self.calibration_error is not None:
            lines += ["", f"{'group':<22}{'AUC':>9}{'Brier':>9}{'ECE':>9}"]
            for g, name in enumerate(self.names):
                name = name if len(name) <= 22 else name[:19] + "..."
                scores = (self.auc[g], self.brier_score[g], self.calibration_error[g])
                lines.append(f"{name:<22}" + "".join(f"{_text(each):>9}" for each in scores))
        if sum(self.included) > 2:
            lines += ["", "Rates shrunk towards each other, by empirical Bayes, to take out noise:"]
            lines.append(f"{'group':<22}{'selected':>9}{'TPR':>8}{'FPR':>8}{'prec':>8}{'acc':>8}")
            for g, name in enumerate(self.names):
                name = name if len(name) <= 22 else name[:19] + "..."
                each = [self.shrunk[rate][g] for rate in list(RATES)[:5]]
                lines.append(f"{name:<22}{_text(each[0]):>9}" + "".join(f"{_text(value):>8}" for value in each[1:]))
        if self.left_out:
            lines += ["", "Not compared:"]
            for left in self.left_out:
                about = f"{left.group}: {left.reason} ({', '.join(left.rates)})"
                lines += textwrap.wrap(about, 79, initial_indent="  ", subsequent_indent="    ")
        return "\n".join(lines)


def by_group(
    decisions: Any,
    y: Any,
    groups: Any,
    scores: Any = None,
    weights: Any = None,
    names: Sequence[str] | None = None,
    minimum: float | int = 1,
) -> GroupReport:
    """How each group fares: rates with intervals, and quality of the scores where they are given.

    Args:
        decisions: 0 or 1, or booleans, one per row.
        y: labels, 0 or 1, or booleans.
        groups: a series, array or list of strings, codes or booleans; or several columns, as a frame or an array
            (n, attributes), whose intersections are the groups; or what `fairjax.data.groups` returns.
        scores: probabilities of label 1, for the area under the curve, Brier score and calibration error.
        weights: a non-negative weight for each row; 1 if omitted.
        names: names of the groups, where `groups` is one column of codes 0, 1, ...
        minimum: rows that the denominator of a rate must have for the group to take part in the rate's gaps.
            Weighted rows count by Kish's effective size.

    Returns:
        A report: print it, take its arrays, or call `gaps()` and `to_frame()`.

    Raises:
        ValueError: if shapes or pandas indices disagree, or a value is not what it should be.

    Example:
        >>> report = by_group([1, 0, 1, 1], [1, 1, 0, 1], ["a", "a", "b", "b"])
        >>> report.selection_rate.tolist()
        [0.5, 1.0]
        >>> report.gaps(bootstrap=0)["selection_rate_difference"].value
        0.5
    """
    checks.check_index(decisions=decisions, y=y, groups=groups, scores=scores, weights=weights)
    f, label = _binary(decisions, "decisions"), _binary(y, "y")
    code, found_groups = _grouped(groups, names)
    checked = {"decisions": f, "y": label, "groups": code}
    if isinstance(minimum, bool) or not isinstance(minimum, int | float | np.number) or not 0 <= minimum < np.inf:
        raise ValueError(f"minimum must be a number of rows, at least 0 and finite, got {minimum!r}")
    w = score = None
    if weights is not None:
        w = checked["weights"] = _numbers(weights, "weights", 0.0, np.inf)
        if w.size and not w.any():
            raise ValueError("weights are all 0, so there is nothing to measure: give some row a positive weight")
    if scores is not None:
        score = checked["scores"] = _numbers(scores, "scores", 0.0, 1.0)
    if len({len(each) for each in checked.values()}) > 1:
        shapes = ", ".join(f"{name} {each.shape}" for name, each in checked.items())
        raise ValueError(f"expected one number of rows, got shapes {shapes}; pass the same rows to each")

    count = len(found_groups)
    included = np.array([name not in found_groups.left_out for name in found_groups.names])
    blocks = found_groups.blocks or (tuple(range(count)),)
    cell = (f * 2 + label) * count + code

    def sums(weight=None):
        return np.bincount(cell, weight, minlength=4 * count).reshape(2, 2, count).astype(float)

    rows = sums()
    table, squares = (rows, rows) if w is None else (sums(w), sums(w**2))
    found, intervals, sizes, shrunk = {}, {}, {}, {}
    for name, rate in RATES.items():
        found[name] = _frozen(_of(rate, table))
        sizes[name] = _frozen(effective_size(_contract(rate.den, table), _contract(rate.den, squares)))
        intervals[name] = _frozen(np.stack(wilson(found[name], sizes[name]), axis=1))
        there, values = _there(sizes[name], minimum) & included, np.full(count, np.nan)
        for block in blocks:
            index = list(block)
            values[index] = empirical_bayes(np.where(there, found[name], np.nan)[index], sizes[name][index])
        shrunk[name] = _frozen(values)
    quality = (None, None, None) if score is None else _quality(score, label, code, w, count)
    return GroupReport(
        names=found_groups.names,
        attributes=found_groups.attributes,
        levels=found_groups.levels,
        counts=_frozen(rows.sum(axis=(0, 1)).astype(np.int64)),
        **found,
        intervals=intervals,
        sizes=sizes,
        shrunk=shrunk,
        auc=quality[0],
        brier_score=quality[1],
        calibration_error=quality[2],
        left_out=_left_out(found_groups, sizes, minimum),
        included=_frozen(included),
        blocks=blocks,
        minimum=minimum,
        confusion=_frozen(table),
        weighted=w is not None,
        group_sizes=_frozen(effective_size(table.sum(axis=(0, 1)), squares.sum(axis=(0, 1)))),
    )


def _binary(value: Any, name: str) -> np.ndarray:
    """0 and 1 as integers."""
    value = _host(value, name)
    soft = (value > 0) & (value < 1)
    if value.dtype.kind == "f" and soft.any():
        row = int(np.argmax(soft))
        raise ValueError(
            f"{name} must be 0 or 1, found {value[row]:g} in row {row}: threshold scores first, and pass them as scores"
        )
    return np.asarray(checks.indicator(name, value)[0]).astype(np.int64)


def _numbers(value: Any, name: str, low: float, high: float) -> np.ndarray:
    """Numbers in a range, in double precision."""
    value = _host(value, name).astype(float)
    wrong = ~((value >= low) & (value <= high) & np.isfinite(value))
    if wrong.any():
        row = np.argmax(wrong)
        span = f"in [{low:g}, {high:g}]" if np.isfinite(high) else "finite and not negative"
        raise ValueError(f"{name} must be {span}, found {value[row]} in row {row}: drop the row or correct the value")
    return value


def _host(value: Any, name: str) -> np.ndarray:
    """One number per row, as an array of NumPy."""
    value = checks.vector(name, value)
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"by_group makes a table on the host, and {name} is traced: call it outside of jax.jit")
    return np.asarray(value)


def _grouped(groups: Any, names: Sequence[str] | None) -> tuple[np.ndarray, Groups]:
    """Codes of the groups, and the groups."""
    if isinstance(groups, Groups):
        if names is not None:
            raise ValueError("the groups have names already: leave names out")
        if groups.a.ndim == 2:
            raise ValueError(
                "by_group takes groups of which a row has one, found memberships: pass the attributes one by one"
            )
        return groups.a.astype(np.int64), groups
    if names is None:
        found = intersections(groups)
        return found.a.astype(np.int64), replace(found, left_out=_empty(found))
    if len(set(map(str, names))) < len(names):
        raise ValueError(f"names must be different ones, found {', '.join(map(str, names))}")
    column = groups if hasattr(groups, "dtype") else np.asarray(groups)
    if np.ndim(column) != 1:
        raise ValueError("names are for one column of codes; put the values of several columns into the frame")
    found = intersections(column)
    codes = [level[0] for level in found.levels]
    if not all(map(_is_code, codes)) or not 0 <= min(codes) <= max(codes) < len(names):
        raise ValueError(f"with {len(names)} names, groups must be codes from 0 to {len(names) - 1}, found {codes}")
    used = {int(value): str(names[int(value)]) for value in codes}
    left_out = {str(name): "no rows" for k, name in enumerate(names) if k not in used}
    levels = tuple((name,) for name in used.values())
    return found.a.astype(np.int64), replace(found, names=tuple(used.values()), levels=levels, left_out=left_out)


def _empty(groups: Groups) -> dict[str, str]:
    """Groups that no row is in."""
    return {name: why for name, why in groups.left_out.items() if name not in groups.names}


def _is_code(value: Any) -> bool:
    return isinstance(value, bool | int | float) and float(value).is_integer()


def _left_out(groups: Groups, sizes, minimum: float | int) -> tuple[Left, ...]:
    left = [Left(name, tuple(RATES), why) for name, why in groups.left_out.items()]
    for g, name in enumerate(groups.names):
        if name in groups.left_out:
            continue
        reasons: dict[str, list[str]] = {}
        for rate, size in sizes.items():
            if not _there(size, minimum)[g]:
                rows = f"{size[g]:.4g}"
                about = "no rows in the denominator" if size[g] == 0 else f"{rows} rows in the denominator"
                reasons.setdefault(about + (f", fewer than {minimum:g}" if size[g] else ""), []).append(rate)
        left += [Left(name, tuple(rates), reason) for reason, rates in reasons.items()]
    return tuple(left)


def _quality(score, label, code, w, count: int):
    """Area under the curve, Brier score and expected calibration error of each group."""
    w = np.ones(len(score)) if w is None else w
    total = np.bincount(code, w, count)
    safe = np.where(total > 0, total, np.nan)
    brier = np.bincount(code, w * (score - label) ** 2, count) / safe

    cell = code * BINS + np.minimum((score * BINS).astype(np.int64), BINS - 1)
    off = np.abs(np.bincount(cell, w * (score - label), count * BINS)).reshape(count, BINS)
    calibration = off.sum(axis=1) / safe

    order = np.argsort(score)
    order = order[np.argsort(code[order].astype(np.int32), kind="stable")]
    s, g, positive, weight = score[order], code[order], label[order] == 1, w[order]
    auc = np.full(count, np.nan)
    if len(s):
        starts = np.flatnonzero(np.r_[True, (s[1:] != s[:-1]) | (g[1:] != g[:-1])])
        up = np.add.reduceat(weight * positive, starts)
        down = np.add.reduceat(weight * ~positive, starts)
        group = g[starts]
        ups, downs = np.bincount(group, up, count), np.bincount(group, down, count)
        below = np.cumsum(down) - down - (np.cumsum(downs) - downs)[group]
        pairs = ups * downs
        auc = np.bincount(group, up * (below + down / 2), count) / np.where(pairs > 0, pairs, np.nan)
    return _frozen(auc), _frozen(brier), _frozen(calibration)


def _there(size, minimum: float | int) -> np.ndarray:
    return (size > 0) & ((size >= minimum * (1 - 1e-9)) | (minimum <= 1))


def _contract(matrix, table):
    return np.tensordot(np.asarray(matrix), table, axes=2)


def _of(rate, table):
    top, size = _contract(rate.num, table), _contract(rate.den, table)
    return np.where(size > 0, top / np.where(size > 0, size, 1), np.nan).T


def _ends(rates):
    """Least and greatest of at least two rates that are not NaN, along the last axis; else NaN."""
    some = ~np.isnan(rates)
    enough = some.sum(axis=-1) >= 2
    least = np.min(rates, axis=-1, where=some, initial=np.inf)
    greatest = np.max(rates, axis=-1, where=some, initial=-np.inf)
    return np.where(enough, least, np.nan), np.where(enough, greatest, np.nan)


def _spread(rates):
    least, greatest = _ends(rates)
    return greatest - least


def _ratio(rates):
    least, greatest = _ends(rates)
    return np.where(greatest > 0, least / np.where(greatest > 0, greatest, 1), np.nan)


def _row(name: str, value, drawn, shrunk, groups: int, lowest: str, highest: str) -> GroupGap:
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.quantile(drawn, [0.025, 0.975]) if drawn.size else (np.nan, np.nan)
    numbers = map(float, (value, low, high, shrunk))
    return GroupGap(name, *numbers, groups, int(drawn.size), lowest, highest)


def _frozen(array: np.ndarray) -> np.ndarray:
    array = np.array(array)
    array.flags.writeable = False
    return array


def _text(value: float, digits: int = 3) -> str:
    return f"{'nan':>{digits + 2}}" if np.isnan(value) else f"{value:.{digits}f}"
