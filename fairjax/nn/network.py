"""Network: a classifier as pure functions that initialise and apply its variables."""

import dataclasses
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from fairjax.metrics import probabilities
from fairjax.nn.layers import RECORDED
from fairjax.types import Inputs, KeyArray, Variables


@runtime_checkable
class InitFn(Protocol):
    """Function that initialises the variables of a network."""

    def __call__(self, key: KeyArray, x: Inputs) -> Variables:
        """Initialise variables, with `masks` all true, for inputs shaped like `x`."""
        ...


@runtime_checkable
class ApplyFn(Protocol):
    """Function that applies a network."""

    def __call__(
        self,
        variables: Variables,
        x: Inputs,
        *,
        shifts: PyTree[Float[Array, "_"]] | None = None,
        key: KeyArray | None = None,
    ) -> tuple[Float[Array, "n *c"], Variables]:
        """Compute the logits of the rows, (n,) for two classes and (n, classes) for more, and updated variables.

        Args:
            variables: variables, structured as those from `init`.
            x: features of n rows, standardised if the data have a scaler.
            shifts: a tree like `variables["masks"]`; each shift is added to its unit for every row.
            key: random key for training mode (dropout, batch statistics, updates of running statistics); evaluation
                mode if omitted.
        """
        ...


@runtime_checkable
class FeaturesFn(Protocol):
    """Function that applies a network and also returns the input of its last layer."""

    def __call__(
        self,
        variables: Variables,
        x: Inputs,
        *,
        shifts: PyTree[Float[Array, "_"]] | None = None,
        key: KeyArray | None = None,
    ) -> tuple[Float[Array, "n k"], Float[Array, "n *c"], Variables]:
        """Compute the input of the last layer, the logits, and updated variables.

        Args:
            variables: variables, structured as those from `init`.
            x: features of n rows, standardised if the data have a scaler.
            shifts: as for `ApplyFn`; only `fairjax.nn.with_head` needs them.
            key: random key for training mode; evaluation mode if omitted.
        """
        ...


@runtime_checkable
class ActivationsFn(Protocol):
    """Function that computes the activations of all units."""

    def __call__(self, variables: Variables, x: Inputs) -> PyTree[Float[Array, "n ..."]]:
        """Compute the activations at the sites of the units, in evaluation mode; 0 at units that are cut.

        Args:
            variables: variables, structured as those from `init`.
            x: features of n rows.

        Returns:
            A tree like `variables["masks"]`. Each array has one entry per row on its first axis and one entry per unit
            on its last; the axes between them are positions, such as those of an image or of a sequence.
        """
        ...


class Network(NamedTuple):
    """A classifier as two to four pure functions.

    Networks of any library can be used: with functions of these signatures, whose variables are a dictionary with at
    least `params` (all learned parameters) and `masks` (a tree of booleans, one per unit; true = kept), fairjax can
    measure, prune and fine-tune the network. Create the tuple only once: its hash identifies compiled programs.
    """

    init: InitFn
    apply: ApplyFn
    features: FeaturesFn | None = None
    """Needed only by methods that use the last hidden layer, such as `fairjax.AdversarialFineTuning`."""
    activations: ActivationsFn | None = None
    """Needed only by what looks at the activations of hidden units."""


def from_linen(module: nn.Module) -> Network:
    """Make a network from a Linen module whose `__call__(x, *, train)` returns logits (n,) and whose units are `Units`.

    Args:
        module: a Linen module; it may use the collections `params`, `batch_stats` and `masks`, and the stream
            `dropout`. For methods that use the last hidden layer h, it must call
            `self.sow("intermediates", "features", h)`. For its activations, it must call its `Units` with them.

    Returns:
        The network. Two calls with equal modules give equal networks, so no program compiles twice.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from fairjax.nn import Mlp
        >>> network = from_linen(Mlp(widths=(4, 4)))
        >>> variables = network.init(jax.random.key(0), jnp.ones((2, 3)))
        >>> network.apply(variables, jnp.ones((2, 3)))[0].shape
        (2,)
    """
    return Network(_LinenInit(module), _LinenApply(module), _LinenFeatures(module), _LinenActivations(module))


