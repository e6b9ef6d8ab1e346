"""PyTorch modules are brought in, agree with PyTorch, and are given back."""

import copy
import subprocess
import sys

import agreement
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agreement import Case

torch = pytest.importorskip("torch", reason="PyTorch, the extra `torch`, is not installed")

from torch import nn  # noqa: E402

from fairjax import spd  # noqa: E402
from fairjax.adapters.torch import bring  # noqa: E402
from fairjax.nn.influence import influence  # noqa: E402

N = 24


class Net(nn.Module):
    """MLP with batch normalisation and dropout, and an activation in place."""

    def __init__(self):
        super().__init__()
        self.fcs = nn.ModuleList([nn.Linear(6, 8), nn.Linear(8, 8)])
        self.norms = nn.ModuleList([nn.BatchNorm1d(8), nn.BatchNorm1d(8, momentum=0.3, affine=False)])
        self.drop = nn.Dropout(0.3)
        self.out = nn.Linear(8, 1)

    def forward(self, x):
        for fc, norm in zip(self.fcs, self.norms, strict=True):
            x = self.drop(norm(torch.relu_(fc(x))))
        return self.out(x)


class Residual(nn.Module):
    """Residual convolutions with strides and pooling; logits of two classes."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.conv1, self.bn1 = nn.Conv2d(4, 6, 3, 2, 1), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, 1, 1, groups=2), nn.BatchNorm2d(6)
        self.down = nn.Conv2d(4, 6, 1, 2)
        self.fc = nn.Linear(6, 2)

    def forward(self, x):
        h = self.pool(self.stem(x))
        g = torch.relu(self.bn1(self.conv1(h)))
        g = self.bn2(self.conv2(g))
        g += self.down(h)
        return self.fc(torch.flatten(nn.functional.adaptive_avg_pool2d(torch.relu(g), 1), 1))


class Tokens(nn.Module):
    """Embedding and an encoder layer with attention; the logits of positions are averaged."""

    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(7, 8, padding_idx=0)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 12, activation="gelu", batch_first=True)
        self.out = nn.Linear(8, 1)

    def forward(self, tokens):
        return self.out(self.encoder(self.emb(tokens)).mean(1)).squeeze(1)


class Columns(nn.Module):
    """A dictionary of columns, a layer that is called twice, positions beside rows, and a recurrent layer."""

    def __init__(self):
        super().__init__()
        self.start, self.shared, self.flat = nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        self.emb, self.lstm, self.out = nn.Embedding(5, 8), nn.LSTM(4, 4, batch_first=True), nn.Linear(4, 1)
        self.register_buffer("offset", torch.tensor([0.5]))

    def forward(self, number, category):
        h = self.shared(torch.tanh(self.shared(torch.tanh(self.start(number))))) + self.offset
        h = h[:, None] + self.emb(category)
        h = self.flat(h.reshape(-1, 8)).reshape(-1, 2, 4)
        return torch.sigmoid(self.out(self.lstm(torch.tanh(h))[0][:, -1]))[:, 0]


def numbers(*shape, seed=5):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def integers(high, *shape):
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(7))


MODELS = {
    "mlp": (Net, numbers(N, 6), "logit"),
    "cnn": (Residual, numbers(N, 2, 12, 12), "logit"),
    "tokens": (Tokens, integers(7, N, 4), "logit"),
    "columns": (Columns, {"number": numbers(N, 3), "category": integers(5, N, 2)}, "probability"),
}


def trained(kind, seed=0):
    """Return a module in evaluation mode with random parameters and statistics, as if trained."""
    torch.manual_seed(seed)
    module = kind().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * (torch.rand_like(parameter) - 0.5)
        for buffer in module.buffers():
            buffer += 0.3 * torch.rand(buffer.shape) if buffer.is_floating_point() else 0
        list(module.modules())[-1].weight *= 4  # so that outputs are no probabilities
    return module


def tensors(x):
    dtypes = {"i": torch.int64, "f": torch.float32, "b": torch.bool}
    return jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf)).to(dtypes[np.asarray(leaf).dtype.kind]), x)


def arrays(x):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf.numpy()), x)


def outputs_of(module, x):
    x = tensors(x)
    return module(**x) if isinstance(x, dict) else module(x)


def logits_of(module, x, output="logit"):
    outputs = outputs_of(module, x)
    if output == "probability":
        return torch.logit(outputs.double()).float()
    return outputs if outputs.ndim == 1 else outputs[:, 0] if outputs.shape[1] == 1 else outputs[:, 1] - outputs[:, 0]


@pytest.fixture(scope="module")
def net():
    """Return a module and what was brought of it."""
    module = trained(Net)
    return module, bring(module, numbers(N, 6))


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    kind, x, output = MODELS[request.param]

    def predict(state, x):
        if isinstance(state, nn.Module):
            module = state
        else:
            module = trained(kind, seed=9)
            module.load_state_dict(state)
        with torch.no_grad():
            return logits_of(module, x, output).numpy()

    modules = [trained(kind, seed) for seed in range(3)]
    case = Case(bring(modules[0], x, output=output), arrays(x), predict(modules[0], x), predict)
    case.name, case.models = request.param, modules
    return case


def test_logits(case):
    agreement.logits_agree(case)


def test_influence_is_central_differences(case):
    agreement.influence_agrees(case)


def hooked(module, change):
    """Change the outputs of the units' layers: `change` is a function of name, output and the axis of units."""

    def hook_of(name, layer):
        axis = 1 if isinstance(layer, nn.Conv2d) else -1
        return lambda layer, args, output: change(name, output, axis)

    return [layer.register_forward_hook(hook_of(name, layer)) for name, layer in module.named_modules()]


