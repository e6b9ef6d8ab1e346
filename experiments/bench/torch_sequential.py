"""A contender in PyTorch: the first paper's protocol as a script runs it, one seed after another.

Written from the paper (Table 2, Algorithms 1 and 2, appendix D) without JAX, so that a process that is timed holds
PyTorch alone. Where a batch, an order of rows or a rounding of the dropout rate differs from fairjax's, fairjax's
docstrings say so; the counts of epochs, steps and draws are the same.
"""

import contextlib
import copy
import dataclasses
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

TIE = 1e-9
"""Numbers of float64 in [0, 1] this close differ by rounding alone."""

METHODS = ("standard", "pruning", "bias_gda", "random_perturbation")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The protocol, with limits that cut it short: the counts done come back, so that a part tells of the whole."""

    widths: tuple[int, ...] = (32,) * 11
    """Units of each hidden layer."""
    dropout: float = 0.05
    """Drop probability."""
    learning_rate: float = 1e-3
    """Adam's first step size."""
    plateau_factor: float = 0.1
    """The learning rate is multiplied by this on a plateau."""
    plateau_tolerance: float = 1e-4
    """Least relative improvement of the validation loss that counts."""
    plateau_patience: int = 10
    """Epochs without improvement before the cut."""
    batch_size: int = 64
    """Rows of a mini-batch in training."""
    epochs: int = 1000
    """Passes over the train part, at most."""
    check_every: int = 10
    """Epochs between checks of the validation loss for early stopping."""
    stopping_patience: int = 10
    """Training stops at one more than so many checks in a row without improvement."""
    fused: bool = False
    """PyTorch's fused Adam instead of its default, which goes parameter by parameter."""
    measure: Literal["spd", "eod"] = "spd"
    """Statistical parity or equal opportunity."""
    epsilon: float = 0.05
    """Bound on |bias| (Eq. 3)."""
    margin: float = 0.01
    """How far inside the bound a candidate must be on validation data."""
    search: Literal["histogram", "scan"] = "histogram"
    """All 101 thresholds in one pass, or scikit-learn's balanced accuracy 101 times, as scripts have it."""
    methods: tuple[str, ...] = METHODS
    """Those to run."""
    pruning_steps: int | None = None
    """Units pruned, one a step; all if omitted."""
    bias_gda_learning_rate: float = 1e-5
    """Step size of bias gradient descent/ascent."""
    bias_gda_batch_size: int = 256
    """Rows of a mini-batch there."""
    bias_gda_epochs: int = 100
    """Passes over the train part there."""
    draws: int = 500
    """Random perturbations."""
    deviation: float = 0.1
    """Standard deviation of their factors."""
    seeds: int | None = None
    """So many of the seeds, the first; all if omitted."""

    def __post_init__(self):
        """Refuse what would be passed over in silence."""
        unknown = sorted(set(self.methods) - set(METHODS))
        if unknown:
            raise ValueError(f"methods must be some of {', '.join(METHODS)}, got {', '.join(unknown)}")
        if self.measure not in ("spd", "eod") or self.search not in ("histogram", "scan"):
            raise ValueError(
                f"measure must be spd or eod and search histogram or scan, got {self.measure}, {self.search}"
            )

    @property
    def bound(self) -> float:
        """Epsilon less the margin."""
        return self.epsilon - self.margin


class Part(NamedTuple):
    """The rows of one part, standardised."""

    x: Tensor
    """Features, float32 (n, d)."""
    y: Tensor
    """Labels, bool (n,)."""
    a: Tensor
    """Protected attribute, bool (n,); true in the privileged group."""


class Split(NamedTuple):
    """One seed and its parts."""

    seed: int
    train: Part
    valid: Part
    test: Part


class Evaluation(NamedTuple):
    """A network with a threshold, on one part."""

    threshold: float
    balanced_accuracy: float
    bias: float


class Best(NamedTuple):
    """The best candidate so far."""

    selected: int
    """Its number; 0 is the network as it came."""
    state: dict[str, Tensor]
    """A copy of its parameters and buffers."""
    evaluation: Evaluation
    """On validation data."""
    objective: float
    """Eq. 3 there, at epsilon less the margin."""


