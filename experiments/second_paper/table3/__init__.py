"""Table 3 of the second paper: every row on the same splits, with one coding, beside the printed numbers."""
