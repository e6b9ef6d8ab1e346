"""The main call: debias a trained network."""

from functools import partial

import jax

from fairjax import arguments, loop
from fairjax.methods.base import Method, Task
from fairjax.metrics import Measure
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
    arguments.check_debiasing(method, network, measure, rule)
    arguments.check_data(split)
    arguments.check_variables(variables)
    arguments.check_one_seed(split, key, "debias_many")
    return _debias(method, network, measure, rule, key, variables, split)


@partial(jax.jit, static_argnames=("network", "measure"))
def _debias(method, network: Network, measure: Measure, rule, key, variables, split) -> Debiased:
    return loop.run(method, task_of(network, measure, rule), rule, key, variables, split)


def task_of(network: Network, measure: Measure, *rules: Rule) -> Task:
    """Make the task of a network and a measure, with the data that the rules need."""
    return Task(network, measure, "pooled" if any(rule.data == "pooled" for rule in rules) else "valid")