def test_influence_is_pytorch_autograd(case):
    module, brought, batch = case.models[0], case.brought, case.batch
    shifts = {name.split(" ")[1]: torch.zeros(width, requires_grad=True) for name, width in brought.units.items()}

    def add(name, output, axis):
        return output if name not in shifts else output + (shifts[name][:, None, None] if axis == 1 else shifts[name])

    hooks = hooked(module, add)
    scores = torch.sigmoid(logits_of(module, case.x, "logit" if case.name != "columns" else "probability"))
    for hook in hooks:
        hook.remove()
    slope = jax.grad(lambda scores: spd(scores, batch.y, batch.a))(jax.nn.sigmoid(case.logits))
    grads = torch.autograd.grad(scores, list(shifts.values()), torch.tensor(np.asarray(slope)))
    found = jax.jit(lambda v: influence(spd, brought.network.apply, v, batch))(brought.variables)
    for (name, values), grad in zip(found.items(), grads, strict=True):
        np.testing.assert_allclose(values, grad.numpy() / case.n, atol=1e-7, rtol=1e-4, err_msg=name)


def test_activations_are_those_of_hooks(case):
    shown = {}

    def show(name, output, axis):
        if f" {name}" in "".join(f" {unit}" for unit in case.brought.units) and isinstance(output, torch.Tensor):
            shown.setdefault(name, []).append(output.movedim(axis, -1).detach().clone().numpy())

    hooks = hooked(case.models[0], show)
    case.predict(case.models[0], case.x)
    for hook in hooks:
        hook.remove()
    found = agreement.activations_agree(case)
    whole = jax.jit(case.brought.network.activations)(case.brought.variables, case.x)
    assert list(found) == list(whole)
    for name, values in whole.items():
        expected = shown[name.split(" ")[1]]
        expected = expected[0] if len(expected) == 1 else np.stack(expected, axis=1)
        np.testing.assert_allclose(values, expected.reshape(values.shape), atol=1e-5, err_msg=name)


def test_pruning_order(case):
    agreement.pruning_order_agrees(case)


def test_fine_tuning(case):
    agreement.fine_tuning_runs(case, unchanged=() if case.name in ("mlp", "cnn") else ("buffers",))


