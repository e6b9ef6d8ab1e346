"""A contender in PyTorch: the protocol of the first paper as a script runs it, one seed after another.

The code follows the paper (Table 2, Algorithms 1 and 2, appendix D) and does not use JAX, so that a timed process
contains PyTorch alone. fairjax's docstrings mention where its batches, orders of rows or rounding of the dropout rate
differ from these; the numbers of epochs, steps and draws are the same.
"""

import contextlib
import copy
import dataclasses
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

TIE = 1e-9
"""Tolerance for ties: float64 numbers in [0, 1] that are this close differ by rounding alone."""

PROTOCOL_METHODS = ("standard", "pruning", "bias_gda", "random_perturbation")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProtocolSettings:
    """The protocol, with limits that shorten it; results contain the counts done, so that they can be extrapolated."""

    widths: tuple[int, ...] = (32,) * 11
    """Number of units in each hidden layer."""
    dropout: float = 0.05
    """Dropout probability."""
    learning_rate: float = 1e-3
    """Initial step size of Adam."""
    plateau_factor: float = 0.1
    """Factor on the learning rate when the validation loss stops improving."""
    plateau_tolerance: float = 1e-4
    """Smallest relative improvement of the validation loss that counts."""
    plateau_patience: int = 10
    """Number of epochs without improvement before the learning rate is reduced."""
    batch_size: int = 64
    """Number of rows per mini-batch in training."""
    epochs: int = 1000
    """Maximum number of passes over the train part."""
    check_every: int = 10
    """Number of epochs between checks of the validation loss for early stopping."""
    stopping_patience: int = 10
    """Training stops after more than this number of consecutive checks without improvement."""
    fused: bool = False
    """Use PyTorch's fused Adam instead of its default, which updates one parameter after another."""
    measure: Literal["spd", "eod"] = "spd"
    """The measure of bias: statistical parity or equal opportunity."""
    epsilon: float = 0.05
    """Bound on |bias| (Eq. 3)."""
    margin: float = 0.01
    """Distance inside the bound that a candidate must keep on validation data."""
    search: Literal["histogram", "scan"] = "histogram"
    """Search all 101 thresholds in one pass, or call scikit-learn's balanced accuracy 101 times, as scripts do."""
    methods: tuple[str, ...] = PROTOCOL_METHODS
    """Methods to run."""
    pruning_steps: int | None = None
    """Number of units pruned, one per step; all by default."""
    bias_gda_learning_rate: float = 1e-5
    """Step size of bias gradient descent/ascent."""
    bias_gda_batch_size: int = 256
    """Number of rows per mini-batch in bias gradient descent/ascent."""
    bias_gda_epochs: int = 100
    """Number of passes over the train part in bias gradient descent/ascent."""
    draws: int = 500
    """Number of random perturbations."""
    deviation: float = 0.1
    """Standard deviation of the random factors."""
    seeds: int | None = None
    """Number of seeds to run, the first ones; all by default."""

    def __post_init__(self):
        """Validate settings that would otherwise be ignored silently."""
        unknown = sorted(set(self.methods) - set(PROTOCOL_METHODS))
        if unknown:
            raise ValueError(f"methods must be some of {', '.join(PROTOCOL_METHODS)}, got {', '.join(unknown)}")
        if self.measure not in ("spd", "eod") or self.search not in ("histogram", "scan"):
            raise ValueError(
                f"measure must be spd or eod and search histogram or scan, got {self.measure}, {self.search}"
            )

    @property
    def bound(self) -> float:
        """The bound on validation data, epsilon - margin."""
        return self.epsilon - self.margin


class Part(NamedTuple):
    """The rows of one part, standardised."""

    x: Tensor
    """Features, float32 (n, d)."""
    y: Tensor
    """Labels, bool (n,)."""
    a: Tensor
    """Protected attribute, bool (n,); true for the privileged group."""


