"""What the adapters of trained networks share: the result of `bring`, the table of units, and the checks."""

import dataclasses
import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from fairjax.adapters._heads import Head
from fairjax.nn.network import ApplyFn, Network
from fairjax.types import AnyArray, KeyArray, Variables

TOLERANCE = 1e-4
"""Largest difference from the original network's outputs that is accepted, relative to outputs above 1."""

Selection = Sequence[str] | Callable[[str, Any], bool] | None
"""Which layers have units: names of layers, none for an empty list; a predicate of name and layer; or None for the
default."""


class Layer(NamedTuple):
    """A layer of the user's network, as it was called on the example."""

    name: str
    """Where the layer is in the network, such as `fcs.0`."""
    layer: Any
    """The user's layer, for predicates."""
    width: int
    """Number of units: outputs of a linear layer, channels of a convolution."""
    is_default: bool
    """Whether the layer is linear or a convolution, whose outputs are units unless others are chosen."""
    obstacle: str | None = None
    """Why a cut of this layer's units cannot be written into weights; None if zeros in its weights are enough."""


@dataclasses.dataclass(frozen=True, eq=False)
class Brought:
    """A trained network of another library as a fairjax network, with the way back."""

    network: Network
    """The network; its `init` raises, since it is not trained from scratch."""
    variables: Variables
    """Variables of the trained network: `params`, `masks` (all true) and other collections, such as statistics."""
    units: dict[str, int]
    """Number of units of each layer with units, in order of calls, named as in `masks`."""
    read: Callable[..., Variables] = dataclasses.field(repr=False)
    """Reads the collections of a model of the same structure, without `masks`."""
    write: Callable[[Variables], Any] = dataclasses.field(repr=False)
    """Writes variables into the user's own kind of model, with zeros in the weights of cut units."""
    obstacles: dict[str, str] = dataclasses.field(default_factory=dict, repr=False)
    """Reasons why cuts of some layers' units cannot be written into weights."""

    def variables_of(self, model: Any, *state: Any) -> Variables:
        """Read the variables of another model of the same structure, such as one trained from another seed.

        Args:
            model: a model as given to `bring`; only its parameters and statistics may differ.
            *state: its state, for an Equinox model that has one.

        Returns:
            Variables structured as those of this network, with masks that are all true; those of several models can be
            stacked with `jax.tree.map(lambda *leaves: jnp.stack(leaves), ...)`.

        Raises:
            ValueError: if the model has other parameters, shapes or types.
        """
        variables = {**self.read(model, *state), "masks": all_kept(self.units)}
        check_structure(self.variables, variables, "the model must have the same structure as the one brought")
        return variables

    def give_back(self, variables: Variables) -> Any:
        """Convert variables to the user's own kind of model, in which the weights and biases of cut units are 0.

        Args:
            variables: variables of one network, such as `result.variables`.

        Returns:
            What the adapter says: a model, or its state, that computes the same outputs without fairjax.

        Raises:
            ValueError: if the variables belong to another network or to several seeds, or if units are cut in a layer
                in which zeros cannot express that.
        """
        check_structure(self.variables, variables, "give_back takes the variables of one network")
        for name, keep in variables["masks"].items():
            if name in self.obstacles and not np.all(np.asarray(keep)):
                raise ValueError(
                    f"units of {name!r} are cut, which zeros in weights cannot express because {self.obstacles[name]}; "
                    "bring the network with units= that leave this layer out, or keep using it through fairjax"
                )
        return self.write(variables)


def select(calls: Sequence[Layer], units: Selection = None) -> dict[str, Layer]:
    """Choose the layers that have units, and number them in order of calls, so that sorting keeps this order.

    Args:
        calls: layers in order of calls; a layer that is called more than once appears more than once.
        units: names, which may be none, as of a linear model; a predicate of name and layer; or None for every linear
            layer and convolution except the last called.

    Returns:
        The chosen layers by numbered name, such as `00 fcs.0`.

    Raises:
        ValueError: if a name or the predicate matches no layer.
    """
    layers = {call.name: call for call in reversed(calls)}
    layers = {call.name: layers[call.name] for call in calls}  # in order of first calls
    listed = ", ".join(layers) or "none"
    if units is None:
        default = [call.name for call in calls if call.is_default]
        chosen = [name for name in layers if layers[name].is_default and name != default[-1]]
        if not chosen:
            raise ValueError(
                "the network calls no linear layer or convolution before its last: bring it without units by units=[]"
                + (f", or name the layers that have units, among {listed}" if layers else "")
            )
    elif callable(units):
        chosen = [name for name, layer in layers.items() if units(name, layer.layer)]
        if not chosen:
            raise ValueError(f"units matches no layer; the layers are {listed}")
    else:
        chosen = _named(layers, units, listed)
    digits = max(2, len(str(len(chosen) - 1)))
    return {f"{number:0{digits}d} {name}": layers[name] for number, name in enumerate(chosen)}


