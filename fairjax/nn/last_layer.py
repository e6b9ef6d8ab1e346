"""The last layer of a trained network as a network of its own, whose rows are features, and the way back."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from fairjax.nn.layers import uniform_within
from fairjax.nn.network import Network
from fairjax.types import AnyArray, KeyArray, Variables

FEATURES = "features"
"""Name of the features among the masks of a last layer: its units are the columns of its input."""

TOLERANCE = 1e-5
"""Largest difference from the network's logits, relative to the sum of the absolute terms of a logit."""


@dataclasses.dataclass(frozen=True)
class LastLayerNetwork:
    """The last layer of a network, taken out: a network whose rows are the features that reach it.

    Its units are the features. A cut feature counts as 0, as if its weights were 0, and the influence of a feature is
    that of a shift which all rows share.
    """

    network: Network
    """The affine layer as a network, for `fit_many`, `debias_many`, influence and all methods."""
    variables: Variables
    """The layer's parameters, at the place that they have in the complete network, and masks of the features."""
    path: tuple[str, ...]
    """Names that lead to the layer in `params`, such as ("output",)."""

    def put_back(self, variables: Variables, tuned: Variables) -> Variables:
        """Put a tuned last layer into the variables of the complete network.

        The function is pure, so it can be mapped over seeds: `jax.vmap(last.put_back, in_axes=(None, 0))`.

        Args:
            variables: variables of the complete network, whose other entries are kept.
            tuned: variables of the last layer, such as `result.variables`; weights of cut features become 0.

        Returns:
            New variables of the complete network, with the same logits to rounding.

        Raises:
            ValueError: if the tuned layer has another structure or another shape, as with an axis of seeds.
        """
        before, after = _entry(variables["params"], self.path), _entry(tuned["params"], self.path)
        shapes, shapes_after = ({name: np.shape(leaf) for name, leaf in layer.items()} for layer in (before, after))
        if shapes != shapes_after:
            raise ValueError(
                f"the last layer {'.'.join(self.path)} has arrays of shapes {shapes}, the tuned one {shapes_after}: "
                "put one seed back at a time, jax.tree.map(lambda leaf: leaf[i], result.variables), or map over seeds "
                "by jax.vmap"
            )
        affine: _Affine = self.network.apply.affine  # type: ignore[attr-defined]
        weight = after[affine.weight]
        keep = tuned["masks"][FEATURES]
        keep = keep[None] if affine.transposed else keep[:, None]
        layer = {**after, affine.weight: jnp.where(keep, weight, jnp.zeros((), weight.dtype))}
        return {**variables, "params": _replaced(variables["params"], self.path, layer)}


def last_layer(network: Network, variables: Variables, x: Any, *, layer: str | None = None) -> LastLayerNetwork:
    """Take the last layer out of a trained network, to train, debias and explain it on features computed once.

    The layer is the entry of `params` that holds one weight and at most one bias and turns the features of the example
    into the network's logits; which one this is, and whether its weight is (inputs, outputs) or (outputs, inputs), is
    found by computing the logits. Two outputs of a network with one logit per row are taken for their difference.

    Args:
        network: a network with `features`, the input of its last layer, such as `from_linen(Mlp())` or a brought one.
        variables: its variables.
        x: some rows as the network takes them; a few are enough.
        layer: the layer's name in `params`, with dots between nested names; found by the logits if omitted.

    Returns:
        The last layer as a network with its variables; `put_back` merges it into the complete variables.

    Raises:
        ValueError: if the network has no `features`, or no layer, or more than one, gives its logits.

    Example:
        >>> from fairjax.nn import Mlp, from_linen
        >>> network, x = from_linen(Mlp(widths=(4, 3))), jnp.eye(5)
        >>> variables = network.init(jax.random.key(0), x)
        >>> last = last_layer(network, variables, x)
        >>> features, logits, _ = network.features(variables, x)
        >>> last.path, bool(jnp.allclose(last.network.apply(last.variables, features)[0], logits, atol=1e-6))
        (('output',), True)
    """
    if network.features is None:
        raise ValueError(
            "the network has no `features`, the input of its last layer: give Network(init, apply, features)"
        )
    with jax.default_matmul_precision("highest"):
        features, logits, _ = network.features(variables, x)
    if features.ndim != 2:
        raise ValueError(f"the features must be of shape (n, k), one row per row of x, found shape {features.shape}")
    candidates = {path: entry for path, entry in _layers(variables["params"]) if layer in (None, ".".join(path))}
    matches = [
        (path, affine) for path, entry in candidates.items() for affine in _matching(path, entry, features, logits)
    ]
    if len(matches) != 1:
        found = ", ".join(".".join(path) for path, _ in matches)
        listed = ", ".join(".".join(path) for path in candidates) or "none"
        raise ValueError(
            f"more than one layer gives the logits from the features: {found}; name one with layer="
            if matches
            else f"no layer of params gives the logits from the features by an affine map (tried: {listed}); a layer "
            "that was frozen is not among params, and a last layer of another kind needs a Network of its own"
        )
    path, affine = matches[0]
    params: Any = _entry(variables["params"], path)
    for name in reversed(path):
        params = {name: params}
    masks = {FEATURES: jnp.ones(features.shape[1], bool)}
    functions = _AffineInit(affine), _AffineApply(affine), _AffineFeatures(affine), _AffineActivations()
    return LastLayerNetwork(Network(*functions), {"params": params, "masks": masks}, path)


