"""The PyTorch contenders do the same work as fairjax, with equal numbers unless random draws differ."""

import copy
import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from experiments.first_paper.state_dicts import from_torch, to_torch
from fairjax import data, loop, selection, training
from fairjax.methods import BiasGda, Parts, Pruning, RandomPerturbation, Task
from fairjax.metrics import MEASURES
from fairjax.nn import Mlp, from_linen
from fairjax.nn.influence import influence

torch = pytest.importorskip("torch", reason="the PyTorch contenders need PyTorch: pip install torch")

from experiments.benchmarks import torch_sequential as sequential  # noqa: E402  (after the skip)
from experiments.benchmarks import torch_vmap as vmapped  # noqa: E402

WIDTHS, SEEDS = (6, 5), (42, 73)
SETTINGS = sequential.ProtocolSettings(
    widths=WIDTHS, dropout=0.0, epochs=10, learning_rate=1e-2, batch_size=32, bias_gda_epochs=3, draws=4
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Use one thread, since PyTorch's threads busy-wait for each other, which is slower on small arrays."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def table():
    """Return 480 rows, of which the train parts contain 288, more than four mini-batches of 64."""
    return data.append_protected(data.loh(jax.random.key(3), 480, alpha=2.5))


@pytest.fixture(scope="module")
def splits():
    """Return the splits of all seeds."""
    return data.split_seeds(data.from_arrays(*table()), SEEDS)


@pytest.fixture(scope="module")
def split(splits):
    """Return the first seed's split for fairjax."""
    return splits._replace(**{name: getattr(splits, name)[0] for name in ("train", "valid", "test", "mean", "scale")})


@pytest.fixture(scope="module")
def tensors(splits):
    """Return the first seed's split for PyTorch."""
    return next(sequential.splits_of(splits, SEEDS))


@pytest.fixture(scope="module")
def fitted(tensors):
    """Return a trained PyTorch network."""
    with sequential.seeded(0) as generator:
        return sequential.train(tensors, SETTINGS, generator)[0]


def brought(network):
    """Convert a PyTorch network to fairjax, without dropout."""
    module, variables = from_torch(network.state_dict(), dropout=0.0)
    return from_linen(module), variables


def loaded(variables):
    """Return a PyTorch network with fairjax's variables."""
    state = {name: torch.from_numpy(array.copy()) for name, array in to_torch(variables).items()}
    network = sequential.Network(state["fc0.weight"].shape[1], WIDTHS, 0.0)
    missing, surplus = network.load_state_dict(state, strict=False)
    assert not surplus and all(name.endswith("num_batches_tracked") for name in missing)
    return network


def close(variables, network, **tolerance):
    theirs = network.state_dict()
    for name, array in to_torch(variables).items():
        np.testing.assert_allclose(array, theirs[name].numpy(), err_msg=name, **tolerance)


def test_the_parts_are_fairjax_s(splits, split, tensors):
    for name in ("train", "valid", "test"):
        for ours, theirs in zip(split.part(name), getattr(tensors, name), strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)
    assert [made.seed for made in sequential.splits_of(splits, SEEDS)] == list(SEEDS)


def test_the_default_network_is_table_2_s():
    network = sequential.Network(401)
    assert sum(linear.out_features for linear in network.linears) == 352 and len(network.linears) == 11
    module, variables = from_torch(network.state_dict())
    assert module == Mlp()
    ours = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert ours == sum(parameter.numel() for parameter in network.parameters())


def test_logits_agree(split, tensors):
    network = from_linen(Mlp(widths=WIDTHS))
    variables = network.init(jax.random.key(0), split.part("train").x[:2])
    theirs = loaded(variables).eval()(tensors.test.x).detach().numpy()
    np.testing.assert_allclose(network.apply(variables, split.part("test").x)[0], theirs, atol=1e-5)


def test_a_training_step_agrees(split, tensors):
    """Compare an epoch of a single mini-batch, in which the order of rows does not matter."""
    rows = split._replace(train=split.train[:64])
    network, config = from_linen(Mlp(widths=WIDTHS, dropout=0.0)), training.Training(batch_size=64)
    begun = jax.jit(training.init, static_argnums=0)(network, config, jax.random.key(1), rows)
    done = jax.jit(training.advance, static_argnums=(0, 4))(network, config, rows, begun, 1)
    theirs = loaded(begun.variables.variables()).train()
    optimiser = torch.optim.Adam(theirs.parameters(), lr=1e-3)
    part = sequential.Part(*(column[:64] for column in tensors.train))
    sequential.training_step(theirs, optimiser, part.x, part.y.float())
    close(done.variables.variables(), theirs, atol=2e-5)
    assert abs(done.variables.params - begun.variables.params).max() > 9e-4


@pytest.mark.parametrize("measure", ["spd", "eod"])
def test_the_proxy_and_the_influence_agree(measure, split, tensors, fitted):
    network, variables = brought(fitted)
    batch, part = split.part("train"), tensors.train
    scores = sequential.scores(fitted, part.x)
    ours = MEASURES[measure](jnp.asarray(scores.numpy()), batch.y, batch.a)
    np.testing.assert_allclose(sequential.proxy(scores, part.y, part.a, measure).item(), ours, atol=1e-6)
    ours = ravel_pytree(influence(MEASURES[measure], network.apply, variables, batch, reduction="sum"))[0]
    theirs = sequential.influence(fitted, part, measure)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5 * abs(ours).max(), rtol=1e-4)


