"""Conversion of PyTorch's exported graphs to programs that need no PyTorch."""

import builtins
import dataclasses
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fairjax.adapters._aten import LACKING_RESULTS, chance, lookup
from fairjax.adapters._bringing import extra
from fairjax.adapters._program import Input, Instruction, Mark, Path, Program, Ref

IGNORED_OPTIONS = ("device", "layout", "memory_format", "non_blocking", "pin_memory")
IGNORED = ("_assert_async", "_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range_for_size")
"""Operations that only check; the comparison of outputs checks more."""
MOVING = ("alias", "clone", "_to_copy", "view", "reshape", "_unsafe_view", "squeeze", "unsqueeze")
"""Operations that may follow a final sigmoid."""
COPYING = ("alias", "clone", "_to_copy")
"""Operations that may follow a final softmax."""

_SYMBOLIC: dict[str, Callable[..., Any]] = {
    "sym_size": lambda x, axis: x.shape[axis],
    "sym_numel": lambda x: x.size,
    "sym_int": int,
    "sym_float": float,
    "sym_max": max,
    "sym_min": min,
    "sym_not": operator.not_,
    "sym_sqrt": math.sqrt,
    "_sym_sqrt": math.sqrt,
    "sym_sum": sum,
}
"""Operations on sizes, which are Python numbers when a program runs."""


@dataclasses.dataclass(frozen=True)
class Sources:
    """Where a program's inputs are in variables and in x."""

    variables: Callable[[str], tuple[str, Path] | None]
    """Function of a name in the module that returns a collection and a path, or None for what is no part of it."""
    rows: tuple[Path, ...]
    """Paths in x of the tensors that forward takes, in its order."""


def dtype_of(dtype: Any) -> Any:
    """Return JAX's type for one of PyTorch's: 64 bits become 32 unless JAX has them switched on."""
    return np.dtype(jax.dtypes.canonicalize_dtype(str(dtype).removeprefix("torch.")))


def operation(node: Any) -> str:
    """Return the name of an ATen operation, such as `add.Tensor`, or an empty string for other nodes."""
    target = node.target
    is_aten = node.op == "call_function" and getattr(target, "namespace", "") == "aten"
    return f"{target._schema.name.partition('::')[2]}.{target._overloadname}" if is_aten else ""


def packet(node: Any) -> str:
    """Return the name of an ATen operation without its overload, such as `add`."""
    return operation(node).partition(".")[0]


def is_mark(node: Any) -> bool:
    """Return whether a node marks a layer's output."""
    return node.target is extra("torch").ops.fairjax.unit.default


def output_node(exported: Any) -> Any:
    """Return the node of the network's output.

    Raises:
        ValueError: if there are several outputs.
    """
    specs = [spec for spec in exported.graph_signature.output_specs if spec.kind.name == "USER_OUTPUT"]
    nodes = [node for node, spec in _outputs(exported) if spec.kind.name == "USER_OUTPUT"]
    if len(specs) != 1 or not hasattr(nodes[0], "meta"):
        raise ValueError(
            f"the network must return one array of logits or probabilities, found {len(specs)} outputs: wrap it so "
            "that only this array is returned"
        )
    return nodes[0]


def _outputs(exported: Any) -> list[tuple[Any, Any]]:
    node = next(node for node in exported.graph.nodes if node.op == "output")
    return list(zip(node.args[0], exported.graph_signature.output_specs, strict=True))


def final_activation(exported: Any) -> Any:
    """Return the node of a final sigmoid or softmax whose only use is the network's output, or None."""
    node = output_node(exported)
    columns = node.meta["val"].shape[1] if node.meta["val"].ndim == 2 else 1
    moving, wanted = (MOVING, "sigmoid") if columns == 1 else (COPYING, "_softmax")
    while len(node.users) == 1 and packet(node) in moving:
        node = node.args[0]
    if len(node.users) != 1 or packet(node) != wanted:
        return None
    if wanted == "_softmax" and node.args[1] not in (1, -1):
        return None
    return node


