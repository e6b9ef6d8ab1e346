"""Comparison with PyTorch itself, using numbers from `reference/make_torch_reference.py`."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from experiments.first_paper.state_dicts import from_torch, to_torch
from fairjax import selection, training
from fairjax.metrics import MEASURES
from fairjax.nn import from_linen, masks
from fairjax.nn.influence import influence
from fairjax.nn.network import scores
from fairjax.types import Batch


@pytest.fixture(scope="module")
def reference():
    with np.load(Path(__file__).parents[1] / "oracles" / "torch_mlp.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def state(reference):
    return {name.removeprefix("state/"): array for name, array in reference.items() if name.startswith("state/")}


@pytest.fixture(scope="module")
def batch(reference):
    return Batch(jnp.asarray(reference["x"]), jnp.asarray(reference["y"] == 1), jnp.asarray(reference["a"] == 1))


@pytest.fixture(scope="module")
def brought(state):
    module, variables = from_torch(state)
    return from_linen(module), variables


def test_scores_agree(brought, batch, reference):
    network, variables = brought
    found = jax.jit(lambda variables, x: scores(network.apply, variables, x))(variables, batch.x)
    np.testing.assert_allclose(found, reference["scores"], atol=1e-5)


@pytest.mark.parametrize("name", ["spd", "eod"])
def test_influence_agrees_at_every_unit(brought, batch, reference, name):
    network, variables = brought
    summed = jax.jit(lambda *args: influence(MEASURES[name], network.apply, *args, reduction="sum"))
    ours, _ = ravel_pytree(summed(variables, batch))
    theirs = reference[f"influence/{name}"].reshape(-1)
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max(), rtol=1e-4)


def test_units_are_cut_in_the_same_order(brought, batch, reference):
    network, variables = brought
    measure = MEASURES["spd"]

    @jax.jit
    def evaluated(variables, batch):
        return selection.best_threshold(measure, scores(network.apply, variables, batch.x), batch.y, batch.a)

    sign = jnp.sign(evaluated(variables, batch).bias)

    @jax.jit
    def cut(kept):
        found = influence(measure, network.apply, {**variables, "masks": kept}, batch)
        return masks.drop(kept, jax.tree.map(lambda score: sign * score, found), 1)

    kept, order = variables["masks"], []
    for _ in reference["order"]:
        new = cut(kept)
        gone = np.flatnonzero(ravel_pytree(kept)[0] & ~ravel_pytree(new)[0])
        order.extend(gone.tolist())
        kept = new
    assert order == reference["order"].tolist()


def test_training_mode_gives_the_same_gradients_and_running_statistics(state, batch, reference):
    module, variables = from_torch(state, dropout=0.0)
    network = from_linen(module)
    key = jax.random.key(0)

    def proxy(params):
        logits, updated = network.apply({**variables, "params": params}, batch.x[:64], key=key)
        return MEASURES["spd"](jax.nn.sigmoid(logits), batch.y[:64], batch.a[:64]), updated

    grads, updated = jax.jit(jax.grad(proxy, has_aux=True))(variables["params"])
    as_network = {**variables, "params": grads}
    theirs = {name: array for name, array in reference.items() if name.startswith("gradient/")}
    largest = max(np.abs(array).max() for array in theirs.values())
    ours = to_torch(as_network)
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name.removeprefix("gradient/")], array, atol=1e-5 * largest, err_msg=name)
    after = jax.jit(lambda variables, x: network.apply(variables, x, key=key)[1])
    for rows in (slice(64, 128), slice(128, 256)):
        updated = after(updated, batch.x[rows])
    ours = to_torch(updated)
    for name, array in reference.items():
        if name.startswith("after/"):
            np.testing.assert_allclose(ours[name.removeprefix("after/")], array, rtol=1e-4, atol=1e-5, err_msg=name)


@jax.jit
def scales(losses):
    plateau = training.epochs._plateau(training.Training())

    def epoch(state, loss):
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            state = plateau.update(jnp.zeros(1), state, value=loss)[1]
        return state, state.scale

    return jax.lax.scan(epoch, plateau.init(jnp.zeros(1)), losses)[1]


@pytest.mark.parametrize("name", ["flat", "falling", "creeping", "noisy"])
def test_the_plateau_schedule_is_pytorch_s(reference, name):
    found = scales(jnp.asarray(reference[f"plateau/{name}/losses"], jnp.float32))
    np.testing.assert_allclose(found, reference[f"plateau/{name}/rates"], rtol=1e-5)


def test_a_round_trip_is_exact(state):
    _, variables = from_torch(state)
    back = to_torch(variables)
    assert set(back) == {name for name in state if "num_batches" not in name}
    for name, array in back.items():
        np.testing.assert_array_equal(array, state[name], err_msg=name)


def test_tensors_are_taken_off_their_graph(state):
    class Tensor:
        def __init__(self, array):
            self.array = array

        def detach(self):
            return self

        def cpu(self):
            return self.array

    _, variables = from_torch({name: Tensor(array) for name, array in state.items()})
    np.testing.assert_array_equal(variables["params"]["output"]["bias"], state["out.bias"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("bns.3.running_var"), r"lacks bns\.3\.running_var"),
        (lambda s: s.update({"fc9.weight": s["fc0.weight"]}), r"has the unknown fc9\.weight"),
        (lambda s: s.update({"fcs.2.weight": s["fcs.2.weight"][:, :5]}), r"fcs\.2\.weight must have shape \(any, 32\)"),
        (lambda s: s.update({"bn0.bias": s["bn0.bias"][:5]}), r"bn0\.bias must have shape \(32\).* got \(5,\)"),
        (lambda s: s.update({"out.bias": s["out.bias"] * np.nan}), r"out\.bias has 1 entries that are not finite"),
        (lambda s: s.update({"out.bias": "many"}), r"out\.bias must be an array of numbers, got str"),
        (lambda s: s.clear(), r"lacks bn0\.bias"),
    ],
)
def test_what_is_no_such_network_is_refused(state, change, message):
    changed = dict(state)
    change(changed)
    with pytest.raises(ValueError, match=message):
        from_torch(changed)


def test_cut_units_cannot_be_said_in_a_state_dictionary(state):
    _, variables = from_torch(state)
    cut = {**variables, "masks": jax.tree.map(jnp.zeros_like, variables["masks"])}
    with pytest.raises(ValueError, match="materialize"):
        to_torch(cut)
