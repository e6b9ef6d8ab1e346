"""Weight decay: the sum of squares of the network's parameters."""

from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from fairjax.checks import floating
from fairjax.hyperparameters import check_choice, static
from fairjax.losses.base import Outputs, Term, term
from fairjax.types import AnyArray, Rows


def weight_decay(params: PyTree[AnyArray], of: str = "kernels") -> Float[Array, ""]:
    """Compute the sum of squares of parameters.

    Args:
        params: parameters of a network.
        of: "kernels" for the arrays with two or more axes; "all" for biases and scales as well.

    Returns:
        A scalar.

    Raises:
        ValueError: if `of` is neither of the two.

    Example:
        >>> weight_decay({"kernel": jnp.full((2, 2), 2.0), "bias": jnp.ones(2)}).item()
        16.0
    """
    check_choice("of", of, ("kernels", "all"))
    total = jnp.zeros((), jnp.result_type(float))
    for leaf in jax.tree.leaves(params):
        if of == "all" or leaf.ndim >= 2:
            total = total + jnp.sum(jnp.square(floating(leaf))).astype(total.dtype)
    return total


@term
class WeightDecay(Term):
    """The sum of squares of the network's parameters, as a term of the loss.

    With Adam, this is not the decay of AdamW, since the gradient is divided by its own size. Fine-tuning of some layers
    decays these alone.

    Example:
        >>> outputs = Outputs(jnp.zeros(1), {}, params={"kernel": jnp.ones((2, 3))})
        >>> WeightDecay().value((), outputs, None).item()
        6.0
    """

    label: ClassVar[str] = "Weight decay"
    reference: ClassVar[str] = "Ross et al. 2017"
    equation: ClassVar[str] = "sum of squares of the parameters"
    needs_group: ClassVar[bool] = False
    needs_params: ClassVar[bool] = True
    validated: ClassVar[bool] = False

    of: Literal["kernels", "all"] = static("kernels")
    """The parameters: arrays with two or more axes, or all."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_choice("of", self.of, ("kernels", "all"))

    def value(self, params: Any, outputs: Outputs, batch: Rows | None) -> Float[Array, ""]:
        """Compute the sum of squares."""
        del params, batch
        return weight_decay(outputs.params, self.of)
