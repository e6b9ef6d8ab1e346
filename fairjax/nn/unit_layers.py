"""How the layers of a network follow each other, as far as removing units must know."""

from typing import NamedTuple, Protocol, runtime_checkable

Path = tuple[str, ...]
"""Names that lead to a layer in a tree of variables."""


class UnitLayer(NamedTuple):
    """A layer whose outputs are units, and the layers around it.

    Each layer has a `kernel`, whose last axis is that of its outputs and whose last but one is that of its inputs, and a
    `bias`. Between the layer and its reader are a ReLU and a batch normalisation.
    """

    module: Path
    """The module that has the units under the name `units`, and contains the next two layers."""
    layer: Path
    """The layer."""
    norm: Path
    """Its batch normalisation, with `scale` and `bias` among the parameters, and running `mean` and `var`."""
    reader: Path | None
    """The layer whose inputs are the units, and nothing else's; None if they are added to a residual stream, from which
    they cannot be removed."""
    norm_first: bool
    """Whether batch normalisation comes before the ReLU; with `reader` None, no ReLU need follow it."""


@runtime_checkable
class HasUnitLayers(Protocol):
    """A module whose units can be removed by `fairjax.nn.materialize` and `fairjax.nn.shrink`."""

    cut: str
    """Weights of a unit that a mask removes: the incoming or the outgoing ones."""

    def unit_layers(self) -> tuple[UnitLayer, ...]:
        """Describe the layers whose outputs are the units, in the order of their computation."""
        ...

    def with_units(self, counts: tuple[int, ...]) -> "HasUnitLayers":
        """Return the module with other numbers of units in the layers of `unit_layers` that have a reader.

        Args:
            counts: a number for each layer that has a reader.
        """
        ...
