"""Matrix products, linear layers and attention."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fairjax.adapters._aten.chance import Chance
from fairjax.adapters._aten.reductions import safe_softmax


def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """Compute `x @ weight.T + bias` over the last axis."""
    h = jax.lax.dot_general(x, weight, (((x.ndim - 1,), (1,)), ((), ())))
    return h if bias is None else h + bias


def _addmm(x: Any, first: Any, second: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    product = first @ second
    return (x if beta == 1 else beta * x) + (product if alpha == 1 else alpha * product)


def _bilinear(first: Any, second: Any, weight: Any, bias: Any = None) -> Any:
    h = jnp.einsum("...i,oij,...j->...o", first, weight, second)
    return h if bias is None else h + bias


def _distances(first: Any, second: Any, p: float = 2.0, compute_mode: Any = None) -> Any:
    del compute_mode
    differences = jnp.abs(first[..., :, None, :] - second[..., None, :, :])
    if p == math.inf:
        return jnp.max(differences, axis=-1)
    sums = jnp.sum(differences**p, axis=-1)
    return jnp.where(sums > 0, jnp.where(sums > 0, sums, 1) ** (1 / p), 0)


def _attention(
    chance: Chance,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Compute softmax(query @ key.T * scale + mask) @ value; a token that may attend to none gets 0."""
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = jnp.repeat(key, groups, axis=-3), jnp.repeat(value, groups, axis=-3)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query * scale) @ jnp.swapaxes(key, -1, -2)
    if is_causal:
        attn_mask = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    if attn_mask is None:
        weights = jax.nn.softmax(scores, axis=-1)
    elif attn_mask.dtype == bool:
        weights = safe_softmax(jnp.where(attn_mask, scores, -jnp.inf), -1)
    else:
        weights = safe_softmax(scores + attn_mask, -1)
    return chance.dropout(weights, dropout_p) @ value


OPERATIONS: dict[str, Callable[..., Any]] = {
    "linear": linear,
    "mm": jnp.matmul,
    "bmm": jnp.matmul,
    "matmul": jnp.matmul,
    "mv": jnp.matmul,
    "dot": jnp.dot,
    "addmm": _addmm,
    "addmv": _addmm,
    "baddbmm": _addmm,
    "bilinear": _bilinear,
    "_cdist_forward": _distances,
}
"""Operations by name."""

RANDOM: dict[str, Callable[..., Any]] = {"scaled_dot_product_attention": _attention}
"""Operations that may use chance, which is their first argument."""
