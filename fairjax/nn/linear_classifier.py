"""A classifier without hidden layers: logistic regression, as a network."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.nn.layers import Linear
from fairjax.nn.network import InitFn, Network, from_linen
from fairjax.types import AnyArray, Inputs, KeyArray, Variables


def linear_classifier(outputs: int = 1) -> Network:
    """Make a network whose logits are linear in the features. It has no units, so its tree of masks is empty.

    Args:
        outputs: number of logits per row: 1 for two classes, and the number of classes for more.

    Returns:
        The network. Two calls with equal arguments give equal networks, so no program compiles twice.

    Raises:
        ValueError: if the number of logits is invalid.

    Example:
        >>> import jax
        >>> network = linear_classifier()
        >>> variables = network.init(jax.random.key(0), jnp.ones((2, 3)))
        >>> variables["params"]["output"]["kernel"].shape, variables["masks"]
        ((3, 1), {})
    """
    if outputs != 1 and outputs < 3:
        raise ValueError(f"outputs must be 1 for two classes, or at least 3, one per class, got {outputs}")
    network = from_linen(_Linear(outputs))
    return network._replace(init=_Init(network.init))


class _Linear(nn.Module):
    outputs: int

    @nn.compact
    def __call__(self, x: Float[AnyArray, "n d"], *, train: bool = False) -> Float[Array, "n *c"]:
        x = jnp.asarray(x)
        self.sow("intermediates", "features", x)
        logits = Linear(self.outputs, name="output")(x)
        return jnp.squeeze(logits, axis=1) if self.outputs == 1 else logits


@dataclasses.dataclass(frozen=True)
class _Init:
    """Adds the empty tree of masks, which Linen leaves out."""

    init: InitFn

    def __call__(self, key: KeyArray, x: Inputs) -> Variables:
        return {**self.init(key, x), "masks": {}}