class Split(NamedTuple):
    """A seed and the parts of its split."""

    seed: int
    train: Part
    valid: Part
    test: Part


class Evaluation(NamedTuple):
    """The evaluation of a network with a threshold on one part."""

    threshold: float
    balanced_accuracy: float
    bias: float


class Best(NamedTuple):
    """The best candidate so far."""

    selected: int
    """Number of the selected candidate; 0 is the original network."""
    state: dict[str, Tensor]
    """A copy of its parameters and buffers."""
    evaluation: Evaluation
    """Its evaluation on validation data."""
    objective: float
    """Its objective (Eq. 3) on validation data, at the bound epsilon - margin."""


class Network(nn.Module):
    """A multilayer perceptron: linear map, ReLU, dropout, batch normalisation per hidden layer, then a logit (Table 2).

    `experiments.first_paper.state_dicts` reads and writes these attribute names.
    """

    def __init__(self, features: int, widths: Sequence[int] = (32,) * 11, dropout: float = 0.05):
        """Initialise with PyTorch's defaults from the global random number generator: see `seeded`."""
        super().__init__()
        self.fc0, self.bn0 = nn.Linear(features, widths[0]), nn.BatchNorm1d(widths[0])
        self.fcs = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(widths))
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for width in widths[1:])
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(widths[-1], 1)

    @property
    def linears(self) -> list[nn.Linear]:
        """Return the linear maps of the hidden layers, in order."""
        return [self.fc0, *cast(Iterable[nn.Linear], self.fcs)]

    def forward(self, x: Tensor, preactivations: list[Tensor] | None = None) -> Tensor:
        """Compute logits (n,); if a list is given, append the pre-activations of the hidden layers to it."""
        for linear, norm in zip(self.linears, [self.bn0, *self.bns], strict=True):
            x = linear(x)
            if preactivations is not None:
                preactivations.append(x)
            x = norm(self.drop(functional.relu(x)))
        return self.out(x).squeeze(1)


def splits_of(splits: Any, seeds: Sequence[int]) -> Iterator[Split]:
    """Yield the tensors of one seed after another, from the arrays that `fairjax.data.split_seeds` returns.

    Args:
        splits: arrays with the fields of `fairjax.types.Split`, with a leading seeds axis from `train` on.
        seeds: the seed of each split.

    Yields:
        One split at a time, made on demand, so that memory holds one copy of the table instead of one per seed.
    """
    x, y, a = (np.asarray(array) for array in splits[:3])  # copy from the device once

    def part(rows: Any, mean: np.ndarray, scale: np.ndarray) -> Part:
        rows = np.asarray(rows)
        return Part(torch.from_numpy((x[rows] - mean) / scale), torch.from_numpy(y[rows]), torch.from_numpy(a[rows]))

    for i, seed in enumerate(seeds):
        scaler = np.asarray(splits.mean[i]), np.asarray(splits.scale[i])
        yield Split(seed, *(part(getattr(splits, name)[i], *scaler) for name in ("train", "valid", "test")))


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[torch.Generator]:
    """Return a generator with this seed, and seed PyTorch's global generator, used by `nn.Dropout`, within the block.

    Args:
        seed: the seed of both generators.

    Yields:
        The generator for orders of rows and noise. The state of the global generator is restored at the end.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def proxy(values: Tensor, y: Tensor, a: Tensor, measure: str) -> Tensor:
    """Compute Eq. 1 (spd) or 2 (eod); exactly 0, with a zero gradient, if a group is empty.

    Args:
        values: scores or decisions (n,).
        y: labels (n,).
        a: protected attribute (n,).
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
    """Return 101 equally spaced thresholds in [0, 1]."""
    return torch.arange(101) / 100


