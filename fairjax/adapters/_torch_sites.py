"""Layers of an exported graph: their units, where their rows are, and what stands in the way of cutting them."""

from collections.abc import Mapping
from typing import Any

from fairjax.adapters._bringing import Layer
from fairjax.adapters._program import Mark
from fairjax.adapters._torch_graph import is_mark, operation, packet
from fairjax.adapters._torch_layers import is_default, keeps_axis, obstacle, units_axis, weights

DEPTH = 4
"""Number of operations that may lie between a weight and its layer's output."""


def sites_of(exported: Any, layers: Mapping[str, Any]) -> tuple[list[Layer], dict[str, Mark]]:
    """Return the layers that a graph calls, in order, and their marks.

    Layers are left out whose units' axis is not known, or whose outputs have no rows.

    Args:
        exported: what `export` returned in evaluation mode.
        layers: marked layers by name.
    """
    batch = _batch(exported)
    calls, marks = [], {}
    for node in exported.graph.nodes:
        if not is_mark(node):
            continue
        name = node.args[1]
        layer, rows, axis = layers[name], _rows(node, batch), _axis(node, layers)
        if rows is None or axis is None or axis == rows[0]:
            continue
        width = node.meta["val"].shape[axis]
        if not isinstance(width, int):
            continue
        calls.append(Layer(name, layer, width, is_default(layer), _obstacle(exported, name, layer)))
        marks.setdefault(name, Mark(name, axis, *rows))
    return calls, marks


def features_node(exported: Any, name: str) -> Any:
    """Return the node of a layer's last input if it is one vector per row, or None."""
    last = [node for node in exported.graph.nodes if is_mark(node) and node.args[1] == name]
    layer = last[-1].args[0] if last else None
    if layer is None or operation(layer) not in ("linear.default", "convolution.default"):
        return None
    source = layer.args[0]
    value, batch = source.meta["val"], _batch(exported)
    is_vector = value.ndim == 2 and isinstance(value.shape[1], int) and _multiple(value.shape[0], batch) == 1
    return source if is_vector else None


def _batch(exported: Any) -> Any:
    """Return the symbol of the number of rows."""
    placeholders = [node for node in exported.graph.nodes if node.op == "placeholder"]
    specs = exported.graph_signature.input_specs
    pairs = zip(placeholders, specs, strict=True)
    return next(node.meta["val"].shape[0] for node, spec in pairs if spec.kind.name == "USER_INPUT").node.expr


def _multiple(size: Any, batch: Any) -> int | None:
    """Return how many times the number of rows a size is, or None if it is no multiple."""
    if isinstance(size, int):
        return None
    ratio = size.node.expr / batch
    return int(ratio) if ratio.is_Integer else None


def _rows(node: Any, batch: Any) -> tuple[int, int] | None:
    """Return the axis of rows and the number of positions on it."""
    multiples = [(i, _multiple(size, batch)) for i, size in enumerate(node.meta["val"].shape)]
    found = [(i, multiple) for i, multiple in multiples if multiple is not None]
    return found[0] if len(found) == 1 else None


def _axis(node: Any, layers: Mapping[str, Any]) -> int | None:
    """Return the axis of the units at a mark; for layers that work entry by entry, that of their input."""
    ndim = node.meta["val"].ndim
    layer = layers[node.args[1]]
    axis = units_axis(layer, ndim)
    if axis is not None or not keeps_axis(layer):
        return axis
    source = node.args[0]
    while source.op == "call_function" and source.args and hasattr(source.args[0], "op"):
        source = source.args[0]
        if is_mark(source):
            return _axis(source, layers) if source.meta["val"].ndim == ndim else None
    return None


def _obstacle(exported: Any, name: str, layer: Any) -> str | None:
    reason = obstacle(layer)
    if reason is not None:
        return reason
    nodes = {node.name: node for node in exported.graph.nodes if node.op == "placeholder"}
    for spec in exported.graph_signature.input_specs:
        owned = any(getattr(layer, part) is _tensor(exported, spec) for part in weights(layer))
        if owned and not all(_feeds_only(user, name) for user in nodes[spec.arg.name].users):
            return f"its weight {spec.target!r} is also used elsewhere in the network (it is tied)"
    return None


def _tensor(exported: Any, spec: Any) -> Any:
    return exported.state_dict.get(spec.target) if spec.kind.name in ("PARAMETER", "BUFFER") else None


def _feeds_only(node: Any, name: str, depth: int = DEPTH) -> bool:
    """Return whether all that is computed of a node leads to the mark of one layer."""
    if is_mark(node):
        return node.args[1] == name
    passes = depth > 0 and node.op == "call_function" and (packet(node) != "embedding" or depth == DEPTH)
    return passes and bool(node.users) and all(_feeds_only(user, name, depth - 1) for user in node.users)