@pytest.mark.parametrize("measure", ["spd", "eod"])
@pytest.mark.parametrize("value", [True, False])
def test_an_empty_group_gives_no_gradient(measure, value):
    values = torch.rand(8, requires_grad=True)
    y = a = torch.full((8,), value)
    result = sequential.proxy(values, y, a, measure)
    result.backward()
    assert result.item() == 0 and (values.grad == 0).all()


@pytest.mark.parametrize("measure", ["spd", "eod"])
@pytest.mark.parametrize("by", ["accuracy", "objective"])
def test_threshold_searches_agree(measure, by, tensors, fitted):
    part = tensors.valid
    settings = dataclasses.replace(SETTINGS, measure=measure, epsilon=0.2)
    rule = selection.ConstrainedObjective(epsilon=0.2, margin=0.01) if by == "objective" else None
    generator = torch.Generator().manual_seed(0)
    for scores in (torch.rand(len(part.y), generator=generator), sequential.scores(fitted, part.x)):
        ours = selection.best_threshold(
            MEASURES[measure], *(jnp.asarray(column.numpy()) for column in (scores, *part[1:])), rule=rule
        )
        found = sequential.threshold_search(scores, part, settings, by)
        np.testing.assert_allclose(found, ours[:3], atol=1e-6)
        np.testing.assert_allclose(found, sequential.threshold_scan(scores, part, settings, by), atol=1e-12)


@pytest.mark.parametrize("measure", ["spd", "eod"])
def test_the_same_units_are_pruned(measure, split, tensors, fitted):
    settings = dataclasses.replace(SETTINGS, measure=measure)
    network, variables = brought(fitted)
    task, config = Task(network, MEASURES[measure]), Pruning()
    parts = Parts.of(split)
    evaluation = jax.jit(loop.evaluate, static_argnums=0)(task, variables, parts)[0].valid
    state, order = config.init(task, jax.random.key(0), variables, parts, evaluation), []
    step = jax.jit(lambda method, *args: method.step(*args), static_argnums=1)
    for _ in range(6):
        new = step(config, task, parts, state)
        masks = (some.variables.masks for some in (state, new))
        order += np.flatnonzero(np.logical_xor(*masks)).tolist()
        state = new
    found = sequential.prune(fitted, tensors, dataclasses.replace(settings, pruning_steps=6))
    assert found["order"] == order and found["steps"] == 6
    assert sorted(sequential.prune(fitted, tensors, settings)["order"]) == list(range(11))