def test_seeds(case):
    agreement.seeds_agree(case, case.models)


def test_give_back(case):
    state = agreement.give_back_agrees(case)
    module = case.models[0]
    assert {name: tensor.dtype for name, tensor in state.items()} == {
        name: tensor.dtype for name, tensor in module.state_dict().items()
    }


def test_features(case):
    agreement.features_agree(case)


def test_training_mode_updates_statistics_as_pytorch_does(case):
    if case.name not in ("mlp", "cnn"):
        pytest.skip("the model has no running statistics")
    module = copy.deepcopy(case.models[0])
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    brought = bring(module, tensors(case.x))
    module.train()
    with torch.no_grad():
        expected = logits_of(module, case.x).numpy()
    logits, variables = jax.jit(brought.network.apply)(brought.variables, case.x, key=jax.random.key(0))
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    state = brought.give_back(variables)
    for name, buffer in module.named_buffers():
        assert state[name].dtype == buffer.dtype
        np.testing.assert_allclose(state[name], buffer, atol=1e-6, err_msg=name)
        assert "num_batches" not in name or buffer == state[name] == 1


def test_dropout_is_drawn_from_the_key():
    module = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    brought = bring(module.train(), numbers(4, 6))
    apply = jax.jit(brought.network.apply)
    x = jnp.asarray(numbers(N, 6))
    one, again, other = (apply(brought.variables, x, key=jax.random.key(i))[0] for i in (0, 0, 1))
    assert np.array_equal(one, again) and not np.allclose(one, other)
    assert module.training and module[1].training


def test_a_program_runs_without_pytorch(net):
    """The interpreter and the table of operations do not import PyTorch, and a program holds nothing of it."""
    program = "import sys, fairjax.adapters._program, fairjax.adapters._aten; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
    _, brought = net
    for half in (brought.network.apply.programs.evaluation, brought.network.apply.programs.training):
        for instruction in half.instructions:
            parts = [instruction.function, *instruction.args, *instruction.kwargs.values(), instruction.dtypes]
            assert not any(type(part).__module__.startswith("torch") for part in parts)


@pytest.mark.slow
def test_one_row_is_enough_and_rows_may_be_of_any_number():
    module, x = trained(Net), numbers(N, 6)
    brought = bring(module, x[[int(module(x).argmin())]].numpy())
    for n in (1, 2, 7):
        x = numbers(n, 6)
        with torch.no_grad():
            expected = module(x)[:, 0]
        np.testing.assert_allclose(brought.network.apply(brought.variables, jnp.asarray(x))[0], expected, atol=1e-5)


def test_units_are_named_or_chosen():
    module, x = trained(Residual), numbers(4, 2, 12, 12)
    brought = bring(module, x, units=["conv1", "stem.2"])
    assert brought.units == {"00 stem.2": 4, "01 conv1": 6}
    cut = {**brought.variables["masks"], "00 stem.2": jnp.arange(4) != 1}
    with pytest.raises(ValueError, match=r"'00 stem.2' are cut, .* it has no weight of its own for each unit"):
        brought.give_back({**brought.variables, "masks": cut})
    whole = brought.give_back({**brought.variables, "masks": {**cut, "00 stem.2": jnp.ones(4, bool)}})
    assert torch.equal(whole["conv1.weight"], module.conv1.weight)
    shown = jax.jit(brought.network.activations)(brought.variables, jnp.asarray(x))["00 stem.2"]
    np.testing.assert_allclose(shown, module.stem(x).movedim(1, -1).detach(), atol=1e-5)
    chosen = bring(module, x, units=lambda name, layer: isinstance(layer, nn.BatchNorm2d))
    assert list(chosen.units) == ["00 stem.1", "01 bn1", "02 bn2"]
    with pytest.raises(ValueError, match=r"units names no layer: 'conv3'; the layers are stem.0, .*conv1"):
        bring(module, x, units=["conv3"])


