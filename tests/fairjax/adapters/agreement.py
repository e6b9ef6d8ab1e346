"""What every brought network must do, whatever library it comes from.

A test module makes a `Case` for each model, in a fixture of module scope, and calls the functions on it.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax import Batch, BiasGda, Pruning, Split, selection, spd
from fairjax.adapters._bringing import Brought
from fairjax.methods import Parts, Task
from fairjax.metrics import probabilities
from fairjax.nn.influence import influence


@dataclasses.dataclass
class Case:
    """A brought network with its data and the original's outputs."""

    brought: Brought
    x: Any
    """Features, with an even number of rows."""
    logits: np.ndarray
    """Logits (n,) of the original network in evaluation mode, computed by its own library."""
    predict: Callable[[Any, Any], np.ndarray]
    """Function (what give_back returned, x) -> logits (n,), computed by the library without fairjax."""
    float64: bool = True
    """Whether the network computes in float64 if its parameters are of this type."""
    name: str = ""
    models: Any = ()
    """Models of the same structure, from three seeds."""

    @property
    def n(self) -> int:
        return self.logits.shape[0]

    @functools.cached_property
    def biases(self) -> Callable[..., Any]:
        """Function (variables, x, shifts with one more axis) -> the measure for every shift, compiled once."""
        batch = self.batch

        def bias(variables, x, shifts):
            return spd(probabilities(self.brought.network.apply(variables, x, shifts=shifts)[0]), batch.y, batch.a)

        return jax.jit(jax.vmap(bias, in_axes=(None, None, 0)))

    @functools.cached_property
    def batch(self) -> Batch:
        """The rows with labels and groups that depend on the logits, so that the network is biased."""
        order = np.argsort(np.argsort(self.logits))
        noise = np.random.default_rng(0).random(self.n)
        y = order + self.n * noise / 2 > 0.75 * self.n
        a = order + self.n * noise[::-1] > self.n
        return Batch(self.x, jnp.asarray(y), jnp.asarray(a))

    @property
    def split(self) -> Split:
        """All rows in every part, without a scaler."""
        rows = jnp.arange(self.n)
        return Split(*self.batch, train=rows, valid=rows, test=rows, mean=None, scale=None)


def logits_agree(case: Case) -> None:
    """Logits are those of the original network."""
    network, variables = case.brought.network, case.brought.variables
    found, unchanged = jax.jit(network.apply)(variables, case.x)
    assert found.shape == (case.n,)
    np.testing.assert_allclose(found, case.logits, atol=1e-5)
    assert jax.tree.structure(unchanged) == jax.tree.structure(variables)
    assert list(variables["masks"]) == sorted(case.brought.units) == list(case.brought.units)
    assert {name: keep.shape[0] for name, keep in variables["masks"].items()} == case.brought.units


def influence_agrees(case: Case) -> None:
    """Influence is the central difference in float64 of the measure with respect to every unit's shift."""
    exact = differences(case, case.brought.variables)
    found = jax.jit(lambda v, b: influence(spd, case.brought.network.apply, v, b))(case.brought.variables, case.batch)
    largest = max(np.abs(leaf).max() for leaf in exact.values())
    assert largest > 1e-6
    for name, values in exact.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=1e-4 * largest, err_msg=name)


def differences(case: Case, variables: Any) -> dict[str, np.ndarray]:
    """Compute influence by central differences: mean over rows, in float64 if the network can."""
    with jax.enable_x64(case.float64):
        step = 1e-7 if case.float64 else 1e-2  # so small that hardly any shift moves a ReLU across 0
        double = jax.tree.map(lambda leaf: _double(leaf, case.float64), (variables, case.batch.x))
        masks = variables["masks"]
        total = sum(keep.shape[0] for keep in masks.values())
        unit_shifts = {}
        start = 0
        for name, keep in masks.items():
            rows = np.zeros((total, keep.shape[0]))
            rows[start + np.arange(keep.shape[0]), np.arange(keep.shape[0])] = step
            unit_shifts[name], start = rows, start + keep.shape[0]

        both = [
            case.biases(*double, jax.tree.map(lambda rows, sign=sign: jnp.asarray(sign * rows), unit_shifts))
            for sign in (1, -1)
        ]
        slopes = np.asarray(both[0] - both[1]) / (2 * step * case.n)
    ends = np.cumsum([keep.shape[0] for keep in masks.values()])[:-1]
    return dict(zip(masks, np.split(slopes, ends), strict=True))


def _double(leaf: Any, float64: bool) -> Any:
    leaf = jnp.asarray(leaf)
    return leaf.astype(jnp.float64) if float64 and jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def evaluated(case: Case) -> selection.Evaluation:
    """Return the evaluation of the original network, which is biased."""
    batch = case.batch
    evaluation = selection.best_threshold(spd, jax.nn.sigmoid(jnp.asarray(case.logits)), batch.y, batch.a)
    assert abs(float(evaluation.bias)) > 0.05
    return evaluation


