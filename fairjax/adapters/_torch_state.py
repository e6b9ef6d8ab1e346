"""Parameters and buffers of a PyTorch module as variables, and variables as a state dictionary."""

import copy
import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from fairjax.adapters._bringing import extra
from fairjax.adapters._program import Path
from fairjax.adapters._torch_graph import to_numpy
from fairjax.types import Variables


@dataclasses.dataclass(frozen=True, eq=False)
class State:
    """A module and where its tensors are in variables."""

    module: Any
    """The module, without wrappers such as `torch.compile`'s; None once it is not needed any more."""
    prefix: str
    """What the wrapper adds to names in the state dictionary."""
    places: dict[str, tuple[str, Path]]
    """Collection and path of each tensor by its name; tied tensors have one place."""
    kind: type
    """The module's class."""
    description: str
    """All layers and their options, as PyTorch prints them."""
    entries: dict[str, Any]
    """Types of the tensors of the state dictionary, and its entries that are no tensors of the network."""

    @classmethod
    def of(cls, module: Any) -> "State":
        """Read where a module's tensors are.

        Raises:
            ValueError: if it is no module that PyTorch can export.
        """
        module, prefix = _unwrapped(module)
        _check(module)
        places: dict[str, tuple[str, Path]] = {}
        first: dict[int, tuple[str, Path]] = {}
        for name, tensor in _tensors(module).items():
            trained = tensor.requires_grad and isinstance(tensor, extra("torch").nn.Parameter)
            place = ("params" if trained else "buffers", tuple(name.split(".")))
            places[name] = first.setdefault(id(tensor), place)
        saved = module.state_dict()
        entries = {name: value.dtype if name in places else copy.deepcopy(value) for name, value in saved.items()}
        return cls(module, prefix, places, type(module), repr(module), entries)

    def used(self, names: set[str]) -> "State":
        """Return a state of the tensors that are saved or that have one of the given names."""
        places = {name: place for name, place in self.places.items() if name in self.entries or name in names}
        return dataclasses.replace(self, places=places)

    def without_module(self) -> "State":
        """Return a state that lets the module's memory be freed."""
        return dataclasses.replace(self, module=None)

    @property
    def floating(self) -> Any:
        """Type of the parameters."""
        torch = extra("torch")
        return next((t.dtype for t in _tensors(self.module).values() if t.is_floating_point()), torch.float32)

    def find(self, name: str) -> tuple[str, Path] | None:
        """Return the place of a tensor by its name in the module, or None if it is no part of the variables."""
        return self.places.get(name)

    def collections(self) -> Variables:
        """Copy the tensors into collections of JAX arrays."""
        collections: Variables = {"params": {}, "buffers": {}}
        tensors, done = _tensors(self.module), set()
        for name, (collection, path) in self.places.items():
            if (collection, path) in done:
                continue
            done.add((collection, path))
            tree: Any = collections[collection]
            for step in path[:-1]:
                tree = tree.setdefault(step, {})
            tree[path[-1]] = jnp.asarray(to_numpy(tensors[name]))
        return collections

    def same_structure(self, module: Any) -> "State":
        """Return the state of another module.

        Raises:
            ValueError: if it has other layers or options.
        """
        other = State.of(module)
        if other.kind is not self.kind or other.description != self.description:
            raise ValueError(
                f"the model must have the same layers and options as the one brought, found {_difference(self, other)}"
            )
        other = other.used(set(self.places))
        missing = [name for name, place in self.places.items() if other.places.get(name) != place]
        missing += [name for name in other.places if name not in self.places]
        if missing:
            raise ValueError(f"the model must have the same parameters, frozen alike, found a difference: {missing[0]}")
        return other

    def write(self, variables: Variables) -> dict[str, Any]:
        """Return a state dictionary of new tensors, of the types that the module's had."""
        torch = extra("torch")
        written = {}
        for name, entry in self.entries.items():
            place = self.places.get(name)
            if place is None:
                written[self.prefix + name] = entry
                continue
            leaf: Any = variables[place[0]]
            for step in place[1]:
                leaf = leaf[step]
            array = np.array(jnp.asarray(leaf, jnp.float32) if jnp.result_type(leaf) == jnp.bfloat16 else leaf)
            written[self.prefix + name] = torch.from_numpy(array).to(entry)
        return written


def _unwrapped(module: Any) -> tuple[Any, str]:
    """Return the module inside wrappers of `torch.compile` and of data parallelism, and their prefix of names."""
    parallel = extra("torch").nn.parallel
    prefix = ""
    while True:
        if hasattr(module, "_orig_mod"):
            module, prefix = module._orig_mod, f"{prefix}_orig_mod."
        elif isinstance(module, (parallel.DataParallel, parallel.DistributedDataParallel)):
            module, prefix = module.module, f"{prefix}module."
        else:
            return module, prefix


def _check(module: Any) -> None:
    torch = extra("torch")
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError(
            "the module is a ScriptModule, which torch.export does not take: bring the torch.nn.Module from which "
            "torch.jit.script or torch.jit.trace made it"
        )
    if not isinstance(module, torch.nn.Module):
        raise ValueError(
            f"module must be a torch.nn.Module with its weights, got {type(module).__name__}; of a state dictionary, "
            "make the module and load it with load_state_dict"
        )
    halves = (torch.float16, torch.bfloat16)
    half = next((name for name, tensor in module.named_parameters() if tensor.dtype in halves), None)
    if half is not None:
        dtype = str(module.get_parameter(half).dtype).removeprefix("torch.")
        raise ValueError(
            f"the parameter {half!r} is {dtype}, in which outputs are too coarse to be compared: bring module.float(), "
            "a module in float32; what give_back returns can be loaded by a module of any type"
        )
    lazy = torch.nn.modules.lazy.LazyModuleMixin
    for name, part in module.named_modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm) and part.momentum is None:
            raise ValueError(
                f"the batch normalisation {name!r} has momentum=None, an average over all batches, which torch.export "
                "cannot trace: set its momentum, such as 0.1"
            )
        if isinstance(part, lazy) and part.has_uninitialized_params():  # type: ignore[attr-defined]
            raise ValueError(f"the layer {name!r} has no weights yet: call the module on an example before")


def _tensors(module: Any) -> dict[str, Any]:
    """Return parameters, buffers and plain tensor attributes by name, a tied tensor by each of its names."""
    torch = extra("torch")
    named: dict[str, Any] = dict(module.named_parameters(remove_duplicate=False))
    named.update(module.named_buffers(remove_duplicate=False))
    for path, part in module.named_modules(remove_duplicate=False):
        prefix = f"{path}." if path else ""
        attributes = {name: value for name, value in vars(part).items() if isinstance(value, torch.Tensor)}
        named.update({f"{prefix}{name}": value for name, value in attributes.items()})
    return named


def _difference(expected: State, found: State) -> str:
    if found.kind is not expected.kind:
        return f"{found.kind.__name__}, expected {expected.kind.__name__}"
    for line, other in zip(expected.description.splitlines(), found.description.splitlines(), strict=False):
        if line != other:
            return f"{other.strip()}, expected {line.strip()}"
    return "other layers"
