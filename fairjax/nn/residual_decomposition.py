"""A network that translates its features into features of the same space, and predicts from these."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.nn.layers import Linear, Units
from fairjax.types import AnyArray


class ResidualDecomposition(nn.Module):
    """Encoder, code and decoder whose output x~ has the shape of the features, followed by a linear predictor.

    The features that the last layer sees are x~, so the layer "last" of loss terms, probes and `features` is x~. The
    residual x - x~ is the layer "residual", one unit per feature: a unit that is cut leaves its feature as it is in x.
    See `fairjax.losses.Residual`.

    References:
        Quadrianto, Sharmanska, Thomas (2019), Discovering fair representations in the data domain, CVPR,
        https://arxiv.org/abs/1810.06755

    Example:
        >>> import jax
        >>> from fairjax.nn import from_linen
        >>> network, x = from_linen(ResidualDecomposition(width=8, code=4)), jnp.ones((2, 3))
        >>> variables = network.init(jax.random.key(0), x)
        >>> features, logits, _ = network.features(variables, x)
        >>> features.shape, logits.shape
        ((2, 3), (2,))
    """

    width: int = 40
    """Hidden units of encoder and decoder."""
    code: int = 40
    """Units of the code between them."""
    outputs: int = 1
    """Number of logits per row: 1 for two classes, and the number of classes for more."""

    def __post_init__(self):
        """Validate sizes, before any tracing."""
        if self.width < 1 or self.code < 1:
            raise ValueError(f"width and code must be at least 1, got {self.width} and {self.code}")
        if self.outputs != 1 and self.outputs < 3:
            raise ValueError(f"outputs must be 1 for two classes, or at least 3, one per class, got {self.outputs}")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[AnyArray, "n d"], *, train: bool = False) -> Float[Array, "n *c"]:
        """Compute the logits of standardised features."""
        del train  # the same in training
        x = jnp.asarray(x)
        h = x
        for i, width in enumerate((self.width, self.code, self.width)):
            h = nn.relu(Linear(width, name=f"hidden_{i:02d}")(h))
            h = Units(width, name=f"units_{i:02d}")(h)
        residual = x - Linear(x.shape[1], name="translated")(h)
        translated = x - Units(x.shape[1], name="residual")(residual)
        self.sow("intermediates", "features", translated)
        logits = Linear(self.outputs, name="output")(translated)
        return jnp.squeeze(logits, axis=1) if self.outputs == 1 else logits
