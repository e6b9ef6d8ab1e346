"""The table of a run: what `results.csv` says, for people."""

import pandas as pd
from rich import box
from rich.table import Table

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


def printed(results: pd.DataFrame, epsilon: float) -> Table:
    """The table for a terminal."""
    table = summary(results)
    shown = Table(title=title(results), caption=caption(epsilon), box=box.SIMPLE_HEAD)
    for column in table.columns:
        heading = column.replace(": ", "\n").replace(" ", "\n", 1) if column != "method" else column
        shown.add_column(heading, justify="left" if column == "method" else "right", no_wrap=True)
    for row in table.itertuples(index=False):
        shown.add_row(*row)
    return shown