def program_of(
    exported: Any,
    sources: Sources,
    marks: Mapping[str, Mark],
    *,
    skip_activation: bool,
    features: Any = None,
    floating: Any,
    train: bool,
) -> Program:
    """Convert an exported graph.

    Args:
        exported: what `export` returned.
        sources: where inputs are.
        marks: marks by name of the layer; other layers' are left out.
        skip_activation: whether to leave out `final_activation`.
        features: the node that is the last layer's input, or None.
        floating: type of the module's parameters.
        train: the mode.

    Raises:
        ValueError: if an operation is not known, or draws random numbers in evaluation mode.
    """
    nodes = list(exported.graph.nodes)
    slots = {node: slot for slot, node in enumerate(nodes)}
    skipped = final_activation(exported) if skip_activation else None
    inputs, constants = _inputs(exported, nodes, slots, sources)
    converter = _Converter(slots, marks, train)
    calls = [node for node in nodes if node.op not in ("placeholder", "output")]
    unknown = sorted({name for name in map(converter.unknown, calls) if name})
    if unknown:
        raise ValueError(
            f"the network uses operations that fairjax has not written in JAX: {', '.join(unknown)}; replace them in "
            "forward by others, or bring the part of the network after them and give it their output"
        )
    instructions = [
        converter.same(node) if node is skipped else converter.instruction(node)
        for node in calls
        if packet(node) not in IGNORED
    ]
    outputs = _outputs(exported)
    updates = []
    for node, spec in outputs:
        if spec.kind.name == "BUFFER_MUTATION":
            found = sources.variables(spec.target)
            updates += [(found[1], Ref(slots[node]))] if found else []
    output = Ref(slots[output_node(exported)])
    kept = [output, *(ref for _, ref in updates), *([Ref(slots[features])] if features is not None else [])]
    return Program(
        tuple(inputs),
        tuple(constants),
        _with_last_uses(instructions, {ref.slot for ref in kept}),
        output,
        floating,
        tuple(updates) if train else (),
        None if features is None else Ref(slots[features]),
    )


def _inputs(
    exported: Any, nodes: list[Any], slots: Mapping[Any, int], sources: Sources
) -> tuple[list[tuple[int, Input]], list[tuple[int, Any]]]:
    """Return the inputs and constants of a program."""
    placeholders = [node for node in nodes if node.op == "placeholder"]
    inputs, constants, rows = [], [], iter(sources.rows)
    for node, spec in zip(placeholders, exported.graph_signature.input_specs, strict=True):
        kind = spec.kind.name
        if kind == "USER_INPUT":
            value = node.meta["val"]
            shape = tuple(size if isinstance(size, int) else None for size in value.shape)
            inputs.append((slots[node], Input("x", next(rows), dtype_of(value.dtype), shape)))
        elif kind in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR"):
            found = sources.variables(spec.target)
            if found is not None:
                inputs.append((slots[node], Input(*found)))
            elif node.users:
                constants.append((slots[node], to_numpy(exported.constants[spec.target])))
        elif node.users:
            raise ValueError(f"the network has an input of an unknown kind, {kind.lower()} {spec.target}")
    return inputs, constants


def to_numpy(tensor: Any) -> np.ndarray:
    """Copy a tensor to a NumPy array of the type that JAX will have.

    Raises:
        ValueError: if an integer does not fit.
    """
    tensor, dtype = tensor.detach().cpu(), dtype_of(tensor.dtype)
    array = (tensor.float() if dtype.kind == "V" else tensor).numpy()  # NumPy has no bfloat16 of its own
    if array.size and np.issubdtype(dtype, np.integer) and array.dtype.itemsize > dtype.itemsize:
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise ValueError(
                f"an integer buffer reaches from {array.min()} to {array.max()}, beyond {dtype}: switch on 64 bits "
                'with jax.config.update("jax_enable_x64", True)'
            )
    return np.array(array, dtype)


