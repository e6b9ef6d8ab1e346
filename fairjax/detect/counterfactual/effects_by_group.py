"""Table of counterfactual effects by group, with paired tests."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from fairjax.detect.counterfactual.effects import Effects
from fairjax.detect.counterfactual.group_effects import MINIMUM, group_masks
from fairjax.detect.counterfactual.paired_tests import check_one_network, corrected, describe
from fairjax.hyperparameters import check_at_least
from fairjax.types import KeyArray

if TYPE_CHECKING:
    import pandas as pd


def effects_by_group(
    effects: Effects | Mapping[str, Effects],
    a: Any,
    *,
    key: KeyArray,
    num_groups: int = 2,
    group_names: Sequence[str] | None = None,
    minimum: int = MINIMUM,
    draws: int = 1000,
) -> "pd.DataFrame":
    """Make a table of the effects of perturbations on all rows and on each group.

    Args:
        effects: what `counterfactual` returns, for one perturbation or a mapping from names to several.
        a: the group of each row: true or 1 in the privileged group, or codes below `num_groups`.
        key: random key of the sign-flip test.
        num_groups: number of groups.
        group_names: names of the groups, by code; "a=0", "a=1", ... if omitted.
        minimum: least number of changed rows for a group's effects to be estimated.
        draws: number of draws of the sign-flip test.

    Returns:
        One row per perturbation and group, and one for all rows. `rows` and `changed` count rows, and those whose
        inputs the perturbation changed; all other columns are about the latter, and NaN if there are fewer than
        `minimum`. `mean_effect` and `mean_logit_effect` are mean changes of the score and the logit, `to_positive` and
        `to_negative` the shares of rows whose decision changes, and `t_p`, `wilcoxon_p` and `sign_flip_p` two-sided
        p-values of paired tests of the change of the score; the columns ending with `_holm` are corrected for the
        number of perturbations, separately for each group.

    Raises:
        ValueError: if numbers of rows or of names differ, groups are not codes, or effects are of several networks.
        TypeError: if `effects` is something else.

    Example:
        >>> import jax.numpy as jnp
        >>> from fairjax.detect.counterfactual import counterfactual, flip
        >>> def apply(variables, x, **_):
        ...     return x @ variables["params"], variables
        >>> a = jnp.arange(60) % 2 == 0
        >>> x = jnp.stack([a.astype(float), jax.random.normal(jax.random.key(0), (60,))], axis=1)
        >>> effects = counterfactual(apply, {"params": jnp.array([1.0, 1.0])}, x, {"flip": flip(0)})
        >>> table = effects_by_group(effects, a, key=jax.random.key(1))
        >>> table[["perturbation", "group", "rows", "mean_logit_effect"]].round(3).values.tolist()
        [['flip', 'all', 60, 0.0], ['flip', 'a=0', 30, 1.0], ['flip', 'a=1', 30, -1.0]]
    """
    import pandas as pd

    check_at_least("minimum", minimum, 1)
    named = {"perturbation": effects} if isinstance(effects, Effects) else effects
    if not isinstance(named, Mapping) or not named:
        raise TypeError(f"effects must be what counterfactual returns, got {type(effects).__name__}")
    names = [f"a={code}" for code in range(num_groups)] if group_names is None else list(group_names)
    if len(names) != num_groups:
        raise ValueError(f"group_names must be {num_groups}, one per group, got {len(names)}: {', '.join(names)}")
    parts = []
    for position, (name, each) in enumerate(named.items()):
        n = check_one_network(each)
        masks, _ = group_masks(a, n, num_groups)
        members = np.concatenate([np.ones((1, n), bool), np.asarray(masks)])
        indices = np.broadcast_to(np.arange(n, dtype=np.int32), members.shape)
        part_key = jax.random.fold_in(key, position)
        table = describe(each, indices, members, key=part_key, minimum=minimum, draws=draws)
        table.insert(0, "group", ["all", *names])
        table.insert(0, "perturbation", name)
        parts.append(table)
    return corrected(pd.concat(parts, ignore_index=True), family="group")
