"""Bring a trained PyTorch module in as a network, and give its state dictionary back."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from fairjax.adapters._bringing import (
    Brought,
    Layer,
    Selection,
    TrainedInit,
    all_kept,
    check_agreement,
    check_zeroed,
    extra,
    num_rows,
    obstacles_of,
    positions_then_units,
    select,
    shifted_and_masked,
    zeroed,
)
from fairjax.adapters._heads import Head, Output, check_outputs
from fairjax.adapters._program import Mark, Path, Program, Results, evaluate
from fairjax.adapters._torch_export import Example, export
from fairjax.adapters._torch_graph import Sources, dtype_of, final_activation, program_of
from fairjax.adapters._torch_layers import is_default, weights
from fairjax.adapters._torch_sites import features_node, sites_of
from fairjax.adapters._torch_state import State
from fairjax.nn.network import Network
from fairjax.types import KeyArray, Variables

ROWS = 32
"""Rows of the example on which outputs are compared."""


def bring(module: Any, example_x: Any, *, units: Selection = None, output: Output = "logit") -> Brought:
    """Make a network of a trained PyTorch module, which is not changed. Running it needs no PyTorch.

    The module is exported by `torch.export` for any number of rows, once in evaluation mode and once in training mode,
    and its operations are replaced by JAX's. A unit is an output of a layer before its activation: a feature of a
    linear layer, a channel of a convolution. A layer that is called more than once has one mask for all calls; its
    activations have one more axis, of calls.

    Trainable parameters are in `params`, nested by the names of modules, so that methods can tune `layers=("out",)`.
    Frozen parameters (`requires_grad=False`) and buffers, such as running statistics, are in `buffers`.

    Args:
        module: a module whose output is one tensor of logits or probabilities, (n,), (n, 1), (n, 2) or (n, classes).
        example_x: an example of a few rows, with all axes but the first as they will always be: a tensor or an array; a
            tuple of positional arguments; or a dictionary of keyword arguments, or of columns if that is forward's
            argument. The network's x is structured alike. On it, the network's outputs are compared with the module's.
        units: names of modules; a predicate of name and module; or None for all linear layers and convolutions except
            the last that is called. An empty list brings a network without units.
        output: whether outputs are logits or probabilities. A final sigmoid or softmax is skipped.

    Returns:
        The network and its variables. `give_back` returns a state dictionary for `module.load_state_dict`.

    Raises:
        ImportError: if PyTorch is not installed.
        ValueError: if PyTorch cannot export the module, if it uses an operation that is not known here, if units match
            nothing, or if the output is not as described.

    Example::

        brought = fairjax.adapters.torch.bring(module, x[:32])
        result = fairjax.debias(Pruning(), brought.network, fairjax.spd, brought.variables, split, key=key)
        module.load_state_dict(brought.give_back(result.variables))
    """
    torch = extra("torch")
    state = State.of(module)
    rows = jax.tree.map(lambda leaf: leaf[:ROWS], _twice_if_single(example_x))
    example, paths = _arguments(state.module, rows)
    with torch.no_grad():
        original = _evaluated(state.module, example)
    check_outputs(original, num_rows(jax.tree.map(_as_array, rows)))
    layers = _layers(state.module, units)
    graphs = {train: export(state.module, example, layers, train) for train in (False, True)}
    targets = (spec.target for graph in graphs.values() for spec in graph.graph_signature.input_specs)
    state = state.used({target for target in targets if target is not None})  # the input itself has no target
    calls, marks = sites_of(graphs[False], layers)
    chosen = select(calls, units)
    marks = {layer.name: dataclasses.replace(marks[layer.name], name=name) for name, layer in chosen.items()}
    skipped = output == "probability" and all(final_activation(graph) is not None for graph in graphs.values())
    last = next((call.name for call in reversed(calls) if is_default(call.layer)), None)

    def converted(train: bool) -> Program:
        features = None if last is None else features_node(graphs[train], last)
        return program_of(
            graphs[train],
            Sources(state.find, paths),
            marks,
            skip_activation=skipped,
            features=features,
            floating=dtype_of(state.floating),
            train=train,
        )

    programs = _Programs(converted(False), converted(True), Head(output, skipped))
    has_features = programs.evaluation.features is not None and programs.training.features is not None
    features = _Features(programs) if has_features else None
    folded = tuple(mark.name for mark in marks.values() if mark.positions > 1)
    network = Network(TrainedInit("PyTorch"), _Apply(programs), features, _Activations(programs, folded))
    return _brought(network, state, chosen, rows, original, programs.head)


def _brought(
    network: Network, state: State, chosen: dict[str, Layer], rows: Any, original: np.ndarray, head: Head
) -> Brought:
    """Compare a network with the original, and add the ways to read and write variables."""
    x = jax.tree.map(_as_array, rows)
    widths = {name: layer.width for name, layer in chosen.items()}
    places = {name: _places(state, layer) for name, layer in chosen.items()}
    variables: Variables = {**state.collections(), "masks": all_kept(widths)}
    check_agreement(network, variables, x, original, head)
    network = _with_readable_activations(network, variables, x)
    state = state.without_module()

    def read(model: Any) -> Variables:
        other = state.same_structure(model)
        collections = other.collections()
        example, _ = _arguments(other.module, rows)
        with extra("torch").no_grad():
            expected = _evaluated(other.module, example)
        check_agreement(network, {**collections, "masks": all_kept(widths)}, x, expected, head)
        return collections

    def write(variables: Variables) -> Any:
        without_masks = _with_zeros(variables, places)
        check_zeroed(network, variables, without_masks, x)
        return state.write(without_masks)

    return Brought(network, variables, widths, read, write, obstacles_of(chosen))


def _with_readable_activations(network: Network, variables: Variables, x: Any) -> Network:
    """Find layers that see positions as rows in an order from which the rows' activations cannot be taken apart."""
    activations: Any = network.activations
    folded = activations.folded
    if not folded:
        return network
    repeated = jax.tree.map(lambda leaf: np.broadcast_to(leaf[:1], leaf.shape), x)
    shown = jax.jit(lambda variables, x: {name: activations(variables, x)[name][0] for name in folded})
    first, alone = shown(variables, x), shown(variables, repeated)
    mixed = tuple(name for name in folded if not np.allclose(first[name], alone[name], rtol=1e-3, atol=1e-4))
    return network._replace(activations=dataclasses.replace(activations, unreadable=mixed))


