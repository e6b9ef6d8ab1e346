"""The table of a run: what `results.csv` says, for people."""

import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from experiments.methods import ABOUT, DATASETS, label

COLUMNS = ("method", "needs a", "objective: median [25 %, 75 %]", "balanced accuracy", "bias", "within bound")


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """One row a method and rule, from the test rows of `results.csv`, in the order of the rows.

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


def title(results: pd.DataFrame) -> str:
    """What the table is of."""
    first = results.iloc[0]
    name = DATASETS.get(first["dataset"], first["dataset"])
    return f"{name}, {first['measure'].upper()}, {results['seed'].nunique()} splits, test parts"


def markdown(results: pd.DataFrame, epsilon: float) -> str:
    """The table as Markdown."""
    table = summary(results)
    lines = [" | ".join(("", *row, "")).strip() for row in (table.columns, ["---"] * len(table.columns))]
    lines += [" | ".join(("", *row, "")).strip() for row in table.itertuples(index=False)]
    return f"{title(results)}\n\n" + "\n".join(lines) + f"\n\n{caption(epsilon)}\n"


def caption(epsilon: float) -> str:
    """How to read the table."""
    return (
        f"Objective: balanced accuracy where |bias| < {epsilon:g}, else 0. Balanced accuracy and bias: mean ± standard "
        "deviation over splits. Needs a: whether the protected attribute is needed at test time."
    )


def printed(results: pd.DataFrame, epsilon: float, width: int = 80) -> Group:
    """The table for a terminal.

    Numbers are never cut: where the columns do not fit side by side, they are stacked in blocks, each of which begins
    with the method.

    Args:
        results: of a run, as in `results.csv`.
        epsilon: the bound on |bias|, for the caption.
        width: of the terminal, in characters.
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
    return Group(Text(title(results), style="italic"), *parts, Text(caption(epsilon), style="dim italic"))


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
