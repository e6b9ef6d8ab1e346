"""How the layers of a network follow each other, as far as the removal of units must know."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

Path = tuple[str, ...]
"""Names that lead to a layer in a tree of variables."""


class UnitLayer(NamedTuple):
    """A layer whose outputs are units, and the layers around it.

    The layer and its reader have a `kernel`, whose last axis is that of the outputs and whose last but one is that of
    the inputs, and a `bias`. Between them are a ReLU and a batch normalisation.
    """

    module: Path
    """The module that holds the units as `units`, the layer, and its batch normalisation as `norm`."""
    layer: str
    """Name of the layer in the module."""
    reader: Path | None
    """The layer whose inputs are these units and no others; None if the units are added to a residual stream, from
    which they cannot be removed."""
    norm_first: bool
    """Whether batch normalisation comes before the ReLU. Not used without a reader."""


@runtime_checkable
class HasUnitLayers(Protocol):
    """A module whose units `fairjax.nn.materialize` and `fairjax.nn.shrink` can remove."""

    cut: Any
    """Weights of a unit that a mask removes, "incoming" or "outgoing"."""

    def unit_layers(self) -> tuple[UnitLayer, ...]:
        """Describe the layers whose outputs are the units, in the order of their computation."""
        ...

    def with_units(self, counts: tuple[int, ...]) -> Any:
        """Return the module with other numbers of units.

        Args:
            counts: a number for each of `unit_layers` that has a reader.
        """
        ...


def at(tree: Any, path: Path) -> Any:
    """Return the branch of a tree of dictionaries at a path.

    Example:
        >>> at({"a": {"b": 1}}, ("a", "b"))
        1
    """
    for name in path:
        tree = tree[name]
    return tree


def replaced(tree: Any, path: Path, branch: Any) -> Any:
    """Return a tree of dictionaries with another branch at a path; the given tree is unchanged.

    Example:
        >>> replaced({"a": {"b": 1, "c": 2}}, ("a", "b"), 3)
        {'a': {'b': 3, 'c': 2}}
    """
    if not path:
        return branch
    return {**tree, path[0]: replaced(tree[path[0]], path[1:], branch)}
