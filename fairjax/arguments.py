"""Checks of the arguments of `fit`, `debias`, `fit_many` and `debias_many`, before anything is traced."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.losses import TERMS, Loss
from fairjax.methods import METHODS, Method
from fairjax.metrics import MEASURES, as_parity, count_groups
from fairjax.nn.network import Network
from fairjax.selection import RULES, Rule
from fairjax.training import Training
from fairjax.types import SHARED, Split


def check_debiasing(method: Any, network: Any, measure: Any, rule: Any) -> None:
    """Check the types of method, network, measure and rule.

    Raises:
        TypeError: naming the argument and how to correct it.
    """
    check_method(method)
    check_network(network)
    check_measure(measure)
    check_rule(rule)


def check_method(method: Any) -> None:
    """Check that a method is an instance of a complete and decorated class.

    Raises:
        TypeError: naming what was found and how to correct it.
    """
    if not isinstance(method, Method):
        if isinstance(method, type) and issubclass(method, Method):
            way = f"pass an instance, {method.__name__}()"
        elif isinstance(method, str):
            way = f"pass METHODS[{method!r}]()" if method in METHODS else METHODS.unknown(method)
        else:
            way = f"pass one such as {METHODS['pruning'].__name__}()"
        raise TypeError(f"method must be a fairjax.Method, got {kind_of(method)}: {way}")
    kind = type(method)
    if not _is_pytree(method):
        raise TypeError(f"{kind.__name__} is not decorated: write @fairjax.method above its class")
    missing = [name for name in ("init", "step") if getattr(kind, name) is getattr(Method, name)]
    if missing:
        raise TypeError(f"{kind.__name__} must have functions init and step, and lacks {' and '.join(missing)}")


def check_network(network: Any) -> None:
    """Check that a network is a pair of functions.

    Raises:
        TypeError: naming the type found and how to correct it.
    """
    if not isinstance(network, Network):
        linen = hasattr(network, "init") and hasattr(network, "apply")
        way = "pass fairjax.from_linen(module)" if linen else "give its functions, fairjax.Network(init, apply)"
        raise TypeError(f"network must be a fairjax.Network, got {kind_of(network)}: {way}")


def check_measure(measure: Any) -> None:
    """Check that a measure is a hashable function of values, labels and groups that returns one number.

    Raises:
        TypeError: naming what was found and how to correct it.
    """
    if not callable(measure) or isinstance(measure, type):
        if isinstance(measure, str) and measure in MEASURES:
            way = f"pass fairjax.MEASURES[{measure!r}]"
        else:
            way = MEASURES.unknown(measure) if isinstance(measure, str) else f"the measures are {', '.join(MEASURES)}"
        raise TypeError(f"measure must be a function of (values, y, a), got {kind_of(measure)}: {way}")
    try:
        hash(measure)
    except TypeError:
        raise TypeError(
            f"measure must be hashable, since programs are compiled for it, got {kind_of(measure)}: pass a function or "
            "a frozen dataclass"
        ) from None
    function: Any = measure  # `callable` has narrowed the type of the measure
    if as_parity(function) is None:
        _check_function(measure)


def _check_function(measure: Any) -> None:
    """Call a user's measure on the shapes of four rows."""
    expected = "measure must be a function (values, y, a, weights=None) that returns one number and can be traced"
    name = getattr(measure, "__name__", kind_of(measure))
    values, flags = jnp.zeros(4), jnp.zeros(4, bool)
    try:
        result = jax.eval_shape(lambda *rows: jnp.asarray(measure(*rows)), values, flags, flags, values)
    except Exception as error:
        reason = str(error).strip().splitlines()[:1]
        raise TypeError(f"{expected}; {name} raised {type(error).__name__}: {''.join(reason)[:200]}") from error
    if result.shape != ():
        raise TypeError(f"{expected}; {name} returned an array of shape {result.shape}")


def check_rule(rule: Any) -> None:
    """Check that a rule follows the protocol.

    Raises:
        TypeError: naming what was found and how to correct it.
    """
    if isinstance(rule, type) or not isinstance(rule, Rule):
        way = (
            f"pass an instance, {rule.__name__}()"
            if isinstance(rule, type)
            else "the rules are " + ", ".join(getattr(kind, "__name__", name) + "()" for name, kind in RULES.items())
        )
        raise TypeError(f"rule must be a selection rule, got {kind_of(rule)}: {way}")
    name = type(rule).__name__
    if rule.data not in ("valid", "pooled"):
        raise TypeError(f"{name}.data must be valid or pooled, the data that it selects on, got {rule.data!r}")
    if rule.data == "pooled" and not hasattr(rule, "pool"):
        raise TypeError(f"{name} selects on train data too, so it must have a function pool(valid, train)")
    if not _is_pytree(rule):
        raise TypeError(
            f"{name} must be a pytree: make it a frozen dataclass and register it by jax.tree_util.register_dataclass"
        )


