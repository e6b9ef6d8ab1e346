"""Names of the layers of a network that have units."""

import jax

from fairjax.types import Variables


def layer_names(variables: Variables) -> tuple[str, ...]:
    """Return the names of the layers whose outputs are units: the paths of the masks, without their common endings.

    Args:
        variables: the network's variables; `masks` defines the units.

    Returns:
        One name per array of masks, in the order of the tree.

    Example:
        >>> import jax.numpy as jnp
        >>> layer_names({"masks": {"hidden_00": {"units": {"keep": jnp.ones(2, bool)}}, "01 conv": jnp.ones(3, bool)}})
        ('01 conv', 'hidden_00')
    """
    paths = [
        [jax.tree_util.keystr((entry,), simple=True) for entry in path]
        for path, _ in jax.tree_util.tree_flatten_with_path(variables["masks"])[0]
    ]
    for ending in ("keep", "units"):
        paths = [path[:-1] if len(path) > 1 and path[-1] == ending else path for path in paths]
    return tuple(".".join(path) for path in paths)
