"""Detection as captum does it on PyTorch, one network after another."""

import tempfile
from typing import Any

import torch
from captum.attr import IntegratedGradients
from captum.concept import TCAV, Classifier, Concept
from sklearn.linear_model import LogisticRegression

from experiments.benchmarks import clock, tables, torch_sequential
from experiments.benchmarks.settings import Bench


class Logistic(Classifier):
    """scikit-learn's logistic regression, which is much faster than captum's own classifier."""

    def __init__(self):
        """Make a classifier that is not fitted."""
        self._fitted: Any = None

    def train_and_eval(self, dataloader: Any, **options: Any) -> None:
        """Fit the classifier on all batches."""
        inputs, labels = (torch.cat(parts) for parts in zip(*dataloader, strict=True))
        self._fitted = LogisticRegression(max_iter=1000).fit(inputs.numpy(), labels.numpy())

    def weights(self) -> torch.Tensor:
        """Return one weight vector per class."""
        row = torch.from_numpy(self._fitted.coef_).float()
        return torch.cat([-row, row])

    def classes(self) -> list[int]:
        """Return the classes."""
        return self._fitted.classes_.tolist()


def one_network(settings: Bench, shape: str, threads: int) -> dict[str, Any]:
    """Time captum's integrated gradients and TCAV for one network, in seconds.

    Args:
        settings: the number of repetitions, nodes and sets.
        shape: the table, compas or adult.
        threads: the number of PyTorch's threads.

    Returns:
        The measures integrated_gradients and tcav, of the test part.
    """
    torch.set_num_threads(threads)
    split = next(torch_sequential.splits_of(tables.read(settings, shape), [0]))
    network = torch_sequential.Network(split.test.x.shape[1], settings.widths).eval()
    rows = split.test.x
    attribution = IntegratedGradients(network)

    def explain() -> None:
        attribution.attribute(rows, n_steps=settings.nodes, method="gausslegendre")

    def concepts() -> None:
        with tempfile.TemporaryDirectory() as folder:
            _tcav(network, split, settings, folder)

    explain()
    repetitions = settings.scaling_repetitions
    measures = {"integrated_gradients": clock.repeated(explain, repetitions, 1)}
    measures["tcav"] = clock.repeated(concepts, 1, 1)
    return {"measures": measures, "facts": {"device": "cpu", "threads": torch.get_num_threads()}}


def _tcav(network, split, settings: Bench, folder: str) -> None:
    """Compute TCAV in all layers, with as many concept vectors and random ones as fairjax does."""
    layers = [name for name, module in network.named_modules() if any(module is linear for linear in network.linears)]
    generator = torch.Generator().manual_seed(0)
    train, test = split.train, split.test
    examples, others = train.x[~train.a], train.x[train.a]
    sets = []
    for number in range(2 * settings.concept_sets):
        pools = (examples, others) if number < settings.concept_sets else (train.x, train.x)
        sets.append([_concept(2 * number + place, pool, settings, generator) for place, pool in enumerate(pools)])
    method = TCAV(network, layers, classifier=Logistic(), save_path=folder)
    method.interpret(test.x[test.y], sets)


def _concept(number: int, pool: torch.Tensor, settings: Bench, generator: torch.Generator) -> Concept:
    rows = pool[torch.randint(len(pool), (settings.concept_rows,), generator=generator)]
    return Concept(number, f"set {number}", torch.utils.data.DataLoader(rows, batch_size=settings.concept_rows))
