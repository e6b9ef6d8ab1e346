"""Train a classifier on one split: `fit`."""

from functools import partial
from typing import NamedTuple

import jax
from jaxtyping import Array, Bool, Float, Int

from fairjax import arguments
from fairjax import training as _training
from fairjax.losses import Loss
from fairjax.nn.network import Network
from fairjax.training import Training
from fairjax.types import KeyArray, Split, Variables


class Fitted(NamedTuple):
    """A trained classifier. Its arrays have a leading axis of seeds if it was trained for many seeds."""

    variables: Variables
    """The network's variables at the check with the lowest validation loss, or at the last; see `Training.keep`."""
    loss: Float[Array, "*seeds"]
    """The validation loss of these variables, in nats; infinite if it was never finite."""
    epochs: Int[Array, "*seeds"]
    """Number of epochs trained."""
    diverged: Bool[Array, "*seeds"]
    """Whether training stopped because the validation loss, or the parameters of an adversary, were not finite."""


def fit(
    network: Network,
    split: Split,
    *,
    key: KeyArray,
    training: Training | None = None,
    loss: Loss | None = None,
    start: Variables | None = None,
) -> Fitted:
    """Train a classifier on one split, with early stopping.

    Training is one compiled program and a pure function of its arrays: map it over seeds with `jax.vmap`, or use
    `fit_many`.

    Args:
        network: the classifier.
        split: the data, from `fairjax.data.split`.
        key: random key for initialisation, order of rows and dropout.
        training: hyperparameters; `Training()` if omitted.
        loss: a composed loss, such as `Loss(terms=(ParityPenalty(measure=fairjax.spd, weight=4.0),))`; the
            cross-entropy if omitted.
        start: variables to start from, such as those of a network that was trained on other data; new ones if omitted.

    Returns:
        The trained network.

    Raises:
        TypeError: if an argument has the wrong type; the message explains how to correct it.
        ValueError: if a term of the loss does not support the data or the network; the message names it.

    Example:
        >>> import jax.numpy as jnp
        >>> from fairjax import Mlp, data, from_linen
        >>> x = jax.random.normal(jax.random.key(0), (60, 3))
        >>> split = data.split(jax.random.key(1), x, x[:, 0] > 0, jnp.arange(60) % 2)
        >>> fitted = fit(from_linen(Mlp(widths=(4,))), split, key=jax.random.key(2), training=Training(epochs=3))
        >>> fitted.epochs.item()
        3
    """
    config = Training() if training is None else training
    arguments.check_training(network, config, split)
    arguments.check_one_seed(split, key, "fit_many")
    return _fit(network, config, key, split, arguments.checked_loss(loss, split), start)


@partial(jax.jit, static_argnames="network")
def _fit(
    network: Network, config: Training, key: KeyArray, split: Split, loss: Loss, start: Variables | None
) -> Fitted:
    state = _training.run(network, config, key, split, loss, start)
    return Fitted(state.best.variables(), state.best_loss, state.epoch, state.diverged)
