"""Base class of debiasing methods: frozen dataclasses of hyperparameters with functions that propose candidates."""

import math
import zlib
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fairjax.metrics import Measure
from fairjax.nn.flat import FlatVariables
from fairjax.nn.network import Network
from fairjax.selection import Evaluation
from fairjax.types import Inputs, KeyArray, Number, Rows, Split, Variables

C = TypeVar("C", bound=type)


@dataclass_transform(kw_only_default=True, frozen_default=True)
def method(cls: C) -> C:
    """Class decorator that makes a method a frozen dataclass and a pytree.

    Hyperparameters that are numbers are leaves, so they can be traced and mapped over. Fields made with `static` are
    part of the pytree's structure, as is the class itself, so `jax.jit` compiles once for each class and each value of
    a static field, without `static_argnames`.

    Example:
        >>> from fairjax import static
        >>> @method
        ... class Halve(Method):
        ...     label: ClassVar[str] = "Halving"
        ...     num_steps: int = static(2)
        ...     factor: Number = 0.5
        >>> jax.tree.leaves(Halve(factor=0.25))
        [0.25]
    """
    return jax.tree_util.register_dataclass(dataclass(frozen=True, kw_only=True)(cls))


class Task(NamedTuple):
    """The network to be debiased and the measure of bias. It is static and hashable under jit: create it once."""

    network: Network
    """The classifier."""
    measure: Measure
    """The measure of bias on decisions; on scores, it is the differentiable proxy."""
    selection: Literal["valid", "pooled"] = "valid"
    """With "pooled", candidates are also evaluated on train data, for rules that pool train and validation data."""


class Parts(NamedTuple):
    """The parts of one split, standardised if it has a scaler."""

    train: Rows
    valid: Rows
    test: Rows

    @classmethod
    def of(cls, split: Split) -> "Parts":
        """Return all three parts of a split."""
        return cls(split.part("train"), split.part("valid"), split.part("test"))


class Method:
    """A debiasing method: subclass it, decorate the class with `method`, and write `init` and `step`.

    The loop (`fairjax.loop`) calls `init` once and `step` once per step. It tunes the threshold of the candidate that
    `candidate` returns for the state on validation data, and keeps the best candidate. A step may propose several
    candidates, called members, which are evaluated in parallel.

    Example:
        >>> from fairjax import static
        >>> @method
        ... class Shrink(Method):
        ...     label: ClassVar[str] = "Shrinking"
        ...     factor: Number = 0.9
        ...     num_steps: int = static(10)
        ...
        ...     def init(self, task, key, variables, parts, evaluation):
        ...         return variables
        ...
        ...     def step(self, task, parts, state):
        ...         return {**state, "params": jax.tree.map(lambda leaf: self.factor * leaf, state["params"])}
        >>> Shrink().total_steps({})
        10
    """

    label: ClassVar[str] = ""
    """Name in tables and figures; if empty, the registered name, and in a printed result the name of the class."""
    reference: ClassVar[str] = ""
    """Short citation, as tables show it."""
    equation: ClassVar[str] = ""
    """The computation as a formula of one line."""
    axis: ClassVar[str] = ""
    """Name of a step, such as "epoch", if successive candidates form a path, which figures draw as a curve."""
    threshold: ClassVar[Literal["accuracy", "rule"]] = "accuracy"
    """Objective of a candidate's threshold on validation data: balanced accuracy, or the rule's score."""
    groups: ClassVar[float] = math.inf
    """Maximal number of groups that the method supports."""
    classes: ClassVar[float] = math.inf
    """Maximal number of classes that the method supports."""
    stream: ClassVar[int | None] = None
    """Number that identifies the method's random stream of a seed; by default a checksum of the class's name."""

    @classmethod
    def random_stream(cls) -> int:
        """Return the number that is folded into a seed's key for this method."""
        return zlib.crc32(cls.__name__.encode()) if cls.stream is None else cls.stream

    @property
    def members(self) -> int:
        """Number of candidates per step. Default: one."""
        return 1

    @property
    def rowwise(self) -> bool:
        """Whether a row's logit does not depend on other rows, so that all parts can be evaluated at once.

        Default: true, since candidates are evaluated without batch statistics.
        """
        return True

    def total_steps(self, variables: Variables) -> int:
        """Return the number of steps, known when tracing. Default: the field `num_steps`."""
        del variables
        try:
            return self.num_steps  # type: ignore[attr-defined]
        except AttributeError:
            raise TypeError(
                f"{type(self).__name__} does not define the number of its steps: give it a field "
                "`num_steps: int = static(...)`, or write total_steps(self, variables)"
            ) from None

    def init(self, task: Task, key: KeyArray, variables: Variables, parts: Parts, evaluation: Evaluation) -> Any:
        """Return the state before the first step.

        Args:
            task: network and measure.
            key: random key of the method.
            variables: variables of the trained network.
            parts: the data.
            evaluation: evaluation of the trained network on validation data.

        Returns:
            A pytree with everything that the method carries from step to step.
        """
        raise NotImplementedError(f"{type(self).__name__} must have a function init")

    def step(self, task: Task, parts: Parts, state: Any) -> Any:
        """Run one step, such as a pruning step, an epoch, or several draws.

        Args:
            task: network and measure.
            parts: the data.
            state: the current state.

        Returns:
            A pytree of the same structure, shapes and types.
        """
        raise NotImplementedError(f"{type(self).__name__} must have a function step")

    def candidate(self, state: Any, member: Int[Array, ""]) -> Variables | FlatVariables:
        """Return the network of one member of the step. Default: the state itself, or its field `variables`."""
        del member
        return getattr(state, "variables", state) if not isinstance(state, FlatVariables) else state

    def logits(self, task: Task, state: Any, x: Inputs) -> Float[Array, "members n *c"]:
        """Compute the logits of all candidates for evaluation. Default: in evaluation mode, all members in parallel."""

        def member_logits(member):
            variables = FlatVariables.ravel(self.candidate(state, member)).variables()
            return task.network.apply(variables, x)[0]

        if self.members == 1:
            return member_logits(jnp.zeros((), jnp.int32))[None]
        return jax.vmap(member_logits)(jnp.arange(self.members, dtype=jnp.int32))

    def tell(self, state: Any, evaluation: Evaluation, score: Float[Array, " members"], bound: Number) -> Any:
        """Update the state with the evaluation of the candidates. Default: leave the state unchanged.

        Args:
            state: the current state.
            evaluation: evaluations of all members, on the data that the rule uses.
            score: the rule's score of each member.
            bound: the rule's bound on |bias|.
        """
        del evaluation, score, bound
        return state


def name_of(kind: type[Method]) -> str:
    """Return the name of a method in a printed result, whether it is registered or not."""
    return kind.label or kind.__name__


def sign_of_bias(evaluation: Evaluation) -> Float[Array, ""]:
    """Return the sign of the bias; 0, which changes nothing, if the bias is NaN."""
    return jnp.where(jnp.isnan(evaluation.bias), 0.0, jnp.sign(evaluation.bias))
