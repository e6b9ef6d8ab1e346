"""PyTorch's core ATen operations, written in JAX, by families.

The functions take the arguments of `torch.ops.aten`, with JAX's types and without devices and memory formats. They are
called under JAX's standard promotion of types and ranks.
"""

from collections.abc import Callable
from typing import Any

from fairjax.adapters._aten import (
    chance,
    convolutions,
    creation,
    elementwise,
    indexing,
    norms,
    pooling,
    products,
    recurrent,
    reductions,
    shapes,
)
from fairjax.adapters._aten.chance import Chance

__all__ = ["KEPT_WHOLE", "LACKING_RESULTS", "OPERATIONS", "RANDOM", "Chance", "lookup"]

OPERATIONS: dict[str, Callable[..., Any]] = {
    **elementwise.OPERATIONS,
    **reductions.OPERATIONS,
    **shapes.OPERATIONS,
    **indexing.OPERATIONS,
    **creation.OPERATIONS,
    **products.OPERATIONS,
    **convolutions.OPERATIONS,
    **pooling.OPERATIONS,
    **norms.OPERATIONS,
}
"""Operations by name, `add` for all overloads or `max.dim` for one."""

RANDOM: dict[str, Callable[..., Any]] = {**chance.RANDOM, **products.RANDOM, **recurrent.RANDOM}
"""Operations that draw random numbers in training mode; their first argument is a `Chance`."""

LACKING_RESULTS: dict[str, tuple[int, ...]] = {**pooling.LACKING_RESULTS, **norms.LACKING_RESULTS}
"""Results of operations that are not computed, by number."""

KEPT_WHOLE = (
    "linear.default",
    "scaled_dot_product_attention.default",
    "lstm.input",
    "gru.input",
    "rnn_tanh.input",
    "rnn_relu.input",
)
"""Operations that PyTorch would decompose, but which are one operation here."""


def lookup(name: str) -> tuple[Callable[..., Any], bool] | None:
    """Return the function of an operation and whether it takes a `Chance`, or None if it is not known.

    Args:
        name: the operation and its overload, such as `add.Tensor`.
    """
    for candidate in (name, name.partition(".")[0]):
        if candidate in OPERATIONS:
            return OPERATIONS[candidate], False
        if candidate in RANDOM:
            return RANDOM[candidate], True
    return None
