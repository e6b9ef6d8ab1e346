"""Tables of a run for people, made from `results.csv`."""

import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fairjax.datasets import DATASETS
from fairjax.metrics import MEASURES
from fairjax.report.markdown_table import markdown_table
from fairjax.runs.labels import label, needs_group
from fairjax.runs.structure import BINARY, Structure

COLUMNS = ("method", "needs a", "objective: median [25 %, 75 %]", "balanced accuracy", "bias", "within bound")


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """Return one row per method and rule, from the test rows of `results.csv`, in the order of the rows.

    Each row contains the median and quartiles of the constrained objective over seeds, mean and standard deviation of
    balanced accuracy and bias, and the number of test splits on which |bias| is below epsilon.
    """
    rows = []
    test = results[results["part"] == "test"]
    main = main_rule(results)
    for (method, rule), group in test.groupby(["method", "rule"], sort=False):
        low, median, high = group["objective"].quantile([0.25, 0.5, 0.75])
        rows.append(
            (
                label(method, rule, main),
                "yes" if needs_group(method) else "no",
                f"{median:.2f} [{low:.2f}, {high:.2f}]",
                _mean(group["balanced_accuracy"]),
                _mean(group["bias"]),
                f"{int(group['satisfied'].sum())} of {len(group)}",
            )
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def main_rule(results: pd.DataFrame) -> str:
    """Return the main rule, which labels do not mention: the first rule in the rows."""
    named = results.loc[results["rule"] != "none", "rule"]
    return "none" if named.empty else named.iloc[0]


def _mean(values: pd.Series) -> str:
    spread = values.std(ddof=1) if len(values) > 1 else 0.0
    return f"{values.mean():.2f} ± {spread:.2f}"


def title(results: pd.DataFrame, structure: Structure = BINARY) -> str:
    """Return the title of the table."""
    first = results.iloc[0]
    name = dataset_title(first["dataset"], structure)
    return f"{name}, {MEASURES.label(first['measure'])}, {results['seed'].nunique()} splits, test parts"


def dataset_title(dataset: str, structure: Structure = BINARY) -> str:
    """Return the display name of a data set, with the attributes that define its groups."""
    name = DATASETS.label(dataset)
    return f"{name} by {' and '.join(structure.attributes)}" if structure.attributes else name


def markdown(results: pd.DataFrame, epsilon: float, structure: Structure = BINARY) -> str:
    """Format the table as Markdown."""
    table = markdown_table(summary(results))
    return f"{title(results, structure)}\n\n{table}\n\n{caption(results, epsilon, structure)}\n"


def caption(results: pd.DataFrame, epsilon: float, structure: Structure = BINARY) -> str:
    """Return an explanation of the table."""
    lines = [
        f"Objective: balanced accuracy where |bias| < {epsilon:g}, else 0. Balanced accuracy and bias: mean ± standard "
        "deviation over splits. Needs a: whether the protected attribute is needed at test time.",
        *structure.explain(results["measure"].iloc[0]),
    ]
    return "\n".join((*lines, undefined(results))).strip()


def undefined(results: pd.DataFrame) -> str:
    """Describe what is undefined in test parts: groups with too few rows, or a bias; empty if nothing is."""
    test, lines = results[(results["part"] == "test") & ~results["diverged"].astype(bool)], []
    counts = pd.to_numeric(test.get("groups_compared", pd.Series(dtype=int)), errors="coerce").dropna()
    if counts.nunique() > 1:
        lines.append(f"In the test parts, {counts.min():g} to {counts.max():g} groups have enough rows to be compared.")
    count = int(test["bias"].isna().sum())
    if count:
        lines.append(
            f"In {count} of {len(test)} results the bias is undefined, since fewer than two groups have rows for its "
            "rates: these results count as outside the bound, and means of the bias leave them out."
        )
    return " ".join(lines)


def printed(results: pd.DataFrame, epsilon: float, width: int = 80, structure: Structure = BINARY) -> Group:
    """Return the table for a terminal.

    Numbers are never cut. If the columns do not fit side by side, they are stacked in blocks, each of which begins with
    the method.

    Args:
        results: the results of a run, with the columns of `results.csv`.
        epsilon: the bound on |bias|, for the caption.
        width: the width of the terminal in characters.
        structure: the groups and classes, for the caption.
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
"""Width of the method's column in characters up to which it is not wrapped; longer names may be wrapped."""

GAP = 2
"""Number of characters between two columns."""


def _heading(column: str) -> str:
    """Return the heading of a column, with line breaks."""
    return column if column == "method" else column.replace(": ", "\n").replace(" ", "\n", 1)


def _block(table: pd.DataFrame) -> Table:
    """Build a table of columns that fit side by side; only the method may be wrapped."""
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for i, column in enumerate(table.columns):
        # if a line is too narrow even for one number, the number is folded, so that nothing is cut
        shown.add_column(_heading(column), justify="right" if i else "left", overflow="fold", no_wrap=False)
    for row in table.itertuples(index=False):
        shown.add_row(*map(Text, row))
    return shown
