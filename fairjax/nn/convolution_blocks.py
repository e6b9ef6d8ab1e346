"""What convolutional networks have in common: a block with handles on its channels, and checks."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fairjax.nn.convolution import Convolution
from fairjax.nn.dropout import drop_probability, dropout_masks
from fairjax.nn.layers import BatchNorm, Units
from fairjax.nn.mlp import Cut, Site
from fairjax.types import AnyArray


class Block(nn.Module):
    """Convolution, batch normalisation and, if wanted, ReLU, in that order, with handles on the channels."""

    channels: int
    site: Site
    cut: Cut
    stride: int = 1
    relu: bool = True

    @nn.compact
    def __call__(self, h: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h2 w2 channels"]:
        """Apply the block; without a ReLU, the site "activation" is the block's output."""
        units = Units(self.channels, name="units")
        shift, keep = (vector[None, None, None] for vector in units())
        later = jnp.where(keep, shift, 0.0) if self.cut == "incoming" else shift  # no influence once the unit is cut
        h = Convolution(self.channels, stride=self.stride, name="convolution")(h)
        if self.site == "preactivation":
            h = h + shift
            units.record(h)
        h = jnp.where(keep, h, 0.0) if self.cut == "incoming" else h
        h = BatchNorm(name="norm")(h, train=train)
        if self.site == "normalised":
            h = h + later
            units.record(h)
        h = nn.relu(h) if self.relu else h
        if self.site == "activation":
            h = h + later
            units.record(h)
        return jnp.where(keep, h, 0.0) if self.cut == "outgoing" else h


def channel_masks(
    module: nn.Module, rows: int, channels: tuple[int, ...], rate: float, *, train: bool
) -> list[Bool[Array, "n c"] | None]:
    """Draw dropout masks of whole channels (true = kept), one per layer; None in evaluation mode and at rate 0."""
    if not train or drop_probability(rate) == 0:
        return [None] * len(channels)
    return [*dropout_masks(module.make_rng("dropout"), [(rows, width) for width in channels], rate)]


def dropped(h: Float[Array, "n h w c"], mask: Bool[Array, "n c"] | None, rate: float) -> Float[Array, "n h w c"]:
    """Drop channels of images; without a mask, none."""
    return h if mask is None else jnp.where(mask[:, None, None], h / (1.0 - drop_probability(rate)), 0.0)


def check_fields(module: Any) -> None:
    """Validate the fields that convolutional networks have in common, before any tracing.

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


def pixels(x: AnyArray) -> Float[Array, "n h w c"]:
    """Return images as floats; whole numbers from 0 to 255 are divided by 255.

    Raises:
        ValueError: if the array does not have four axes, or an image has no pixels.
        TypeError: if the numbers are integers other than unsigned bytes.

    Example:
        >>> pixels(jnp.full((1, 1, 1, 1), 255, jnp.uint8)).item()
        1.0
    """
    if jnp.ndim(x) != 4 or 0 in jnp.shape(x)[1:]:
        raise ValueError(
            f"a convolutional network needs images (rows, height, width, channels), found shape {jnp.shape(x)}: "
            "reshape x, or use Mlp for a table of features"
        )
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x
    if x.dtype != jnp.uint8:
        raise TypeError(f"images must be floats, or bytes from 0 to 255 (uint8), found {x.dtype}: convert them")
    return jax.lax.convert_element_type(x, jnp.float32) / 255.0