class PositionsFirst(nn.Module):
    """Layers that see positions first, beside rows and folded with them."""

    def __init__(self):
        super().__init__()
        self.emb, self.fc, self.flat, self.out = nn.Embedding(7, 5), nn.Linear(5, 8), nn.Linear(8, 4), nn.Linear(4, 1)

    def forward(self, tokens):
        h = torch.tanh(self.fc(self.emb(tokens).transpose(0, 1)))
        h = torch.tanh(self.flat(h.reshape(-1, 8))).reshape(tokens.shape[1], -1, 4)
        return self.out(h.mean(0))


def test_rows_need_not_be_on_the_first_axis():
    module, x = trained(PositionsFirst), integers(7, N, 3)
    module.out.bias.data -= 2
    brought = bring(module, x, units=["fc"])
    shown = brought.network.activations(brought.variables, jnp.asarray(x))["00 fc"]
    np.testing.assert_allclose(shown, module.fc(module.emb(x)).detach(), atol=1e-6)
    folded = bring(module, x)
    logits = folded.network.apply(folded.variables, jnp.asarray(x))[0]
    np.testing.assert_allclose(logits, module(x)[:, 0].detach(), atol=1e-5)
    with pytest.raises(ValueError, match="activations of 01 flat cannot be shown, because positions come before rows"):
        folded.network.activations(folded.variables, jnp.asarray(x))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.mix = nn.Embedding(7, 8), nn.Linear(8, 8)
        self.back = nn.Linear(8, 7, bias=False)
        self.back.weight = self.emb.weight
        self.out = nn.Linear(7, 1)

    def forward(self, tokens):
        return self.out(torch.tanh(self.back(torch.tanh(self.mix(self.emb(tokens).mean(1))))))


def test_tied_weights_are_one_parameter_and_their_cuts_are_refused():
    module, x = trained(Tied), integers(7, 6, 3)
    brought = bring(module, x)
    assert list(brought.units) == ["00 mix", "01 back"]
    assert "back" not in brought.variables["params"]
    state = brought.give_back(
        {**brought.variables, "params": jax.tree.map(lambda p: p + 1, brought.variables["params"])}
    )
    assert torch.equal(state["back.weight"], state["emb.weight"])
    np.testing.assert_allclose(state["emb.weight"], module.emb.weight.detach() + 1)
    masks = {**brought.variables["masks"], "00 mix": jnp.arange(8) > 0}
    brought.give_back({**brought.variables, "masks": masks})
    masks["01 back"] = jnp.arange(7) > 0
    with pytest.raises(ValueError, match=r"'01 back' are cut, .* is also used elsewhere in the network \(it is tied\)"):
        brought.give_back({**brought.variables, "masks": masks})


def test_frozen_parameters_are_buffers():
    module = trained(Net)
    module.fcs[0].requires_grad_(False)
    brought = bring(module, numbers(4, 6))
    assert set(brought.variables["params"]) == {"fcs", "norms", "out"}
    assert set(brought.variables["params"]["fcs"]) == {"1"}
    assert set(brought.variables["buffers"]["fcs"]["0"]) == {"weight", "bias"}
    masks = {**brought.variables["masks"], "00 fcs.0": jnp.arange(8) != 2}
    state = brought.give_back({**brought.variables, "masks": masks})
    assert not state["fcs.0.weight"][2].any() and state["fcs.0.weight"][1].any() and state["fcs.0.bias"][2] == 0
    with pytest.raises(ValueError, match="must have the same parameters, frozen alike, found a difference: fcs.0"):
        brought.variables_of(trained(Net))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch's compiler, in its own code
def test_compiled_modules_are_unwrapped():
    module = trained(Net)
    compiled = torch.compile(module)
    state = bring(compiled, numbers(4, 6)).give_back(bring(module, numbers(4, 6)).variables)
    assert list(state) == list(compiled.state_dict())
    compiled.load_state_dict(state)
    inner = nn.Sequential(torch.compile(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 1))
    brought = bring(inner, numbers(4, 6))
    masks = jax.tree.map(lambda keep: keep.at[0].set(False), brought.variables["masks"])
    state = brought.give_back({**brought.variables, "masks": masks})
    inner.load_state_dict(state)
    assert not inner[0].weight[0].any()


