"""Export of a PyTorch module as a graph of core ATen operations, with the outputs of its layers marked."""

import contextlib
import functools
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fairjax.adapters._aten import KEPT_WHOLE
from fairjax.adapters._bringing import extra


class Example(NamedTuple):
    """Arguments of a module's forward."""

    args: tuple[Any, ...]
    """Positional arguments, trees of tensors."""
    kwargs: dict[str, Any]
    """Keyword arguments, likewise."""


@functools.cache
def _operators() -> Any:
    """Define the operators that stand in graphs for marks, and for values through which no gradient passes."""
    torch = extra("torch")
    library = torch.library.Library("fairjax", "FRAGMENT")
    library.define("unit(Tensor x, str name) -> Tensor")
    library.define("stop(Tensor x) -> Tensor")
    for name in ("unit", "stop"):
        library.impl(name, lambda x, *_: x.clone(), "CompositeExplicitAutograd")
        torch.library.register_fake(f"fairjax::{name}", lambda x, *_: torch.empty_like(x), lib=library)
    return library  # its operators live as long as it does


def export(module: Any, example: Example, layers: Mapping[str, Any], train: bool) -> Any:
    """Export a module for any number of rows, with its layers' outputs marked.

    Args:
        module: the user's module, which is left as it was.
        example: its arguments, of at least two rows.
        layers: layers to mark, by name.
        train: the mode.

    Returns:
        An exported program of core ATen operations, and of `fairjax::unit` and `fairjax::stop`.

    Raises:
        ValueError: if PyTorch cannot export it.
    """
    torch = extra("torch")
    _operators()
    dynamic = torch.utils._pytree.tree_map(lambda _: {0: torch.export.Dim.DYNAMIC}, tuple(example))
    shapes = dynamic[1] if example.kwargs else dynamic[0]
    table = torch.export.default_decompositions()
    for name in KEPT_WHOLE:
        packet, _, overload = name.partition(".")
        table.pop(getattr(getattr(torch.ops.aten, packet), overload), None)
    with _in_mode(module, train), _marked(layers), _quiet():
        try:
            program = torch.export.export(module, example.args, example.kwargs, dynamic_shapes=shapes, strict=False)
            _keep_stops(program, train)
            return program.run_decompositions(table)
        except Exception as error:  # whatever the user's forward and PyTorch raise
            mode = "training" if train else "evaluation"
            raise ValueError(
                f"torch.export cannot trace {type(module).__name__} in {mode} mode ({_first_line(error)}): forward "
                "must not branch on values of tensors, use NumPy or fix the number of rows; where only a part does, "
                "bring the rest of the network and give it that part's output"
            ) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Constraints violated"):
        lines = [lines[1].lstrip("- ")]  # the first line only announces it
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


@contextlib.contextmanager
def _in_mode(module: Any, train: bool) -> Iterator[None]:
    """Set the mode of a module and of all in it, and set them back after."""
    backends = extra("torch").backends.mha
    modes, fast = [(part, part.training) for part in module.modules()], backends.get_fastpath_enabled()
    module.train(train)
    backends.set_fastpath_enabled(False)  # a fused encoder layer would hide the layers in it
    try:
        yield
    finally:
        backends.set_fastpath_enabled(fast)
        for part, mode in modes:
            part.training = mode


@contextlib.contextmanager
def _marked(layers: Mapping[str, Any]) -> Iterator[None]:
    """Mark the outputs of layers by hooks."""
    torch = extra("torch")

    def hook_of(name: str) -> Any:
        def hook(layer: Any, args: Any, output: Any) -> Any:
            del layer, args
            marks = isinstance(output, torch.Tensor) and output.is_floating_point()
            return torch.ops.fairjax.unit(output, name) if marks else None

        return hook

    hooks = [layer.register_forward_hook(hook_of(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what PyTorch prints and warns of while it exports: errors say the same."""
    loggers = [logging.getLogger(name) for name in ("torch.fx.experimental.symbolic_shapes", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):  # it prints graphs that failed
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _keep_stops(program: Any, train: bool) -> None:
    """Mark values through which no gradient passes, since decomposition forgets `detach` and `torch.no_grad`.

    In evaluation mode, units under `torch.no_grad` keep their derivative, which is that of the network's output.
    """
    torch = extra("torch")
    stop = torch.ops.fairjax.stop.default
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.target is torch.ops.aten.detach.default:
            node.target = stop
        without_grad = node.target is torch.ops.higher_order.wrap_with_set_grad_enabled and node.args[0] is False
        if train and without_grad:
            for part in list(node.users):  # results are taken out by number
                with graph.inserting_after(part):
                    stopped = graph.call_function(stop, (part,))
                stopped.meta = dict(part.meta)
                part.replace_all_uses_with(stopped, delete_user_cb=lambda user, stopped=stopped: user is not stopped)
    program.graph_module.recompile()
