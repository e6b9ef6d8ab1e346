"""Training and debiasing of many seeds at once, over all devices: `fit_many` and `debias_many`.

Both are loops over chunks of epochs or steps, where each chunk is one call of a compiled program. The results do not
depend on the boundaries of the chunks, on the number of seeds, or on the number of devices. A caller can pass a `Drive`
that acts between chunks, to show progress, save and restore states, or stop.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from fairjax import arguments, loop
from fairjax.debiasing import task_of
from fairjax.fitting import Fitted
from fairjax.losses import Loss
from fairjax.methods.base import Method
from fairjax.metrics import Measure
from fairjax.nn.flat import FlatVariables
from fairjax.nn.network import Network
from fairjax.result import Debiased
from fairjax.seeds import placement
from fairjax.seeds.programs import Axes, Machine, evaluate
from fairjax.seeds.stages import Debiasing, Drive, Fitting, run_chunks
from fairjax.selection import ConstrainedObjective, Rule
from fairjax.training import Training
from fairjax.types import SHARED, Split, Variables


def fit_many(
    network: Network,
    splits: Split,
    *,
    keys: Key[Array, " seeds"],
    training: Training | None = None,
    loss: Loss | None = None,
    loss_axis: Literal[0] | None = None,
    start: Variables | None = None,
    axes: Split = SHARED,
    mesh: jax.sharding.Mesh | None = None,
    group_size: int | None = None,
    drive: Drive = run_chunks,
) -> Fitted:
    """Train one network per split, all splits in parallel.

    Args:
        network: the classifier.
        splits: one split per seed, from `fairjax.data.split_seeds`.
        keys: one key per seed, for initialisation, order of rows and dropout.
        training: hyperparameters; `Training()` if omitted.
        loss: a composed loss, as for `fit`.
        loss_axis: 0 if numbers of the loss, such as weights, have a leading axis of seeds; scalars are shared. None if
            the seeds share all numbers. A path of weights on the same splits is one program: repeat keys and row
            numbers for every weight.
        start: variables to start from, with a leading axis of seeds; new ones if omitted.
        axes: vmap axes of the splits; by default, all arrays but the table have a seeds axis.
        mesh: the devices, from `fairjax.seeds.mesh`; all devices if omitted.
        group_size: number of seeds per group, at least 2; by default a number that suits the device.
        drive: runs the chunks of epochs; by default, nothing happens between chunks.

    Returns:
        The trained networks, with a leading axis of seeds.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if the numbers of keys and splits differ.

    Example:
        >>> import numpy as np
        >>> from fairjax import Mlp, data, from_linen
        >>> x = jax.random.normal(jax.random.key(0), (200, 3))
        >>> dataset = data.from_arrays(np.asarray(x), np.asarray(x[:, 0] > 0), np.arange(200) % 2)
        >>> splits = data.split_seeds(dataset, seeds=(1, 2))
        >>> keys, network = jax.random.split(jax.random.key(1)), from_linen(Mlp(widths=(4,)))
        >>> fit_many(network, splits, keys=keys, training=Training(epochs=2)).loss.shape
        (2,)
    """
    config = Training() if training is None else training
    arguments.check_training(network, config, splits, axes)
    loss = arguments.checked_loss(loss, splits)
    if loss_axis == 0:
        loss = jax.tree.map(lambda leaf: leaf if np.ndim(leaf) else jnp.full(keys.shape, leaf, float), loss)
    _check_seeds(keys, splits, start, loss if loss_axis == 0 else None)
    machine = Machine(placement.mesh() if mesh is None else mesh, group_size)
    keys, splits, loss, start = (placement.replicate(tree, machine.mesh) for tree in (keys, splits, loss, start))
    state = Fitting(network, config, Axes(axes, loss_axis), machine, loss, start).run(keys, splits, drive)
    return Fitted(state.best.variables(), state.best_loss, state.epoch, state.diverged)


def debias_many(
    method: Method,
    network: Network,
    measure: Measure,
    variables: Variables,
    splits: Split,
    *,
    keys: Key[Array, " seeds"],
    rule: Rule | None = None,
    axes: Split = SHARED,
    mesh: jax.sharding.Mesh | None = None,
    group_size: int | None = None,
    drive: Drive = run_chunks,
) -> Debiased:
    """Debias one network per seed, all seeds in parallel: `debias` for many seeds, over all devices.

    Args:
        method: as for `debias`.
        network: as for `debias`.
        measure: as for `debias`.
        variables: variables of the trained networks, with a leading axis of seeds, such as those from `fit_many`.
        splits: one split per seed.
        keys: one key per seed.
        rule: as for `debias`.
        axes: vmap axes of the splits; by default, all arrays but the table have a seeds axis.
        mesh: the devices, from `fairjax.seeds.mesh`; all devices if omitted.
        group_size: number of seeds per group, at least 2; by default a number that suits the device.
        drive: runs the chunks of steps; by default, nothing happens between chunks.

    Returns:
        The selected networks, with a leading axis of seeds on all arrays. The trace consists of NumPy arrays.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if the numbers of keys, variables and splits differ.
    """
    rule = ConstrainedObjective() if rule is None else rule
    arguments.check_debiasing(method, network, measure, rule)
    arguments.check_data(splits)
    arguments.check_variables(variables)
    _check_seeds(keys, splits, variables)
    machine = Machine(placement.mesh() if mesh is None else mesh, group_size).for_parts()
    keys, splits = placement.replicate(keys, machine.mesh), placement.replicate(splits, machine.mesh)
    networks = placement.replicate(jax.vmap(FlatVariables.ravel)(variables), machine.mesh)
    task = task_of(network, measure, rule)
    logits = evaluate(task, networks, splits, axes=Axes(axes), machine=machine)
    state = Debiasing(method, task, rule, Axes(axes), machine).run(keys, networks, splits, logits, drive)

    def finish(progress, trace, split):
        return loop.finish(method, task, rule, progress, trace, split)

    result = jax.vmap(finish, in_axes=(0, 0, axes))(state.progress, state.trace, splits)
    return dataclasses.replace(result, trace=state.trace)


def _check_seeds(keys: Any, splits: Split, variables: Any = None, loss: Loss | None = None) -> None:
    """Check that there are one key, one split, one network and one entry of each number of the loss per seed."""
    if not (arguments.is_typed_key(keys) and keys.ndim == 1):
        raise TypeError("keys must be one key per seed, an array such as jax.random.split(jax.random.key(0), seeds)")
    count = {"keys": keys.shape[0], "splits": splits.train.shape[0] if splits.train.ndim == 2 else None}
    if variables is not None:
        count["variables"] = jax.tree.leaves(variables["params"])[0].shape[0]
    if loss is not None:
        for leaf in jax.tree.leaves(loss):
            count["numbers of the loss"] = leaf.shape[0] if getattr(leaf, "ndim", 0) else None
            if count["numbers of the loss"] != count["keys"]:
                break
    if len(set(count.values())) > 1:
        listed = ", ".join(f"{name} {'without a seeds axis' if n is None else n}" for name, n in count.items())
        raise ValueError(f"{_listed(count)} must be of one number of seeds, found {listed}")


def _listed(count: dict[str, Any]) -> str:
    """Return names as an enumeration."""
    *names, last = count
    return f"{', '.join(names)} and {last}"
