"""Map a function of one seed over many seeds, in groups on every device.

Seeds are packed into groups of a fixed size. Each group runs under `vmap`, the groups of a device run one after
another, and all devices run in parallel under `shard_map`. A program computes one group and not all seeds, so the
results of a seed depend neither on the number of other seeds nor on the number of devices. On CPU they are equal bit by
bit, since groups of 2 or more networks compile to the same matrix products. Finished seeds are packed together, and
groups in which every seed is finished are skipped, so that they take no time.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PyTree

from fairjax.types import tree_where

SEEDS_AXIS = "seeds"
"""Name of the mesh axis over which seeds are distributed."""

CPU_GROUP_SIZE = 5
"""Largest number of seeds per group on CPU."""


def mesh(devices: Sequence[Any] | None = None) -> jax.sharding.Mesh:
    """Make a mesh with a seeds axis over the given devices, or over all devices if omitted.

    Example:
        >>> mesh().axis_names
        ('seeds',)
    """
    devices = jax.devices() if devices is None else devices
    kind = jax.sharding.AxisType.Auto
    return jax.make_mesh((len(devices),), (SEEDS_AXIS,), axis_types=(kind,), devices=devices)


def over_seeds(
    function: Callable[..., PyTree[Array]],
    args: tuple[Any, ...],
    axes: tuple[Any, ...],
    *,
    mesh: jax.sharding.Mesh,
    group_size: int | None = None,
    finished: Bool[Array, " seeds"] | None = None,
) -> PyTree[Array]:
    """Compute `function(*args)` for every seed, on all devices of the mesh. Call it inside `jit`.

    Args:
        function: function of one seed.
        args: arguments of the function; those that differ between seeds have a leading axis of seeds.
        axes: for each argument, a tree prefix of 0 (per seed) or None (shared), as for `jax.vmap`.
        mesh: mesh from `mesh()`.
        group_size: number of seeds per group, at least 2; `default_group_size` by default.
        finished: if given, the seeds for which the first argument is returned unchanged, without computation where
            possible; `function` must then return a tree like its first argument.

    Returns:
        The function's results with a leading seeds axis, replicated on every device.

    Raises:
        ValueError: if `group_size` is below 2 or no argument is per seed.
    """
    leaves, structure = jax.tree.flatten(args)
    flags = _flags(axes, args)
    mapped = [leaf for leaf, flag in zip(leaves, flags, strict=True) if flag is not None]
    shared = [leaf for leaf, flag in zip(leaves, flags, strict=True) if flag is None]
    if not mapped:
        raise ValueError("no argument has a seeds axis; give at least one axis 0")
    seeds, devices = mapped[0].shape[0], mesh.size
    group_size = default_group_size(mesh, seeds) if group_size is None else group_size
    if group_size < 2:
        raise ValueError(
            f"group_size must be at least 2, got {group_size}: a group of one compiles to other matrix products than a "
            "group of two"
        )
    groups = -(-seeds // (group_size * devices))  # per device
    arrange, restore = _layout(seeds, group_size, devices, groups, finished)
    idle = jnp.zeros(seeds, bool) if finished is None else finished

    def run_group(mapped, shared, idle):
        def arguments(mapped):
            per_seed_leaves, shared_leaves = iter(mapped), iter(shared)
            return jax.tree.unflatten(
                structure, [next(shared_leaves if flag is None else per_seed_leaves) for flag in flags]
            )

        def run_seed(mapped, idle):
            seed_args = arguments(mapped)
            result = function(*seed_args)
            if finished is None:
                return result
            return tree_where(~idle, result, seed_args[0])

        if finished is None:
            return jax.vmap(run_seed)(mapped, idle)
        return jax.lax.cond(idle.all(), lambda mapped, _: arguments(mapped)[0], jax.vmap(run_seed), mapped, idle)

    def run_device(mapped, shared, idle):
        split = jax.tree.map(lambda leaf: leaf.reshape(groups, group_size, *leaf.shape[1:]), (mapped, idle))
        results = jax.lax.map(lambda item: run_group(item[0], shared, item[1]), split)
        return jax.tree.map(lambda leaf: leaf.reshape(groups * group_size, *leaf.shape[2:]), results)

    per_seed, replicated = jax.P(SEEDS_AXIS), jax.P()
    results = jax.shard_map(
        run_device, mesh=mesh, in_specs=(per_seed, replicated, per_seed), out_specs=per_seed, check_vma=False
    )([arrange(leaf) for leaf in mapped], shared, arrange(idle))
    results = jax.tree.map(lambda leaf: _strong(restore(leaf)), results)
    return jax.lax.with_sharding_constraint(results, replicated_sharding(mesh))


def _strong(leaf: Array) -> Array:
    """Drop the weak type, so that a program is not compiled again when its result is passed back to it."""
    return leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else jax.lax.convert_element_type(leaf, leaf.dtype)


def replicated_sharding(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
    """Return the sharding of an array that is replicated on every device of the mesh."""
    return jax.sharding.NamedSharding(mesh, jax.P())


def replicate(tree: PyTree[Any], mesh: jax.sharding.Mesh) -> PyTree[Any]:
    """Replicate arrays on every device of the mesh, on all hosts.

    Args:
        tree: arrays, keys or numbers; with several processes, every process must pass the same values.
        mesh: mesh from `mesh()`.

    Returns:
        The same values, with the sharding that programs over this mesh take and return.

    Example:
        >>> replicate({"a": jnp.ones(3)}, mesh())["a"].sharding.is_fully_replicated
        True
    """
    sharding = replicated_sharding(mesh)

    def replicate_leaf(leaf):
        if isinstance(leaf, bool | int | float):
            return leaf  # a number of a dataclass, which has no dtype of its own
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(replicate_leaf(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        if jax.process_count() == 1:
            return jax.device_put(leaf, sharding)
        values = np.asarray(leaf)
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

    return jax.tree.map(replicate_leaf, tree)


def default_group_size(mesh: jax.sharding.Mesh, seeds: int) -> int:
    """Return the number of seeds per group: all seeds of a device, but at least 2, and on CPU at most `CPU_GROUP_SIZE`.

    Example:
        >>> default_group_size(mesh(), 20)
        5
    """
    seeds_per_device = max(2, -(-seeds // mesh.size))
    return min(CPU_GROUP_SIZE, seeds_per_device) if mesh.devices.flat[0].platform == "cpu" else seeds_per_device


def _layout(seeds: int, size: int, devices: int, groups: int, finished):
    """Return two functions: one arranges seeds by place, group and device, and the other restores their order.

    Unfinished seeds come first, and consecutive groups go to different devices. Empty places repeat a finished seed, if
    there is one (so that they are idle), or else the last seed. If no seed is finished, the order is kept and nothing
    is gathered.
    """
    places = groups * size * devices
    if finished is None:
        filled = jnp.minimum(jnp.arange(places), seeds - 1)
        return lambda leaf: leaf if places == seeds else _rows(leaf, filled), lambda leaf: leaf[:seeds]
    ranked = jnp.argsort(finished, stable=True)
    padded = ranked[jnp.minimum(jnp.arange(places), seeds - 1)]
    shape = (groups, devices, size)
    spread = padded.reshape(shape).transpose(1, 0, 2).reshape(-1)
    rank = jnp.argsort(ranked)
    position = jnp.arange(places).reshape(devices, groups, size).transpose(1, 0, 2).reshape(-1)  # position of each rank
    gather = position[rank]
    return lambda leaf: _rows(leaf, spread), lambda leaf: _rows(leaf, gather)


def _rows(leaf: Array, rows: Int[Array, " places"]) -> Array:
    return leaf.at[rows].get(mode="promise_in_bounds")


def _flags(axes: Any, args: Any) -> list[int | None]:
    """Return the axis of every leaf of `args`, from a tree prefix in which None is an entry like 0."""
    flags: list[int | None] = []
    jax.tree.map(
        lambda axis, branch: flags.extend([axis] * len(jax.tree.leaves(branch))),
        axes,
        args,
        is_leaf=lambda axis: axis is None,
    )
    return flags