def test_the_result_of_pruning_agrees(split, tensors, fitted):
    network, variables = brought(fitted)
    settings = dataclasses.replace(SETTINGS, epsilon=0.15)
    rule = selection.ConstrainedObjective(epsilon=0.15, margin=0.01)
    task = Task(network, MEASURES["spd"])
    run = jax.jit(loop.run, static_argnums=1)
    ours = run(Pruning(), task, rule, jax.random.key(0), variables, split)
    found = sequential.prune(fitted, tensors, settings)
    assert found["selected"] == int(ours.selected) and found["satisfied"] == bool(ours.satisfied)
    at = (found[name] for name in ("threshold", "balanced_accuracy", "bias"))
    np.testing.assert_allclose([*at], [entry[ours.selected] for entry in ours.trace.test[:3]], atol=1e-6)


def test_bias_gda_agrees_by_whole_batches(split, tensors, fitted):
    """Compare mini-batches that contain all rows, so that their order does not matter."""
    network, variables = brought(fitted)
    task, config = Task(network, MEASURES["spd"]), BiasGda(batch_size=1000, learning_rate=1e-3)
    parts = Parts.of(split)
    evaluation = jax.jit(loop.evaluate, static_argnums=0)(task, variables, parts)[0].valid
    state = config.init(task, jax.random.key(0), variables, parts, evaluation)
    step = jax.jit(lambda method, *args: method.step(*args), static_argnums=1)
    theirs = copy.deepcopy(fitted)
    optimiser = torch.optim.Adam(theirs.parameters(), lr=1e-3)
    settings = dataclasses.replace(SETTINGS, bias_gda_batch_size=1000)
    before = measured(theirs, tensors.train)
    for _ in range(3):
        state = step(config, task, parts, state)
        sign = float(jnp.sign(evaluation.bias))
        assert sequential.bias_gda_epoch(theirs, optimiser, tensors.train, sign, settings, torch.Generator()) == 1
    close(state.variables.variables(), theirs, rtol=1e-3, atol=5e-5)
    assert abs(measured(theirs, tensors.train)) < abs(before) - 1e-3


def measured(network, part):
    """Return the proxy of a network on a part."""
    return sequential.proxy(sequential.scores(network, part.x), part.y, part.a, "spd").item()


def test_mini_batches_hold_every_row_once():
    generator = torch.Generator().manual_seed(0)
    for n, sizes in ((10, [4, 4, 2]), (9, [4, 5]), (1, [1]), (8, [4, 4])):
        batches = sequential.shuffled(n, 4, generator)
        assert [len(rows) for rows in batches] == sizes
        assert sorted(torch.cat(batches).tolist()) == list(range(n))


@pytest.mark.parametrize("fused", [True, False])
def test_a_run_reports_what_it_did(fused, splits):
    settings = dataclasses.replace(SETTINGS, dropout=0.05, fused=fused, pruning_steps=2)
    before = torch.get_rng_state()
    found = sequential.run(sequential.splits_of(splits, SEEDS), settings)
    assert torch.equal(before, torch.get_rng_state())
    assert [seed["seed"] for seed in found["seeds"]] == list(SEEDS)
    assert set(found["seconds"]) == {"training", *sequential.PROTOCOL_METHODS}
    for seed in found["seeds"]:
        assert seed["training"]["epochs"] == 10 and seed["training"]["steps"] == 10 * 9
        assert seed["pruning"]["steps"] == 2 and seed["bias_gda"]["epochs"] == 3
        assert seed["random_perturbation"]["draws"] == 4
        for name in sequential.PROTOCOL_METHODS:
            assert 0 < seed[name]["balanced_accuracy"] <= 1 and -1 <= seed[name]["bias"] <= 1
            inside = abs(seed[name]["bias"]) < settings.epsilon
            assert seed[name]["objective"] == (seed[name]["balanced_accuracy"] if inside else 0)
    again = sequential.run(sequential.splits_of(splits, SEEDS), dataclasses.replace(settings, seeds=1))
    assert len(again["seeds"]) == 1
    first, second = ({**run["seeds"][0], "seconds": None} for run in (found, again))
    assert first == second  # a seed gives the same results alone as among others