class Network(nn.Module):
    """Linear, ReLU, dropout, batch normalisation for each hidden layer, then a logit (Table 2).

    The names are those that `fairjax.adapters.torch` reads and writes.
    """

    def __init__(self, features: int, widths: Sequence[int] = (32,) * 11, dropout: float = 0.05):
        """PyTorch's default initialisation, from the global stream of random numbers: see `seeded`."""
        super().__init__()
        self.fc0, self.bn0 = nn.Linear(features, widths[0]), nn.BatchNorm1d(widths[0])
        self.fcs = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(widths))
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for width in widths[1:])
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(widths[-1], 1)

    @property
    def linears(self) -> list[nn.Linear]:
        """The hidden layers' linear maps, in order."""
        return [self.fc0, *self.fcs]

    def forward(self, x: Tensor, preactivations: list[Tensor] | None = None) -> Tensor:
        """Logits (n,); the hidden layers' pre-activations are appended to the list if one is given."""
        for linear, norm in zip(self.linears, [self.bn0, *self.bns], strict=True):
            x = linear(x)
            if preactivations is not None:
                preactivations.append(x)
            x = norm(self.drop(functional.relu(x)))
        return self.out(x).squeeze(1)


def splits_of(splits: Any, seeds: Sequence[int]) -> Iterator[Split]:
    """One seed's tensors after another, from the arrays that `fairjax.data.split_seeds` returns.

    Args:
        splits: with the fields of `fairjax.types.Split` and a leading axis of seeds from `train` on.
        seeds: the seed of each.

    Yields:
        A split, made when it is asked for, so that one copy of the table is held and not one a seed.
    """
    x, y, a = (np.asarray(array) for array in splits[:3])  # one copy off the device

    def part(rows: Any, mean: np.ndarray, scale: np.ndarray) -> Part:
        rows = np.asarray(rows)
        return Part(torch.from_numpy((x[rows] - mean) / scale), torch.from_numpy(y[rows]), torch.from_numpy(a[rows]))

    for i, seed in enumerate(seeds):
        scaler = np.asarray(splits.mean[i]), np.asarray(splits.scale[i])
        yield Split(seed, *(part(getattr(splits, name)[i], *scaler) for name in ("train", "valid", "test")))


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[torch.Generator]:
    """A generator of this seed, and PyTorch's global stream, which `nn.Dropout` draws from, at this seed for the block.

    Args:
        seed: of both.

    Yields:
        The generator, for orders of rows and noise. The global stream is put back at the end.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def proxy(values: Tensor, y: Tensor, a: Tensor, measure: str) -> Tensor:
    """Eq. 1 (spd) or 2 (eod); exactly 0, with a zero gradient, if a group is empty.

    Args:
        values: scores or decisions (n,).
        y: labels.
        a: protected attribute.
        measure: spd or eod.

    Returns:
        A scalar.
    """
    privileged, unprivileged = (a, ~a) if measure == "spd" else (y & a, y & ~a)
    means, counts = [], []
    for group in (unprivileged, privileged):
        weights = group.to(values.dtype)
        counts.append(weights.sum())
        means.append(values @ weights / counts[-1].clamp(min=1))
    return (means[0] - means[1]) * (torch.minimum(*counts) > 0)


def thresholds() -> Tensor:
    """101 equally spaced values in [0, 1]."""
    return torch.arange(101) / 100


def rates(scores: Tensor, part: Part, cuts: Tensor, measure: str) -> tuple[Tensor, Tensor]:
    """Balanced accuracy and bias of the decisions score > cut at every cut, from one histogram of the scores.

    Args:
        scores: (n,).
        part: the rows.
        cuts: (t,), increasing.
        measure: spd or eod.

    Returns:
        Two vectors of float64 (t,).
    """
    bins = len(cuts) + 1
    cell = (torch.searchsorted(cuts, scores) * 2 + part.y) * 2 + part.a
    counts = torch.bincount(cell, minlength=bins * 4).reshape(bins, 2, 2).double()  # exceeded cuts, label, group
    total = counts.sum(0)
    accepted = total - counts.cumsum(0)[:-1]
    by_label = accepted.sum(2) / total.sum(1)
    by_group = accepted.sum(1) / total.sum(0) if measure == "spd" else accepted[:, 1] / total[1]
    return (by_label[:, 1] + 1 - by_label[:, 0]) / 2, by_group[:, 0] - by_group[:, 1]


def threshold_search(
    scores: Tensor, part: Part, settings: Settings, by: Literal["accuracy", "objective"] = "accuracy"
) -> Evaluation:
    """The first of 101 thresholds that maximises balanced accuracy, or Eq. 3 at epsilon less the margin.

    Args:
        scores: (n,).
        part: the rows, of the validation part.
        settings: measure and bound.
        by: what to maximise.

    Returns:
        The evaluation at that threshold.
    """
    cuts = thresholds()
    accuracy, bias = rates(scores, part, cuts, settings.measure)
    value = accuracy if by == "accuracy" else accuracy * (bias.abs() < settings.bound)
    best = int(torch.argmax((value >= value.max() - TIE).to(torch.uint8)))
    return Evaluation(cuts[best].item(), accuracy[best].item(), bias[best].item())


def threshold_scan(
    scores: Tensor, part: Part, settings: Settings, by: Literal["accuracy", "objective"] = "accuracy"
) -> Evaluation:
    """What `threshold_search` returns, by a loop over scikit-learn's balanced accuracy."""
    from sklearn.metrics import balanced_accuracy_score  # here, so that other processes do without it

    best, most = None, -1.0
    y, values = part.y.numpy(), scores.numpy()
    for cut in thresholds().numpy():
        decisions = values > cut
        accuracy = float(balanced_accuracy_score(y, decisions))
        bias = proxy(torch.from_numpy(decisions).double(), part.y, part.a, settings.measure).item()
        value = accuracy if by == "accuracy" or abs(bias) < settings.bound else 0.0
        if value > most + TIE:
            best, most = Evaluation(float(cut), accuracy, bias), value
    assert best is not None
    return best


