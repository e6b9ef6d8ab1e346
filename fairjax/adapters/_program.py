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
    rows: int
    """Axis of the rows."""
    positions: int = 1
    """Number of positions of a row that are on the axis of rows as well, as after a reshape to (n * positions, d)."""


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One operation."""

    function: Any
    """A function of arrays and numbers, or a `Mark`."""
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
    floating: Any
    """Type of the parameters that PyTorch recorded. Where it was recorded, the type of the variables is used."""
    updates: tuple[tuple[Path, Ref], ...] = ()
    """New values of buffers, which training mode returns."""
    features: Ref | None = None
    """Input of the last layer, if it is one vector per row."""


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
    types = {program.floating: _floating(variables, program.floating)}
    inputs = {slot: _read(source, variables, x, types) for slot, source in program.inputs}
    inputs.update({slot: jnp.asarray(value) for slot, value in program.constants})
    chance = Chance(key)
    if any(instruction.draws for instruction in program.instructions) and key is not None:
        chance.prepare(_dropout_shapes(program, inputs, types))
    return _evaluated(program, inputs, types, mark, chance)


def _dropout_shapes(
    program: Program, inputs: dict[int, Any], types: dict[Any, Any]
) -> list[tuple[float, tuple[int, ...]]]:
    """Trace a program without computing anything, and return the rates and shapes of its dropout masks."""
    notes = Chance(jax.random.key(0))

    def outputs(inputs: dict[int, Any]) -> Any:
        return _evaluated(program, inputs, types, lambda _, value: value, notes).output

    jax.eval_shape(outputs, inputs)
    return notes.shapes


def _evaluated(
    program: Program,
    inputs: dict[int, Any],
    types: dict[Any, Any],
    mark: Callable[[Mark, Any], Any],
    chance: Chance,
) -> Results:
    values = dict(inputs)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        _run(program.instructions, values, types, mark, chance)
    results = Results()
    results.output = values[program.output.slot]
    results.features = None if program.features is None else values[program.features.slot]
    results.updates = [(path, values[ref.slot]) for path, ref in program.updates]
    return results


def _floating(variables: Mapping[str, Any], recorded: Any) -> Any:
    """Return the floating-point type of the variables, which is not the recorded one if the user converted them."""
    leaves = [variables.get("params"), variables.get("buffers")]
    dtypes = [jnp.result_type(leaf) for leaf in jax.tree.leaves(leaves)]
    return next((dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)), recorded)


def _read(source: Input, variables: Mapping[str, Any], x: Any, types: dict[Any, Any]) -> Any:
    value = x if source.collection == "x" else variables[source.collection]
    try:
        for step in source.path:
            value = value[step]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{_shown(source)} is missing: x must be structured as the example was") from error
    value = jnp.asarray(value)
    if source.collection != "x":
        return value
    expected = source.shape
    sizes = zip(expected, value.shape, strict=False)
    if len(expected) != value.ndim or any(size not in (None, own) for size, own in sizes):
        shown = ", ".join("rows" if size is None else str(size) for size in expected)
        raise ValueError(f"{_shown(source)} must have shape ({shown}), as the example had, found {value.shape}")
    integer = not jnp.issubdtype(source.dtype, jnp.floating)
    if integer and jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(f"{_shown(source)} must be of type {source.dtype}, as the example was, found {value.dtype}")
    return value.astype(types.get(source.dtype, source.dtype))


def _shown(source: Input) -> str:
    return source.collection + "".join(f"[{step!r}]" for step in source.path)


def _run(
    instructions: tuple[Instruction, ...],
    values: dict[int, Any],
    types: dict[Any, Any],
    mark: Callable[[Mark, Any], Any],
    chance: Chance,
) -> None:
    for instruction in instructions:
        function = instruction.function
        args = [resolved(arg, values) for arg in instruction.args]
        kwargs = {name: resolved(arg, values) for name, arg in instruction.kwargs.items()}
        if isinstance(function, Mark):
            value = mark(function, args[0])
        else:
            value = function(chance, *args, **kwargs) if instruction.draws else function(*args, **kwargs)
        values[instruction.slot] = _cast(value, instruction.dtypes, types)
        for slot in instruction.last_used:
            values.pop(slot, None)


def resolved(arg: Any, values: Mapping[int, Any]) -> Any:
    """Replace references in an argument by values."""
    if isinstance(arg, Ref):
        return values[arg.slot]
    if isinstance(arg, (tuple, list)):
        return [resolved(item, values) for item in arg]
    return arg


def _cast(value: Any, dtypes: Any, types: dict[Any, Any]) -> Any:
    if isinstance(value, (tuple, list)):
        dtypes = dtypes if isinstance(dtypes, tuple) else (None,) * len(value)
        return [_cast(item, dtype, types) for item, dtype in zip(value, dtypes, strict=True)]
    if dtypes is None or value is None or isinstance(dtypes, tuple):
        return value
    value, dtype = jnp.asarray(value), types.get(dtypes, dtypes)
    return value if value.dtype == dtype else value.astype(dtype)
