"""Swap integer tokens."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from fairjax.detect.counterfactual.columns import Column, read_column, write_column
from fairjax.detect.counterfactual.perturbation import Perturbation, perturbation
from fairjax.hyperparameters import static
from fairjax.types import Inputs


@perturbation
class SwapTokens(Perturbation):
    """Swaps pairs of tokens. Made by `swap_tokens`."""

    pairs: tuple[tuple[int, int], ...] = static(())
    column: Column | None = static(None)

    def perturbed(self, x: Inputs) -> tuple[Inputs, Bool[Array, " n"] | None]:
        """Change the inputs, as described for `Perturbation`."""
        if self.column is None and isinstance(x, dict):
            raise ValueError(f"x is a dictionary: name the column of tokens, one of {', '.join(map(repr, x))}")
        tokens = jnp.asarray(x) if self.column is None else read_column(x, self.column)
        if not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise ValueError(
                f"tokens must be integers, found {tokens.dtype}: name the column of tokens, swap_tokens(pairs, "
                "column=...), or keep them as integers, standardise=False"
            )
        both = np.array([*self.pairs, *[pair[::-1] for pair in self.pairs]], np.int64)
        before, after = both[np.argsort(both[:, 0])].T
        limits = jnp.iinfo(tokens.dtype)
        if both.min() < limits.min or both.max() > limits.max:
            token = both.min() if both.min() < limits.min else both.max()
            raise ValueError(f"the token {token} does not fit into the tokens of x, which are {tokens.dtype}")
        before, after = (jnp.asarray(part.astype(tokens.dtype)) for part in (before, after))
        places = jnp.minimum(jnp.searchsorted(before, tokens), len(before) - 1)
        swapped = jnp.where(before[places] == tokens, after[places], tokens)
        return (swapped if self.column is None else write_column(x, self.column, swapped)), None


def swap_tokens(pairs: Sequence[tuple[int, int]], column: Column | None = None) -> SwapTokens:
    """Make a perturbation that swaps tokens, such as those of "he" and "she", wherever they occur in a row.

    Args:
        pairs: pairs of tokens; each becomes the other.
        column: the column of tokens if `x` is a dictionary; see `Column`.

    Returns:
        The perturbation, a function of `x`. Rows without any of the tokens are not changed.

    Raises:
        ValueError: if there are no pairs, or a token is in more than one of them.

    Example:
        >>> swap_tokens([(7, 9)])(jnp.array([[1, 7, 7], [9, 2, 0]])).tolist()
        [[1, 9, 9], [7, 2, 0]]
    """
    chosen = tuple((int(first), int(second)) for first, second in pairs)
    if not chosen:
        raise ValueError("pairs must hold at least one pair of tokens, got none")
    tokens = [token for pair in chosen for token in pair]
    for token in tokens:
        if tokens.count(token) > 1:
            raise ValueError(
                f"pairs must not overlap, found the token {token} more than once: swap one pair after another, "
                "compose(swap_tokens(...), swap_tokens(...))"
            )
    return SwapTokens(chosen, column)
