"""Apply preprocessors to the split of one seed, or to the splits of many."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from fairjax.data.dataset import Dataset
from fairjax.data.scaler import mean_and_scale
from fairjax.preprocess.base import Prepared, Preprocessor, is_concrete
from fairjax.types import SHARED, Batch, Inputs, KeyArray, Rows, Split, concatenated, weights_of


class PreparedSplits(NamedTuple):
    """Preprocessed splits of many seeds."""

    splits: Split
    """The splits, with a leading axis of seeds on every array for which `axes` is 0."""
    axes: Split
    """The vmap axes of the splits: the argument `axes` of `fit_many` and `debias_many`."""


def prepare(preprocessors: Any, key: KeyArray, split: Split, *, dataset: Dataset | None = None) -> Split:
    """Preprocess a split.

    The preprocessors are applied to the train part one after another. The valid and the test part keep their rows,
    labels, groups and weights; their features change only by the maps that preprocessors of features learned from the
    train part. If features or rows of the train part changed, its mean and scale are computed anew, so that removed
    columns are 0 after standardisation.

    The function is pure. Under `jax.jit` or `jax.vmap`, values cannot be inspected: sizes that depend on the data must
    then be given to the preprocessors, and features or weights are NaN where an error would have been raised.

    Args:
        preprocessors: one `Preprocessor`, or a sequence of them.
        key: random key.
        split: the data of one seed.
        dataset: the data set that was split, if columns are given by name or by default, or if the number of classes
            or groups is not two.

    Returns:
        The new split. If only weights changed, it has the table of the given one; otherwise its own table with the
        rows of the train, the valid and the test part, in this order.

    Raises:
        TypeError: if a preprocessor or the split has the wrong type.
        ValueError: if the train part cannot be preprocessed.

    Example:
        >>> from fairjax import data
        >>> from fairjax.preprocess import Removal, Reweighing
        >>> x = jnp.arange(60.0).reshape(30, 2)
        >>> split = data.split(jax.random.key(0), x, jnp.arange(30) % 2, jnp.arange(30) % 3 > 0)
        >>> prepared = prepare([Removal(columns=(1,)), Reweighing()], jax.random.key(1), split)
        >>> train = prepared.part("train")
        >>> train.x[:, 1].tolist() == [0.0] * 18, round(train.weights.sum().item(), 4)
        (True, 18.0)
    """
    chain = _chain(preprocessors, dataset)
    _check_split(split, 1)
    parts = _chained(chain, key, _raw_parts(split))
    return _with_weights(split, parts) if _weights_only(chain) else _with_table(split, parts)


def prepare_many(
    preprocessors: Any,
    keys: Key[Array, " seeds"],
    splits: Split,
    *,
    dataset: Dataset | None = None,
    axes: Split = SHARED,
) -> PreparedSplits:
    """Preprocess the splits of many seeds: `prepare` for every seed, in one compiled program.

    A size that depends on the data is the same for all seeds: the largest that a seed needs. Preprocessors that are not
    `traceable` are applied to one seed after another.

    Args:
        preprocessors: as for `prepare`.
        keys: one key per seed.
        splits: one split per seed, from `fairjax.data.split_seeds`.
        dataset: as for `prepare`.
        axes: vmap axes of the splits; by default, all arrays but the table have a seeds axis.

    Returns:
        The new splits, and the vmap axes to pass with them to `fit_many` and `debias_many`. If only weights changed,
        the table is still shared by all seeds.

    Raises:
        TypeError: if a preprocessor or the splits have the wrong type.
        ValueError: if the numbers of keys and splits differ, or the train part of a seed cannot be preprocessed.

    Example:
        >>> from fairjax import data
        >>> from fairjax.preprocess import Reweighing
        >>> x = np.arange(60.0).reshape(30, 2)
        >>> dataset = data.from_arrays(x, np.arange(30) % 2, np.arange(30) % 3 > 0)
        >>> splits = data.split_seeds(dataset, seeds=(1, 2))
        >>> prepared = prepare_many(Reweighing(), jax.random.split(jax.random.key(0)), splits)
        >>> prepared.splits.x.shape, prepared.splits.weights.shape, prepared.axes.weights
        ((30, 2), (2, 30), 0)
    """
    chain = _chain(preprocessors, dataset)
    _check_split(splits, 2)
    seeds = splits.train.shape[0]
    if keys.shape != (seeds,):
        raise ValueError(f"keys must be one key per split, {seeds}, found shape {keys.shape}")
    parts = _raw_parts_by_seed(_without_scaler(splits), _without_scaler(axes))
    for number, preprocessor in enumerate(chain):
        ready = preprocessor.adapted(jax.tree.map(np.asarray, parts.train))
        stage_keys = jax.vmap(lambda key, number=number: jax.random.fold_in(key, number))(keys)
        if preprocessor.traceable:
            parts = _vmapped(ready, stage_keys, parts)
        else:
            each = [_stage(ready, stage_keys[seed], _of_seed(parts, seed)) for seed in range(seeds)]
            parts = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    _check_result(parts)
    if not chain:
        return PreparedSplits(splits, axes)
    if _weights_only(chain):
        new_axes = axes._replace(weights=0)
        weighted = jax.vmap(_with_weights, in_axes=(axes, 0), out_axes=new_axes)(splits, parts)
        return PreparedSplits(weighted, new_axes)
    new_axes = Split(*(None if leaf is None else 0 for leaf in _with_axes(splits, parts)))
    return PreparedSplits(_with_tables(splits, parts, axes), new_axes)


def prepare_rows(
    preprocessors: Any, key: KeyArray, split: Split, x: Inputs, a: Any = None, *, dataset: Dataset | None = None
) -> Inputs:
    """Map features of new rows as `prepare` maps those of the test part.

    A network that was trained on a prepared split knows its features only: pass new rows through this function before
    they are standardised and decided, with the arguments that `prepare` was called with. For a seed of `prepare_many`
    these are its key, and its split before preprocessing.

    Args:
        preprocessors: as for `prepare`.
        key: the key of `prepare`.
        split: the split that `prepare` was given.
        x: features of new rows, in the units of the table.
        a: their groups, for maps that differ between groups.
        dataset: as for `prepare`.

    Returns:
        The new features, in the units of the table.

    Raises:
        TypeError: as `prepare`.
        ValueError: as `prepare`, or if groups are needed and not given.

    Example:
        >>> from fairjax import data
        >>> from fairjax.preprocess import Removal
        >>> x = jnp.arange(60.0).reshape(30, 2)
        >>> split = data.split(jax.random.key(0), x, jnp.arange(30) % 2, jnp.arange(30) % 3 > 0)
        >>> prepare_rows(Removal(columns=(1,)), jax.random.key(1), split, jnp.array([[5.0, 7.0]])).tolist()
        [[5.0, 0.0]]
    """
    chain = _chain(preprocessors, dataset)
    _check_split(split, 1)
    needing = [type(preprocessor).__name__ for preprocessor in chain if preprocessor.needs_group_at_test]
    if a is None and needing:
        raise ValueError(f"{' and '.join(needing)} map features by group: pass the groups of the new rows as a")
    parts = _raw_parts(split)
    count = jax.tree.leaves(x)[0].shape[0]
    groups = jnp.zeros((count, *parts.test.a.shape[1:]), parts.test.a.dtype) if a is None else jnp.asarray(a)
    parts = parts._replace(test=Batch(jax.tree.map(jnp.asarray, x), jnp.zeros(count, parts.test.y.dtype), groups))
    return _chained(chain, key, parts).test.x


def _chained(chain: Sequence[Preprocessor], key: KeyArray, parts: "_RawParts") -> "_RawParts":
    """Apply preprocessors to the parts of one seed, one after another."""
    for number, preprocessor in enumerate(chain):
        ready = preprocessor.ready(parts.train)
        stage = _jitted if preprocessor.traceable else _stage
        parts = stage(ready, jax.random.fold_in(key, number), parts)
    if is_concrete(parts):
        _check_result(parts)
    return parts


class _RawParts(NamedTuple):
    """The parts of a split, not standardised."""

    train: Rows
    valid: Rows
    test: Rows


def _stage(preprocessor: Preprocessor, key: KeyArray, parts: _RawParts) -> _RawParts:
    """Apply one preprocessor to the train part, and its map to the other parts."""
    apply_key, valid_key, test_key = jax.random.split(key, 3)
    prepared: Prepared = preprocessor.apply(apply_key, parts.train)
    return _RawParts(
        prepared.train,
        *(
            part._replace(x=preprocessor.transform(part_key, prepared.fitted, part.x, part.a))
            for part_key, part in ((valid_key, parts.valid), (test_key, parts.test))
        ),
    )


_jitted = jax.jit(_stage)
_vmapped = jax.jit(jax.vmap(_stage, in_axes=(None, 0, 0)))


@jax.jit
def _raw_parts(split: Split) -> _RawParts:
    raw = _without_scaler(split)
    return _RawParts(raw.part("train"), raw.part("valid"), raw.part("test"))


@partial(jax.jit, static_argnums=1)
def _raw_parts_by_seed(splits: Split, axes: Split) -> _RawParts:
    return jax.vmap(_raw_parts, in_axes=(axes,))(splits)


def _without_scaler(split: Split) -> Split:
    return split._replace(mean=None, scale=None)


def _of_seed(parts: _RawParts, seed: int) -> _RawParts:
    return jax.tree.map(lambda leaf: leaf[seed], parts)


def _weights_only(chain: Sequence[Preprocessor]) -> bool:
    return all(preprocessor.changes == "weights" for preprocessor in chain)


def _with_weights(split: Split, parts: _RawParts) -> Split:
    """Return a split of the same table with new weights of the train rows."""
    weights = weights_of(parts.train)
    if weights is None:
        return split
    table = jnp.ones(split.y.shape[0], weights.dtype) if split.weights is None else jnp.asarray(split.weights)
    return split._replace(weights=table.astype(weights.dtype).at[split.train].set(weights))


@jax.jit
def _with_table(split: Split, parts: _RawParts) -> Split:
    """Return a split with a table of its own that consists of the three parts."""
    ends = np.cumsum([0, *(part.y.shape[0] for part in parts)])
    numbers = [jnp.arange(start, end, dtype=jnp.int32) for start, end in zip(ends, ends[1:], strict=False)]
    mean, scale = split.mean, split.scale
    if mean is not None and scale is not None:
        invalid = ~jnp.all(jnp.isfinite(mean))  # the mark of invalid traced values, see `fairjax.data.split`
        mean, scale = mean_and_scale(parts.train.x)
        mean = jnp.where(invalid, jnp.nan, mean)
    weights = None
    if any(weights_of(part) is not None for part in parts):
        weights = jnp.concatenate([_weights(part) for part in parts])
    x = concatenated(*(part.x for part in parts))
    y, a = (jnp.concatenate([getattr(part, name) for part in parts]) for name in ("y", "a"))
    return Split(x, y, a, *numbers, mean, scale, weights)


@partial(jax.jit, static_argnums=2)
def _with_tables(splits: Split, parts: _RawParts, axes: Split) -> Split:
    return jax.vmap(_with_table, in_axes=(axes, 0))(splits, parts)


def _weights(part: Rows) -> Array:
    weights = weights_of(part)
    return jnp.ones(part.y.shape[0]) if weights is None else jnp.asarray(weights).astype(jnp.result_type(float))


def _with_axes(splits: Split, parts: _RawParts) -> Split:
    """Return a split that has None where the preprocessed splits have none."""
    weighted = any(getattr(part, "weights", None) is not None for part in parts)
    return splits._replace(weights=0 if weighted else None)


def _chain(preprocessors: Any, dataset: Dataset | None) -> tuple[Preprocessor, ...]:
    """Return the preprocessors as a tuple, with names of columns resolved."""
    chain = (preprocessors,) if isinstance(preprocessors, Preprocessor | type | str) else tuple(preprocessors)
    for preprocessor in chain:
        if not isinstance(preprocessor, Preprocessor):
            raise TypeError(
                f"preprocessors must be objects such as fairjax.preprocess.Reweighing(), found {preprocessor!r}"
            )
    return chain if dataset is None else tuple(preprocessor.named(dataset) for preprocessor in chain)


def _check_split(split: Any, axes: int) -> None:
    if not isinstance(split, Split):
        raise TypeError(f"split must be a fairjax.Split, found {type(split).__name__}: make it with fairjax.data.split")
    if split.train.ndim != axes:
        way = "pass the splits of many seeds to prepare_many" if axes == 1 else "pass the split of one seed to prepare"
        raise ValueError(f"split has row numbers of shape {split.train.shape}: {way}")


def _check_result(parts: _RawParts) -> None:
    """Check that nothing is NaN that was computed from finite values."""
    for name, part in parts._asdict().items():
        leaves = jax.tree.leaves((part.x, getattr(part, "weights", None)))
        if any(jnp.issubdtype(leaf.dtype, jnp.floating) and bool(jnp.isnan(leaf).any()) for leaf in leaves):
            raise ValueError(f"the {name} part has NaN after preprocessing: check that its features are finite")