def rates(scores: Tensor, part: Part, cuts: Tensor, measure: str) -> tuple[Tensor, Tensor]:
    """Compute balanced accuracy and bias of the decisions score > cut for all cuts from one histogram of the scores.

    Args:
        scores: scores (n,).
        part: the rows.
        cuts: thresholds (t,) in increasing order.
        measure: spd or eod.

    Returns:
        Two vectors (t,) in float64.
    """
    bins = len(cuts) + 1
    cell = (torch.searchsorted(cuts, scores) * 2 + part.y) * 2 + part.a
    counts = torch.bincount(cell, minlength=bins * 4).reshape(bins, 2, 2).double()  # cuts exceeded, label, group
    total = counts.sum(0)
    accepted = total - counts.cumsum(0)[:-1]
    by_label = accepted.sum(2) / total.sum(1)
    by_group = accepted.sum(1) / total.sum(0) if measure == "spd" else accepted[:, 1] / total[1]
    return (by_label[:, 1] + 1 - by_label[:, 0]) / 2, by_group[:, 0] - by_group[:, 1]


def threshold_search(
    scores: Tensor, part: Part, settings: ProtocolSettings, by: Literal["accuracy", "objective"] = "accuracy"
) -> Evaluation:
    """Find the first of 101 thresholds that maximises balanced accuracy, or Eq. 3 at the bound epsilon - margin.

    Args:
        scores: scores (n,).
        part: the rows of the validation part.
        settings: the measure and the bound.
        by: what to maximise.

    Returns:
        The evaluation at this threshold.
    """
    cuts = thresholds()
    accuracy, bias = rates(scores, part, cuts, settings.measure)
    value = accuracy if by == "accuracy" else accuracy * (bias.abs() < settings.bound)
    best = int(torch.argmax((value >= value.max() - TIE).to(torch.uint8)))
    return Evaluation(cuts[best].item(), accuracy[best].item(), bias[best].item())


def threshold_scan(
    scores: Tensor, part: Part, settings: ProtocolSettings, by: Literal["accuracy", "objective"] = "accuracy"
) -> Evaluation:
    """Return the result of `threshold_search`, computed by a loop over scikit-learn's balanced accuracy."""
    from sklearn.metrics import balanced_accuracy_score  # imported here, since other processes do not need it

    best, highest = None, -1.0
    y, values = part.y.numpy(), scores.numpy()
    for cut in thresholds().numpy():
        decisions = values > cut
        accuracy = float(balanced_accuracy_score(y, decisions))
        bias = proxy(torch.from_numpy(decisions).double(), part.y, part.a, settings.measure).item()
        value = accuracy if by == "accuracy" or abs(bias) < settings.bound else 0.0
        if value > highest + TIE:
            best, highest = Evaluation(float(cut), accuracy, bias), value
    assert best is not None
    return best


@torch.no_grad()
def scores(network: Network, x: Tensor) -> Tensor:
    """Compute the sigmoid outputs of a network in evaluation mode."""
    network.eval()
    return torch.sigmoid(network(x))


def evaluate(
    network: Network, part: Part, settings: ProtocolSettings, by: Literal["accuracy", "objective"] = "accuracy"
) -> Evaluation:
    """Evaluate a network on validation data, at the threshold that is best there."""
    search = threshold_search if settings.search == "histogram" else threshold_scan
    return search(scores(network, part.x), part, settings, by)


def constrained(evaluation: Evaluation, bound: float) -> float:
    """Compute Eq. 3: balanced accuracy if |bias| < bound, else 0."""
    return evaluation.balanced_accuracy if abs(evaluation.bias) < bound else 0.0


def select(
    best: Best | None, network: Network, number: int, evaluation: Evaluation, settings: ProtocolSettings
) -> Best:
    """Return the better of the best candidate so far and this candidate; ties go to the earlier one."""
    objective = constrained(evaluation, settings.bound)
    if best is not None and objective <= best.objective + TIE:
        return best
    return Best(number, _copied(network), evaluation, objective)


