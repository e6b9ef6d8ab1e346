"""The networks of the table: a plain multilayer perceptron, and one logistic regression per group."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.nn import Network, from_linen
from fairjax.nn.layers import Linear, Units
from fairjax.types import Inputs, KeyArray, Variables


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


def logistic_per_group(column: int) -> Network:
    """Return one logistic regression per group: the model of the prejudice remover (Kamishima et al. 2012).

    Args:
        column: number of the feature that is the group, 0 or 1.
    """

    def init(key: KeyArray, x: Inputs) -> Variables:
        del key
        return {"params": {"bias": jnp.zeros(2), "kernel": jnp.zeros((x.shape[1], 2))}, "masks": {}}

    def apply(variables: Variables, x: Inputs, *, shifts=None, key=None) -> tuple[Float[Array, " n"], Variables]:
        del shifts, key
        params = variables["params"]
        both = jnp.matmul(x, params["kernel"]) + params["bias"][None]
        return jnp.where(x[:, column] > 0, both[:, 1], both[:, 0]), variables

    return Network(init, apply)


def scores_of(network: Network, variables: Variables, xs: Float[Array, "seeds n d"]) -> Float[Array, "seeds n"]:
    """Compute the scores of every seed's rows, one seed after another."""

    def of_seed(item):
        of_this, x = item
        return jax.nn.sigmoid(network.apply(of_this, x)[0])

    return jax.jit(lambda variables, xs: jax.lax.map(of_seed, (variables, xs)))(variables, xs)