def _named(layers: dict[str, Layer], units: Any, listed: str) -> list[str]:
    """Return the layers that are named, with or without a number, in order of calls."""
    if isinstance(units, str):
        raise ValueError(f"units must be a list of names, a predicate or None, got {units!r}; the layers are {listed}")
    names = {name if name in layers else name.partition(" ")[2] for name in units}
    unknown = [name for name in units if name not in layers and name.partition(" ")[2] not in layers]
    if unknown:
        raise ValueError(f"units names no layer: {', '.join(map(repr, unknown))}; the layers are {listed}")
    return [name for name in layers if name in names]


def all_kept(units: dict[str, int]) -> dict[str, Bool[Array, "_"]]:
    """Make masks in which every unit is kept."""
    return {name: jnp.ones(width, bool) for name, width in units.items()}


def obstacles_of(chosen: dict[str, Layer]) -> dict[str, str]:
    """Return the reasons why cuts cannot be written into weights, by numbered name."""
    return {name: layer.obstacle for name, layer in chosen.items() if layer.obstacle is not None}


def shifted_and_masked(
    h: Float[Array, "..."], shift: Float[Array, " units"] | None, keep: Bool[Array, " units"], axis: int = -1
) -> Float[Array, "..."]:
    """Add the shifts of units to a layer's output, and set those that are cut to 0.

    Args:
        h: the layer's output.
        shift: one number per unit, shared by all rows and positions; None for 0.
        keep: the mask; true = kept.
        axis: axis of the units: -1 for channels last, 1 for channels first.
    """
    shape = [1] * h.ndim
    shape[axis] = keep.shape[0]
    if shift is not None:
        h = h + shift.astype(h.dtype).reshape(shape)
    return jnp.where(keep.reshape(shape), h, jnp.zeros((), h.dtype))


def positions_then_units(calls: Sequence[Float[Array, "n ..."]], axis: int = -1) -> Float[Array, "n ... units"]:
    """Return the activations of one layer, rows first and units last.

    Args:
        calls: shifted and masked outputs of the layer, one per call; several calls are one more axis of positions.
        axis: axis of the units.

    Raises:
        ValueError: if the layer is called several times with inputs of different shapes.
    """
    outputs = [jnp.moveaxis(h, axis, -1) for h in calls]
    if len(outputs) == 1:
        return outputs[0]
    if len({h.shape for h in outputs}) > 1:
        raise ValueError(
            "a layer is called several times with inputs of different shapes, "
            f"{', '.join(str(h.shape) for h in outputs)}, so that its activations are not one array: bring the network "
            "with units= that leave this layer out"
        )
    return jnp.stack(outputs, axis=1)


def zeroed(weight: AnyArray, keep: AnyArray, axis: int) -> Any:
    """Return a weight or bias of the same type with zeros for cut units, which lie along `axis`.

    Example:
        >>> zeroed(np.ones((2, 3)), np.array([True, False, True]), 1).tolist()
        [[1.0, 0.0, 1.0], [1.0, 0.0, 1.0]]
    """
    shape = [1] * weight.ndim
    shape[axis] = -1
    numbers = np if isinstance(weight, np.ndarray) else jnp
    keep = numbers.asarray(keep).reshape(shape)
    return numbers.where(keep, weight, numbers.zeros((), weight.dtype))


def num_rows(x: Any) -> int:
    """Return the number of rows of a tree of arrays.

    Raises:
        ValueError: if there is no array, or if the arrays' first axes differ.
    """
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(x)}
    if len(sizes) != 1 or () in sizes or (0,) in sizes:
        shapes = ", ".join(str(np.shape(leaf)) for leaf in jax.tree.leaves(x)) or "none"
        raise ValueError(f"the example must be arrays with one row or more on their first axis, found shapes {shapes}")
    return sizes.pop()[0]


def check_agreement(network: Network, variables: Variables, x: Any, original: Any, head: Head) -> None:
    """Compare a brought network with the original one on the example.

    Args:
        network: the brought network.
        variables: its variables.
        x: the example.
        original: outputs of the original network in evaluation mode, as NumPy or JAX arrays.
        head: how outputs become logits.

    Raises:
        ValueError: if outputs are not finite, have a wrong shape, differ, or depend on other rows or on chance.
    """
    head.check(original, num_rows(x))
    whole = dataclasses.replace(head, skipped=False)
    expected = whole.comparable(whole(jnp.asarray(original)))
    _check_close(
        head.comparable(_logits(network.apply, variables, x)),
        expected,
        "the brought network's outputs differ from the original's by {difference:.2g} on the example: bring the "
        "network in the mode in which it predicts, without hooks, quantisation or autocast; the cause may also be an "
        "option that the adapter does not know",
    )
    first = jax.tree.map(lambda leaf: jnp.broadcast_to(jnp.asarray(leaf)[:1], jnp.shape(leaf)), x)
    _check_close(
        head.comparable(_logits(network.apply, variables, first))[:1],
        expected[:1],
        "the network's output for a row changes by {difference:.2g} with the other rows of the example: bring it in "
        "the mode in which it predicts, where dropout is off and batch normalisation uses running statistics",
    )