@torch.no_grad()
def scores(network: Network, x: Tensor) -> Tensor:
    """Sigmoid outputs of a network in evaluation mode."""
    network.eval()
    return torch.sigmoid(network(x))


def evaluate(
    network: Network, part: Part, settings: Settings, by: Literal["accuracy", "objective"] = "accuracy"
) -> Evaluation:
    """A network on validation data, with the threshold that is best there."""
    search = threshold_search if settings.search == "histogram" else threshold_scan
    return search(scores(network, part.x), part, settings, by)


def constrained(evaluation: Evaluation, bound: float) -> float:
    """Eq. 3: balanced accuracy if |bias| < bound, else 0."""
    return evaluation.balanced_accuracy if abs(evaluation.bias) < bound else 0.0


def select(best: Best | None, network: Network, number: int, evaluation: Evaluation, settings: Settings) -> Best:
    """The better one of the best candidate so far and this one, the earlier on ties."""
    objective = constrained(evaluation, settings.bound)
    if best is not None and objective <= best.objective + TIE:
        return best
    return Best(number, _copied(network), evaluation, objective)


def result(best: Best, network: Network, test: Part, settings: Settings) -> dict[str, Any]:
    """The selected candidate on test data. The network is left with its parameters."""
    network.load_state_dict(best.state)
    cut = torch.tensor([best.evaluation.threshold])
    accuracy, bias = (value.item() for value in rates(scores(network, test.x), test, cut, settings.measure))
    evaluation = Evaluation(best.evaluation.threshold, accuracy, bias)
    return {
        "selected": best.selected,
        "satisfied": abs(best.evaluation.bias) < settings.bound,
        **evaluation._asdict(),
        "objective": constrained(evaluation, settings.epsilon),
    }


