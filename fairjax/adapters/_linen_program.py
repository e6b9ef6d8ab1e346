"""Apply a Linen module with shifts and masks at its units."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import unfreeze
from flax.core.tracers import current_trace
from jaxtyping import Array, Float

from fairjax.adapters._bringing import positions_then_units, shifted_and_masked
from fairjax.adapters._final_activation import skip
from fairjax.adapters._heads import Head
from fairjax.adapters._linen_sites import Path, Site, at, outputs_replaced
from fairjax.adapters._slots import slot, tap
from fairjax.types import KeyArray, Variables

TRAINING_FLAGS = ("train", "training", "is_training")
"""Names of arguments of `__call__` that are true in training."""

EVALUATION_FLAGS = ("deterministic",)
"""Names of arguments of `__call__` that are false in training."""

FEATURES = "fairjax_features"
"""Collection in which the input of the last layer is stored."""


@dataclasses.dataclass(frozen=True)
class Mode:
    """Calls a module in one of its modes by the argument that sets it."""

    name: str | None

    @classmethod
    def of(cls, module: nn.Module) -> "Mode":
        """Find the argument of `__call__` that sets the mode."""
        arguments = inspect.signature(type(module).__call__).parameters
        return cls(next((name for name in (*TRAINING_FLAGS, *EVALUATION_FLAGS) if name in arguments), None))

    def __call__(self, module: Any, x: Any, train: bool) -> Any:
        """Call a bound module."""
        if self.name is None:
            return module(x)
        return module(x, **{self.name: train if self.name in TRAINING_FLAGS else not train})


@dataclasses.dataclass(frozen=True)
class Program:
    """A Linen module with its units. Programs of equal modules are equal, so that nothing compiles twice."""

    module: nn.Module
    collections: tuple[str, ...]
    call: Callable[[Any, Any, bool], Any]
    head: Head
    sites: tuple[Site, ...] = ()
    last: Path = ()
    """The layer whose input is the features."""

    def original(self, variables: Variables, x: Any) -> Any:
        """Compute the module's own outputs in evaluation mode."""
        collections: Any = {name: variables[name] for name in self.collections}
        return self.module.apply(collections, x, False, method=self.call)

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
        """Compute the module's outputs with shifts and masks, and the collections that have changed."""
        changed = [name for name in self.collections if name != "params" and key is not None]
        options: Any = {"mutable": [*changed, FEATURES] if features else changed}
        if key is not None:
            options["rngs"] = {"dropout": key, "params": jax.random.fold_in(key, 1)}
        collections: Any = {name: variables[name] for name in self.collections}
        collections["params"] = self._with_handles(collections["params"], variables["masks"], shifts, slots)
        with outputs_replaced(_Handles(self.sites, self.last if features else None)):
            outputs, updated = self.module.apply(collections, x, key is not None, method=self.call, **options)
        return outputs, dict(unfreeze(updated))

    def logits(
        self, variables: Variables, x: Any, shifts: Any = None, key: KeyArray | None = None, *, features: bool = False
    ) -> tuple[Float[Array, "n *c"], dict[str, Any]]:
        """Compute logits, and the collections that have changed."""

        def outputs(variables, x, shifts, key):
            return self.outputs(variables, x, shifts, key, features=features)

        run = skip if self.head.skipped else lambda function, *arguments: function(*arguments)
        outputs, updated = run(outputs, variables, x, shifts, key)
        return self.head(outputs), updated

    def _with_handles(self, params: Any, masks: Any, shifts: Any, slots: Any) -> Any:
        """Put masks, shifts and slots beside the parameters of their layers, where loops slice them alike."""
        for site in self.sites:
            handles: dict[str, Any] = {"_keep": stack(site, masks, True)}
            if shifts is not None:
                handles["_shift"] = stack(site, shifts, 0.0)
            if slots is not None:
                handles["_slots"] = slots[site.path]
            params = updated_at(params, site.path, handles)
        return params

    def zeroed(self, variables: Variables) -> Any:
        """Return parameters with zeros for cut units."""
        params = variables["params"]
        for site in self.sites:
            keep = stack(site, variables["masks"], True)
            own = {name: leaf for name, leaf in at(params, site.path).items() if not isinstance(leaf, dict)}
            params = updated_at(params, site.path, {name: _zeroed(leaf, keep, site) for name, leaf in own.items()})
        return params

    def activations(self, variables: Variables, x: Any) -> dict[str, Float[Array, "n ... units"]]:
        """Compute the values at all sites, 0 at cut units."""
        read = self._read_slots(variables, x)
        activations: dict[str, Any] = {}
        for site in self.sites:
            calls = [
                taps["value"].reshape(len(site.names), *taps["value"].shape[len(site.stacked) :])
                for taps in read[site.path]
            ]
            for position, name in enumerate(site.names):
                if name is not None:
                    activations[name] = positions_then_units([call[position] for call in calls])
        return activations

    def counts(self, variables: Variables, x: Any) -> dict[Path, list[Float[Array, "..."]]]:
        """Compute how often a value passes each slot; 1 if activations can be shown."""
        return {path: [taps["count"] for taps in slots] for path, slots in self._read_slots(variables, x).items()}

    def _read_slots(self, variables: Variables, x: Any) -> dict[Path, Any]:
        def total(slots):
            return jnp.sum(self.outputs(variables, x, slots=slots)[0])

        return jax.grad(total)(self._slots(variables, x))

    def _slots(self, variables: Variables, x: Any) -> dict[Path, list[Any]]:
        shapes: dict[Path, list[tuple[Any, Any]]] = {site.path: [] for site in self.sites}

        def note(module, _, output):
            if module.path in shapes:
                shapes[module.path].append((current_trace(), output))
            return output

        with outputs_replaced(note):
            jax.eval_shape(lambda: self.original(variables, x))
        slots = {}
        for site in self.sites:
            first = shapes[site.path][0][0]
            outputs = [output for trace, output in shapes[site.path] if trace == first][: site.calls]
            slots[site.path] = [slot(_merged(h.shape, site), h.dtype, site.stacked) for h in outputs]
        return slots


