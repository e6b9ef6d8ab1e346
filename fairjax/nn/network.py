"""What the core knows of a classifier: how to make its variables, and how to apply them."""

import dataclasses
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import flax.linen as nn
from jaxtyping import Array, Float, PyTree

from fairjax.parity import probabilities
from fairjax.types import AnyArray, KeyArray, Variables


@runtime_checkable
class InitFn(Protocol):
    """Makes the variables of a network."""

    def __call__(self, key: KeyArray, x: Float[AnyArray, "n d"]) -> Variables:
        """Fresh variables, `masks` all true, for inputs shaped like `x`."""
        ...


@runtime_checkable
class ApplyFn(Protocol):
    """Applies a network."""

    def __call__(
        self,
        variables: Variables,
        x: Float[AnyArray, "n d"],
        *,
        shifts: PyTree[Float[Array, "_"]] | None = None,
        key: KeyArray | None = None,
    ) -> tuple[Float[Array, "n *c"], Variables]:
        """Logits of the rows, (n,) for two classes and (n, classes) for more, and the variables after the call.

        Args:
            variables: as `init` makes them.
            x: standardised features.
            shifts: a tree like `variables["masks"]`: what is added to each unit for every row.
            key: training mode (dropout, batch statistics, running statistics updated) with this key; evaluation if
                omitted.
        """
        ...


@runtime_checkable
class FeaturesFn(Protocol):
    """Applies a network up to its last layer, and the last layer too."""

    def __call__(
        self, variables: Variables, x: Float[AnyArray, "n d"], *, key: KeyArray | None = None
    ) -> tuple[Float[Array, "n k"], Float[Array, "n *c"], Variables]:
        """What the last layer sees, the logits, and the variables after the call.

        Args:
            variables: as `init` makes them.
            x: standardised features.
            key: training mode with this key; evaluation if omitted.
        """
        ...


class Network(NamedTuple):
    """A classifier as two pure functions, or three.

    Networks of any library fit: give functions with these signatures, whose variables are a dictionary with at least
    `params` (all that is learned) and `masks` (a tree of booleans, one a unit; true = kept), and fairjax can measure,
    prune and fine-tune it. Make the tuple once: it is hashed to find compiled programs again.
    """

    init: InitFn
    apply: ApplyFn
    features: FeaturesFn | None = None
    """Only for methods that look at the last hidden layer, such as `fairjax.AdversarialFineTuning`."""


def from_linen(module: nn.Module) -> Network:
    """The network of a Linen module whose `__call__(x, *, train)` returns logits (n,) and whose units are `Units`.

    Args:
        module: a Linen module; it may use the collections `params`, `batch_stats`, `masks`, and the stream `dropout`.
        For
            methods that look at the last hidden layer h it calls `self.sow("intermediates", "features", h)`.

    Returns:
        Pure functions. Two calls with equal modules give equal networks, so nothing compiles twice.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from fairjax.nn import Mlp
        >>> network = from_linen(Mlp(widths=(4, 4)))
        >>> variables = network.init(jax.random.key(0), jnp.ones((2, 3)))
        >>> network.apply(variables, jnp.ones((2, 3)))[0].shape
        (2,)
    """
    return Network(_LinenInit(module), _LinenApply(module), _LinenFeatures(module))


@dataclasses.dataclass(frozen=True)  # no tuple: jit refuses functions that cannot be referred to weakly
class _LinenInit:
    module: nn.Module

    def __call__(self, key: KeyArray, x: Float[AnyArray, "n d"]) -> Variables:
        variables = dict(self.module.init(key, x, train=False))
        variables.pop("perturbations", None)  # a handle for gradients, not a thing to train or to save
        return variables


@dataclasses.dataclass(frozen=True)
class _LinenApply:
    module: nn.Module

    def __call__(
        self,
        variables: Variables,
        x: Float[AnyArray, "n d"],
        *,
        shifts: PyTree[Float[Array, "_"]] | None = None,
        key: KeyArray | None = None,
    ) -> tuple[Float[Array, "n *c"], Variables]:
        given: Any = variables if shifts is None else {**variables, "perturbations": shifts}
        if key is None:
            return cast(Array, self.module.apply(given, x, train=False)), variables
        options: Any = {"train": True, "rngs": {"dropout": key}, "mutable": ["batch_stats"]}
        logits, updated = self.module.apply(given, x, **options)
        return cast(Array, logits), {**variables, **updated}


@dataclasses.dataclass(frozen=True)
class _LinenFeatures:
    module: nn.Module

    def __call__(
        self, variables: Variables, x: Float[AnyArray, "n d"], *, key: KeyArray | None = None
    ) -> tuple[Float[Array, "n k"], Float[Array, "n *c"], Variables]:
        options: Any = {"train": False} if key is None else {"train": True, "rngs": {"dropout": key}}
        changed = ["intermediates"] if key is None else ["intermediates", "batch_stats"]
        logits, updated = self.module.apply(variables, x, mutable=changed, **options)
        updated = dict(cast(Variables, updated))
        sown = updated.pop("intermediates", {})
        if "features" not in sown:
            raise ValueError(
                f"{type(self.module).__name__} does not show its last hidden layer h, which this method looks at; call "
                'self.sow("intermediates", "features", h) in it'
            )
        return sown["features"][0], cast(Array, logits), {**variables, **updated}


def scores(apply: ApplyFn, variables: Variables, x: Float[AnyArray, "n d"]) -> Float[Array, "n *c"]:
    """Scores in evaluation mode: sigmoid outputs, or the softmax of more than two classes."""
    return probabilities(apply(variables, x)[0])
