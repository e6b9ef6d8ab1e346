"""Checks of the features that terms compare with what they compute."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float


def feature_matrix(name: str, x: Any) -> Float[Array, "n d"]:
    """Check that inputs are one matrix of floating-point numbers.

    Args:
        name: name of the term in messages.
        x: inputs of the network.

    Raises:
        ValueError: if they are integers, such as tokens, or have another shape.

    Example:
        >>> feature_matrix("reconstruction", jnp.ones((2, 3))).shape
        (2, 3)
    """
    x = float_array(name, x)
    if x.ndim != 2:
        raise ValueError(f"the term {name} needs features of shape (n, d), found rows of shape {x.shape[1:]}")
    return x


def float_array(name: str, x: Any) -> Float[Array, "n ..."]:
    """Check that inputs are one array of floating-point numbers, with one row per example.

    Args:
        name: name of the term in messages.
        x: inputs of the network.

    Raises:
        ValueError: if they are integers, such as tokens, or a tree of arrays.

    Example:
        >>> float_array("attribution", jnp.ones((2, 3, 4))).shape
        (2, 3, 4)
    """
    if not jnp.issubdtype(getattr(x, "dtype", jnp.int32), jnp.floating):
        raise ValueError(
            f"the term {name} needs features that are one array of floating-point numbers: leave it out for tokens, "
            "integers and trees of arrays"
        )
    return jnp.asarray(x)