def pruning_order_agrees(case: Case, steps: int = 3) -> None:
    """Pruning cuts the units that the differences name, one after the other."""
    method, task, parts = Pruning(steps=steps), Task(case.brought.network, spd), Parts.of(case.split)
    variables = case.brought.variables
    state = method.init(task, jax.random.key(0), variables, parts, evaluated(case))
    step = jax.jit(lambda state: method.step(task, parts, state))
    masks = {name: np.asarray(keep) for name, keep in variables["masks"].items()}
    for _ in range(steps):
        state = step(state)
        slopes = differences(case, {**variables, "masks": jax.tree.map(jnp.asarray, masks)})
        scores = {name: np.where(masks[name], float(state.sign) * slopes[name], -np.inf) for name in masks}
        name = max(scores, key=lambda name: scores[name].max())
        masks = {**masks, name: masks[name] & (np.arange(masks[name].size) != scores[name].argmax())}
        found = state.variables.variables()["masks"]
        for name, keep in masks.items():
            np.testing.assert_array_equal(found[name], keep, err_msg=name)


def fine_tuning_runs(case: Case, unchanged: tuple[str, ...] = ()) -> Any:
    """One epoch of bias descent in training mode changes parameters and statistics, and no types or structure.

    Args:
        case: the network.
        unchanged: collections beside `masks` that must not change; the others must.

    Returns:
        Variables after the epoch.
    """
    method = BiasGda(epochs=1, learning_rate=1e-3, batch_size=case.n // 2)
    task, parts = Task(case.brought.network, spd), Parts.of(case.split)

    evaluation = evaluated(case)

    @jax.jit
    def epoch(key, variables, parts):
        return method.step(task, parts, method.init(task, key, variables, parts, evaluation))

    found = epoch(jax.random.key(1), case.brought.variables, parts).variables.variables()
    for name, collection in case.brought.variables.items():
        changes = []
        for before, after in zip(jax.tree.leaves(collection), jax.tree.leaves(found[name]), strict=True):
            assert before.dtype == after.dtype and before.shape == after.shape
            assert np.isfinite(np.asarray(after, np.float64)).all()
            changes.append(not np.array_equal(before, after))
        assert any(changes) == (name not in ("masks", *unchanged)), name
    return found


def seeds_agree(case: Case, models: Any) -> None:
    """The variables of several models are stacked and evaluated by one program."""
    variables = [case.brought.variables_of(model) for model in models]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *variables)
    together = jax.jit(jax.vmap(lambda variables: case.brought.network.apply(variables, case.x)[0]))(stacked)
    assert np.ptp(np.asarray(together), axis=0).max() > 1e-3
    for logits, model in zip(together, models, strict=True):
        np.testing.assert_allclose(logits, case.predict(model, case.x), atol=1e-5)


def cut(case: Case, every: int = 3) -> Any:
    """Return variables in which every third unit of each layer is cut."""
    masks = {name: jnp.arange(width) % every != 1 for name, width in case.brought.units.items()}
    return {**case.brought.variables, "masks": masks}


def give_back_agrees(case: Case) -> Any:
    """The network that is given back computes, without fairjax, what the masked network computes.

    Returns:
        What `give_back` returned.
    """
    variables = cut(case)
    model = case.brought.give_back(variables)
    masked = jax.jit(case.brought.network.apply)(variables, case.x)[0]
    assert np.abs(masked - case.logits).max() > 1e-3
    scale = max(1.0, np.abs(np.asarray(masked)).max())
    np.testing.assert_allclose(case.predict(model, case.x), masked, atol=1e-6 * scale)
    whole = case.brought.give_back(case.brought.variables)
    np.testing.assert_allclose(case.predict(whole, case.x), case.logits, atol=1e-6 * scale)
    return model