class _Handles:
    """Applies shifts and masks to the outputs of layers while a network is traced."""

    def __init__(self, sites: tuple[Site, ...], last: Path | None):
        self.sites = {site.path: site for site in sites}
        self.last = last
        self.traces: dict[Path, list[Any]] = {}

    def __call__(self, module: nn.Module, argument: Any, output: Any) -> Any:
        if module.path == self.last:
            module.sow(FEATURES, "input", argument)
        site = self.sites.get(module.path)
        if site is None or module.scope is None:
            return output
        shift, keep, slots = (module.scope.get_variable("params", name) for name in ("_shift", "_keep", "_slots"))
        h = shifted_and_masked(output.reshape(_merged(output.shape, site)), shift, keep)
        if slots is not None:
            h = tap(h, slots[self._number(site)])
        return h.reshape(output.shape)

    def _number(self, site: Site) -> int:
        """Return which call of a layer this is in the current trace."""
        traces, current = self.traces.setdefault(site.path, []), current_trace()
        traces.append(current)
        return (sum(trace == current for trace in traces) - 1) % site.calls


def stack(site: Site, tree: dict[str, Any], default: Any) -> Array:
    """Return a site's vectors as its parameters are stacked; those without units are filled."""
    vectors = [jnp.full(site.width, default) if name is None else jnp.asarray(tree[name]) for name in site.names]
    return jnp.stack(vectors).reshape(*site.stacked, site.width)


def updated_at(tree: Any, path: Path, entries: dict[str, Any]) -> Any:
    """Return a copy of a tree of dictionaries with entries added at a path."""
    if not path:
        return {**tree, **entries}
    return {**tree, path[0]: updated_at(tree.get(path[0], {}), path[1:], entries)}


def _merged(shape: tuple[int, ...], site: Site) -> tuple[int, ...]:
    return (*shape[: len(shape) - len(site.features)], site.width)


def _zeroed(leaf: Array, keep: Array, site: Site) -> Array:
    between = leaf.ndim - len(site.stacked) - len(site.features)
    return jnp.where(keep.reshape(*site.stacked, *[1] * between, *site.features), leaf, jnp.zeros((), leaf.dtype))
