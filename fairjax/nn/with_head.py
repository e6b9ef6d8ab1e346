"""A new head on the features of a trained network, as one network."""

import dataclasses
import inspect
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from fairjax.nn.network import ApplyFn, Network
from fairjax.types import AnyArray, KeyArray, Variables

BODY, HEAD, SCALER = "body", "head", "scaler"


def with_head(body: Network | ApplyFn, head: Network) -> Network:
    """Put a head on the features of a network: a complete network, to measure, prune and fine-tune as any other.

    Its variables come from `join_head`. In them, `params`, `masks` and all other collections have the entries `body`
    and `head`, so that `layers=("head",)` tunes the head alone, and influence is that of all units of both.

    Args:
        body: a trained network with `features`; or an encoder's `apply`, whose outputs are the features, (n, k).
        head: a network whose rows are features, such as `from_linen(Mlp(widths=(64,)))`.

    Returns:
        The complete network. Two calls with equal networks give equal networks, so no program compiles twice.

    Raises:
        ValueError: if the body is a network without `features`.

    Example:
        >>> from fairjax.nn import Mlp, from_linen
        >>> encoder, head, x = from_linen(Mlp(widths=(4,))), from_linen(Mlp(widths=(3,))), jnp.eye(5)
        >>> encoder_variables = encoder.init(jax.random.key(0), x)
        >>> head_variables = head.init(jax.random.key(1), encoder.features(encoder_variables, x)[0])
        >>> variables = join_head(encoder_variables, head_variables)
        >>> sorted(variables["params"]), with_head(encoder, head).apply(variables, x)[0].shape
        (['body', 'head'], (5,))
    """
    if isinstance(body, Network) and body.features is None:
        raise ValueError(
            "the body has no `features`: give Network(init, apply, features), or pass the `apply` of an encoder, whose "
            "outputs are the features"
        )
    features = _HeadFeatures(body, head) if head.features is not None else None
    both_show = isinstance(body, Network) and body.activations is not None and head.activations is not None
    activations = _HeadActivations(body, head) if both_show else None
    return Network(_HeadInit(), _HeadApply(body, head), features, activations)


def join_head(
    body: Variables,
    head: Variables,
    *,
    scaler: tuple[AnyArray, AnyArray] | None = None,
) -> Variables:
    """Join the variables of a body and of a head to those of the network that `with_head` makes.

    Args:
        body: variables of the trained network.
        head: variables of the head, such as `fitted.variables`.
        scaler: mean and scale with which the head's rows were standardised, (split.mean, split.scale); not standardised
            if omitted or None. They become a collection of their own, `scaler`, which no method changes.

    Returns:
        The variables. `variables[collection]["body"]` and `["head"]` are the given ones again.

    Raises:
        ValueError: if the scaler does not consist of two vectors of one length.
    """
    joined: dict[str, Any] = {}
    for name, part in ((BODY, body), (HEAD, head)):
        for collection, tree in part.items():
            joined.setdefault(collection, {})[name] = tree
    if scaler is None:
        return joined
    mean, scale = map(jnp.asarray, scaler)
    if mean.ndim != 1 or mean.shape != scale.shape:
        raise ValueError(
            f"scaler must be mean and scale of the features, two vectors of one length, found shapes {mean.shape} and "
            f"{scale.shape}: of splits of several seeds take one seed's, such as (split.mean[0], split.scale[0])"
        )
    return {**joined, SCALER: {"mean": mean, "scale": scale}}


def part_of(variables: Variables, name: str) -> Variables:
    """Return the variables of the body or of the head.

    Args:
        variables: variables of a network that `with_head` made.
        name: "body" or "head".

    Example:
        >>> joined = join_head({"params": jnp.ones(2), "masks": {}}, {"params": jnp.zeros(3), "masks": {}})
        >>> part_of(joined, "head")["params"].tolist()
        [0.0, 0.0, 0.0]
    """
    if name not in (BODY, HEAD):
        raise ValueError(f"name must be {BODY} or {HEAD}, got {name!r}")
    return {collection: tree[name] for collection, tree in variables.items() if name in tree and collection != SCALER}


@dataclasses.dataclass(frozen=True)
class _HeadInit:
    def __call__(self, key: KeyArray, x: Any) -> Variables:
        raise ValueError(
            "a network made by with_head is put together of trained parts and has no initialisation: train the head on "
            "features, and join the variables by join_head"
        )


@dataclasses.dataclass(frozen=True)
class _HeadApply:
    body: Network | ApplyFn
    head: Network

    def __call__(
        self,
        variables: Variables,
        x: Any,
        *,
        shifts: PyTree[Float[Array, "_"]] | None = None,
        key: KeyArray | None = None,
    ) -> tuple[Float[Array, "n *c"], Variables]:
        h, body, head_key = _head_input(self.body, variables, x, shifts, key)
        head_shifts = None if shifts is None else shifts[HEAD]
        logits, head = self.head.apply(part_of(variables, HEAD), h, shifts=head_shifts, key=head_key)
        return logits, _updated(variables, body, head)


@dataclasses.dataclass(frozen=True)
class _HeadFeatures:
    body: Network | ApplyFn
    head: Network

    def __call__(
        self,
        variables: Variables,
        x: Any,
        *,
        shifts: PyTree[Float[Array, "_"]] | None = None,
        key: KeyArray | None = None,
    ) -> tuple[Float[Array, "n k"], Float[Array, "n *c"], Variables]:
        assert self.head.features is not None
        h, body, head_key = _head_input(self.body, variables, x, shifts, key)
        options: Any = {} if shifts is None else {"shifts": shifts[HEAD]}  # only this module asks for shifts
        features, logits, head = self.head.features(part_of(variables, HEAD), h, key=head_key, **options)
        return features, logits, _updated(variables, body, head)


@dataclasses.dataclass(frozen=True)
class _HeadActivations:
    body: Network | ApplyFn
    head: Network

    def __call__(self, variables: Variables, x: Any) -> PyTree[Float[Array, "n ..."]]:
        assert isinstance(self.body, Network) and self.body.activations and self.head.activations
        h, _, _ = _head_input(self.body, variables, x, None, None)
        return {
            BODY: self.body.activations(part_of(variables, BODY), x),
            HEAD: self.head.activations(part_of(variables, HEAD), h),
        }


def _head_input(
    body: Network | ApplyFn, variables: Variables, x: Any, shifts: Any, key: KeyArray | None
) -> tuple[Float[Array, "n k"], Variables, KeyArray | None]:
    """Compute the rows of the head, updated variables of the body, and the head's key."""
    body_key, head_key = (None, None) if key is None else jax.random.split(key)
    options: Any = {"key": body_key} if shifts is None else {"key": body_key, "shifts": shifts[BODY]}
    own = part_of(variables, BODY)
    if isinstance(body, Network):
        assert body.features is not None
        if shifts is not None and "shifts" not in inspect.signature(body.features).parameters:
            raise ValueError(
                "the influence of the body's units needs `features(variables, x, *, shifts=None, key=None)`, and the "
                "body's takes no shifts: add them, or measure the head alone on cached features"
            )
        h, _, updated = body.features(own, x, **options)
    else:
        h, updated = body(own, x, **options)
    if SCALER in variables:
        scaler: Any = variables[SCALER]
        h = (h - scaler["mean"][None]) / scaler["scale"][None]
    return h, updated, head_key


def _updated(variables: Variables, body: Variables, head: Variables) -> Variables:
    return {**variables, **join_head(body, head)}
