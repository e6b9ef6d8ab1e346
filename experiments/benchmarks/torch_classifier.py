"""A small perceptron in PyTorch with scikit-learn's interface, as one writes it for Fairlearn's reductions."""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class TorchClassifier:
    """Perceptron for labels 0 and 1 that is trained with Adam on weighted cross-entropy."""

    def __init__(self, widths: tuple[int, ...], epochs: int, batch_size: int):
        """Store the sizes."""
        self.widths, self.epochs, self.batch_size = widths, epochs, batch_size

    def fit(self, x: Any, y: Any, sample_weight: Any) -> "TorchClassifier":
        """Train a new network."""
        torch.manual_seed(0)
        x, y, weights = (torch.from_numpy(np.asarray(column, np.float32)) for column in (x, y, sample_weight))
        layers, size = [], x.shape[1]
        for width in self.widths:
            layers += [nn.Linear(size, width), nn.ReLU()]
            size = width
        self.network = nn.Sequential(*layers, nn.Linear(size, 1))
        optimiser = torch.optim.Adam(self.network.parameters(), lr=1e-3)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(x)).split(self.batch_size):
                logits = self.network(x[rows])[:, 0]
                losses = functional.binary_cross_entropy_with_logits(logits, y[rows], reduction="none")
                loss = (weights[rows] * losses).sum() / weights[rows].sum()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        return self

    @torch.no_grad()
    def predict(self, x: Any) -> np.ndarray:
        """Predict labels."""
        logits = self.network(torch.from_numpy(np.asarray(x, np.float32)))[:, 0]
        return (logits > 0).numpy().astype(int)