def _twice_if_single(example_x: Any) -> Any:
    """Double an example of one row, to which export would fix the network."""
    if num_rows(jax.tree.map(_as_array, example_x)) > 1:
        return example_x
    tensor = extra("torch").Tensor
    return jax.tree.map(
        lambda leaf: leaf.repeat(2, *[1] * (leaf.ndim - 1)) if isinstance(leaf, tensor) else np.repeat(leaf, 2, axis=0),
        example_x,
    )


def _as_array(leaf: Any) -> np.ndarray:
    if isinstance(leaf, extra("torch").Tensor):
        leaf = leaf.detach().cpu()
        return leaf.float().numpy() if str(leaf.dtype) == "torch.bfloat16" else leaf.numpy()
    return np.asarray(leaf)


def _arguments(module: Any, rows: Any) -> tuple[Example, tuple[Path, ...]]:
    """Return the arguments of forward, and the path in x of each tensor in them."""
    torch = extra("torch")
    first = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))

    def tensor(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            return leaf.detach().to(first.device)
        array = np.array(leaf)
        dtype = first.dtype if array.dtype.kind == "f" else torch.bool if array.dtype == bool else torch.int64
        return torch.as_tensor(array).to(device=first.device, dtype=dtype)

    tensors = jax.tree.map(tensor, rows)
    if isinstance(rows, dict) and not _is_one_argument(module, rows):
        example, start = Example((), tensors), "dict"
    elif isinstance(rows, (tuple, list)):
        example, start = Example(tuple(tensors), {}), "tuple"
    else:
        example, start = Example((tensors,), {}), "one"
    flat, _ = torch.utils._pytree.tree_flatten_with_path(tuple(example))
    paths: Any = [tuple(getattr(step, "key", getattr(step, "idx", None)) for step in path) for path, _ in flat]
    return example, tuple(path[2:] if start == "one" else path[1:] for path in paths)


def _is_one_argument(module: Any, rows: dict[str, Any]) -> bool:
    """Return whether a dictionary is forward's only argument, and not its keyword arguments."""
    try:
        inspect.signature(module.forward).bind(**rows)
    except TypeError:
        return True
    return False


def _evaluated(module: Any, example: Example) -> Any:
    """Return the module's outputs in evaluation mode as an array, or whatever else it returns."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        outputs = module(*example.args, **example.kwargs)
    finally:
        for part, mode in modes:
            part.training = mode
    return _as_array(outputs) if isinstance(outputs, extra("torch").Tensor) else outputs


def _layers(module: Any, units: Selection) -> dict[str, Any]:
    """Return the layers to mark: those without parts of their own, and those that are named."""
    named = {name: layer for name, layer in module.named_modules() if name}
    if units is None:
        return {name: layer for name, layer in named.items() if is_default(layer)}
    names = set() if callable(units) else {part for name in units for part in (name, name.partition(" ")[2])}
    return {name: layer for name, layer in named.items() if name in names or not list(layer.children())}


def _places(state: State, layer: Layer) -> list[tuple[str, Path, int]]:
    """Return where zeros cut a layer's units: collections, paths and axes."""
    if layer.obstacle is not None:
        return []
    found = [(state.find(f"{layer.name}.{part}"), axis) for part, axis in weights(layer.layer).items()]
    return [(*place, axis) for place, axis in found if place is not None]


def _with_zeros(variables: Variables, places: Mapping[str, list[tuple[str, Path, int]]]) -> Variables:
    """Write cuts into weights."""
    result = dict(variables)
    for name, targets in places.items():
        keep = variables["masks"][name]
        for collection, path, axis in targets:
            result[collection] = _changed(result[collection], path, lambda leaf, k=keep, a=axis: zeroed(leaf, k, a))
    return result


def _changed(tree: Any, path: Path, change: Callable[[Any], Any]) -> Any:
    """Return a tree of dictionaries in which one leaf is changed."""
    if not path:
        return change(tree)
    return {**tree, path[0]: _changed(tree[path[0]], path[1:], change)}


@dataclasses.dataclass(frozen=True, eq=False)
class _Programs:
    """A network's programs in both modes, and its head."""

    evaluation: Program
    training: Program
    head: Head

    def run(
        self,
        variables: Variables,
        x: Any,
        shifts: Any = None,
        key: KeyArray | None = None,
        shown: dict[str, list[Any]] | None = None,
    ) -> tuple[Array, Variables, Results]:
        """Evaluate the program of a mode; `shown` collects the activations of units, by layer."""

        def mark(mark: Mark, h: Any) -> Any:
            shift = None if shifts is None else shifts[mark.name]
            h = shifted_and_masked(h, shift, variables["masks"][mark.name], mark.axis)
            if shown is not None:
                shown.setdefault(mark.name, []).append(_rows_first(mark, h))
            return h

        results = evaluate(self.evaluation if key is None else self.training, variables, x, mark, key)
        updated = variables
        for path, value in results.updates:
            buffers = _changed(updated["buffers"], path, lambda old, new=value: new.astype(jnp.result_type(old)))
            updated = {**updated, "buffers": buffers}
        return self.head(results.output), updated, results


def _rows_first(mark: Mark, h: Any) -> Any:
    """Return a layer's output with rows on its first axis and units on its last."""
    h = jnp.moveaxis(h, (mark.rows, mark.axis), (0, h.ndim - 1))
    return h if mark.positions == 1 else h.reshape(-1, mark.positions, *h.shape[1:])


@dataclasses.dataclass(frozen=True, eq=False)
class _Apply:
    programs: _Programs

    def __call__(
        self,
        variables: Variables,
        x: Any,
        *,
        shifts: PyTree[Float[Array, "_"]] | None = None,
        key: KeyArray | None = None,
    ) -> tuple[Float[Array, "n *c"], Variables]:
        logits, updated, _ = self.programs.run(variables, x, shifts, key)
        return logits, updated


@dataclasses.dataclass(frozen=True, eq=False)
class _Features:
    programs: _Programs

    def __call__(
        self,
        variables: Variables,
        x: Any,
        *,
        shifts: PyTree[Float[Array, "_"]] | None = None,
        key: KeyArray | None = None,
    ) -> tuple[Float[Array, "n k"], Float[Array, "n *c"], Variables]:
        logits, updated, results = self.programs.run(variables, x, shifts, key)
        return results.features, logits, updated


@dataclasses.dataclass(frozen=True, eq=False)
class _Activations:
    programs: _Programs
    folded: tuple[str, ...]
    """Layers whose outputs have rows and positions on one axis."""
    unreadable: tuple[str, ...] = ()
    """Those in which positions come before rows."""

    def __call__(self, variables: Variables, x: Any) -> PyTree[Float[Array, "n ..."]]:
        if self.unreadable:
            raise ValueError(
                f"the activations of {', '.join(self.unreadable)} cannot be shown, because positions come before rows "
                "on the first axis of their outputs: bring the network with units= that leave these layers out"
            )
        shown: dict[str, list[Any]] = {}
        self.programs.run(variables, x, shown=shown)
        return {name: positions_then_units(shown[name]) for name in variables["masks"]}
