"""Linear probes: how well the protected attribute can be read from the activations of each layer."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from fairjax import checks
from fairjax.detect.concepts.logistic import logistic_regression
from fairjax.detect.concepts.sites import ByLayer, chosen_layers, map_layers, unit_activations
from fairjax.detect.rows import CHUNK, num_rows
from fairjax.metrics import balanced_accuracy
from fairjax.metrics.ranking import area_under_curve
from fairjax.nn.network import Network
from fairjax.types import Inputs, Number, Rows, Variables

INPUT_COLUMNS = 2000
"""Maximum number of columns of an input that is probed: the regression takes memory of their number squared."""


class ProbeQuality(NamedTuple):
    """Quality of one probe on rows that it has not seen; NaN if it could not be computed."""

    balanced_accuracy: Float[Array, "..."]
    """Mean share of rows recognised in each group; 0.5 is chance."""
    auc: Float[Array, "..."]
    """Area under the ROC curve; 0.5 is chance."""
    converged: Bool[Array, "..."]
    """Whether the regression converged; if not, both numbers are NaN."""


class Probes(NamedTuple):
    """Probes of the layers of a network, and what they are compared with."""

    layers: dict[str, ProbeQuality]
    """The probe of each layer."""
    input: ProbeQuality
    """The same probe of the network's input; NaN if the input holds codes, such as tokens, or is wider than
    `INPUT_COLUMNS`, as large images are."""
    untrained: dict[str, ProbeQuality] | None
    """The same probe of each layer of a network with random weights; None if none was given."""


def probe(
    network: Network,
    variables: Variables,
    train: Rows,
    test: Rows,
    *,
    untrained: Variables | None = None,
    layers: Sequence[str] | None = None,
    penalty: Number = 1.0,
    chunk: int | None = CHUNK,
) -> Probes:
    """Predict the protected attribute from the activations of every layer, by logistic regressions.

    The regressions are fitted on the rows `train`, in which both groups have equal total weight, and evaluated on the
    rows `test`. Activations at several positions, of images or sequences, are averaged over positions first. Compare a
    layer with the input, from which it is computed, and with the same layer of an untrained network: that a layer
    encodes an attribute does not mean that the network has learned it, nor that it uses it; for that see `tcav`.

    Activations are used on their own scale, so the penalty matters more in a layer of small activations.

    Args:
        network: the network, with `activations`; used in evaluation mode.
        variables: the network's variables.
        train: rows to fit the probes on; `a` is what they predict, in two groups. For another attribute or one of
            several groups, pass `batch._replace(a=batch.a == 3)`.
        test: rows to evaluate the probes on; weights of rows are not used.
        untrained: variables with random weights, such as `network.init(key, train.x)`, or of a network that was
            brought, `brought.variables_of(new_model)`. The units that are cut are those of `variables`.
        layers: names of layers; all of them if omitted.
        penalty: as for `logistic_regression`.
        chunk: number of rows that are computed at a time.

    Returns:
        Balanced accuracy and AUC of each layer, of the input, and of the untrained network; `probe_table` shows them.

    Raises:
        ValueError: if a layer does not exist, a group has no rows in one of the parts, or there are not two groups.

    Example:
        >>> from fairjax.nn import Mlp, from_linen
        >>> from fairjax.types import Batch
        >>> network, x = from_linen(Mlp(widths=(3,))), jax.random.normal(jax.random.key(0), (60, 2))
        >>> variables = network.init(jax.random.key(1), x)
        >>> train, test = (Batch(part, part[:, 1] > 0, part[:, 0] > 0) for part in (x[:40], x[40:]))
        >>> probes = probe(network, variables, train, test)
        >>> bool(probes.input.auc > 0.9), list(probes.layers)
        (True, ['hidden_00'])

    References:
        Alain and Bengio (2017), Understanding intermediate layers using linear classifier probes, ICLR workshop;
        Hewitt and Liang (2019), Designing and interpreting probes with control tasks, EMNLP, for comparisons.
    """
    chosen = chosen_layers(network, variables, layers)
    groups, validity = zip(
        *(two_groups(f"{name}.a", part) for name, part in (("train", train), ("test", test))), strict=True
    )
    activations = [
        unit_activations(network, values, part.x, layers=chosen, chunk=chunk)
        for values in (variables, *([] if untrained is None else [{**untrained, "masks": variables["masks"]}]))
        for part in (train, test)
    ]
    sources: dict[str, Any] = {f"trained {name}": (activations[0][name], activations[1][name]) for name in chosen}
    if untrained is not None:
        sources |= {f"untrained {name}": (activations[2][name], activations[3][name]) for name in chosen}
    if num_columns(train.x) <= INPUT_COLUMNS:
        inputs = tuple(input_columns(part.x) for part in (train, test))
        if inputs[0] is not None:
            sources["input"] = inputs
    valid = checks.all_valid(*validity)
    qualities = _qualities(sources, *groups, jnp.asarray(penalty), jnp.array(True) if valid is None else valid)
    nothing = jnp.full((), jnp.nan)
    return Probes(
        {name: qualities[f"trained {name}"] for name in chosen},
        qualities.get("input", ProbeQuality(nothing, nothing, jnp.array(False))),
        None if untrained is None else {name: qualities[f"untrained {name}"] for name in chosen},
    )


def two_groups(name: str, batch: Rows) -> tuple[Bool[Array, " n"], Bool[Array, ""] | None]:
    """Check that rows belong to two groups, and that both have rows.

    Args:
        name: name of the column in messages.
        batch: the rows.

    Returns:
        The groups as booleans; and whether they are valid if they are traced, else None.

    Raises:
        ValueError: if there are other groups than 0 and 1, or one of them has no rows.
    """
    column = checks.numeric(name, batch.a)
    if column.ndim != 1 or column.shape[0] != num_rows(batch.x):
        raise ValueError(
            f"{name} must hold one of two groups per row of x, {num_rows(batch.x)}, found shape {column.shape}: for "
            "more groups, probe one against the others, batch._replace(a=batch.a == 3)"
        )
    groups, valid = checks.indicator(name, column)
    if not isinstance(groups, Tracer):
        ones = int(np.asarray(groups).sum())
        if ones in (0, groups.size):
            raise ValueError(f"{name} must have rows of both groups, found {ones} of group 1 among {groups.size}")
    return groups, valid


def num_columns(x: Inputs) -> int:
    """Return the number of columns that inputs have as one matrix.

    Example:
        >>> num_columns({"age": jnp.ones(2), "image": jnp.ones((2, 3, 3), jnp.uint8)})
        10
    """
    return sum(math.prod(jnp.shape(leaf)[1:]) for leaf in jax.tree.leaves(x))


def input_columns(x: Inputs) -> Float[Array, "n d"] | None:
    """Arrange inputs as one matrix of numbers; None if there are codes among them, which are not quantities.

    Floats, booleans and bytes of images are numbers; other integers are treated as codes.

    Example:
        >>> input_columns({"age": jnp.ones(2), "image": jnp.ones((2, 3, 3), jnp.uint8)}).shape
        (2, 10)
    """
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(x)]
    if any(jnp.issubdtype(leaf.dtype, jnp.integer) and leaf.dtype != jnp.uint8 for leaf in leaves):
        return None
    columns = [checks.floating(leaf).reshape(leaf.shape[0], -1) for leaf in leaves]
    dtype = jnp.result_type(*columns)
    return jnp.concatenate([column.astype(dtype) for column in columns], axis=1)


@jax.jit
def _qualities(
    sources: ByLayer,
    train: Bool[Array, " n"],
    test: Bool[Array, " m"],
    penalty: Float[Array, ""],
    valid: Bool[Array, ""],
) -> dict[str, ProbeQuality]:
    def of_layer(parts: tuple[Array, Array]) -> ProbeQuality:
        h, held_out = parts
        regression = logistic_regression(h, train, weights="balanced", penalty=penalty.astype(h.dtype))
        logits = regression.decision_function(held_out)
        usable = regression.converged & valid & jnp.any(test) & jnp.any(~test)
        accuracy, auc = balanced_accuracy(logits > 0, test), area_under_curve(logits, test)
        return ProbeQuality(
            jnp.where(usable, accuracy, jnp.nan), jnp.where(usable, auc, jnp.nan), regression.converged & valid
        )

    return map_layers(of_layer, sources)