@dataclasses.dataclass(frozen=True)  # not a tuple, since jit needs functions that support weak references
class _LinenInit:
    module: nn.Module

    def __call__(self, key: KeyArray, x: Inputs) -> Variables:
        variables = dict(self.module.init(key, x, train=False))
        variables.pop("perturbations", None)  # used for gradients only, neither trained nor saved
        return variables


@dataclasses.dataclass(frozen=True)
class _LinenApply:
    module: nn.Module

    def __call__(
        self,
        variables: Variables,
        x: Inputs,
        *,
        shifts: PyTree[Float[Array, "_"]] | None = None,
        key: KeyArray | None = None,
    ) -> tuple[Float[Array, "n *c"], Variables]:
        collections: Any = variables if shifts is None else {**variables, "perturbations": shifts}
        if key is None:
            return cast(Array, self.module.apply(collections, x, train=False)), variables
        options: Any = {"train": True, "rngs": {"dropout": key}, "mutable": ["batch_stats"]}
        logits, updated = self.module.apply(collections, x, **options)
        return cast(Array, logits), {**variables, **updated}


@dataclasses.dataclass(frozen=True)
class _LinenFeatures:
    module: nn.Module

    def __call__(
        self,
        variables: Variables,
        x: Inputs,
        *,
        shifts: PyTree[Float[Array, "_"]] | None = None,
        key: KeyArray | None = None,
    ) -> tuple[Float[Array, "n k"], Float[Array, "n *c"], Variables]:
        collections: Any = variables if shifts is None else {**variables, "perturbations": shifts}
        options: Any = {"train": False} if key is None else {"train": True, "rngs": {"dropout": key}}
        changed = ["intermediates"] if key is None else ["intermediates", "batch_stats"]
        logits, updated = self.module.apply(collections, x, mutable=changed, **options)
        updated = dict(cast(Variables, updated))
        sown = updated.pop("intermediates", {})
        if "features" not in sown:
            raise ValueError(
                f"{type(self.module).__name__} does not expose its last hidden layer h, which this method needs; call "
                'self.sow("intermediates", "features", h) in it'
            )
        return sown["features"][0], cast(Array, logits), {**variables, **updated}


@dataclasses.dataclass(frozen=True)
class _LinenActivations:
    module: nn.Module

    def __call__(self, variables: Variables, x: Inputs) -> PyTree[Float[Array, "n ..."]]:
        _, updated = self.module.apply(variables, x, train=False, mutable=["intermediates"])
        recorded = cast(Any, updated).get("intermediates", {})

        def at_site(path: Any, keep: Any) -> Array:
            branch = recorded
            for entry in path[:-1]:
                branch = branch.get(entry.key, {})
            if RECORDED not in branch:
                name = ".".join(str(entry.key) for entry in path[:-1]) or "its units"
                raise ValueError(
                    f"{type(self.module).__name__} does not show the activations of {name}: call "
                    "Units(width)(h) with the activations h, or pass them to Units.record"
                )
            calls = branch[RECORDED]
            h = calls[0] if len(calls) == 1 else jnp.stack(calls, axis=1)
            return jnp.where(jnp.expand_dims(keep, range(h.ndim - 1)), h, jnp.zeros((), h.dtype))

        return jax.tree_util.tree_map_with_path(at_site, variables["masks"])


def module_of(network: Any) -> nn.Module | None:
    """Return the module of a network from `from_linen`; None for any other object.

    Example:
        >>> from fairjax.nn import Mlp
        >>> module_of(from_linen(Mlp(widths=(4,)))).widths
        (4,)
    """
    init = network.init if isinstance(network, Network) else None
    return init.module if isinstance(init, _LinenInit) else None


def scores(apply: ApplyFn, variables: Variables, x: Inputs) -> Float[Array, "n *c"]:
    """Compute the scores in evaluation mode: the sigmoid for two classes, the softmax for more."""
    return probabilities(apply(variables, x)[0])
