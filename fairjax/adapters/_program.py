"""Interpreter of an exported program: a list of instructions on JAX arrays, which needs no other library."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fairjax.adapters._aten import Chance
from fairjax.types import KeyArray

Path = tuple[str | int, ...]
"""Keys that lead to an array in a tree of dictionaries, tuples and lists."""


@dataclasses.dataclass(frozen=True)
class Ref:
    """The value of an earlier instruction, or an input."""

    slot: int


@dataclasses.dataclass(frozen=True)
class Input:
    """Where a program finds one of its inputs."""

    collection: str
    """A collection of the variables, or `x` for the rows."""
    path: Path
    """Where the array is in it."""
    dtype: Any = None
    """Type to which rows are cast; None for variables, which have their types."""
    shape: tuple[int | None, ...] = ()
    """Shape of rows, None for axes of any size."""


@dataclasses.dataclass(frozen=True)
class Mark:
    """Position in a program at which a layer's units are shifted and cut."""

    name: str
    """Name of the layer's mask."""
    axis: int
    """Axis of the units, from the front."""


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One operation."""

    function: Any
    """A function of arrays and numbers; a `Mark`; or a `Block`, a program of its own."""
    args: tuple[Any, ...]
    """Arguments, in which `Ref` stands for values."""
    kwargs: Mapping[str, Any]
    """Keyword arguments, likewise."""
    slot: int
    """Where the result goes."""
    dtypes: Any = None
    """Recorded type of the result, or a tuple of types; None where it is no array."""
    draws: bool = False
    """Whether the function takes a `Chance`."""
    last_used: tuple[int, ...] = ()
    """Slots that no later instruction uses."""


@dataclasses.dataclass(frozen=True)
class Program:
    """Instructions with their inputs and outputs, as of one mode."""

    inputs: tuple[tuple[int, Input], ...]
    """Slot and source of every input."""
    constants: tuple[tuple[int, Any], ...]
    """Slot and value of every constant, as NumPy arrays."""
    instructions: tuple[Instruction, ...]
    output: Ref
    """The network's output."""
    updates: tuple[tuple[Path, Ref], ...] = ()
    """New values of buffers, which training mode returns."""
    features: Ref | None = None
    """Input of the last layer, if it is one vector per row."""


@dataclasses.dataclass(frozen=True)
class Block:
    """A part of a program that PyTorch runs with gradients switched on or off."""

    inputs: tuple[int, ...]
    """Slots of the arguments."""
    instructions: tuple[Instruction, ...]
    outputs: tuple[Any, ...]
    """Results, references to slots of the block."""
    stops_gradient: bool
    """Whether no gradient passes back through the block, as under `torch.no_grad` in training."""


class Results:
    """Values that an evaluation of a program leaves."""

    def __init__(self) -> None:
        """Start with no values."""
        self.output: Any = None
        self.features: Any = None
        self.updates: list[tuple[Path, Any]] = []


def evaluate(
    program: Program,
    variables: Mapping[str, Any],
    x: Any,
    mark: Callable[[Mark, Any], Any],
    key: KeyArray | None = None,
) -> Results:
    """Evaluate a program.

    Args:
        program: the program.
        variables: collections of arrays.
        x: the rows, structured as in the example.
        mark: what happens to the units at a mark: a function of mark and value that returns the new value.
        key: random key of training mode.

    Returns:
        The output, the features and the updates of buffers.
    """
    inputs = {slot: _read(source, variables, x) for slot, source in program.inputs}
    inputs.update({slot: jnp.asarray(value) for slot, value in program.constants})
    chance = Chance(key)
    if any(_draws(instruction) for instruction in program.instructions):
        chance.prepare(_dropout_shapes(program, inputs))
    return _evaluated(program, inputs, mark, chance)


def _draws(instruction: Instruction) -> bool:
    function = instruction.function
    return instruction.draws or (isinstance(function, Block) and any(map(_draws, function.instructions)))


def _dropout_shapes(program: Program, inputs: dict[int, Any]) -> list[tuple[float, tuple[int, ...]]]:
    """Trace a program without computing anything, and return the rates and shapes of its dropout masks."""
    notes = Chance(jax.random.key(0))

    def outputs(inputs: dict[int, Any]) -> Any:
        return _evaluated(program, inputs, lambda _, value: value, notes).output

    jax.eval_shape(outputs, inputs)
    return notes.shapes


def _evaluated(program: Program, inputs: dict[int, Any], mark: Callable[[Mark, Any], Any], chance: Chance) -> Results:
    values = dict(inputs)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        _run(program.instructions, values, mark, chance)
    results = Results()
    results.output = values[program.output.slot]
    results.features = None if program.features is None else values[program.features.slot]
    results.updates = [(path, values[ref.slot]) for path, ref in program.updates]
    return results


def _read(source: Input, variables: Mapping[str, Any], x: Any) -> Any:
    value = x if source.collection == "x" else variables[source.collection]
    try:
        for step in source.path:
            value = value[step]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{_shown(source)} is missing: x must be structured as the example was") from error
    if source.collection != "x":
        return value
    value = jnp.asarray(value)
    expected = source.shape
    if len(expected) != value.ndim or any(size not in (None, own) for size, own in zip(expected, value.shape)):  # noqa: B905
        shown = ", ".join("rows" if size is None else str(size) for size in expected)
        raise ValueError(f"{_shown(source)} must have shape ({shown}), as the example had, found {value.shape}")
    integer = not jnp.issubdtype(source.dtype, jnp.floating)
    if integer and jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(f"{_shown(source)} must be of type {source.dtype}, as the example was, found {value.dtype}")
    return value.astype(source.dtype)


def _shown(source: Input) -> str:
    return source.collection + "".join(f"[{step!r}]" for step in source.path)


def _run(
    instructions: tuple[Instruction, ...], values: dict[int, Any], mark: Callable[[Mark, Any], Any], chance: Chance
) -> None:
    for instruction in instructions:
        function = instruction.function
        args = [resolved(arg, values) for arg in instruction.args]
        kwargs = {name: resolved(arg, values) for name, arg in instruction.kwargs.items()}
        if isinstance(function, Mark):
            value = mark(function, args[0])
        elif isinstance(function, Block):
            value = _run_block(function, args, mark, chance)
        else:
            value = function(chance, *args, **kwargs) if instruction.draws else function(*args, **kwargs)
        values[instruction.slot] = _cast(value, instruction.dtypes)
        for slot in instruction.last_used:
            values.pop(slot, None)


def _run_block(block: Block, args: list[Any], mark: Callable[[Mark, Any], Any], chance: Chance) -> tuple[Any, ...]:
    values = dict(zip(block.inputs, args, strict=True))
    _run(block.instructions, values, mark, chance)
    results = tuple(resolved(output, values) for output in block.outputs)
    return jax.lax.stop_gradient(results) if block.stops_gradient else results


def resolved(arg: Any, values: Mapping[int, Any]) -> Any:
    """Replace references in an argument by values."""
    if isinstance(arg, Ref):
        return values[arg.slot]
    if isinstance(arg, (tuple, list)):
        return [resolved(item, values) for item in arg]
    return arg


def _cast(value: Any, dtypes: Any) -> Any:
    if isinstance(value, (tuple, list)):
        dtypes = dtypes if isinstance(dtypes, tuple) else (None,) * len(value)
        return [_cast(item, dtype) for item, dtype in zip(value, dtypes, strict=True)]
    if dtypes is None or value is None or isinstance(dtypes, tuple):
        return value
    value = jnp.asarray(value)
    return value if value.dtype == dtypes else value.astype(dtypes)
