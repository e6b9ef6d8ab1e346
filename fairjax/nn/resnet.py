"""A small residual network with handles on its channels."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt8

from fairjax.nn.convolution import Convolution, pooled
from fairjax.nn.convolution_blocks import Block, channel_masks, check_fields, dropped, pixels
from fairjax.nn.layers import BatchNorm, Linear
from fairjax.nn.mlp import Cut, Site
from fairjax.nn.unit_layers import UnitLayer
from fairjax.types import AnyArray


class ResidualBlock(nn.Module):
    """Two convolutions whose result is added to the input, and a ReLU (a basic block of He et al. 2016).

    If the number of channels or the size of images changes, the input is pooled and mapped by a convolution of size 1
    with batch normalisation, which has no units of its own.
    """

    channels: int
    inner: int
    """Number of channels between the two convolutions."""
    site: Site
    cut: Cut
    rate: float
    stride: int = 1

    @nn.compact
    def __call__(
        self, h: Float[Array, "n h w c"], *, train: bool, dropout_mask: Bool[Array, "n inner"] | None
    ) -> Float[Array, "n h2 w2 channels"]:
        """Apply the block; without a dropout mask (true = kept), no channel is dropped."""
        branch = Block(self.inner, self.site, self.cut, self.stride, name="first")(h, train=train)
        branch = dropped(branch, dropout_mask, self.rate)
        branch = Block(self.channels, self.site, self.cut, relu=False, name="second")(branch, train=train)
        if self.stride > 1 or h.shape[-1] != self.channels:
            h = Convolution(self.channels, size=1, name="shortcut")(_halved(h) if self.stride > 1 else h)
            h = BatchNorm(name="shortcut_norm")(h, train=train)
        return nn.relu(h + branch)


def _halved(h: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Pool images to the size that a convolution of stride 2 gives; a last odd row or column is repeated."""
    odd = [(0, size % 2) for size in h.shape[1:3]]
    return pooled(jnp.pad(h, ((0, 0), *odd, (0, 0)), mode="edge"), 2)


class ResNet(nn.Module):
    """Residual network: a convolution, stages of residual blocks, and a linear output layer.

    Every stage after the first halves the height and width of images. The output layer sees the mean of each channel
    over all positions. A unit is a channel of the first convolution, or of either convolution of a block; convolutions
    of shortcuts have no units. Sites and cuts are those of `fairjax.nn.Cnn`; in the second convolution of a block,
    which no ReLU follows directly, "activation" is the same site as "normalised", and a channel that is cut adds a
    constant to the residual stream, or 0 if its outgoing weights are cut.

    Images are floats, or bytes, which are divided by 255. Calling the network returns logits (n,), or (n, outputs) for
    more than two classes.

    Example:
        >>> import jax
        >>> module = ResNet(channels=(4, 8))
        >>> variables = module.init(jax.random.key(0), jnp.ones((2, 8, 8, 3)), train=False)
        >>> sorted(variables["masks"]), sorted(variables["masks"]["block_00"])
        (['block_00', 'block_01', 'stem'], ['first', 'second'])

    References:
        He, Zhang, Ren, Sun (2016), Deep residual learning for image recognition, CVPR, https://arxiv.org/abs/1512.03385
    """

    channels: tuple[int, ...] = (8, 16, 32)
    """Number of channels of each stage."""
    blocks: int = 1
    """Number of residual blocks per stage."""
    site: Site = "preactivation"
    cut: Cut = "incoming"
    dropout: float = 0.05
    """Probability of dropping a channel of an image between the two convolutions of a block."""
    outputs: int = 1
    """Number of logits per row: 1 for two classes, and the number of classes for more."""
    inner: tuple[int, ...] | None = None
    """Number of channels between the two convolutions of each block; those of its stage if omitted."""

    def __post_init__(self):
        """Validate the fields, before any tracing."""
        check_fields(self)
        if not 1 <= self.blocks <= 100 // len(self.channels):
            raise ValueError(
                f"blocks must be at least 1, and at most {100 // len(self.channels)} for {len(self.channels)} stages, "
                f"got {self.blocks}"
            )
        if self.inner is not None and (len(self.inner) != len(self._stages) or min(self.inner) < 0):
            raise ValueError(
                f"inner must be {len(self._stages)} non-negative numbers of channels, one per block, got {self.inner}"
            )
        super().__post_init__()

    @property
    def _stages(self) -> list[int]:
        """The stage of each block."""
        return [stage for stage in range(len(self.channels)) for _ in range(self.blocks)]

    @nn.compact
    def __call__(
        self, x: Float[AnyArray, "n h w c"] | UInt8[AnyArray, "n h w c"], *, train: bool = False
    ) -> Float[Array, "n *k"]:
        """Compute the logits of images."""
        h = pixels(x)
        stages = self._stages
        inner = tuple(self.channels[stage] for stage in stages) if self.inner is None else self.inner
        masks = channel_masks(self, h.shape[0], inner, self.dropout, train=train)
        h = Block(self.channels[0], self.site, self.cut, name="stem")(h, train=train)
        for i, stage in enumerate(stages):  # two digits, since trees sort their names
            stride = 2 if i and stage > stages[i - 1] else 1
            block = ResidualBlock(
                self.channels[stage], inner[i], self.site, self.cut, self.dropout, stride, name=f"block_{i:02d}"
            )
            h = block(h, train=train, dropout_mask=masks[i])
        features = jnp.mean(h, axis=(1, 2))
        self.sow("intermediates", "features", features)
        logits = Linear(self.outputs, name="output")(features)
        return jnp.squeeze(logits, axis=1) if self.outputs == 1 else logits

    def unit_layers(self) -> tuple[UnitLayer, ...]:
        """Describe the layers whose outputs are the units, for `fairjax.nn.materialize` and `shrink`."""
        layers = [UnitLayer(("stem",), "convolution", None, norm_first=True)]
        for i in range(len(self._stages)):
            block = f"block_{i:02d}"
            reader = (block, "second", "convolution")
            layers.append(UnitLayer((block, "first"), "convolution", reader, norm_first=True))
            layers.append(UnitLayer((block, "second"), "convolution", None, norm_first=True))
        return tuple(layers)

    def with_units(self, counts: tuple[int, ...]) -> "ResNet":
        """Return the module with other numbers of channels inside its blocks."""
        return self.clone(inner=counts)
