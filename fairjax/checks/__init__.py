"""Checks of the arrays that users pass to public functions.

Shapes are always checked. Values are checked whenever they are concrete, and the error names the invalid value. Traced
values cannot be inspected: whether they are valid is then a traced boolean, and a result computed from invalid values
is NaN, never 0, since 0 means parity.
"""

from fairjax.checks.batches import CheckedRows, check_logits, group_column, predictions, rows
from fairjax.checks.columns import (
    all_valid,
    check_merged,
    codes,
    floating,
    indicator,
    nan_unless,
    numeric,
    sample_weights,
    scores,
    vector,
)
from fairjax.checks.index import check_index, index_of
from fairjax.checks.inputs import InputLayout, check_layout, check_rows, checked_inputs, input_layout, is_tree

__all__ = [
    "CheckedRows",
    "InputLayout",
    "all_valid",
    "check_index",
    "check_layout",
    "check_logits",
    "check_merged",
    "check_rows",
    "checked_inputs",
    "codes",
    "floating",
    "group_column",
    "index_of",
    "indicator",
    "input_layout",
    "is_tree",
    "nan_unless",
    "numeric",
    "predictions",
    "rows",
    "sample_weights",
    "scores",
    "vector",
]
