"""A convolutional network with handles on its channels."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from fairjax.nn.convolution import pooled
from fairjax.nn.convolution_blocks import Block, channel_masks, check_fields, dropped, pixels
from fairjax.nn.layers import Linear
from fairjax.nn.mlp import Cut, Site
from fairjax.nn.unit_layers import UnitLayer
from fairjax.types import AnyArray


class Cnn(nn.Module):
    """Convolutional network: blocks of convolution, batch normalisation and ReLU, then a linear output layer.

    Every convolution computes only every second row and column, so that images have half the height and width after it;
    or, with `halving="pooling"`, it computes all of them, which takes about three times as long, and images are halved
    between blocks by average pooling. The output layer sees the mean of each channel over all positions. A unit is a
    channel; its shift is one number for all images and positions.

    The influence of a channel is measured at the convolution's output ("preactivation"), after batch normalisation
    ("normalised"), or after the ReLU ("activation"). A channel whose incoming weights are cut has the constant output
    to which batch normalisation and ReLU map 0; one whose outgoing weights are cut has the output 0.

    Images are floats, or bytes, which are divided by 255. Calling the network returns logits (n,), or (n, outputs) for
    more than two classes.

    Example:
        >>> import jax
        >>> module = Cnn(channels=(4, 8))
        >>> variables = module.init(jax.random.key(0), jnp.ones((2, 6, 6, 3)), train=False)
        >>> sorted(variables["masks"])
        ['block_00', 'block_01']
    """

    channels: tuple[int, ...] = (8, 16, 32)
    site: Site = "preactivation"
    cut: Cut = "incoming"
    dropout: float = 0.05
    """Probability of dropping a channel of an image after a block."""
    halving: Literal["stride", "pooling"] = "stride"
    outputs: int = 1
    """Number of logits per row: 1 for two classes, and the number of classes for more."""

    def __post_init__(self):
        """Validate the fields, before any tracing."""
        check_fields(self)
        if self.halving not in ("stride", "pooling"):
            raise ValueError(f"halving must be stride or pooling, got {self.halving!r}")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: Float[AnyArray, "n h w c"] | UInt8[AnyArray, "n h w c"], *, train: bool = False
    ) -> Float[Array, "n *k"]:
        """Compute the logits of images."""
        h = pixels(x)
        masks = channel_masks(self, h.shape[0], self.channels, self.dropout, train=train)
        stride, last = 2 if self.halving == "stride" else 1, len(self.channels) - 1
        for i, channels in enumerate(self.channels):  # two digits, since trees sort their names
            h = Block(channels, self.site, self.cut, stride, name=f"block_{i:02d}")(h, train=train)
            h = pooled(h, 2) if self.halving == "pooling" and i < last and min(h.shape[1:3]) > 1 else h
            h = dropped(h, masks[i], self.dropout)
        features = jnp.mean(h, axis=(1, 2))
        self.sow("intermediates", "features", features)
        logits = Linear(self.outputs, name="output")(features)
        return jnp.squeeze(logits, axis=1) if self.outputs == 1 else logits

    def unit_layers(self) -> tuple[UnitLayer, ...]:
        """Describe the layers whose outputs are the units, for `fairjax.nn.materialize` and `shrink`."""
        names = [f"block_{i:02d}" for i in range(len(self.channels))]
        readers = [(name, "convolution") for name in names[1:]] + [("output",)]
        return tuple(
            UnitLayer((name,), "convolution", reader, norm_first=True)
            for name, reader in zip(names, readers, strict=True)
        )

    def with_units(self, counts: tuple[int, ...]) -> "Cnn":
        """Return the module with other numbers of channels."""
        return self.clone(channels=counts)