def test_double_precision_modules_become_single_and_are_given_back_double():
    module = trained(Net).double()
    brought = bring(module, np.asarray(numbers(4, 6), np.float64))
    assert brought.variables["params"]["out"]["weight"].dtype == jnp.float32
    state = brought.give_back(brought.variables)
    assert state["out.weight"].dtype == torch.float64
    module.load_state_dict(state)


@pytest.mark.slow
def test_a_final_softmax_is_skipped():
    for end, last in ((nn.Softmax(dim=1), 2), (nn.Softmax(dim=-1), 3), (nn.Sigmoid(), 1)):
        module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, last), end)
        x = numbers(4, 6)
        brought = bring(module, x, output="probability")
        h = module[:3](x * 1000).detach()
        expected = h[:, 1] - h[:, 0] if last == 2 else h[:, 0] if last == 1 else h
        found = brought.network.apply(brought.variables, jnp.asarray(x) * 1000)[0]
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    with pytest.warns(UserWarning, match="output='probability'"):
        bring(module, x)


class Stops(nn.Module):
    """Gradients stop at a detached value, and in training at layers under `no_grad`."""

    def __init__(self):
        super().__init__()
        self.frozen, self.fc, self.out = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 1)

    def forward(self, x):
        with torch.no_grad():
            h = torch.relu(self.frozen(x))
        h = torch.relu(self.fc(h))
        return self.out(h * torch.sigmoid(h).detach())


def test_gradients_stop_where_pytorch_stops_them():
    module, x = trained(Stops), numbers(N, 6)
    brought = bring(module, x)
    module.train()
    grads = torch.autograd.grad(module(x).sum(), [module.fc.weight, module.out.weight])
    expected = dict(zip(["fc", "out"], grads, strict=True))

    def total(params, key):
        return brought.network.apply({**brought.variables, "params": params}, jnp.asarray(x), key=key)[0].sum()

    grads = jax.grad(total)(brought.variables["params"], jax.random.key(0))
    for name, grad in expected.items():
        np.testing.assert_allclose(grads[name]["weight"], grad, atol=1e-5, rtol=1e-4)
    assert not grads["frozen"]["weight"].any()
    assert jax.grad(total)(brought.variables["params"], None)["frozen"]["weight"].any()


def test_a_linear_model_has_no_units():
    x, model = numbers(N, 6), nn.Linear(6, 1)
    given, logits = agreement.without_units_agrees(
        lambda units: bring(model, x, units=units), arrays(x), model(x)[:, 0].detach()
    )
    model.load_state_dict(given)
    np.testing.assert_allclose(model(x)[:, 0].detach(), logits, atol=1e-6)


class Branches(nn.Module):
    def forward(self, x):
        return x.sum(1) if x.sum() > 0 else x[:, 0]


class UsesNumpy(nn.Module):
    def forward(self, x):
        return torch.from_numpy(x.numpy() * 2).sum(1)


class FixedRows(nn.Module):
    def forward(self, x):
        return x.reshape(4, 6).sum(1)


class Eigenvalues(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.out = nn.Linear(6, 4), nn.Linear(2, 1)

    def forward(self, x):
        return self.out(torch.linalg.eigvalsh(self.fc(x).reshape(-1, 2, 2)))


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.out = nn.Linear(6, 4), nn.Linear(4, 1)

    def forward(self, x):
        return self.out(nn.functional.dropout(self.fc(x), 0.5, training=True))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 1)

    def forward(self, x):
        return self.fc(x), x