def result(best: Best, network: Network, test: Part, settings: ProtocolSettings) -> dict[str, Any]:
    """Evaluate the selected candidate on test data. Its parameters are loaded into the network."""
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
    """Take one step on the binary cross-entropy of a mini-batch and return the loss before the step; y is float."""
    optimiser.zero_grad()
    loss = functional.binary_cross_entropy_with_logits(network(x), y)
    loss.backward()
    optimiser.step()
    return loss.detach()


def train(split: Split, settings: ProtocolSettings, generator: torch.Generator) -> tuple[Network, dict[str, Any]]:
    """Fit a network (Table 2 and appendix D.2) and keep the best parameters among the checked ones.

    Args:
        split: the data.
        settings: the protocol.
        generator: generates the order of rows.

    Returns:
        The network, and a record of the training.
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
    best, lowest, stale, steps, epoch = _copied(network), float("inf"), 0, 0, 0
    while epoch < settings.epochs and stale <= settings.stopping_patience:
        epoch += 1
        network.train()
        for rows in shuffled(len(x), settings.batch_size, generator):
            training_step(network, optimiser, x[rows], y[rows])
            steps += 1
        loss = _loss(network, split.valid.x, valid)
        plateau.step(loss)
        if epoch % settings.check_every == 0:
            stale = 0 if loss < lowest else stale + 1
            if loss < lowest:
                best, lowest = _copied(network), loss
    network.load_state_dict(best)
    stopped = stale > settings.stopping_patience
    return network, {"epochs": epoch, "steps": steps, "stopped": stopped, "loss": lowest}


def influence(network: Network, part: Part, measure: str) -> Tensor:
    """Compute the sum over rows of the proxy's derivative with respect to every pre-activation (Eq. 4 without 1/N)."""
    network.eval()
    preactivations: list[Tensor] = []
    values = torch.sigmoid(network(part.x, preactivations))
    slopes = torch.autograd.grad(proxy(values, part.y, part.a, measure), preactivations)
    return torch.cat([slope.sum(0) for slope in slopes])


