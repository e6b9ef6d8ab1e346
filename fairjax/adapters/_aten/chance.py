"""Random numbers of a program in training mode."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from fairjax.nn.dropout import drop_probability, dropout_masks
from fairjax.types import KeyArray


class Chance:
    """Source of the random numbers of one evaluation of a program.

    The masks of all dropout layers are drawn at once, which takes a fraction of the time of drawing them one by one:
    a program is first traced with a `Chance` that only notes the shapes.
    """

    def __init__(self, key: KeyArray | None):
        """Make a source; without a key, in evaluation mode, nothing may be drawn."""
        self.shapes: list[tuple[float, tuple[int, ...]]] = []
        """Rates and shapes of the dropout masks that were asked for."""
        self._key = key
        self._draws = 0
        self._masks: list[Array] | None = None

    def prepare(self, shapes: Sequence[tuple[float, tuple[int, ...]]]) -> None:
        """Draw the dropout masks of given rates and shapes, in the order in which they will be asked for."""
        masks: dict[int, Any] = {}
        for rate in sorted({rate for rate, _ in shapes}):
            positions = [i for i, (other, _) in enumerate(shapes) if other == rate]
            matrices = [_as_matrix(shapes[i][1]) for i in positions]
            for i, mask in zip(positions, dropout_masks(self._next_key(), matrices, rate), strict=True):
                masks[i] = mask.reshape(shapes[i][1])
        self._masks = [masks[i] for i in range(len(shapes))]

    def dropout(self, x: Any, rate: float) -> Any:
        """Set entries to 0 with probability `rate`, and scale the others."""
        if rate == 0:
            return x
        if rate >= 1:
            return jnp.zeros_like(x)
        if 0 < drop_probability(rate) < 1:
            return jnp.where(self._mask(rate, x.shape), x / (1.0 - drop_probability(rate)), jnp.zeros_like(x))
        kept = jax.random.bernoulli(self._next_key(), 1.0 - rate, x.shape)
        return jnp.where(kept, x / (1.0 - rate), jnp.zeros_like(x))

    def _mask(self, rate: float, shape: tuple[int, ...]) -> Bool[Array, "..."]:
        self.shapes.append((rate, shape))
        return jnp.ones(shape, bool) if self._masks is None else self._masks[len(self.shapes) - 1]

    def _next_key(self) -> KeyArray:
        if self._key is None:
            raise ValueError("random numbers were asked for in evaluation mode")
        self._draws += 1
        return jax.random.fold_in(self._key, self._draws)

    def uniform(self, shape: Sequence[int]) -> Any:
        """Draw numbers from the uniform distribution in [0, 1)."""
        return jax.random.uniform(self._next_key(), tuple(shape))

    def normal(self, shape: Sequence[int]) -> Any:
        """Draw numbers from the standard normal distribution."""
        return jax.random.normal(self._next_key(), tuple(shape))


def _as_matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    return math.prod(shape[:1]), math.prod(shape[1:])


def _native_dropout(chance: Chance, x: Any, p: float, train: bool | None = True) -> tuple[Any, None]:
    return (x if train is False else chance.dropout(x, p)), None


def _bernoulli(chance: Chance, x: Any, p: Any = None) -> Any:
    return chance.uniform(x.shape) < (x if p is None else p)


RANDOM: dict[str, Callable[..., Any]] = {
    "native_dropout": _native_dropout,
    "bernoulli": _bernoulli,
    "rand": lambda chance, size, *, dtype=None: chance.uniform(size),
    "randn": lambda chance, size, *, dtype=None: chance.normal(size),
    "rand_like": lambda chance, x, *, dtype=None: chance.uniform(x.shape),
    "randn_like": lambda chance, x, *, dtype=None: chance.normal(x.shape),
}
"""Operations that use chance, which is their first argument."""
