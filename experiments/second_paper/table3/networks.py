"""The network of the table: a plain multilayer perceptron."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.nn import Network, from_linen
from fairjax.nn.layers import Linear, Units
from fairjax.types import Variables


class PlainMlp(nn.Module):
    """Hidden layers of ReLU units and a linear output, as scikit-learn's `MLPClassifier` has them."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "n d"], *, train: bool = False) -> Float[Array, " n"]:
        """Compute the logits; training and evaluation are the same."""
        del train
        h = x
        for i, width in enumerate(self.widths):
            h = Units(width, name=f"units_{i:02d}")(nn.relu(Linear(width, name=f"hidden_{i:02d}")(h)))
        return jnp.squeeze(Linear(1, name="output")(h), axis=1)


def plain_mlp(widths: tuple[int, ...]) -> Network:
    """Return the network with the given hidden layers."""
    return from_linen(PlainMlp(widths))


def scores_of(network: Network, variables: Variables, xs: Float[Array, "seeds n d"]) -> Float[Array, "seeds n"]:
    """Compute the scores of every seed's rows, one seed after another."""

    def of_seed(item):
        of_this, x = item
        return jax.nn.sigmoid(network.apply(of_this, x)[0])

    return jax.jit(lambda variables, xs: jax.lax.map(of_seed, (variables, xs)))(variables, xs)
