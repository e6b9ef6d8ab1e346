"""Simulated data sets: tables drawn from a model with one parameter that sets the bias."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.data.dataset import Dataset, from_arrays
from fairjax.data.simulate import append_protected, loh, zafar
from fairjax.types import Batch, KeyArray, Number


class Parameter(NamedTuple):
    """The parameter of a model that sets the bias of the data."""

    name: str
    """Name of the argument and of the setting."""
    default: float
    """Default value."""
    description: str
    """What the parameter means, in one sentence."""
    least: float = -math.inf
    """The least value that is allowed."""
    most: float = math.inf
    """The greatest value that is allowed."""

    def check(self, value: float, name: str) -> None:
        """Check a value of the parameter.

        Args:
            value: the value.
            name: how the message calls the parameter.

        Raises:
            ValueError: if the value is not finite, or less than the least or greater than the greatest one.
        """
        if not (math.isfinite(value) and self.least <= value <= self.most):
            bound = "" if self.least == -math.inf else f" and at least {self.least:g}"
            bound += "" if self.most == math.inf else f" and at most {self.most:g}"
            raise ValueError(f"{name} must be a finite number{bound}, got {value}")


@dataclasses.dataclass(frozen=True)
class Simulator:
    """The loader of a simulated data set. It is called like the loaders of files, and draws a table instead.

    Example:
        >>> LOH(rows=200, alpha=2.0).x.shape
        (200, 11)
    """

    name: str
    """Name of the data set."""
    draw: Callable[[KeyArray, int, Number], Batch]
    """Draw rows, `draw(key, rows, value)`: a pure function that can be jitted and mapped over keys and values."""
    parameter: Parameter
    """The parameter whose value `draw` takes."""
    most_rows: int | None = None
    """Number of rows that can be drawn at most; None if there is no bound."""

    def check_rows(self, rows: int, name: str) -> None:
        """Check a number of rows.

        Args:
            rows: the number.
            name: how the message calls it.

        Raises:
            ValueError: if it is greater than `most_rows`.
        """
        if self.most_rows is not None and rows > self.most_rows:
            raise ValueError(f"{name} must be at most {self.most_rows:,} for {self.name}, got {rows:,}")

    def __call__(
        self, path: Any = None, *, verify: bool = True, rows: int = 5000, key: int = 0, **value: float
    ) -> Dataset:
        """Draw a table.

        Args:
            path: None, since there is no file.
            verify: accepted as by the loaders of files; there is nothing to verify.
            rows: number of rows.
            key: random seed.
            **value: the value of the parameter by its name; its default if omitted.

        Returns:
            The data set.

        Raises:
            ValueError: if a path is given, or a number is out of range.
            TypeError: if the name of the parameter is another one.
        """
        del verify
        if path is not None:
            raise ValueError(f"{self.name} is simulated and has no file, got path {path}: leave path out")
        unknown = [name for name in value if name != self.parameter.name]
        if unknown:
            raise TypeError(f"{self.name} has no parameter {unknown[0]!r}: its parameter is {self.parameter.name}")
        number = value.get(self.parameter.name, self.parameter.default)
        self.parameter.check(number, self.parameter.name)
        self.check_rows(rows, "rows")
        batch = _draw(self.draw, rows, jax.random.key(key), jnp.array(number))
        return from_arrays(*map(np.asarray, batch), name=self.name)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _draw(draw: Callable[..., Batch], rows: int, key: KeyArray, value: Number) -> Batch:
    return draw(key, rows, value)


def _loh_with_group(key: KeyArray, rows: int, alpha: Number) -> Batch:
    """Draw from Loh et al.; the features do not depend on the group, so there is a bias only if it is a feature."""
    return append_protected(loh(key, rows, alpha))


LOH = Simulator(
    "loh",
    _loh_with_group,
    Parameter("alpha", 1.5, "Strength of the dependence of the label on the protected attribute (Eq. 9).", 0.0),
)
"""The model of Loh et al., with the protected attribute among the features; see `fairjax.data.loh`."""

ZAFAR = Simulator(
    "zafar",
    zafar,
    Parameter("theta", 0.8, "Angle of rotation in radians. The smaller the angle, the greater the bias (Eq. 10)."),
)
"""The model of Zafar et al.; see `fairjax.data.zafar`."""
