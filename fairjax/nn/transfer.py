"""Transfer: variables of a network for one task as the start for another task."""

from typing import Any

import jax
import numpy as np

from fairjax.nn.network import Network
from fairjax.types import Inputs, KeyArray, Variables


def transferred(
    network: Network, source: Variables, x: Inputs, *, key: KeyArray, new: tuple[str, ...] = ("output",)
) -> Variables:
    """Take over the layers of a network that was trained on other data, with new layers where they are named.

    The result is a start for `fit`, `fit_many` (map over seeds with `jax.vmap`) and for fine-tuning; with
    `fairjax.ComposedFineTuning(layers=new)` the layers taken over remain as they are.

    Args:
        network: the network for the new task, which may have another number of outputs.
        source: variables of the trained network.
        x: some rows as the network takes them, of which the shape is used.
        key: random key for the new layers.
        new: names of entries of `params` that are initialised; by default the last layer of `Mlp`. With (), all layers
            are taken over.

    Returns:
        The variables, with all other entries of all collections from the source.

    Raises:
        ValueError: if there is no such layer, or a layer to be taken over has another shape or is missing in the
            source.

    References:
        Ryu, Adam, Mitchell (2018), InclusiveFaceNet: improving face attribute detection with race and gender diversity,
        https://arxiv.org/abs/1712.00193

    Example:
        >>> import jax.numpy as jnp
        >>> from fairjax.nn import Mlp, from_linen
        >>> old, new, x = from_linen(Mlp(widths=(4,))), from_linen(Mlp(widths=(4,), outputs=3)), jnp.ones((2, 5))
        >>> source = old.init(jax.random.key(0), x)
        >>> start = transferred(new, source, x, key=jax.random.key(1))
        >>> start["params"]["output"]["kernel"].shape
        (4, 3)
        >>> start["params"]["hidden_00"] is source["params"]["hidden_00"]
        True
    """
    start = network.init(key, x)
    unknown = [name for name in new if name not in start["params"]]
    if unknown:
        raise ValueError(f"new must be some of {', '.join(start['params'])}, got {', '.join(unknown)}")
    return {name: _taken(name, tree, source.get(name, {}), new) for name, tree in start.items()}


def _taken(collection: str, tree: Any, source: Any, new: tuple[str, ...]) -> Any:
    """Return a collection with the source's entries, except for the new ones."""
    taken = {}
    for name, entry in tree.items():
        if name in new:
            taken[name] = entry
            continue
        shapes, found = jax.tree.map(np.shape, entry), jax.tree.map(np.shape, source.get(name))
        if shapes != found:
            raise ValueError(
                f"the layer {name} must have {collection} of shapes {shapes} in the source, found {found}: name it in "
                "new, or give the variables of a network with the same layer"
            )
        taken[name] = source[name]
    return taken
