"""Apply an NNX module with shifts and masks at its units."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from fairjax.adapters._final_activation import skip
from fairjax.adapters._heads import Head
from fairjax.adapters._nnx_layers import Handle, Placement, at, callable_layers, handled, record
from fairjax.adapters._sites import Call, Counter, Path, Site, activations_of, slots_of, stack, zeroed_features
from fairjax.random import vectorised
from fairjax.types import KeyArray, Variables

FILTERS = {"params": nnx.Param, "batch_stats": nnx.BatchStat, "rngs": nnx.RngState, "state": ...}
"""Types of variables in each collection, in the order in which they are filtered."""


@dataclasses.dataclass(frozen=True)
class Collection:
    """Structure of an `nnx.State`, which is converted to nested dictionaries and back."""

    structure: Any
    paths: tuple[tuple[str, ...], ...]
    """Path of each leaf."""

    @classmethod
    def of(cls, state: Any) -> "Collection":
        """Read the structure of a state."""
        leaves, structure = jax.tree_util.tree_flatten_with_path(state)
        return cls(structure, tuple(_path(path) for path, _ in leaves))

    def state(self, tree: Any) -> Any:
        """Convert nested dictionaries to a state."""
        leaves = [_get(tree, path) for path in self.paths]
        return jax.tree.unflatten(self.structure, leaves)


def nested(state: Any) -> dict[str, Any]:
    """Convert a state to nested dictionaries of arrays, whose keys are strings."""
    tree: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        *parents, name = _path(path)
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = jnp.asarray(leaf)
    return tree


def _path(path: tuple[Any, ...]) -> tuple[str, ...]:
    """Return a path as strings, without the attribute in which a variable has its value."""
    names = path[:-1] if isinstance(path[-1], jax.tree_util.GetAttrKey) else path
    return tuple(str(getattr(name, "key", getattr(name, "idx", getattr(name, "name", name)))) for name in names)


def _get(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


@dataclasses.dataclass(frozen=True)
class Streams:
    """Structure of the random state of a module."""

    structure: Any
    shapes: tuple[tuple[tuple[int, ...], Any], ...]
    """Shape of each leaf, and its type if it is a counter, or None if it is a key."""

    @classmethod
    def of(cls, state: Any) -> "Streams":
        """Read the structure of random state."""
        leaves, structure = jax.tree.flatten(state)
        keys = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
        return cls(
            structure,
            tuple((leaf.shape, None if is_key else leaf.dtype) for leaf, is_key in zip(leaves, keys, strict=True)),
        )

    def state(self, key: KeyArray | None) -> Any:
        """Make random state in which the key is folded into every key; a fixed one in evaluation mode."""
        key = jax.random.key(0) if key is None else vectorised(key)
        leaves = []
        for number, (shape, dtype) in enumerate(self.shapes):
            own = jax.random.fold_in(key, number)
            one = own if shape == () else jax.random.split(own, shape)
            leaves.append(one if dtype is None else jnp.zeros(shape, dtype))
        return jax.tree.unflatten(self.structure, leaves)


@dataclasses.dataclass(frozen=True)
class Program:
    """An NNX module with its units. Programs of modules of equal structure are equal, and compile once."""

    evaluation: Any
    """Structure of the module in evaluation mode, an `nnx.GraphDef`."""
    training: Any
    """Its structure in training mode."""
    collections: tuple[tuple[str, Collection], ...]
    streams: Streams
    call: Callable[[Any, Any, bool], Any]
    head: Head
    sites: tuple[Site, ...] = ()
    last: Path = ()
    """The layer whose input is the features."""

    @classmethod
    def of(cls, model: Any, call: Callable[[Any, Any, bool], Any], head: Head) -> "Program":
        """Read the structure of a module."""
        copy = nnx.clone(model)
        copy.train()
        training = nnx.graphdef(copy)
        copy.eval()
        evaluation, *states = nnx.split(copy, *FILTERS.values())
        parts = dict(zip(FILTERS, states, strict=True))
        streams = Streams.of(parts.pop("rngs"))
        collections = tuple((name, Collection.of(state)) for name, state in parts.items() if _is_used(name, state))
        return cls(evaluation, training, collections, streams, call, head)

    def states(self, variables: Variables) -> list[Any]:
        """Return the states of all collections."""
        return [collection.state(variables[name]) for name, collection in self.collections]

    def model(self, variables: Variables, key: KeyArray | None = None) -> Any:
        """Return the module with given variables, in training mode if there is a key."""
        graphdef = self.evaluation if key is None else self.training
        return nnx.merge(graphdef, *self.states(variables), self.streams.state(key))

    def record(self, variables: Variables, x: Any) -> list[Call]:
        """Record the calls of layers on an example."""
        graphdef, state = nnx.split(self.model(variables))
        layers = callable_layers(nnx.merge(graphdef, state))
        return record(layers, lambda model: self.call(model, x, False), graphdef, state)

    def outputs(
        self,
        variables: Variables,
        x: Any,
        shifts: Any = None,
        key: KeyArray | None = None,
        *,
        slots: Any = None,
        features: bool = False,
    ) -> tuple[Any, dict[str, Any]]:
        """Compute the module's outputs with shifts and masks; collections that have changed, and the features."""
        model = self.model(variables, key)
        self._place(model, variables["masks"], shifts, slots, features)
        outputs = self.call(model, x, key is not None)
        updated: dict[str, Any] = {}
        if key is not None:
            parts = dict(zip(FILTERS, nnx.split(model, *FILTERS.values())[1:], strict=True))
            for name, collection in self.collections:
                if name != "params":
                    changed = nested(parts[name])
                    updated[name] = nested(collection.state(changed))
        if features:
            updated["features"] = at(model, self.last).fairjax_input.get_value()
        return outputs, updated

    def logits(
        self, variables: Variables, x: Any, shifts: Any = None, key: KeyArray | None = None, *, features: bool = False
    ) -> tuple[Float[Array, "n *c"], dict[str, Any]]:
        """Compute logits; collections that have changed, and the features."""

        def outputs(variables, x, shifts, key):
            return self.outputs(variables, x, shifts, key, features=features)

        run = skip if self.head.skipped else lambda function, *arguments: function(*arguments)
        outputs, updated = run(outputs, variables, x, shifts, key)
        return self.head(outputs), updated

    def _place(self, model: Any, masks: Any, shifts: Any, slots: Any, features: bool) -> None:
        """Give layers their masks, shifts and slots."""
        sites, counter = {site.path: site for site in self.sites}, Counter()
        paths: dict[Path, None] = dict.fromkeys([*sites, *([self.last] if features else [])])
        for path in paths:
            layer, site = at(model, path), sites.get(path)
            layer.__class__ = handled(type(layer))
            layer.fairjax_placement = nnx.static(Placement(site, counter, features and path == self.last))
            if site is None:
                continue
            layer.fairjax_keep = Handle(stack(site, masks, True))
            if shifts is not None:
                layer.fairjax_shift = Handle(stack(site, shifts, 0.0))
            if slots is not None:
                layer.fairjax_slots = nnx.List([Handle(one) for one in slots[path]])

    def check_loops(self, variables: Variables, x: Any) -> None:
        """Check that loops over layers slice parameters on their leading axis, by an entry with sizes of its own.

        Raises:
            ValueError: naming a layer of which that is not true.
        """
        largest = max(size for leaf in jax.tree.leaves(variables["params"]) for size in leaf.shape)
        for site in self.sites:
            if site.stacked:
                try:
                    jax.eval_shape(lambda site=site: self._probed(variables, x, site, largest + 1))
                except ValueError as error:
                    raise ValueError(
                        f"the parameters of {'.'.join(map(str, site.path))} are stacked by nnx.scan or nnx.vmap on "
                        "another axis than the first: leave this layer out with units=, or stack on axis 0"
                    ) from error

    def _probed(self, variables: Variables, x: Any, site: Site, size: int) -> Any:
        model = self.model(variables)
        at(model, site.path).fairjax_keep = Handle(jnp.zeros((*site.stacked, size)))
        return self.call(model, x, False)

    def zeroed(self, variables: Variables) -> Any:
        """Return parameters with zeros for cut units."""
        params = variables["params"]
        for site in self.sites:
            keep = stack(site, variables["masks"], True)
            params = _map_at(
                params, tuple(map(str, site.path)), lambda leaf, k=keep, s=site: zeroed_features(leaf, k, s)
            )
        return params

    def activations(self, variables: Variables, x: Any) -> dict[str, Float[Array, "n ... units"]]:
        """Compute the values at all sites, 0 at cut units."""
        return activations_of(self.sites, self.read_slots(variables, x))

    def read_slots(self, variables: Variables, x: Any) -> dict[Path, Any]:
        """Compute the values at all sites and how often they pass, per call."""
        calls = self.record(variables, x)
        dtype = {call.path: call.dtype for call in calls}
        shapes = [(call.path, call.trace, jax.ShapeDtypeStruct(call.shape, dtype[call.path])) for call in calls]

        def total(slots):
            return jnp.sum(self.outputs(variables, x, slots=slots)[0])

        return jax.grad(total)(slots_of(self.sites, shapes))


def _is_used(name: str, state: Any) -> bool:
    return name == "params" or bool(jax.tree.leaves(state))


def _map_at(tree: Any, path: tuple[str, ...], function: Callable[[Any], Any]) -> Any:
    """Apply a function to the arrays of a tree at a path, not to those further inside."""
    if path:
        return {**tree, path[0]: _map_at(tree[path[0]], path[1:], function)}
    return {name: leaf if isinstance(leaf, dict) else function(leaf) for name, leaf in tree.items()}
