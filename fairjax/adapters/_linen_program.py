"""Apply a Linen module with shifts and masks at its units."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import unfreeze
from flax.core.tracers import current_trace
from jaxtyping import Array, Float

from fairjax.adapters._bringing import shifted_and_masked
from fairjax.adapters._final_activation import skip
from fairjax.adapters._heads import Head
from fairjax.adapters._linen_layers import at, outputs_replaced
from fairjax.adapters._sites import Counter, Path, Site, activations_of, merged, slots_of, stack, zeroed_features
from fairjax.adapters._slots import tap
from fairjax.random import vectorised
from fairjax.types import KeyArray, Variables

FEATURES = "fairjax_features"
"""Collection in which the input of the last layer is stored."""


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
            options["rngs"] = {"dropout": vectorised(key), "params": jax.random.fold_in(key, 1)}
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
            params = updated_at(
                params, site.path, {name: zeroed_features(leaf, keep, site) for name, leaf in own.items()}
            )
        return params

    def activations(self, variables: Variables, x: Any) -> dict[str, Float[Array, "n ... units"]]:
        """Compute the values at all sites, 0 at cut units."""
        return activations_of(self.sites, self.read_slots(variables, x))

    def read_slots(self, variables: Variables, x: Any) -> dict[Path, Any]:
        """Compute the values at all sites and how often they pass, per call."""

        def total(slots):
            return jnp.sum(self.outputs(variables, x, slots=slots)[0])

        return jax.grad(total)(self._slots(variables, x))

    def _slots(self, variables: Variables, x: Any) -> dict[Path, list[Any]]:
        outputs: list[tuple[Path, Any, Any]] = []

        def note(module, _, output):
            outputs.append((module.path, current_trace(), output))
            return output

        with outputs_replaced(note):
            jax.eval_shape(lambda: self.original(variables, x))
        return slots_of(self.sites, outputs)


class _Handles:
    """Applies shifts and masks to the outputs of layers while a network is traced."""

    def __init__(self, sites: tuple[Site, ...], last: Path | None):
        self.sites = {site.path: site for site in sites}
        self.last = last
        self.counter = Counter()

    def __call__(self, module: nn.Module, argument: Any, output: Any) -> Any:
        if module.path == self.last:
            module.sow(FEATURES, "input", argument)
        site = self.sites.get(module.path)
        if site is None or module.scope is None:
            return output
        shift, keep, slots = (module.scope.get_variable("params", name) for name in ("_shift", "_keep", "_slots"))
        h = shifted_and_masked(output.reshape(merged(output.shape, site)), shift, keep)
        if slots is not None:
            h = tap(h, slots[self.counter.number(site, current_trace())])
        return h.reshape(output.shape)


def updated_at(tree: Any, path: Path, entries: dict[str, Any]) -> Any:
    """Return a copy of a tree of dictionaries with entries added at a path."""
    if not path:
        return {**tree, **entries}
    return {**tree, path[0]: updated_at(tree.get(path[0], {}), path[1:], entries)}
