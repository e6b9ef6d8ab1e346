"""The mode of a module whose `__call__` has an argument for it."""

import dataclasses
import inspect
from typing import Any

TRAINING_FLAGS = ("train", "training", "is_training")
"""Names of arguments of `__call__` that are true in training."""

EVALUATION_FLAGS = ("deterministic",)
"""Names of arguments of `__call__` that are false in training."""


@dataclasses.dataclass(frozen=True)
class Mode:
    """Calls a module in one of its modes by the argument that sets it."""

    name: str | None

    @classmethod
    def of(cls, module: Any) -> "Mode":
        """Find the argument of `__call__` that sets the mode."""
        arguments = inspect.signature(type(module).__call__).parameters
        return cls(next((name for name in (*TRAINING_FLAGS, *EVALUATION_FLAGS) if name in arguments), None))

    def __call__(self, module: Any, x: Any, train: bool) -> Any:
        """Call a bound module."""
        if self.name is None:
            return module(x)
        return module(x, **{self.name: train if self.name in TRAINING_FLAGS else not train})