def check_zeroed(network: Network, variables: Variables, zeroed_variables: Variables, x: Any) -> None:
    """Check that zeros in weights have the same effect as masks on the example.

    Args:
        network: the brought network.
        variables: variables with masks.
        zeroed_variables: the same with zeros in the weights of cut units; their masks are ignored.
        x: the example.

    Raises:
        ValueError: if the outputs differ, because another layer uses the same weights or the layer does not return 0.
    """
    kept = {**zeroed_variables, "masks": jax.tree.map(lambda keep: jnp.ones(keep.shape, bool), variables["masks"])}
    _check_close(
        _logits(network.apply, kept, x),
        _logits(network.apply, variables, x),
        "zeros in the weights of the cut units change the outputs on the example by {difference:.2g}: another layer "
        "uses the same weights, or a layer with cut units does not return 0 for them; bring the network with units= "
        "that leave this layer out, or keep using it through fairjax",
    )


@functools.partial(jax.jit, static_argnums=0)
def _logits(apply: ApplyFn, variables: Variables, x: Any) -> Array:
    """Compute logits; compiled once per network and shape of the example."""
    return apply(variables, x)[0]


def _check_close(outputs: AnyArray, expected: AnyArray, message: str) -> None:
    outputs, expected = np.asarray(outputs, np.float64), np.asarray(expected, np.float64)
    if outputs.shape != expected.shape:
        raise ValueError(f"the brought network has outputs of shape {outputs.shape}, the original {expected.shape}")
    difference = np.max(np.abs(outputs - expected))
    if not difference <= TOLERANCE * max(1.0, np.max(np.abs(expected))):
        raise ValueError(message.format(difference=difference))


def check_structure(expected: Variables, variables: Variables, rule: str) -> None:
    """Check that variables have the names, shapes and types of others.

    Args:
        expected: the variables of the brought network.
        variables: those to check.
        rule: start of the message, which says what they should be.

    Raises:
        ValueError: naming the first difference; if all arrays have one more axis, that these are several seeds.
    """
    expected_leaves, leaves = _by_path(expected), _by_path(variables)
    for path in [*expected_leaves, *leaves]:
        if path not in leaves or path not in expected_leaves:
            raise ValueError(f"{rule}, but {path} is {'missing' if path not in leaves else 'not part of it'}")
    pairs = {path: (expected_leaves[path], leaves[path]) for path in expected_leaves}
    if pairs and all(np.shape(found)[1:] == np.shape(leaf) and np.ndim(found) for leaf, found in pairs.values()):
        count = {np.shape(found)[0] for _, found in pairs.values()}
        if len(count) == 1:
            raise ValueError(
                f"{rule}, but these hold {count.pop()} seeds: choose one with "
                "jax.tree.map(lambda leaf: leaf[i], variables)"
            )
    for path, (leaf, found) in pairs.items():
        if np.shape(found) != np.shape(leaf) or jnp.result_type(found) != jnp.result_type(leaf):
            raise ValueError(
                f"{rule}, but {path} has shape {np.shape(found)} and type {jnp.result_type(found)}, expected "
                f"{np.shape(leaf)} and {jnp.result_type(leaf)}"
            )


def _by_path(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


@dataclasses.dataclass(frozen=True)
class TrainedInit:
    """The `init` of a brought network, which raises."""

    framework: str

    def __call__(self, key: KeyArray, x: Any) -> NoReturn:
        """Refuse to initialise variables."""
        raise ValueError(
            f"a network brought from {self.framework} is already trained and has no initialisation: pass its "
            "variables, brought.variables, to the method, or train it in its own library"
        )


def extra(name: str, adapter: str | None = None) -> Any:
    """Import a library that is an optional dependency.

    Args:
        name: the library.
        adapter: the adapter that needs it, which is also the name of the extra; that of the library if omitted.

    Raises:
        ImportError: naming what to install.
    """
    adapter = name if adapter is None else adapter
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"fairjax.adapters.{adapter} needs {name}, which cannot be imported ({error}): pip install "
            f'"fairjax[{adapter}]"'
        ) from error
