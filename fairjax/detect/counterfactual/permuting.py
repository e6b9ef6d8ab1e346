"""Permute columns among rows that are alike."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from fairjax.checks import vector
from fairjax.detect.counterfactual.columns import Column, as_columns, is_concrete, take_rows
from fairjax.detect.counterfactual.perturbation import Perturbation, first_rows, perturbation
from fairjax.detect.rows import num_rows
from fairjax.hyperparameters import static
from fairjax.types import Inputs, KeyArray


@perturbation
class PermuteWithin(Perturbation):
    """Permutes columns among the rows of each stratum. Made by `permute_within`."""

    columns: tuple[Column, ...] = static(())
    strata: Any = None
    """The stratum of each row; None if all rows are one."""
    key: Any = None

    def perturbed(self, x: Inputs) -> tuple[Inputs, Bool[Array, " n"] | None]:
        """Change the inputs, as described for `Perturbation`."""
        n = num_rows(x)
        strata = np.zeros(n, np.int32) if self.strata is None else self.strata
        if strata.shape != (n,):
            raise ValueError(f"strata must have one number per row of x, {n}, found shape {strata.shape}")
        concrete = is_concrete(strata)
        alone = _is_alone(np if concrete else jnp, strata)  # even constants are traced inside of jit
        if concrete and alone.any():
            raise ValueError(
                f"strata must have two rows or more each, since a single row cannot be permuted, found "
                f"{first_rows(alone)} alone: merge small strata, or leave these rows out"
            )
        # the same permutation whenever the perturbation is called
        numbers = jax.random.bits(jax.random.clone(self.key), (n,), jnp.uint32)
        ordered, shuffled = jnp.argsort(jnp.asarray(strata), stable=True), jnp.lexsort((numbers, strata))
        source = jnp.zeros(n, ordered.dtype).at[ordered].set(shuffled)
        return take_rows(x, self.columns, source), None if concrete else ~alone


def _is_alone(xp: Any, strata: Any) -> Any:
    """Return whether each row is the only one of its stratum, for NumPy's or JAX's arrays."""
    ordered = xp.sort(xp.asarray(strata))
    ends = [xp.searchsorted(ordered, xp.asarray(strata), side=side) for side in ("left", "right")]
    return ends[1] - ends[0] < 2


def permute_within(columns: Column | Sequence[Column], strata: Any, key: KeyArray) -> PermuteWithin:
    """Make a perturbation that permutes columns at random among the rows of each stratum.

    Each row gets the values of another row that is like it, so the changed inputs stay among values that occur
    together with the stratum. All columns are permuted alike, so that one-hot columns of one variable stay one-hot.

    Args:
        columns: one column, or several; see `Column`.
        strata: the stratum of each row, (n,), as numbers or booleans: rows that are alike share one, such as
            a combination of features. None to permute among all rows.
        key: random key. The perturbation returns the same result whenever it is called with the same rows.

    Returns:
        The perturbation, a function of `x`, which must be the rows that the strata describe. It raises an error if a
        row is alone in its stratum. A row may keep its values by chance.

    Raises:
        ValueError: if `strata` is not a vector, or a stratum is NaN.
        TypeError: if `strata` holds anything but numbers.

    Example:
        >>> perturb = permute_within(0, [7, 7, 8, 8], jax.random.key(0))
        >>> permuted = perturb(jnp.array([[1.0], [2.0], [3.0], [4.0]]))[:, 0]
        >>> sorted(permuted[:2].tolist()), sorted(permuted[2:].tolist())
        ([1.0, 2.0], [3.0, 4.0])
    """
    if strata is not None:
        strata = vector("strata", strata)
        if is_concrete(strata) and np.isnan(np.asarray(strata).astype(np.float64)).any():
            missing = np.isnan(np.asarray(strata).astype(np.float64))
            raise ValueError(f"strata must be numbers, found NaN in {first_rows(missing)}: leave these rows out")
    return PermuteWithin(as_columns(columns), strata, key)