def test_training_stops_early_and_keeps_the_best(tensors):
    settings = dataclasses.replace(SETTINGS, epochs=60, learning_rate=0.1, check_every=2, stopping_patience=1)
    network, done = sequential.train(tensors, settings, torch.Generator().manual_seed(0))
    assert done["stopped"] and done["epochs"] < 60 and done["epochs"] % 2 == 0
    loss = sequential._loss(network, tensors.valid.x, tensors.valid.y.float())
    np.testing.assert_allclose(loss, done["loss"], rtol=1e-6)


def test_a_wrong_setting_is_refused():
    with pytest.raises(ValueError, match="methods must be some of .* got roc"):
        sequential.ProtocolSettings(methods=("roc",))
    with pytest.raises(ValueError, match="measure must be spd or eod"):
        sequential.ProtocolSettings(measure="ppd")
    with pytest.raises(ValueError, match="at least one split"):
        sequential.run([])


def test_the_settings_are_fairjax_s():
    settings, limits = sequential.ProtocolSettings(), selection.ConstrainedObjective()
    assert training.Training().keep == "best"  # as the contenders do
    for field in dataclasses.fields(training.Training):
        if field.name == "keep":
            continue
        assert getattr(settings, field.name) == getattr(training.Training(), field.name)
    for name in ("learning_rate", "batch_size", "epochs"):
        assert getattr(settings, f"bias_gda_{name}") == getattr(BiasGda(), name)
    assert (settings.widths, settings.dropout) == (Mlp().widths, Mlp().dropout)
    assert (settings.draws, settings.deviation) == (RandomPerturbation().draws, RandomPerturbation().deviation)
    assert (settings.epsilon, settings.margin, settings.bound) == (limits.epsilon, limits.margin, limits.bound)


def test_bias_gda_debiases_and_leaves_the_network_alone(tensors, fitted):
    settings = dataclasses.replace(
        SETTINGS, epsilon=0.2, bias_gda_learning_rate=1e-2, bias_gda_batch_size=64, bias_gda_epochs=8
    )
    before, state = sequential.standard(fitted, tensors, settings), copy.deepcopy(fitted.state_dict())
    found = sequential.bias_gda(fitted, tensors, settings, torch.Generator().manual_seed(0))
    assert not before["satisfied"] and found["satisfied"] and found["selected"] > 0
    assert abs(found["bias"]) < abs(before["bias"])
    assert (found["epochs"], found["steps"]) == (8, 8 * 5)
    assert all(torch.equal(value, state[name]) for name, value in fitted.state_dict().items())


def test_random_perturbation_is_written_out(tensors, fitted):
    settings = dataclasses.replace(SETTINGS, epsilon=0.25, deviation=0.5, draws=12)
    found = sequential.random_perturbation(fitted, tensors, settings, torch.Generator().manual_seed(0))
    generator, network, values = torch.Generator().manual_seed(0), copy.deepcopy(fitted), []
    for draw in range(13):
        noise = [
            torch.randn(p.shape, generator=generator) if draw else torch.zeros_like(p) for p in fitted.parameters()
        ]
        with torch.no_grad():
            for mine, came, factor in zip(network.parameters(), fitted.parameters(), noise, strict=True):
                mine.copy_(came * (1 + 0.5 * factor))
        scores = sequential.scores(network, tensors.valid.x)
        every = sequential.rates(scores, tensors.valid, sequential.thresholds(), "spd")
        values.append(max(a if abs(b) < 0.24 else 0.0 for a, b in zip(*(v.tolist() for v in every), strict=True)))
    assert found["selected"] == np.argmax(values) > 0 and found["draws"] == 12


def batches(splits, steps):
    """Return one mini-batch per seed and step."""
    made = [*sequential.splits_of(splits, SEEDS)]
    for step in range(steps):
        rows = slice(64 * step, 64 * step + 64)
        yield torch.stack([each.train.x[rows] for each in made]), torch.stack([each.train.y[rows] for each in made])