class _Converter:
    """Converts nodes of a graph to instructions."""

    def __init__(self, slots: Mapping[Any, int], marks: Mapping[str, Mark], train: bool):
        self.slots, self.marks, self.train = slots, marks, train

    def unknown(self, node: Any) -> str | None:
        """Return the name of a node's operation if it cannot be converted, with the reason."""
        name = operation(node)
        if packet(node) in IGNORED:
            return None
        if not name:
            known = node.op == "call_function" and self._plain_function(node) is not None
            return None if known or self._own(node) else str(node.target)
        if packet(node) in _SYMBOLIC:
            return None
        if lookup(name) is None:
            return f"aten.{name}"
        if packet(node) in chance.RANDOM and not self.train:
            return f"aten.{name} in evaluation mode, which makes outputs random"
        lacking = LACKING_RESULTS.get(name, LACKING_RESULTS.get(packet(node), ()))
        used = [user.args[1] for user in node.users if user.target is operator.getitem and user.users]
        return f"aten.{name} with result {max(used)}" if set(used) & set(lacking) else None

    def _own(self, node: Any) -> bool:
        ops = extra("torch").ops.fairjax
        return node.target in (ops.unit.default, ops.stop.default)

    def _plain_function(self, node: Any) -> Callable[..., Any] | None:
        """Return the function of a node that computes with sizes or takes a result by number."""
        target = node.target
        name, module = getattr(target, "__name__", ""), getattr(target, "__module__", "")
        if module in ("_operator", "operator", "math", builtins.__name__):
            return target
        return _SYMBOLIC.get(name) if module.startswith("torch") else None

    def same(self, node: Any) -> Instruction:
        """Return an instruction that passes its first argument on."""
        return Instruction(lambda x: x, (self._arg(node.args[0]),), {}, self.slots[node])

    def instruction(self, node: Any) -> Instruction:
        """Convert one node."""
        if is_mark(node):
            mark = self.marks.get(node.args[1])
            if mark is None:
                return self.same(node)
            return Instruction(mark, (self._arg(node.args[0]),), {}, self.slots[node])
        args = tuple(self._arg(arg) for arg in node.args)
        kwargs = {name: self._arg(arg) for name, arg in node.kwargs.items() if name not in IGNORED_OPTIONS}
        function, draws = self._function(node)
        return Instruction(function, args, kwargs, self.slots[node], _recorded(node.meta.get("val")), draws)

    def _function(self, node: Any) -> tuple[Callable[..., Any], bool]:
        if self._own(node):
            return jax.lax.stop_gradient, False
        name = operation(node)
        if packet(node) in _SYMBOLIC:
            return _SYMBOLIC[packet(node)], False
        found = lookup(name) if name else None
        if found is not None:
            return found
        function = self._plain_function(node)
        assert function is not None  # or `unknown` would have named it
        return function, False

    def _arg(self, arg: Any) -> Any:
        torch = extra("torch")
        if isinstance(arg, torch.fx.Node):
            return Ref(self.slots[arg])
        if isinstance(arg, (list, tuple)):
            return tuple(self._arg(item) for item in arg)
        if isinstance(arg, torch.dtype):
            return dtype_of(arg)
        return None if isinstance(arg, (torch.device, torch.layout, torch.memory_format)) else arg


def _recorded(value: Any) -> Any:
    """Return the recorded type of a result."""
    if isinstance(value, (list, tuple)):
        return tuple(_recorded(item) for item in value)
    return dtype_of(value.dtype) if hasattr(value, "dtype") else None


def _with_last_uses(instructions: Sequence[Instruction], kept: set[int]) -> tuple[Instruction, ...]:
    """Note after each instruction which values are not used again, so that their memory is free."""
    later, reverse = set(kept), []
    for instruction in reversed(instructions):
        used = _slots_of((instruction.args, tuple(instruction.kwargs.values()))) | {instruction.slot}
        reverse.append(dataclasses.replace(instruction, last_used=tuple(sorted(used - later))))
        later |= used
    return tuple(reversed(reverse))


def _slots_of(arg: Any) -> set[int]:
    if isinstance(arg, Ref):
        return {arg.slot}
    return set().union(*map(_slots_of, arg)) if isinstance(arg, tuple) else set()
