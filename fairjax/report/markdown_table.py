"""Tables of text as Markdown."""

import pandas as pd


def markdown_table(table: pd.DataFrame) -> str:
    """Format a table, whose cells are text, as Markdown.

    Example:
        >>> print(markdown_table(pd.DataFrame({"method": ["none"], "accuracy": ["0.80"]})))
        | method | accuracy |
        | --- | --- |
        | none | 0.80 |
    """
    rows = (table.columns, ["---"] * len(table.columns), *table.itertuples(index=False))
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)