def training_step(network: Network, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Tensor:
    """One step down the binary cross-entropy of a mini-batch, the loss before it; y is float."""
    optimiser.zero_grad()
    loss = functional.binary_cross_entropy_with_logits(network(x), y)
    loss.backward()
    optimiser.step()
    return loss.detach()


def train(split: Split, settings: Settings, generator: torch.Generator) -> tuple[Network, dict[str, Any]]:
    """Fit a network (Table 2 and appendix D.2): the best of the checked parameters.

    Args:
        split: the data.
        settings: the protocol.
        generator: the order of rows.

    Returns:
        The network, and how far training went.
    """
    network = Network(split.train.x.shape[1], settings.widths, settings.dropout)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=settings.fused or None)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser,
        factor=settings.plateau_factor,
        patience=settings.plateau_patience,
        threshold=settings.plateau_tolerance,
    )
    x, y, valid = split.train.x, split.train.y.float(), split.valid.y.float()
    best, least, stale, steps, epoch = _copied(network), float("inf"), 0, 0, 0
    while epoch < settings.epochs and stale <= settings.stopping_patience:
        epoch += 1
        network.train()
        for rows in shuffled(len(x), settings.batch_size, generator):
            training_step(network, optimiser, x[rows], y[rows])
            steps += 1
        loss = _loss(network, split.valid.x, valid)
        plateau.step(loss)
        if epoch % settings.check_every == 0:
            stale = 0 if loss < least else stale + 1
            if loss < least:
                best, least = _copied(network), loss
    network.load_state_dict(best)
    stopped = stale > settings.stopping_patience
    return network, {"epochs": epoch, "steps": steps, "stopped": stopped, "loss": least}


def influence(network: Network, part: Part, measure: str) -> Tensor:
    """Sum over rows of the proxy's derivative by every pre-activation, layer after layer (Eq. 4 but for 1/N)."""
    network.eval()
    preactivations: list[Tensor] = []
    values = torch.sigmoid(network(part.x, preactivations))
    slopes = torch.autograd.grad(proxy(values, part.y, part.a, measure), preactivations)
    return torch.cat([slope.sum(0) for slope in slopes])


def prune(network: Network, split: Split, settings: Settings) -> dict[str, Any]:
    """Algorithm 1, one unit a step, influence on train data measured anew at every step.

    Args:
        network: the trained one; it is not changed.
        split: the data.
        settings: the protocol.

    Returns:
        The result, with `steps` done and the `order` in which units were cut, numbered layer after layer.
    """
    network = copy.deepcopy(network)
    evaluation = evaluate(network, split.valid, settings)
    best, sign = select(None, network, 0, evaluation, settings), float(np.sign(evaluation.bias))
    units = [(linear, row) for linear in network.linears for row in range(linear.out_features)]
    steps = len(units) if settings.pruning_steps is None else min(settings.pruning_steps, len(units))
    order: list[int] = []
    for step in range(1, steps + 1):
        signed = sign * influence(network, split.train, settings.measure)
        signed[order] = -torch.inf
        order.append(int(torch.argmax(signed)))
        linear, row = units[order[-1]]
        with torch.no_grad():  # batch normalisation then passes on a constant
            linear.weight[row] = 0
            linear.bias[row] = 0
        best = select(best, network, step, evaluate(network, split.valid, settings), settings)
    return {**result(best, network, split.test, settings), "steps": steps, "order": order}


def bias_gda(network: Network, split: Split, settings: Settings, generator: torch.Generator) -> dict[str, Any]:
    """Algorithm 2: descent on sgn(mu_0) * proxy by mini-batches of the train part, a candidate an epoch.

    Args:
        network: the trained one; it is not changed.
        split: the data.
        settings: the protocol.
        generator: the order of rows.

    Returns:
        The result, with `epochs` and `steps` done.
    """
    network = copy.deepcopy(network)
    evaluation = evaluate(network, split.valid, settings)
    best, sign = select(None, network, 0, evaluation, settings), float(np.sign(evaluation.bias))
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.bias_gda_learning_rate, fused=settings.fused or None)
    steps = 0
    for epoch in range(1, settings.bias_gda_epochs + 1):
        steps += descend(network, optimiser, split.train, sign, settings, generator)
        best = select(best, network, epoch, evaluate(network, split.valid, settings), settings)
    done = {"epochs": settings.bias_gda_epochs, "steps": steps}
    return {**result(best, network, split.test, settings), **done}