def activations_agree(case: Case) -> dict[str, Any]:
    """Cutting a unit without positions is the same as shifting it by minus its activation, at every unit.

    Returns:
        The activations of all rows, 0 at the units that `cut` cuts.
    """
    network, variables = case.brought.network, case.brought.variables
    found = jax.jit(network.activations)(cut(case), case.x)
    assert list(found) == list(case.brought.units)
    for name, values in found.items():
        assert values.shape[0] == case.n and values.shape[-1] == case.brought.units[name]
        kept = np.asarray(cut(case)["masks"][name])
        assert not np.asarray(values)[..., ~kept].any()
        assert np.asarray(values)[..., kept].any()
    whole = jax.jit(network.activations)(variables, case.x)
    row = jax.tree.map(lambda leaf: leaf[:1], case.x)

    @jax.jit
    def differences_of_cuts(variables, row, values):
        def difference(site, unit):
            masks = {**variables["masks"], site: ~unit}
            shifts = {other: jnp.zeros(keep.shape) for other, keep in masks.items()}
            shifts[site] = jnp.where(unit, -values[site][0], 0.0)
            return (
                network.apply({**variables, "masks": masks}, row)[0] - network.apply(variables, row, shifts=shifts)[0]
            )

        flat = [name for name, leaf in values.items() if leaf.ndim == 2]
        return {
            name: jax.vmap(lambda unit, name=name: difference(name, unit))(jnp.eye(values[name].shape[1], dtype=bool))
            for name in flat
        }

    for name, found_differences in differences_of_cuts(variables, row, whole).items():
        np.testing.assert_allclose(found_differences, 0, atol=2e-5, err_msg=name)
    return found


def logits_of(outputs: Any) -> np.ndarray:
    """Return logits (n,) from outputs (n,), (n, 1), or (n, 2) of two classes."""
    outputs = np.asarray(outputs)
    if outputs.ndim == 1:
        return outputs
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs[:, 1] - outputs[:, 0]


def moved(tree: Any, seed: int) -> Any:
    """Add random positive numbers to parameters and statistics, as if they were trained."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(seed + 10), len(leaves))
    pairs = zip(keys, leaves, strict=True)
    return jax.tree.unflatten(structure, [leaf + 0.3 * jax.random.uniform(key, leaf.shape) for key, leaf in pairs])


REFUSED = [
    ("batch", "output for a row changes by .* with the other rows"),
    ("tuple", "must return one array of logits or probabilities, found tuple"),
    ("rows", r"must return outputs of shape \(24,\)"),
    ("axes", r"found shape \(1, 24, 1\)"),
    ("classes", "must return floating-point numbers, found bool"),
]
"""Kinds of outputs that are refused, as `wrong_outputs` makes them, and the message."""


def wrong_outputs(kind: str, logits: Any) -> Any:
    """Return outputs that no network may have, from logits (n, 1)."""
    outputs = {
        "batch": lambda: logits - logits.mean(axis=0, keepdims=True),
        "tuple": lambda: (logits, logits),
        "rows": lambda: logits[1:],
        "axes": lambda: logits[None],
        "classes": lambda: logits > 0,
    }
    return outputs.get(kind, lambda: logits)()


def without_units_agrees(bring: Callable[..., Brought], x: Any, expected: Any) -> Any:
    """A linear model has no units: it is brought on request, measured and tuned, and pruning refuses.

    Args:
        bring: function of `units` that brings the model.
        x: rows, an even number.
        expected: the model's own logits.

    Returns:
        What `give_back` returned of the tuned variables, and their logits.
    """
    with pytest.raises(ValueError, match=r"before its last: bring it without units by units=\[\]"):
        bring(units=None)
    case = Case(bring(units=[]), x, np.asarray(expected), lambda model, x: expected)
    assert case.brought.units == case.brought.variables["masks"] == {}
    logits_agree(case)
    network, variables = case.brought.network, case.brought.variables
    assert influence(spd, network.apply, variables, case.batch) == network.activations(variables, x) == {}
    collections = {name for name in variables if jax.tree.leaves(variables[name])}
    tuned = fine_tuning_runs(case, unchanged=tuple({*variables} - {"params"} if collections == {"params"} else ()))
    with pytest.raises(ValueError, match="pruning cuts hidden units, and this network has none: choose layers with"):
        Pruning().init(Task(network, spd), jax.random.key(0), variables, Parts.of(case.split), evaluated(case))
    return case.brought.give_back(tuned), network.apply(tuned, x)[0]


def features_agree(case: Case) -> None:
    """The function of features returns the same logits, and one vector per row."""
    features, logits, _ = jax.jit(case.brought.network.features)(case.brought.variables, case.x)
    np.testing.assert_allclose(logits, case.logits, atol=1e-5)
    assert features.ndim == 2 and features.shape[0] == case.n


class Agreement:
    """The tests of every case; a test module derives a class from it and defines the fixture `case`."""

    def test_logits(self, case):
        logits_agree(case)

    def test_influence(self, case):
        influence_agrees(case)

    def test_pruning_order(self, case):
        pruning_order_agrees(case)

    def test_fine_tuning(self, case):
        fine_tuning_runs(case)

    def test_seeds(self, case):
        seeds_agree(case, case.models)

    def test_give_back(self, case):
        given = give_back_agrees(case)
        assert jax.tree.structure(given) == jax.tree.structure(case.models[0])

    def test_activations(self, case):
        activations_agree(case)

    def test_features(self, case):
        features_agree(case)
