"""How the outputs of a brought network become logits."""

import dataclasses
import warnings
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fairjax.hyperparameters import check_choice
from fairjax.metrics import probabilities

Output = Literal["logit", "probability"]
"""What a network's outputs are."""


@dataclasses.dataclass(frozen=True)
class Head:
    """Converts outputs of shape (n,), (n, 1), (n, 2) or (n, classes) to logits, of shape (n,) for two classes.

    Logits and probabilities of two classes, (n, 2), belong to classes 0 and 1 in this order.
    """

    output: str
    """Whether outputs are a `logit` (before sigmoid or softmax) or a `probability`."""
    skipped: bool = False
    """Whether the adapter skips a final sigmoid or softmax (`_final_activation`), so that it has logits already."""

    def __post_init__(self):
        """Validate the kind of output."""
        check_choice("output", self.output, ("logit", "probability"))

    def __call__(self, outputs: Any) -> Float[Array, "n *c"]:
        """Convert outputs to logits, which are finite also for probabilities 0 and 1.

        A probability of float32 is clipped at a distance of 6e-8 from 0 and 1; where it is, its gradient is 0.
        """
        if self.output == "logit" or self.skipped:
            return as_logits(outputs)
        smallest = jnp.finfo(outputs.dtype).eps / 2
        if outputs.ndim == 1 or outputs.shape[1] == 1:
            clipped = jnp.clip(outputs.reshape(outputs.shape[0]), smallest, 1 - smallest)
            return jnp.log(clipped) - jnp.log1p(-clipped)
        return as_logits(jnp.log(jnp.maximum(outputs, smallest)))

    def check(self, outputs: Any, n: int) -> None:
        """Check outputs of the original network on an example.

        Args:
            outputs: what the network returned.
            n: number of rows of the example.

        Raises:
            ValueError: if they are no array of a shape above, are not finite, or are no probabilities as stated.
        """
        check_outputs(outputs, n)
        values = np.asarray(outputs, np.float64)
        if not np.isfinite(values).all():
            raise ValueError("the network's outputs on the example are not finite: check the example and the weights")
        bounded = bool((values >= 0).all() and (values <= 1).all())
        if self.output == "logit" and bounded:
            warnings.warn(
                "all outputs on the example lie in [0, 1], as probabilities do, but output='logit' takes them as "
                "logits: say output='probability' if the network ends with a sigmoid or softmax",
                stacklevel=4,
            )
        if self.output == "probability":
            self._check_probabilities(values, bounded)

    def _check_probabilities(self, values: np.ndarray, bounded: bool) -> None:
        if not bounded:
            raise ValueError(
                f"output='probability' needs outputs in [0, 1], found {values.min():g} to {values.max():g}: say "
                "output='logit'"
            )
        if values.ndim == 2 and values.shape[1] > 1 and np.abs(values.sum(axis=1) - 1).max() > 0.02:
            raise ValueError(
                f"probabilities of {values.shape[1]} classes must sum to 1 in every row, found "
                f"{values.sum(axis=1).min():g} to {values.sum(axis=1).max():g}: return the probability of class 1 "
                "alone, or a softmax"
            )

    def comparable(self, logits: Float[Array, "n *c"]) -> Float[Array, "n *c"]:
        """Return what is compared between networks: logits, or probabilities if those are the outputs."""
        return logits if self.output == "logit" else probabilities(logits)


def as_logits(outputs: Any) -> Float[Array, "n *c"]:
    """Return logits (n,) from (n,) or (n, 1), logits (n,) of class 1 from (n, 2), and other logits as they are.

    Example:
        >>> as_logits(jnp.array([[1.0, 3.0]])).tolist()
        [2.0]
    """
    if outputs.ndim == 1:
        return outputs
    if outputs.shape[1] == 1:
        return outputs[:, 0]
    return outputs[:, 1] - outputs[:, 0] if outputs.shape[1] == 2 else outputs


def check_outputs(outputs: Any, n: int) -> None:
    """Check that the outputs of a network on n rows are an array of a shape that a head takes.

    Raises:
        ValueError: naming what was found.
    """
    if not hasattr(outputs, "shape") or not hasattr(outputs, "dtype"):
        raise ValueError(
            f"the network must return one array of logits or probabilities, found {type(outputs).__name__}: wrap "
            "it so that only this array is returned"
        )
    if outputs.ndim not in (1, 2) or outputs.shape[0] != n or 0 in outputs.shape:
        raise ValueError(
            f"the network must return outputs of shape ({n},), ({n}, 1) or ({n}, classes), one row per row of the "
            f"example, found shape {tuple(outputs.shape)}"
        )
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise ValueError(f"the network must return floating-point numbers, found {outputs.dtype}, as of decisions")
