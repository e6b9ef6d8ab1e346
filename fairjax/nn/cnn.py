"""A convolutional network with handles on its channels."""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fairjax.nn.convolution import Convolution, pooled
from fairjax.nn.dropout import drop_probability, dropout_masks
from fairjax.nn.layers import BatchNorm, Linear, Units
from fairjax.nn.mlp import Cut, Site
from fairjax.nn.unit_layers import UnitLayer
from fairjax.types import AnyArray


class Block(nn.Module):
    """Convolution, batch normalisation and ReLU, in that order, with handles on the channels."""

    channels: int
    site: Site
    cut: Cut
    stride: int = 1

    @nn.compact
    def __call__(self, h: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h2 w2 channels"]:
        """Apply the block."""
        shift, keep = Units(self.channels, name="units")()
        shift, keep = shift[None, None, None], keep[None, None, None]
        later = jnp.where(keep, shift, 0.0) if self.cut == "incoming" else shift
        h = Convolution(self.channels, stride=self.stride, name="convolution")(h)
        h = h + shift if self.site == "preactivation" else h
        h = jnp.where(keep, h, 0.0) if self.cut == "incoming" else h
        h = BatchNorm(name="norm")(h, train=train)
        h = h + later if self.site == "normalised" else h
        h = nn.relu(h)
        h = h + later if self.site == "activation" else h
        return jnp.where(keep, h, 0.0) if self.cut == "outgoing" else h


def dropped(
    h: Float[Array, "n h w c"], mask: Bool[Array, "n c"] | None, rate: float
) -> Float[Array, "n h w c"]:
    """Drop whole channels of each image; without a mask (true = kept), none."""
    return h if mask is None else jnp.where(mask[:, None, None], h / (1.0 - drop_probability(rate)), 0.0)


def check_convolutional(module: Any) -> None:
    """Validate what all convolutional networks share, before any tracing.

    Raises:
        ValueError: if a field has a value that is not allowed.
    """
    if not module.channels or min(module.channels) < 0 or len(module.channels) > 100:
        raise ValueError(f"channels must be 1 to 100 non-negative numbers of channels, got {module.channels}")
    if module.site not in ("preactivation", "activation", "normalised"):
        raise ValueError(f"site must be preactivation, activation or normalised, got {module.site!r}")
    if module.cut not in ("incoming", "outgoing"):
        raise ValueError(f"cut must be incoming or outgoing, got {module.cut!r}")
    if module.outputs != 1 and module.outputs < 3:
        raise ValueError(f"outputs must be 1 for two classes, or at least 3, one per class, got {module.outputs}")
    if not 0 <= module.dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {module.dropout}")


def images(x: Any) -> Float[Array, "n h w c"]:
    """Return images as a JAX array.

    Raises:
        ValueError: if the array does not have four axes, or an image has no pixels.
    """
    if jnp.ndim(x) != 4 or 0 in jnp.shape(x)[1:]:
        raise ValueError(
            f"a convolutional network needs images (rows, height, width, channels), found shape {jnp.shape(x)}: "
            "reshape x, or use Mlp for a table of features"
        )
    return jnp.asarray(x)


class Cnn(nn.Module):
    """Convolutional network: blocks of convolution, batch normalisation and ReLU, then a linear output layer.

    Between blocks, the height and width of images are halved by average pooling, or, with `halving="stride"`, every
    convolution computes only every second row and column, which takes a third of the time. The output layer sees the
    mean of each channel over all positions. A unit is a channel; its shift is one number for all images and positions.

    The influence of a channel is measured at the convolution's output ("preactivation"), after batch normalisation
    ("normalised"), or after the ReLU ("activation"). A channel whose incoming weights are cut has the constant output
    to which batch normalisation and ReLU map 0; one whose outgoing weights are cut has the output 0.

    Calling it returns logits (n,), or (n, outputs) for more than two classes.

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
    """Probability of dropping a channel of an image, between blocks and before the output layer."""
    halving: Literal["pooling", "stride"] = "pooling"
    outputs: int = 1
    """Number of logits per row: 1 for two classes, and the number of classes for more."""

    def __post_init__(self):
        """Validate the fields, before any tracing."""
        check_convolutional(self)
        if self.halving not in ("pooling", "stride"):
            raise ValueError(f"halving must be pooling or stride, got {self.halving!r}")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[AnyArray, "n h w c"], *, train: bool = False) -> Float[Array, "n *k"]:
        """Compute the logits of images."""
        h = images(x)
        masks: list[Bool[Array, "n units"] | None] = [None] * len(self.channels)
        if train and drop_probability(self.dropout) > 0:
            shapes = [(h.shape[0], channels) for channels in self.channels]
            masks = [*dropout_masks(self.make_rng("dropout"), shapes, self.dropout)]
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
            UnitLayer((name,), (name, "convolution"), (name, "norm"), reader, norm_first=True)
            for name, reader in zip(names, readers, strict=True)
        )

    def with_units(self, counts: tuple[int, ...]) -> "Cnn":
        """Return the module with other numbers of units in the layers of `unit_layers`."""
        return self.clone(channels=counts)
