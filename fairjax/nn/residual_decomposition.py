"""A network that transforms its features within their space, and predicts linearly from the transformed features."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from fairjax.nn.layers import Linear, Units
from fairjax.types import AnyArray


class ResidualDecomposition(nn.Module):
    """Residual decomposition: an autoencoder computes x~ = T(x) in the space of x, and a linear layer the logits.

    The features that probes and terms of a loss see (the layer "last") are x~. The residual x - x~ is the layer
    "residual": cutting one of its units leaves that feature as it is in x. Train it with the terms
    `fairjax.losses.Residual` and `Reconstruction(decoder="identity")`.

    Calling it returns logits (n,), or (n, outputs) for more than two classes.

    References:
        Quadrianto, Sharmanska, Thomas (2019), Discovering fair representations in the data domain, CVPR,
        https://arxiv.org/abs/1810.06755

    Example:
        >>> import jax
        >>> module = ResidualDecomposition(widths=(8,))
        >>> variables = module.init(jax.random.key(0), jnp.ones((2, 3)), train=False)
        >>> sorted(variables["masks"])
        ['hidden_00', 'residual']
    """

    widths: tuple[int, ...] = (40, 40, 40)
    """Units of the hidden layers of the transformation: those of encoder, code and decoder."""
    outputs: int = 1
    """Number of logits per row: 1 for two classes, and the number of classes for more."""

    def __post_init__(self):
        """Validate sizes, before any tracing."""
        if not self.widths or min(self.widths) < 1 or len(self.widths) > 100:
            raise ValueError(f"widths must be 1 to 100 positive numbers of units, got {self.widths}")
        if self.outputs != 1 and self.outputs < 3:
            raise ValueError(f"outputs must be 1 for two classes, or at least 3, one per class, got {self.outputs}")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[AnyArray, "n d"], *, train: bool = False) -> Float[Array, "n *c"]:
        """Compute the logits of standardised features; training and evaluation are the same."""
        del train
        x = jnp.asarray(x)
        h = x
        for i, width in enumerate(self.widths):
            h = Linear(width, name=f"linear_{i:02d}")(h)
            h = nn.relu(Units(width, name=f"hidden_{i:02d}")(h))
        residual = x - Linear(x.shape[1], name="transformed")(h)
        transformed = x - Units(x.shape[1], name="residual")(residual)
        self.sow("intermediates", "features", transformed)
        logits = Linear(self.outputs, name="output")(transformed)
        return jnp.squeeze(logits, axis=1) if self.outputs == 1 else logits
