"""Values from inside a network, read as derivatives.

A value of a layer inside `scan`, `remat` or `jit` cannot be stored in a list, and collections of intermediate values do
not leave loops that were written without them. Inputs reach every layer, however. A tap is an identity whose derivative
with respect to a second input, its slot, is defined to be the value that passes, so the gradient of anything that
depends on the value carries it out. Since the incoming gradient is ignored, the compiler drops the backward pass.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def slot(shape: tuple[int, ...], dtype: Any, stacked: tuple[int, ...] = ()) -> dict[str, Float[Array, "..."]]:
    """Make the slot of a tap: zeros for the value, and for the number of times that it passed.

    Args:
        shape: shape of the value.
        dtype: its type.
        stacked: leading axes of layers in a loop.
    """
    return {"value": jnp.zeros((*stacked, *shape), dtype), "count": jnp.zeros(stacked)}


@jax.custom_vjp
def tap(value: Float[Array, "..."], slot: dict[str, Float[Array, "..."]]) -> Float[Array, "..."]:
    """Return a value. The derivative of anything that depends on it with respect to `slot` is the value, and 1.

    If the value passes several times, the derivatives are sums, which a count other than 1 tells; if nothing depends on
    the value, the count is 0.
    """
    del slot
    return value


def _forward(value, slot):
    return value, (value, slot["count"])


def _backward(residuals, gradient):
    value, count = residuals
    return gradient, {"value": value, "count": jnp.ones_like(count)}


tap.defvjp(_forward, _backward)
