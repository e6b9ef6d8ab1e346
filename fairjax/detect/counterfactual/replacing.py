"""Replace columns by constants."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from fairjax.detect.counterfactual.columns import Column, as_columns, is_concrete, read_column, write_column
from fairjax.detect.counterfactual.perturbation import Perturbation, perturbation
from fairjax.detect.rows import num_rows
from fairjax.hyperparameters import static
from fairjax.types import Inputs


@perturbation
class Replace(Perturbation):
    """Replaces columns by constants. Made by `replace`."""

    columns: tuple[Column, ...] = static(())
    values: Any = ()
    """One number per column."""

    def perturbed(self, x: Inputs) -> tuple[Inputs, Bool[Array, " n"] | None]:
        """Change the inputs, as described for `Perturbation`."""
        valid = None
        for column, value in zip(self.columns, self.values, strict=True):
            before = read_column(x, column)
            xp = np if is_concrete(value) else jnp  # even constants are traced inside of jit
            with np.errstate(over="ignore", invalid="ignore"):
                kept = xp.asarray(value).astype(before.dtype)
            is_float = jnp.issubdtype(before.dtype, jnp.floating)
            fits = xp.isfinite(kept) if is_float else kept.astype(jnp.result_type(float)) == value
            if xp is jnp:
                valid = fits if valid is None else valid & fits
            elif not fits:
                raise ValueError(
                    f"column {column!r} holds {before.dtype} and cannot be replaced by {value}: give a value that it "
                    "can hold"
                )
            x = write_column(x, column, jnp.full(before.shape, kept))
        return x, None if valid is None else jnp.broadcast_to(valid, num_rows(x))


def replace(columns: Column | Sequence[Column], values: Any) -> Replace:
    """Make a perturbation that replaces columns by constants, the same for all rows.

    Args:
        columns: one column, or several; see `Column`.
        values: one number per column, as `x` holds them, standardised if `x` is; or one number for all of them.

    Returns:
        The perturbation, a function of `x`.

    Raises:
        ValueError: if there is not one value per column, or a value is not finite.

    Example:
        >>> replace([0, 2], [9.0, 8.0])(jnp.ones((1, 3))).tolist()
        [[9.0, 1.0, 8.0]]
    """
    chosen = as_columns(columns)
    numbers = (values,) * len(chosen) if np.ndim(values) == 0 else tuple(values)
    if len(numbers) != len(chosen):
        raise ValueError(f"values must be one number per column, {len(chosen)}, or one for all, got {len(numbers)}")
    for column, value in zip(chosen, numbers, strict=True):
        if np.ndim(value) or (is_concrete(value) and not np.isfinite(np.asarray(value))):
            raise ValueError(f"values must be finite numbers, got {value} for column {column!r}")
    return Replace(chosen, numbers)