@dataclasses.dataclass(frozen=True)
class _Affine:
    """An affine layer: where it is in `params`, and how its arrays are laid out."""

    path: tuple[str, ...]
    weight: str
    bias: str | None
    transposed: bool
    """Whether the weight is (outputs, inputs), as in PyTorch and Equinox, and not (inputs, outputs)."""
    inputs: int
    outputs: int
    squeezed: bool
    """Whether the network has one logit per row, computed from one or two outputs."""

    def __call__(self, layer: Mapping[str, Any], h: Float[AnyArray, "n k"]) -> Float[Array, "n *c"]:
        weight = jnp.asarray(layer[self.weight])
        outputs = jnp.asarray(h).astype(weight.dtype) @ (weight.T if self.transposed else weight)
        outputs = outputs if self.bias is None else outputs + jnp.asarray(layer[self.bias])[None]
        if not self.squeezed:
            return outputs
        return outputs[:, 0] if self.outputs == 1 else outputs[:, 1] - outputs[:, 0]


@dataclasses.dataclass(frozen=True)
class _AffineInit:
    affine: _Affine

    def __call__(self, key: KeyArray, x: Any) -> Variables:
        """Initialise the layer as PyTorch does, with uniform weights and bias."""
        affine, start = self.affine, uniform_within(self.affine.inputs**-0.5)
        if x.shape[1:] != (affine.inputs,):
            raise ValueError(f"the last layer takes {affine.inputs} features, got rows of shape {x.shape[1:]}")
        weight_key, bias_key = jax.random.split(key)
        shape = (affine.inputs, affine.outputs)
        layer = {affine.weight: start(weight_key, shape[::-1] if affine.transposed else shape)}
        if affine.bias is not None:
            layer[affine.bias] = start(bias_key, (affine.outputs,))
        params: Any = layer
        for name in reversed(affine.path):
            params = {name: params}
        return {"params": params, "masks": {FEATURES: jnp.ones(affine.inputs, bool)}}


@dataclasses.dataclass(frozen=True)
class _AffineApply:
    affine: _Affine

    def __call__(
        self,
        variables: Variables,
        x: Float[AnyArray, "n k"],
        *,
        shifts: PyTree[Float[Array, "_"]] | None = None,
        key: KeyArray | None = None,
    ) -> tuple[Float[Array, "n *c"], Variables]:
        del key  # the layer is the same in training
        h = _masked(variables, x, shifts)
        return self.affine(_entry(variables["params"], self.affine.path), h), variables


@dataclasses.dataclass(frozen=True)
class _AffineFeatures:
    affine: _Affine

    def __call__(
        self,
        variables: Variables,
        x: Float[AnyArray, "n k"],
        *,
        shifts: PyTree[Float[Array, "_"]] | None = None,
        key: KeyArray | None = None,
    ) -> tuple[Float[Array, "n k"], Float[Array, "n *c"], Variables]:
        logits, variables = _AffineApply(self.affine)(variables, x, shifts=shifts, key=key)
        return _masked(variables, x, shifts), logits, variables


@dataclasses.dataclass(frozen=True)
class _AffineActivations:
    def __call__(self, variables: Variables, x: Float[AnyArray, "n k"]) -> PyTree[Float[Array, "n ..."]]:
        return {FEATURES: _masked(variables, x, None)}


def _masked(variables: Variables, x: Any, shifts: Any) -> Float[Array, "n k"]:
    h = jnp.asarray(x) if shifts is None else x + shifts[FEATURES][None]
    return jnp.where(variables["masks"][FEATURES][None], h, jnp.zeros((), h.dtype))


def _layers(params: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Iterate over entries of `params` that hold a matrix and at most one vector, and nothing else."""
    if not isinstance(params, Mapping):
        return
    dimensions = sorted(-1 if isinstance(leaf, Mapping) else np.ndim(leaf) for leaf in params.values())
    if dimensions in ([2], [1, 2]):
        yield path, params
    for name, entry in params.items():
        yield from _layers(entry, (*path, name))


def _matching(
    path: tuple[str, ...], layer: Mapping[str, Any], features: Float[Array, "n k"], logits: Float[Array, "n *c"]
) -> Iterator[_Affine]:
    """Yield the affine map of a layer if it gives the logits."""
    weight = next(name for name, leaf in layer.items() if np.ndim(leaf) == 2)
    bias = next((name for name, leaf in layer.items() if np.ndim(leaf) == 1), None)
    for transposed in (False, True):
        inputs, outputs = np.shape(layer[weight])[:: -1 if transposed else 1]
        expected = (1, 2) if logits.ndim == 1 else logits.shape[1:]
        if inputs != features.shape[1] or outputs not in expected:
            continue
        if bias is not None and np.shape(layer[bias]) != (outputs,):
            continue
        affine = _Affine(path, weight, bias, transposed, inputs, outputs, logits.ndim == 1)
        with jax.default_matmul_precision("highest"):
            difference = jnp.max(jnp.abs(affine(layer, features) - logits))
            absolute = {name: jnp.abs(leaf) for name, leaf in layer.items()}
            terms = dataclasses.replace(affine, squeezed=False)(absolute, jnp.abs(features))
        if difference <= TOLERANCE * jnp.max(jnp.abs(terms), initial=1e-30):
            yield affine
            return


def _entry(params: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        params = params[name]
    return params


def _replaced(params: Any, path: tuple[str, ...], entry: Any) -> Any:
    """Return a copy of nested dictionaries with another entry at a path."""
    if not path:
        return entry
    return {**params, path[0]: _replaced(params[path[0]], path[1:], entry)}
