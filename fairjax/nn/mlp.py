"""The multilayer perceptron of the experiments (Table 2 of Marcinkevičs et al. 2022)."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fairjax.nn.dropout import drop_probability, dropout_masks
from fairjax.nn.layers import BatchNorm, Linear, Units
from fairjax.nn.unit_layers import UnitLayer
from fairjax.types import AnyArray

Site = Literal["preactivation", "activation", "normalised"]
"""Position at which a unit's influence is measured: before the ReLU, after it, or after batch normalisation."""
Cut = Literal["incoming", "outgoing"]
"""Weights of a unit that a mask removes: the incoming ones (its output becomes a constant), or the outgoing ones."""


class Hidden(nn.Module):
    """Hidden layer: linear map, ReLU, dropout and batch normalisation, in that order, with handles on the units."""

    width: int
    site: Site
    cut: Cut
    rate: float

    @nn.compact
    def __call__(
        self, h: Float[Array, "n in"], *, train: bool, dropout_mask: Bool[Array, "n width"] | None
    ) -> Float[Array, "n width"]:
        """Apply the layer; without a dropout mask (true = kept), no activation is dropped."""
        units = Units(self.width, name="units")
        shift, keep = units()
        h = Linear(self.width, name="linear")(h)
        if self.site == "preactivation":
            h = h + shift[None]
            units.record(h)
        h = jnp.where(keep[None], h, 0.0) if self.cut == "incoming" else h
        h = nn.relu(h)
        if self.site == "activation":
            h = _shifted_if_kept(h, shift, keep, self.cut)
            units.record(h)
        h = h if dropout_mask is None else jnp.where(dropout_mask, h / (1.0 - drop_probability(self.rate)), 0.0)
        h = BatchNorm(name="norm")(h, train=train)
        if self.site == "normalised":
            h = _shifted_if_kept(h, shift, keep, self.cut)
            units.record(h)
        return jnp.where(keep[None], h, 0.0) if self.cut == "outgoing" else h


def _shifted_if_kept(h, shift, keep, cut: Cut):
    """Shift units after the position at which incoming weights are cut; units that are cut there have no influence."""
    return h + (jnp.where(keep, shift, 0.0) if cut == "incoming" else shift)[None]


class Mlp(nn.Module):
    """Multilayer perceptron: hidden layers followed by a linear output layer.

    Calling it returns logits (n,), or (n, outputs) for more than two classes. The defaults are the first paper's
    network: 11 hidden layers of 32 units, dropout 0.05, 352 units that can be cut.

    Example:
        >>> import jax
        >>> module = Mlp(widths=(8, 8))
        >>> variables = module.init(jax.random.key(0), jnp.ones((2, 3)), train=False)
        >>> sorted(variables["masks"])
        ['hidden_00', 'hidden_01']
    """

    widths: tuple[int, ...] = (32,) * 11
    site: Site = "preactivation"
    cut: Cut = "incoming"
    dropout: float = 0.05
    outputs: int = 1
    """Number of logits per row: 1 for two classes, and the number of classes for more."""

    def __post_init__(self):
        """Validate sizes and names, before any tracing."""
        if not self.widths or min(self.widths) < 0 or len(self.widths) > 100:
            raise ValueError(f"widths must be 1 to 100 non-negative numbers of units, got {self.widths}")
        if self.site not in ("preactivation", "activation", "normalised"):
            raise ValueError(f"site must be preactivation, activation or normalised, got {self.site!r}")
        if self.cut not in ("incoming", "outgoing"):
            raise ValueError(f"cut must be incoming or outgoing, got {self.cut!r}")
        if self.outputs != 1 and self.outputs < 3:
            raise ValueError(f"outputs must be 1 for two classes, or at least 3, one per class, got {self.outputs}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[AnyArray, "n d"], *, train: bool = False) -> Float[Array, "n *c"]:
        """Compute the logits of standardised features."""
        masks: list[Bool[Array, "n units"] | None] = [None] * len(self.widths)
        if train and drop_probability(self.dropout) > 0:
            shapes = [(x.shape[0], width) for width in self.widths]
            masks = [*dropout_masks(self.make_rng("dropout"), shapes, self.dropout)]
        h = jnp.asarray(x)
        for i, width in enumerate(self.widths):  # two digits, since trees sort their names
            hidden = Hidden(width, self.site, self.cut, self.dropout, name=f"hidden_{i:02d}")
            h = hidden(h, train=train, dropout_mask=masks[i])
        self.sow("intermediates", "features", h)
        logits = Linear(self.outputs, name="output")(h)
        return jnp.squeeze(logits, axis=1) if self.outputs == 1 else logits

    def unit_layers(self) -> tuple[UnitLayer, ...]:
        """Describe the layers whose outputs are the units, for `fairjax.nn.materialize` and `shrink`."""
        names = [f"hidden_{i:02d}" for i in range(len(self.widths))]
        readers = [(name, "linear") for name in names[1:]] + [("output",)]
        return tuple(
            UnitLayer((name,), "linear", reader, norm_first=False) for name, reader in zip(names, readers, strict=True)
        )

    def with_units(self, counts: tuple[int, ...]) -> "Mlp":
        """Return the module with other widths."""
        return self.clone(widths=counts)