def test_errors_say_what_was_found_and_the_way_out(capfd):
    x = numbers(4, 6)
    cumulative = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4, momentum=None), nn.Linear(4, 1))
    cases = [
        (Branches(), "torch.export cannot trace Branches in evaluation mode .*data-dependent.*must not branch"),
        (UsesNumpy(), r"torch.export cannot trace UsesNumpy .*\.numpy\(\) is not supported"),
        (FixedRows(), "torch.export cannot trace FixedRows .*specialized it to be a constant"),
        (Eigenvalues(), "operations that fairjax has not written in JAX: aten._linalg_eigh.default; replace them"),
        (Noisy(), "aten.native_dropout.default in evaluation mode, which makes outputs random"),
        (Two(), "must return one array of logits or probabilities"),
        (nn.Linear(6, 1).half(), r"parameter 'weight' is float16, .* bring module.float\(\), a module in float32"),
        (nn.Linear(6, 1).bfloat16(), "parameter 'weight' is bfloat16"),
        (cumulative, "batch normalisation '1' has momentum=None.*set its momentum"),
        (nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 1)), "the layer '0' has no weights yet"),
        (nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 1)).state_dict(), "got OrderedDict; of a state dictionary"),
        (nn.Linear(6, 1), "calls no linear layer or convolution before its last"),
        (nn.Sequential(nn.Linear(6, 4), nn.Unflatten(1, (2, 2))), "must return outputs of shape"),
    ]
    for module, message in cases:
        with pytest.raises(ValueError, match=message) as caught:
            bring(module, x)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # nor does PyTorch print the graphs that it could not trace


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_script_modules_are_refused():
    script = torch.jit.script(nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 1)))
    with pytest.raises(ValueError, match="is a ScriptModule, .* bring the torch.nn.Module from which"):
        bring(script, numbers(4, 6))


def test_other_models_and_other_inputs_are_refused(net):
    _, brought = net
    other = trained(Net)
    other.drop.p = 0.1
    with pytest.raises(ValueError, match=r"found \(drop\): Dropout\(p=0.1.*expected \(drop\): Dropout\(p=0.3"):
        brought.variables_of(other)
    with pytest.raises(ValueError, match="found Residual, expected Net"):
        brought.variables_of(trained(Residual))
    with pytest.raises(ValueError, match=r"x must have shape \(rows, 6\), as the example had, found \(4, 5\)"):
        brought.network.apply(brought.variables, jnp.ones((4, 5)))
    with pytest.raises(ValueError, match="brought from PyTorch is already trained"):
        brought.network.init(jax.random.key(0), jnp.ones((4, 6)))


def test_the_module_is_left_as_it_was():
    module = trained(Net).train()
    module.norms[0].eval()
    before = copy.deepcopy(module.state_dict())
    brought = bring(module, numbers(4, 6))
    assert module.training and module.drop.training and not module.norms[0].training
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert not any(part._forward_hooks for part in module.modules())
    with torch.no_grad():
        module.out.weight.zero_()
    assert brought.variables["params"]["out"]["weight"].any()  # a copy


def test_numbers_are_no_tokens():
    module = nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Linear(6, 4), nn.Linear(4, 1))
    brought = bring(module, integers(7, 4, 2), units=["2"])
    with pytest.raises(ValueError, match="x must be of type int32, as the example was, found float32"):
        brought.network.apply(brought.variables, jnp.ones((4, 2)))


def test_a_tuple_of_inputs_and_a_dictionary_argument():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.out = nn.Linear(4, 8), nn.Linear(8, 1)

        def forward(self, first, second):
            return self.out(torch.relu(self.fc(torch.cat([first, second], 1))))

    class Mapping(Pair):
        def forward(self, columns):
            return super().forward(columns["b"], columns["a"])

    first, second = numbers(4, 1), numbers(4, 3, seed=6)
    pair, mapping = trained(Pair), trained(Mapping)
    for module, x in ((pair, (first, second)), (mapping, {"b": first, "a": second})):
        brought = bring(module, x)
        expected = pair(first, second)[:, 0].detach()
        np.testing.assert_allclose(brought.network.apply(brought.variables, arrays(x))[0], expected, atol=1e-5)