def alone(state):
    """Return the network of each seed as a module without dropout."""
    networks = []
    for i in range(len(SEEDS)):
        networks.append(sequential.Network(11, WIDTHS, 0.0))
        networks[-1].load_state_dict(vmapped.unstack(state, i), strict=False)
    return networks


def test_the_vmapped_step_is_each_seed_s_own(splits):
    state = vmapped.make(SEEDS, 11, WIDTHS)
    networks = [network.train() for network in alone(state)]
    optimisers = [torch.optim.Adam(network.parameters(), lr=1e-3) for network in networks]
    for x, y in batches(splits, 3):
        state, losses = vmapped.training_step(state, x, y.float(), dropout=0.0)
        each = zip(networks, optimisers, x, y.float(), strict=True)
        np.testing.assert_allclose(losses, [sequential.training_step(*args) for args in each], atol=1e-6)
    for i, network in enumerate(networks):
        found = vmapped.unstack(state, i)
        for name, value in network.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                np.testing.assert_allclose(found[name], value, atol=2e-5, err_msg=name)
    assert state.steps == 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")  # PyTorch's own
@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="torch.compile needs a C++ compiler")
def test_the_compiled_step_is_the_same(splits):
    made = [vmapped.make(SEEDS, 11, WIDTHS) for _ in range(2)]
    for x, y in batches(splits, 3):
        stepped = []
        for state, compiled in zip(made, (False, True), strict=True):
            generator = torch.Generator().manual_seed(0)
            stepped.append(vmapped.training_step(state, x, y.float(), generator=generator, compiled=compiled))
        made = [state for state, _ in stepped]
        np.testing.assert_allclose(*(losses for _, losses in stepped), atol=1e-6)
    for ours, theirs in zip(made[0][:4], made[1][:4], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_vmapped_networks_begin_as_the_sequential_ones():
    state = vmapped.make(SEEDS, 11, WIDTHS)
    for i, seed in enumerate(SEEDS):
        with sequential.seeded(seed):
            network = sequential.Network(11, WIDTHS)
        assert all(torch.equal(network.state_dict()[name], value) for name, value in vmapped.unstack(state, i).items())


@pytest.mark.parametrize("measure", ["spd", "eod"])
def test_vmapped_influence_is_each_seed_s_own(measure, splits):
    state = vmapped.make(SEEDS, 11, WIDTHS)
    for x, y in batches(splits, 3):
        state, _ = vmapped.training_step(state, x, y.float(), dropout=0.0)
    parts = [made.train for made in sequential.splits_of(splits, SEEDS)]
    x, y, a = (torch.stack(columns) for columns in zip(*parts, strict=True))
    found, logits = vmapped.influence(state, x, y, a, measure), vmapped.logits(state, x)
    for i, (network, part) in enumerate(zip(alone(state), parts, strict=True)):
        theirs = sequential.influence(network, part, measure)
        np.testing.assert_allclose(found[i], theirs, atol=1e-5 * theirs.abs().max().item(), rtol=1e-4)
        np.testing.assert_allclose(torch.sigmoid(logits[i]), sequential.scores(network, part.x), atol=1e-6)


def test_vmapped_dropout_is_drawn_for_each_seed_from_the_generator(splits):
    network = sequential.Network(11, WIDTHS)
    state = vmapped.stack([network, network])  # the same network twice
    x, y = (column[:1].expand_as(column) for column in next(batches(splits, 1)))
    losses = [vmapped.training_step(state, x, y.float(), generator=torch.Generator().manual_seed(k))[1] for k in (0, 0)]
    assert torch.equal(*losses) and losses[0][0] != losses[0][1]
    kept = vmapped._kept(state, x, 0.05, torch.Generator().manual_seed(1))
    assert kept.shape == (2, 64, 11) and abs((kept == 0).float().mean() - 0.05) < 0.02
    np.testing.assert_allclose(kept.max(), 1 / 0.95, rtol=1e-6)
    with pytest.raises(ValueError, match="needs a generator"):
        vmapped.training_step(state, x, y.float())
