"""Hyperparameters of training."""

import dataclasses
from typing import Literal

import jax

from fairjax.hyperparameters import check_at_least, check_choice, check_positive, static
from fairjax.types import Number


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """Training with Adam on cross-entropy, a learning rate reduced on plateaus, and early stopping."""

    learning_rate: Number = 1e-3
    """Adam's initial step size."""
    plateau_factor: float = static(0.1)
    """Factor by which the learning rate is multiplied on a plateau."""
    plateau_tolerance: float = static(1e-4)
    """Least relative improvement of the validation loss that counts."""
    plateau_patience: int = static(10)
    """Epochs without improvement that are tolerated; the next reduces the rate, as in PyTorch's ReduceLROnPlateau."""
    batch_size: int = static(64)
    """Rows per mini-batch; an epoch's last batch is filled up with rows of the first."""
    epochs: int = static(1000)
    """Maximal number of passes over the train part."""
    check_every: int = static(10)
    """Epochs between checks of the validation loss for early stopping."""
    stopping_patience: int = static(10)
    """Consecutive checks without improvement that are tolerated; training stops at the next."""
    keep: Literal["best", "last"] = static("best")
    """The network that is kept: that of the check with the lowest validation loss, or that of the last check."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_choice("keep", self.keep, ("best", "last"))
        check_positive("learning_rate", self.learning_rate)
        if not 0 < self.plateau_factor < 1:
            raise ValueError(f"plateau_factor must be between 0 and 1, got {self.plateau_factor}")
        if not 0 <= self.plateau_tolerance < 1:
            raise ValueError(f"plateau_tolerance must be in [0, 1), got {self.plateau_tolerance}")
        check_at_least("batch_size", self.batch_size, 2)  # batch normalisation needs a variance
        for name in ("epochs", "check_every"):
            check_at_least(name, getattr(self, name), 1)
        for name in ("plateau_patience", "stopping_patience"):
            check_at_least(name, getattr(self, name), 0)
