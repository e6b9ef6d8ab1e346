"""Training of a classifier: hyperparameters, the gradients of a composed loss, epochs, and early stopping."""

from fairjax.training.composed import composed_gradients, init_terms, outputs_of, validation_loss
from fairjax.training.epochs import CROSS_ENTROPY, TrainingState, advance, init, loss, run, shuffled
from fairjax.training.hyperparameters import Training

__all__ = [
    "CROSS_ENTROPY",
    "Training",
    "TrainingState",
    "advance",
    "composed_gradients",
    "init",
    "init_terms",
    "loss",
    "outputs_of",
    "run",
    "shuffled",
    "validation_loss",
]
