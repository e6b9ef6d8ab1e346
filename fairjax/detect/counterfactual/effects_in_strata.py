"""Table of counterfactual effects within sets of similar rows, with paired tests."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fairjax.checks import numeric
from fairjax.detect.counterfactual.columns import is_concrete
from fairjax.detect.counterfactual.effects import Effects
from fairjax.detect.counterfactual.group_effects import MINIMUM
from fairjax.detect.counterfactual.paired_tests import check_one_network, corrected, describe
from fairjax.hyperparameters import check_at_least
from fairjax.types import KeyArray

if TYPE_CHECKING:
    import pandas as pd


def effects_in_strata(
    effects: Effects, strata: Any, *, key: KeyArray, minimum: int = MINIMUM, draws: int = 1000
) -> "pd.DataFrame":
    """Make a table of the effects of one perturbation within each set of similar rows.

    Args:
        effects: what `counterfactual` returns for one perturbation.
        strata: the sets of rows: one whole number per row, (n,), such as a combination of features; a mask of
            booleans, (n,), for a single set; or the neighbours of q rows, (q, k), from `similar_instances`, which are
            sets that may overlap.
        key: random key of the sign-flip test.
        minimum: least number of changed rows for the effects in a stratum to be estimated.
        draws: number of draws of the sign-flip test.

    Returns:
        One row per stratum, in the order of their numbers or queries, with the columns of `effects_by_group`; p-values
        are corrected for the number of strata. A stratum with fewer changed rows than `minimum`, such as one of a
        single row, is listed with NaN.

    Raises:
        ValueError: if shapes do not agree, strata are not whole numbers, or effects are of several networks.
        TypeError: if `effects` is something else, or strata hold anything but numbers and booleans.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> yes, no = jnp.ones(4, bool), jnp.zeros(4, bool)
        >>> effects = Effects(jnp.array([0.25, 0.25, -0.5, 0.0]), jnp.ones(4), jnp.ones(4), no, no, yes)
        >>> table = effects_in_strata(effects, [1, 1, 2, 1], key=jax.random.key(0), minimum=2)
        >>> table[["stratum", "rows", "mean_effect"]].values.tolist()
        [[1.0, 3.0, 0.1666666716337204], [2.0, 1.0, nan]]
    """
    check_at_least("minimum", minimum, 1)
    names, indices, members = _sets(strata, check_one_network(effects))
    table = describe(effects, indices, members, key=key, minimum=minimum, draws=draws)
    table.insert(0, "stratum", names)
    return corrected(table)


def _sets(strata: Any, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the name of each set, its row numbers filled up to one length, and which of them belong to it."""
    column = numeric("strata", strata)
    if not is_concrete(column):
        raise TypeError("strata must be known to make a table, found a traced array: call this outside of jit")
    array = np.asarray(column)
    if array.dtype.kind == "f" and np.all(array == np.round(array)):
        array = array.astype(np.int64)
    if array.dtype.kind not in "biu":
        raise ValueError(
            "strata must be whole numbers, one for each set of similar rows, found others: number the sets, for "
            "example with pandas.factorize, or cut numbers into ranges by numpy.digitize"
        )
    if array.ndim == 2 and array.dtype.kind != "b":
        outside = (array < 0) | (array >= n)
        if outside.any() or not array.size:
            found = f"found {array[outside][0]}" if outside.any() else f"found shape {array.shape}"
            raise ValueError(f"neighbours must be row numbers from 0 to {n - 1}, {found}: search them in the same rows")
        return np.arange(len(array)), array.astype(np.int32), np.ones(array.shape, bool)
    if array.shape != (n,):
        raise ValueError(f"strata must have one number per row, {n}, or neighbours (q, k), found shape {array.shape}")
    if array.dtype == bool:
        names, rows = np.array([1]), [np.flatnonzero(array)]
        if not len(rows[0]):
            raise ValueError("strata is a mask without any row: mark the rows that are similar")
    else:
        names, codes = np.unique(array, return_inverse=True)
        rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    width = max(map(len, rows))
    indices, members = np.zeros((len(rows), width), np.int32), np.zeros((len(rows), width), bool)
    for position, numbers in enumerate(rows):
        indices[position, : len(numbers)], members[position, : len(numbers)] = numbers, True
    return names, indices, members