def checked_loss(loss: Any, split: Split) -> Loss:
    """Check a composed loss, and fill in the number of groups.

    Raises:
        TypeError: naming the type found and how to correct it.
    """
    if loss is None:
        return Loss()
    if not isinstance(loss, Loss):
        raise TypeError(
            f"loss must be a fairjax.losses.Loss, got {kind_of(loss)}: pass Loss(terms=(...,)) with terms of "
            f"fairjax.losses, such as {', '.join(TERMS)}"
        )
    if loss.num_groups is not None or not loss.terms or split.a.dtype == bool or isinstance(split.a, jax.core.Tracer):
        return loss
    is_codes = jnp.issubdtype(split.a.dtype, jnp.integer)  # with an axis of seeds or without; else memberships
    groups = count_groups(split.a.reshape(-1)) if is_codes else split.a.shape[-1]
    return dataclasses.replace(loss, num_groups=groups)


def check_variables(variables: Any) -> None:
    """Check the type of a network's variables.

    Raises:
        TypeError: naming what is missing and how to get it.
    """
    names = list(variables) if isinstance(variables, Mapping) else [kind_of(variables)]
    missing = [name for name in ("params", "masks") if name not in names]
    if missing:
        raise TypeError(
            f"variables must have {' and '.join(missing)}, got {', '.join(map(str, names)) or 'nothing'}: pass what "
            "network.init makes or fit returns, with all collections"
        )


def check_data(split: Any, axes: Split = SHARED) -> None:
    """Check that the data are a split, or the splits of many seeds, and that inputs have as many rows as the labels.

    Args:
        split: the split, or splits.
        axes: the vmap axes of splits; those of labels may differ from those of inputs.

    Raises:
        TypeError: naming the type found and how to correct it.
        ValueError: naming the array whose number of rows differs.
    """
    if not isinstance(split, Split):
        raise TypeError(f"split must be a fairjax.Split, got {kind_of(split)}: make it with fairjax.data.split")
    if (split.mean is None) != (split.scale is None):
        raise ValueError("split must have a mean and a scale, or neither of both, found only one: pass None for both")
    if split.mean is not None and jax.tree.structure(split.x) != jax.tree.structure(0):
        raise ValueError("split has a mean and a scale, and its x is a tree of several arrays: pass None for both")
    shape = np.shape(split.y)
    if axes.x is None and axes.y is not None:
        shape = shape[1:]  # every seed has labels of its own, and all share the inputs
    for path, leaf in jax.tree_util.tree_flatten_with_path(split.x)[0]:
        if np.shape(leaf)[: len(shape)] != shape:
            raise ValueError(
                f"split.x{jax.tree_util.keystr(path)} must have as many rows as the labels, found shapes "
                f"{np.shape(leaf)} and {shape}: make the split with fairjax.data.split"
            )


def check_one_seed(split: Any, key: Any, function: str) -> None:
    """Check that the split and the key are of one seed.

    Args:
        split: a split.
        key: a key.
        function: name of the function for many seeds, for the message.

    Raises:
        TypeError: if the key is no typed key.
        ValueError: if there is an axis of seeds.
    """
    if split.train.ndim != 1:
        raise ValueError(
            f"split has row numbers of shape {split.train.shape}, with an axis of seeds: pass the splits of many seeds "
            f"to fairjax.{function}, or map over them by jax.vmap with in_axes=fairjax.SHARED"
        )
    if not is_typed_key(key):
        raise TypeError(f"key must be a typed key, got {kind_of(key)}: make it by jax.random.key(0)")
    if key.shape != ():
        raise ValueError(f"key must be one key, got keys of shape {key.shape}: pass one key per seed to {function}")


def is_typed_key(value: Any) -> bool:
    """Return whether a value is a typed key, or an array of them."""
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def check_training(network: Any, training: Any, split: Any, axes: Split = SHARED) -> None:
    """Check the types of network, training settings and split.

    Raises:
        TypeError: naming the argument and how to correct it.
    """
    check_network(network)
    if not isinstance(training, Training):
        way = "pass an instance, Training(epochs=100)"
        raise TypeError(f"training must be a fairjax.Training, got {kind_of(training)}: {way}")
    check_data(split, axes)


def kind_of(value: Any) -> str:
    """Describe a value briefly, for messages."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, str | int | float) or value is None:
        return repr(value)
    if dataclasses.is_dataclass(value):
        return type(value).__name__
    return f"an object of type {type(value).__name__}"


def _is_pytree(value: Any) -> bool:
    """Return whether a value's type is registered as a pytree."""
    return not jax.tree_util.all_leaves([value])
