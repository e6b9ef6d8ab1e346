"""A randomised classifier: a distribution over networks, one of which decides about each row."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fairjax import checks
from fairjax.arguments import is_typed_key, kind_of
from fairjax.nn.network import Network
from fairjax.types import KeyArray, Variables


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Randomised:
    """A distribution over networks. Its arrays have a leading axis of seeds if it was made for many seeds.

    For each row one network is drawn, and the row is accepted if the score of this network exceeds 0.5. Equal rows may
    therefore get different decisions; `probabilities` computes how likely each row is to be accepted.
    """

    variables: Variables
    """Variables of the networks, with an axis of networks after that of seeds."""
    weights: Float[Array, "*seeds k"]
    """Probability of each network; 0 where a seed has fewer networks than another."""
    mean: Float[Array, "*seeds d"] | None = None
    """Mean of each feature over the train part; None if features are not standardised."""
    scale: Float[Array, "*seeds d"] | None = None
    """Standard deviation of each feature over the train part."""
    network: Network = dataclasses.field(metadata={"static": True})
    """The functions of the networks."""

    def probabilities(self, x: Any) -> Float[Array, "*seeds n"]:
        """Compute the probability with which each row is accepted: the weighted mean of the networks' decisions.

        Args:
            x: features as in the split's table, not standardised.

        Returns:
            One probability per row, with a leading axis of seeds if there is one; NaN if a network's outputs are not
            finite.

        Raises:
            ValueError: if x has another number of features than the split's table.
        """
        if self.mean is not None:
            x = checks.numeric("x", x)
            if x.ndim < 2 or x.shape[1] != self.mean.shape[-1]:
                raise ValueError(
                    f"x must have rows of {self.mean.shape[-1]} features, shape (n, {self.mean.shape[-1]}), found "
                    f"shape {x.shape}: pass the same features as in the split's table, in the same order"
                )
        return _probabilities(self, jax.tree.map(jnp.asarray, x))

    def decide(self, x: Any, key: KeyArray) -> Bool[Array, "*seeds n"]:
        """Draw a decision for each row.

        Args:
            x: features as in the split's table, not standardised.
            key: random key of the draws; the seeds share them.

        Returns:
            Whether each row is accepted, with a leading axis of seeds if there is one.

        Raises:
            TypeError: if the key is not a typed key.
            ValueError: as `probabilities`.
        """
        if not is_typed_key(key):
            raise TypeError(f"key must be a typed key, got {kind_of(key)}: make it by jax.random.key(0)")
        accepted = self.probabilities(x)
        draws = jax.random.uniform(key, accepted.shape[-1:], accepted.dtype)
        return jnp.broadcast_to(draws, accepted.shape) < accepted

    def __repr__(self) -> str:
        """Say how many networks there are."""
        return f"Randomised(networks and seeds of shape {tuple(self.weights.shape)})"


@jax.jit
def _probabilities(classifier: Randomised, x: Any) -> Float[Array, "*seeds n"]:
    """Compute the weighted mean of the decisions, one network after another."""

    def of_seed(variables: Variables, weights: Any, mean: Any, scale: Any) -> Float[Array, " n"]:
        rows = x if mean is None else (x.astype(mean.dtype) - mean[None]) / scale[None]

        def decide(variables: Variables) -> Float[Array, " n"]:
            logits = classifier.network.apply(variables, rows)[0]
            return jnp.where(jnp.isfinite(logits), (logits > 0).astype(weights.dtype), jnp.nan)

        decisions = jax.lax.map(decide, variables)
        return jnp.sum(jnp.where(weights[:, None] > 0, weights[:, None] * decisions, 0.0), axis=0)

    args = classifier.variables, classifier.weights, classifier.mean, classifier.scale
    return jax.vmap(of_seed)(*args) if classifier.weights.ndim == 2 else of_seed(*args)
