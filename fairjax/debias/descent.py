"""Mini-batch gradient steps, which all methods that fine-tune share."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from fairjax.checks import check_logits
from fairjax.nn.flat import Flat
from fairjax.nn.network import ApplyFn
from fairjax.types import KeyArray, Rows, Variables, take

Loss = Callable[[Float[Array, "m *c"], Rows], tuple[Float[Array, ""], PyTree[Array]]]
"""(logits, rows) -> what to descend, and facts to keep of the step."""


def descend(
    apply: ApplyFn,
    loss: Loss,
    optimiser: optax.GradientTransformation,
    flat: Flat,
    state: optax.OptState,
    batch: Rows,
    batches: Int[Array, "k m"],
    keys: Key[Array, " k"],
    *,
    layers: tuple[str, ...] | None = None,
    num_classes: int = 2,
) -> tuple[Flat, optax.OptState, PyTree[Array]]:
    """One step of gradient descent for each mini-batch.

    Args:
        apply: the network.
        loss: of the logits of a mini-batch.
        optimiser: turns gradients into updates.
        flat: the network's variables.
        state: the optimiser's.
        batch: the rows that mini-batches are taken from.
        batches: row numbers of each mini-batch.
        keys: dropout's, one a mini-batch.
        layers: the top-level entries of `params` that are tuned, features and running statistics staying as they are;
            if omitted all are, in training mode.
        num_classes: number of classes.

    Returns:
        Variables and optimiser's state after the last step, and the facts that `loss` kept, one entry a step.

    Raises:
        ValueError: if a layer is not there.
    """

    def step(carry, item):
        (flat, state), (rows, key) = carry, item
        some = take(batch, rows)

        def objective(params):
            variables = tuned(dataclasses.replace(flat, params=params).variables(), layers)
            logits, updated = apply(variables, some.x, key=key if layers is None else None)
            check_logits(logits, some.x, num_classes)
            value, facts = loss(logits, some)
            return value, (Flat.of(updated).rest, facts)

        grads, (rest, facts) = jax.grad(objective, has_aux=True)(flat.params)
        with jax.numpy_dtype_promotion("standard"):  # within optax
            updates, state = optimiser.update(grads, state)
        return (dataclasses.replace(flat, params=optax.apply_updates(flat.params, updates), rest=rest), state), facts

    (flat, state), facts = jax.lax.scan(step, (flat, state), (batches, keys))
    return flat, state, facts


def tuned(variables: Variables, layers: tuple[str, ...] | None) -> Variables:
    """The variables with a gradient for the given layers alone, so that those before them cost no backward pass.

    Raises:
        ValueError: if a layer is not there.
    """
    if layers is None:
        return variables
    params: Any = variables["params"]
    unknown = [name for name in layers if name not in params]
    if unknown or not layers:
        raise ValueError(f"layers must be some of {', '.join(params)}, got {', '.join(unknown) or 'none'}")
    free = {name: tree if name in layers else jax.lax.stop_gradient(tree) for name, tree in params.items()}
    return {**variables, "params": free}


def fold(key: KeyArray, count: int, first: Int[Array, ""] | int = 0) -> Key[Array, " k"]:
    """A key for each of `count` mini-batches, numbered from `first`."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(count, dtype=jnp.int32))
