"""Apply several perturbations, one after another."""

from typing import Any

from jaxtyping import Array, Bool

from fairjax.detect.counterfactual.perturbation import Perturbation, perturbation
from fairjax.types import Inputs


@perturbation
class Compose(Perturbation):
    """Applies perturbations one after another. Made by `compose`."""

    parts: tuple[Any, ...] = ()

    def perturbed(self, x: Inputs) -> tuple[Inputs, Bool[Array, " n"] | None]:
        """Change the inputs, as described for `Perturbation`."""
        valid = None
        for part in self.parts:
            x, those = part.perturbed(x)
            valid = those if valid is None else valid if those is None else valid & those
        return x, valid


def compose(*parts: Any) -> Compose:
    """Make a perturbation that applies several, one after another.

    Use it to change inputs that depend on each other, such as the sex of a person and the category "husband" or "wife":
    a row with only one of them changed may be unlike all rows that the network was trained on.

    Args:
        *parts: the perturbations, in the order in which they are applied.

    Returns:
        The perturbation, a function of `x`.

    Raises:
        ValueError: if there is none.
        TypeError: if a part is not a perturbation of this package.

    Example:
        >>> import jax.numpy as jnp
        >>> from fairjax.detect.counterfactual import flip, replace
        >>> compose(flip(0), replace(1, 0.0))(jnp.array([[1.0, 5.0], [0.0, 6.0]])).tolist()
        [[0.0, 0.0], [1.0, 0.0]]
    """
    if not parts:
        raise ValueError("compose needs at least one perturbation, got none")
    for part in parts:
        if not isinstance(part, Perturbation):
            raise TypeError(
                f"compose takes perturbations such as flip('sex'), got {type(part).__name__}: for functions of your "
                "own, write a function that calls them"
            )
    return Compose(parts)
