"""Annotation of variables: which are sensitive with respect to fairness, and which are relevant to the task."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fairjax.detect.association import Association
from fairjax.detect.attribution.bias import BiasByFeature

WEAK = 0.05
"""Least strength of an association for the rule "test", since with many rows every difference is significant."""


def annotate(
    bias: BiasByFeature,
    association: Association,
    attribute: str | None = None,
    names: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    rule: str = "strength",
    strength: float = 0.1,
    level: float = 0.01,
    coverage: float = 0.95,
) -> Any:
    """Annotate variables by their importance to the network and their association with the group.

    Important are the fewest variables that together have the share `coverage` of the importance of all variables. An
    important variable is sensitive if it is associated with the group, and relevant to the task if it is not. The
    protected attribute itself is always sensitive. A sensitive variable may also be relevant to the task: whether a
    network may use it is for people to judge.

    Args:
        bias: the attributions, from `bias_by_feature`, of one network or of many seeds.
        association: the associations with the group, from `association`, of the same variables.
        attribute: name of the variable that is the protected attribute, if it is among the features.
        names: names of the columns, if every column is a variable.
        columns: name of the variable of each column, as given to `bias_by_feature` and `association`.
        rule: which variables count as associated: those whose strength is above `strength`; or, with "test", those
            whose Holm-corrected p-value is below `level` and whose strength is above 0.05.
        strength: least strength, for the rule "strength".
        level: greatest p-value, for the rule "test".
        coverage: share of the importance of all variables that the important ones have together.

    Returns:
        A frame with one line per variable, the most important first: `variable`, `importance`, `difference` (see
        `BiasByFeature.table`), `strength`, `p_holm`, `associated`, `important`, `fairness_sensitive` and
        `task_relevant`.

    Raises:
        ValueError: if variables do not match, there is no such attribute or rule, or a number is not in [0, 1].

    Example:
        >>> import jax.numpy as jnp
        >>> from fairjax.detect import association, bias_by_feature
        >>> x = jnp.stack([jnp.arange(20) % 2, jnp.arange(20) // 2 % 2], axis=1).astype(jnp.float32)
        >>> linear = lambda variables, x, **_: (x @ variables["w"], variables)
        >>> bias = bias_by_feature(linear, {"w": jnp.array([-2.0, 0.5])}, (x, x[:, 0] == 1))
        >>> table = annotate(bias, association(x, x[:, 0], ("sex", "pay")), "sex", ("sex", "pay"))
        >>> table[["variable", "fairness_sensitive", "task_relevant"]].values.tolist()
        [['sex', True, False], ['pay', False, True]]
    """
    if rule not in ("strength", "test"):
        raise ValueError(f"rule must be strength or test, got {rule!r}")
    for name, value in (("strength", strength), ("level", level), ("coverage", coverage)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be between 0 and 1, got {value}")
    table = bias.table(names, columns).rename(columns={"feature": "variable"})
    if sorted(table["variable"]) != sorted(association.variables):
        raise ValueError(
            f"bias and association must have the same variables, found {len(table)} ({_some(table['variable'])}) and "
            f"{len(association.variables)} ({_some(association.variables)}): pass the same names and columns to both"
        )
    if attribute is not None and attribute not in association.variables:
        raise ValueError(
            f"attribute must be one of the variables, such as {_some(association.variables)}: got {attribute!r}"
        )
    table = table.sort_values("importance", ascending=False, kind="stable", ignore_index=True)
    order = [association.variables.index(name) for name in table["variable"]]
    table["strength"], table["p_holm"] = association.strength[order], association.p_holm[order]
    if rule == "strength":
        associated = table["strength"] > strength
    else:
        associated = (table["p_holm"] < level) & (table["strength"] > WEAK)
    is_attribute = table["variable"] == attribute
    importance = table["importance"].to_numpy()
    if np.isnan(importance).any():
        raise ValueError("importance is NaN, so variables cannot be ranked: look for rows whose logit is not finite")
    before = np.cumsum(importance) - importance  # of the variables that are more important
    important = (before < coverage * importance.sum()) & (importance > 0)
    table["associated"], table["important"] = associated | is_attribute, important
    table["fairness_sensitive"] = (associated & important) | is_attribute
    table["task_relevant"] = important & ~table["associated"]
    chosen = ["variable", "importance", "difference", "strength", "p_holm"]
    return table[[*chosen, "associated", "important", "fairness_sensitive", "task_relevant"]]


def _some(names: Any) -> str:
    """List the first few names."""
    return ", ".join(list(names)[:3]) + (", ..." if len(names) > 3 else "")