def prune(network: Network, split: Split, settings: ProtocolSettings) -> dict[str, Any]:
    """Prune units one per step (Algorithm 1), with the influence on train data recomputed at every step.

    Args:
        network: the trained network; it is not changed.
        split: the data.
        settings: the protocol.

    Returns:
        The result, with the number of `steps` and the `order` in which units were pruned, numbered layer by layer.
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
        with torch.no_grad():  # batch normalisation then receives a constant input
            linear.weight[row] = 0
            linear.bias[row] = 0
        best = select(best, network, step, evaluate(network, split.valid, settings), settings)
    return {**result(best, network, split.test, settings), "steps": steps, "order": order}


def bias_gda(network: Network, split: Split, settings: ProtocolSettings, generator: torch.Generator) -> dict[str, Any]:
    """Descend on sgn(mu_0) * proxy over mini-batches of the train part (Algorithm 2), with one candidate per epoch.

    Args:
        network: the trained network; it is not changed.
        split: the data.
        settings: the protocol.
        generator: generates the order of rows.

    Returns:
        The result, with the numbers of `epochs` and `steps`.
    """
    network = copy.deepcopy(network)
    evaluation = evaluate(network, split.valid, settings)
    best, sign = select(None, network, 0, evaluation, settings), float(np.sign(evaluation.bias))
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.bias_gda_learning_rate, fused=settings.fused or None)
    steps = 0
    for epoch in range(1, settings.bias_gda_epochs + 1):
        steps += bias_gda_epoch(network, optimiser, split.train, sign, settings, generator)
        best = select(best, network, epoch, evaluate(network, split.valid, settings), settings)
    counts = {"epochs": settings.bias_gda_epochs, "steps": steps}
    return {**result(best, network, split.test, settings), **counts}


def bias_gda_epoch(
    network: Network,
    optimiser: torch.optim.Optimizer,
    part: Part,
    sign: float,
    settings: ProtocolSettings,
    generator: torch.Generator,
) -> int:
    """Run one epoch of bias gradient descent/ascent in training mode and return the number of steps."""
    network.train()
    batches = shuffled(len(part.x), settings.bias_gda_batch_size, generator)
    for rows in batches:
        x, y, a = (column[rows] for column in part)
        optimiser.zero_grad()
        (sign * proxy(torch.sigmoid(network(x)), y, a, settings.measure)).backward()
        optimiser.step()
    return len(batches)


def random_perturbation(
    network: Network, split: Split, settings: ProtocolSettings, generator: torch.Generator
) -> dict[str, Any]:
    """Multiply every parameter by noise N(1, deviation^2), many times, with thresholds by Eq. 3 (Savani et al.).

    Args:
        network: the trained network; it is not changed.
        split: the data.
        settings: the protocol.
        generator: generates the noise.

    Returns:
        The result, with the number of `draws`.
    """
    network, original = copy.deepcopy(network), list(network.parameters())
    best = select(None, network, 0, evaluate(network, split.valid, settings, "objective"), settings)
    for draw in range(1, settings.draws + 1):
        with torch.no_grad():
            for parameter, value in zip(network.parameters(), original, strict=True):
                noise = torch.randn(value.shape, generator=generator)
                parameter.copy_(value * (1 + settings.deviation * noise))
        evaluation = evaluate(network, split.valid, settings, "objective")
        best = select(best, network, draw, evaluation, settings)
    return {**result(best, network, split.test, settings), "draws": settings.draws}


def standard(network: Network, split: Split, settings: ProtocolSettings) -> dict[str, Any]:
    """Evaluate the original network at the threshold that is best on validation data."""
    evaluation = evaluate(network, split.valid, settings)
    return result(select(None, network, 0, evaluation, settings), network, split.test, settings)


def run_seed(split: Split, settings: ProtocolSettings) -> dict[str, Any]:
    """Train a network and run all methods on one split.

    Args:
        split: the data.
        settings: the protocol.

    Returns:
        `seed`, `training` (epochs, steps, early stopping, loss), one result per method, and `seconds` by stage.
    """
    seconds: dict[str, float] = {}
    with seeded(split.seed) as generator:
        start = time.perf_counter()
        network, record = train(split, settings, generator)
        seconds["training"] = time.perf_counter() - start
        results = {"seed": split.seed, "training": record, "seconds": seconds}
        for name in settings.methods:
            start = time.perf_counter()
            results[name] = _debiased(name, network, split, settings, generator)
            seconds[name] = time.perf_counter() - start
    return results


def run(splits: Iterable[Split], settings: ProtocolSettings | None = None) -> dict[str, Any]:
    """Run the whole protocol, one seed after another.

    Args:
        splits: the splits; see `splits_of`.
        settings: the protocol; by default that of the paper.

    Returns:
        `seeds`, the list of results of `run_seed`, and `seconds` by stage over all seeds.

    Raises:
        ValueError: if there is no split.
    """
    settings = ProtocolSettings() if settings is None else settings
    seeds = [run_seed(split, settings) for split in itertools.islice(splits, settings.seeds)]
    if not seeds:
        raise ValueError("splits must hold at least one split, found none")
    return {
        "seeds": seeds,
        "seconds": {name: sum(seed["seconds"][name] for seed in seeds) for name in seeds[0]["seconds"]},
    }


def shuffled(n: int, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Return row numbers in random order, divided into mini-batches; no row is dropped.

    The last mini-batch may be smaller than the others. If it were a single row, for which batch normalisation has no
    variance, the row is added to the previous mini-batch instead.
    """
    batches = list(torch.randperm(n, generator=generator).split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        single = batches.pop()
        batches[-1] = torch.cat([batches[-1], single])
    return batches


def _debiased(
    name: str, network: Network, split: Split, settings: ProtocolSettings, generator: torch.Generator
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