def descend(
    network: Network,
    optimiser: torch.optim.Optimizer,
    part: Part,
    sign: float,
    settings: Settings,
    generator: torch.Generator,
) -> int:
    """One epoch of bias gradient descent/ascent in training mode; the number of steps."""
    network.train()
    batches = shuffled(len(part.x), settings.bias_gda_batch_size, generator)
    for rows in batches:
        x, y, a = (column[rows] for column in part)
        optimiser.zero_grad()
        (sign * proxy(torch.sigmoid(network(x)), y, a, settings.measure)).backward()
        optimiser.step()
    return len(batches)


def random_perturbation(
    network: Network, split: Split, settings: Settings, generator: torch.Generator
) -> dict[str, Any]:
    """Multiplicative noise N(1, deviation^2) on every parameter, many times; thresholds by Eq. 3 (Savani et al.).

    Args:
        network: the trained one; it is not changed.
        split: the data.
        settings: the protocol.
        generator: the noise.

    Returns:
        The result, with `draws` done.
    """
    network, original = copy.deepcopy(network), list(network.parameters())
    best = select(None, network, 0, evaluate(network, split.valid, settings, "objective"), settings)
    for draw in range(1, settings.draws + 1):
        with torch.no_grad():
            for parameter, came in zip(network.parameters(), original, strict=True):
                noise = torch.randn(came.shape, generator=generator)
                parameter.copy_(came * (1 + settings.deviation * noise))
        evaluation = evaluate(network, split.valid, settings, "objective")
        best = select(best, network, draw, evaluation, settings)
    return {**result(best, network, split.test, settings), "draws": settings.draws}


def standard(network: Network, split: Split, settings: Settings) -> dict[str, Any]:
    """The network as it came, with the threshold that is best on validation data."""
    evaluation = evaluate(network, split.valid, settings)
    return result(select(None, network, 0, evaluation, settings), network, split.test, settings)


def run_seed(split: Split, settings: Settings) -> dict[str, Any]:
    """Training and all methods on one split.

    Args:
        split: the data.
        settings: the protocol.

    Returns:
        `seed`, `training` (epochs, steps, whether it stopped early, loss), a result a method, and `seconds` by stage.
    """
    seconds: dict[str, float] = {}
    with seeded(split.seed) as generator:
        begun = time.perf_counter()
        network, done = train(split, settings, generator)
        seconds["training"] = time.perf_counter() - begun
        found = {"seed": split.seed, "training": done, "seconds": seconds}
        for name in settings.methods:
            begun = time.perf_counter()
            found[name] = _debiased(name, network, split, settings, generator)
            seconds[name] = time.perf_counter() - begun
    return found


def run(splits: Iterable[Split], settings: Settings | None = None) -> dict[str, Any]:
    """The whole protocol, one seed after another.

    Args:
        splits: see `splits_of`.
        settings: the protocol; the paper's if omitted.

    Returns:
        `seeds`, what `run_seed` returns for each, and `seconds` by stage over all of them.

    Raises:
        ValueError: if there is no split.
    """
    settings = Settings() if settings is None else settings
    seeds = [run_seed(split, settings) for split in itertools.islice(splits, settings.seeds)]
    if not seeds:
        raise ValueError("splits must hold at least one split, found none")
    return {
        "seeds": seeds,
        "seconds": {name: sum(seed["seconds"][name] for seed in seeds) for name in seeds[0]["seconds"]},
    }


def shuffled(n: int, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Row numbers in random order, cut into mini-batches; none is dropped.

    The last mini-batch is smaller than the others, but a single row, over which batch normalisation has no variance,
    joins the one before it.
    """
    batches = list(torch.randperm(n, generator=generator).split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        last = batches.pop()
        batches[-1] = torch.cat([batches[-1], last])
    return batches


def _debiased(
    name: str, network: Network, split: Split, settings: Settings, generator: torch.Generator
) -> dict[str, Any]:
    if name == "standard":
        return standard(network, split, settings)
    if name == "pruning":
        return prune(network, split, settings)
    method = bias_gda if name == "bias_gda" else random_perturbation
    return method(network, split, settings, generator)


@torch.no_grad()
def _loss(network: Network, x: Tensor, y: Tensor) -> float:
    network.eval()
    return functional.binary_cross_entropy_with_logits(network(x), y).item()


def _copied(network: Network) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}
