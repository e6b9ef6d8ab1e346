"""Which columns of a matrix of features belong to one variable; see `fairjax.column_names`."""

from fairjax.column_names import MISSING, variable_codes, variables_of

__all__ = ["MISSING", "variable_codes", "variables_of"]
