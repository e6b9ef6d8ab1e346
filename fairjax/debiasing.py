"""The main call: debias a trained network."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax

from fairjax import loop, selection
from fairjax.methods import METHODS
from fairjax.methods.base import Method, Task
from fairjax.metrics import MEASURES, Measure
from fairjax.nn.network import Network
from fairjax.result import Debiased
from fairjax.selection import ConstrainedObjective, Rule
from fairjax.types import KeyArray, Split, Variables


def debias(
    method: Method,
    network: Network,
    measure: Measure,
    variables: Variables,
    split: Split,
    *,
    key: KeyArray,
    rule: Rule | None = None,
) -> Debiased:
    """Debias a trained network.

    The method proposes candidates, the first of which is the original network. The decision threshold of each candidate
    is tuned on validation data, and the candidate that the rule scores highest is kept. The whole run is one compiled
    program and a pure function of its arrays: map it over seeds with `jax.vmap`, or use `debias_many`.

    Args:
        method: the method and its hyperparameters, such as `Pruning()`; see `METHODS`.
        network: the classifier, such as `from_linen(module)`.
        measure: the measure of bias, such as `spd`; see `MEASURES`.
        variables: the trained network's variables, structured as those from `network.init`.
        split: the data, from `fairjax.data.split`.
        key: random key of the method, from `jax.random.key`.
        rule: the rule that selects a candidate; `ConstrainedObjective()`, Eq. 3 of the first paper, if omitted.

    Returns:
        The selected network with its threshold. When printed, it shows what was selected, bias and accuracy before and
        after, and whether the bound was met; `decide(x)` makes decisions for new rows.

    Raises:
        TypeError: if an argument has the wrong type; the message explains how to correct it.
        ValueError: if the method does not support the number of groups or classes, or the data are invalid.

    Example:
        >>> import jax.numpy as jnp
        >>> from fairjax import Mlp, Pruning, data, from_linen, spd
        >>> x = jax.random.normal(jax.random.key(0), (60, 3))
        >>> split = data.split(jax.random.key(1), x, x[:, 0] > 0, jnp.arange(60) % 2)
        >>> network = from_linen(Mlp(widths=(4,)))
        >>> variables = network.init(jax.random.key(2), x)
        >>> result = debias(Pruning(units=2), network, spd, variables, split, key=jax.random.key(3))
        >>> result.trace.valid.bias.shape, result.decide(x).shape
        ((3,), (60,))

    References:
        Marcinkevičs, Ozkan, Vogt (2022), Debiasing Neural Networks using Differentiable Classification Parity
        Proxies, ICLR 2022 Workshop on Socially Responsible Machine Learning.
    """
    rule = ConstrainedObjective() if rule is None else rule
    check_arguments(method, network, measure, rule)
    check_data(variables, split)
    return _debias(method, network, measure, rule, key, variables, split)


@partial(jax.jit, static_argnames=("network", "measure"))
def _debias(method, network: Network, measure: Measure, rule, key, variables, split) -> Debiased:
    return loop.run(method, task_of(network, measure, rule), rule, key, variables, split)


def task_of(network: Network, measure: Measure, *rules: Rule) -> Task:
    """Make the task of a network and a measure, with the data that the rules need."""
    return Task(network, measure, "pooled" if any(rule.data == "pooled" for rule in rules) else "valid")


def check_arguments(method: Any, network: Any, measure: Any, rule: Any) -> None:
    """Check the types of method, network, measure and rule.

    Raises:
        TypeError: naming the argument and how to correct it.
    """
    if not isinstance(method, Method):
        if isinstance(method, type) and issubclass(method, Method):
            way = f"pass an instance, {method.__name__}()"
        elif isinstance(method, str):
            way = f"pass METHODS[{method!r}]()" if method in METHODS else METHODS.unknown(method)
        else:
            way = f"pass one such as {METHODS['pruning'].__name__}()"
        raise TypeError(f"method must be a fairjax.Method, got {_kind(method)}: {way}")
    check_network(network)
    if not callable(measure) or isinstance(measure, type):
        known = isinstance(measure, str) and measure in MEASURES
        way = f"pass fairjax.MEASURES[{measure!r}]" if known else f"the measures are {', '.join(MEASURES)}"
        raise TypeError(f"measure must be a function of (values, y, a), got {_kind(measure)}: {way}")
    if isinstance(rule, type) or not isinstance(rule, Rule):
        way = (
            f"pass an instance, {rule.__name__}()"
            if isinstance(rule, type)
            else "the rules are " + ", ".join(kind.__name__ + "()" for kind in selection.RULES.values())
        )
        raise TypeError(f"rule must be a selection rule, got {_kind(rule)}: {way}")
    if rule.data == "pooled" and not hasattr(rule, "pool"):
        raise TypeError(f"{type(rule).__name__} looks at train data too, so it must have a function pool(valid, train)")


def check_data(variables: Any, split: Any) -> None:
    """Check the types of a network's variables and of the data.

    Raises:
        TypeError: naming the argument and how to correct it.
    """
    check_split(split)
    found = list(variables) if isinstance(variables, Mapping) else [_kind(variables)]
    missing = [name for name in ("params", "masks") if name not in found]
    if missing:
        raise TypeError(
            f"variables must have {' and '.join(missing)}, got {', '.join(map(str, found)) or 'nothing'}: pass what "
            "network.init makes or fit returns, with all collections"
        )


def check_split(split: Any) -> None:
    """Check that the data are a split.

    Raises:
        TypeError: naming the type found and how to correct it.
    """
    if not isinstance(split, Split):
        raise TypeError(f"split must be a fairjax.Split, got {_kind(split)}: make it with fairjax.data.split")


def check_network(network: Any) -> None:
    """Check that a network is a pair of functions.

    Raises:
        TypeError: naming the type found and how to correct it.
    """
    if not isinstance(network, Network):
        linen = hasattr(network, "init") and hasattr(network, "apply")
        way = "pass fairjax.from_linen(module)" if linen else "give its functions, fairjax.Network(init, apply)"
        raise TypeError(f"network must be a fairjax.Network, got {_kind(network)}: {way}")


def _kind(value: Any) -> str:
    """Describe a value briefly, for messages."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, str | int | float) or value is None:
        return repr(value)
    if dataclasses.is_dataclass(value):
        return type(value).__name__
    return f"a {type(value).__name__}"
