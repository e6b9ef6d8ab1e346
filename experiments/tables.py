"""The table of a run: what `results.csv` says, for people."""

import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from experiments.methods import ABOUT, DATASETS, MEASURES, label
from experiments.structure import BINARY, Structure

COLUMNS = ("method", "needs a", "objective: median [25 %, 75 %]", "balanced accuracy", "bias", "within bound")


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """One row per method and rule, from the test rows of `results.csv`, in the order of the rows.

    The constrained objective as median and quartiles over seeds, balanced accuracy and bias as mean and standard
    deviation, and the number of test splits on which |bias| is below epsilon.
    """
    rows = []
    test = results[results["part"] == "test"]
    main = main_rule(results)
    for (method, rule), group in test.groupby(["method", "rule"], sort=False):
        low, median, high = group["objective"].quantile([0.25, 0.5, 0.75])
        rows.append(
            (
                label(method, rule, main),
                "yes" if method in ABOUT and ABOUT[method].needs_a else "no",
                f"{median:.2f} [{low:.2f}, {high:.2f}]",
                _mean(group["balanced_accuracy"]),
                _mean(group["bias"]),
                f"{int(group['satisfied'].sum())} of {len(group)}",
            )
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def main_rule(results: pd.DataFrame) -> str:
    """The rule that needs no mention: the first in the rows."""
    named = results.loc[results["rule"] != "none", "rule"]
    return "none" if named.empty else named.iloc[0]


def _mean(values: pd.Series) -> str:
    spread = values.std(ddof=1) if len(values) > 1 else 0.0
    return f"{values.mean():.2f} ± {spread:.2f}"


def title(results: pd.DataFrame, structure: Structure = BINARY) -> str:
    """What the table is of."""
    first = results.iloc[0]
    name = named(first["dataset"], structure)
    return f"{name}, {MEASURES[first['measure']]}, {results['seed'].nunique()} splits, test parts"


def named(dataset: str, structure: Structure = BINARY) -> str:
    """A data set as it is printed, with the attributes that its groups are made of."""
    name = DATASETS.get(dataset, dataset)
    return f"{name} by {' and '.join(structure.attributes)}" if structure.attributes else name


def markdown(results: pd.DataFrame, epsilon: float, structure: Structure = BINARY) -> str:
    """The table as Markdown."""
    table = summary(results)
    lines = [" | ".join(("", *row, "")).strip() for row in (table.columns, ["---"] * len(table.columns))]
    lines += [" | ".join(("", *row, "")).strip() for row in table.itertuples(index=False)]
    return f"{title(results, structure)}\n\n" + "\n".join(lines) + f"\n\n{caption(results, epsilon, structure)}\n"


def caption(results: pd.DataFrame, epsilon: float, structure: Structure = BINARY) -> str:
    """How to read the table."""
    lines = [
        f"Objective: balanced accuracy where |bias| < {epsilon:g}, else 0. Balanced accuracy and bias: mean ± standard "
        "deviation over splits. Needs a: whether the protected attribute is needed at test time.",
        *structure.told(results["measure"].iloc[0]),
    ]
    return "\n".join((*lines, undefined(results))).strip()


def undefined(results: pd.DataFrame) -> str:
    """What test parts lack: groups that have too few rows there to be compared, or a bias; empty if nothing."""
    test, lines = results[(results["part"] == "test") & ~results["diverged"].astype(bool)], []
    counts = pd.to_numeric(test.get("groups_compared", pd.Series(dtype=int)), errors="coerce").dropna()
    if counts.nunique() > 1:
        lines.append(f"In these test parts {counts.min():g} to {counts.max():g} groups have the rows to be compared.")
    count = int(test["bias"].isna().sum())
    if count:
        lines.append(
            f"In {count} of {len(test)} results there is no bias, since fewer than two groups have the rows that its "
            "rates are about: they count as outside the bound, and means of the bias are over the others."
        )
    return " ".join(lines)


def printed(results: pd.DataFrame, epsilon: float, width: int = 80, structure: Structure = BINARY) -> Group:
    """The table for a terminal.

    Numbers are never cut: where the columns do not fit side by side, they are stacked in blocks, each of which begins
    with the method.

    Args:
        results: of a run, as in `results.csv`.
        epsilon: the bound on |bias|, for the caption.
        width: of the terminal, in characters.
        structure: groups and classes, for the caption.
    """
    table = summary(results)
    widths = [max(map(len, [*_heading(name).split("\n"), *table[name]])) for name in table.columns]
    widths[0] = min(widths[0], METHOD)
    blocks, used = [[]], widths[0]
    for i, wide in list(enumerate(widths))[1:]:
        if blocks[-1] and used + GAP + wide > width:
            blocks.append([])
            used = widths[0]
        blocks[-1].append(i)
        used += GAP + wide
    parts = [_block(table.iloc[:, [0, *columns]]) for columns in blocks]
    parts = [part for block in parts for part in (block, Text())][:-1]
    below = Text(caption(results, epsilon, structure), style="dim italic")
    return Group(Text(title(results, structure), style="italic"), *parts, below)


METHOD = 24
"""Characters of the method's column that are worth keeping on one line; longer names may be wrapped."""

GAP = 2
"""Characters between two columns."""


def _heading(column: str) -> str:
    """The heading of a column, on several lines."""
    return column if column == "method" else column.replace(": ", "\n").replace(" ", "\n", 1)


def _block(table: pd.DataFrame) -> Table:
    """Columns that stand side by side; the method alone may be wrapped."""
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for i, column in enumerate(table.columns):
        # a line that is too narrow even for one number folds it, and cuts nothing
        shown.add_column(_heading(column), justify="right" if i else "left", overflow="fold", no_wrap=False)
    for row in table.itertuples(index=False):
        shown.add_row(*map(Text, row))
    return shown
