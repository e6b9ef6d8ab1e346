"""A trained network of the user, which a run debiases instead of training networks."""

import hashlib
import json
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from fairjax import adapters
from fairjax.adapters._bringing import Brought
from fairjax.checkpoint import first_line
from fairjax.nn import Network, from_linen
from fairjax.nn.fingerprint import digests
from fairjax.nn.flat import FlatVariables
from fairjax.runs.function_in_file import FunctionInFile
from fairjax.types import Inputs, Variables

EXAMPLE_ROWS = 32
"""Number of rows of the example with which a network is brought."""

_MODULES = (("torch.nn", "Module", "torch"), ("flax.nnx", "Module", "nnx"), ("equinox", "Module", "equinox"),
            ("keras", "Model", "keras"))  # fmt: skip
"""Library, class and adapter of the trained modules that are brought."""

_SHOWN = 40
"""Maximum number of features that a message names."""


class Given(NamedTuple):
    """A trained network."""

    source: FunctionInFile
    """The function that made it."""
    network: Network
    variables: Variables
    brought: Brought | None
    """The result of an adapter's `bring`, with the way back; None for a network of fairjax."""
    identity: dict[str, Any]
    """What the results depend on: checksums of the file and of the variables."""
    warnings: tuple[str, ...] = ()
    """What the user should know, in sentences."""

    @property
    def summary(self) -> str:
        """What the network is, in words."""
        parameters, units = (
            sum(np.size(leaf) for leaf in jax.tree.leaves(self.variables[name])) for name in ("params", "masks")
        )
        return (
            f"the trained network that {self.source.name} of {self.source.file.name} returned, with {parameters:,} "
            f"parameters and {units:,} units; it was not trained in this run"
        )


def given_network(
    source: FunctionInFile, x: Inputs, classes: Sequence[str], *, columns: Sequence[str] = (), output: str = "logit"
) -> Given:
    """Call the user's function, bring what it returns, and check that it fits the data.

    Args:
        source: the function; one that requires an argument gets the example.
        x: an example of a few rows, as the network gets them.
        classes: names of the classes of the label.
        columns: names of the columns of the example, if it is a table.
        output: whether a framework's module returns logits or probabilities.

    Raises:
        ValueError: if the function or its result cannot be used; the message says why.
        ImportError: if a library is not installed.
    """
    code = source.digest()
    result = source.call(jax.tree.map(np.array, x))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            network, variables, brought = _network_of(source, result, x, output)
            FlatVariables.ravel(variables)  # refuses what cannot be trained
        except (ImportError, _OtherResult):
            raise
        except Exception as error:  # frameworks raise errors of many types where shapes do not fit
            raise ValueError(f"the network of {source}: {first_line(error)}; {_described(x, columns)}") from error
    _check_outputs(source, network, variables, x, classes, columns)
    bounded = any(str(entry.message).startswith("all outputs on the example lie in") for entry in caught)
    notes = (f"all outputs of {source} lie in [0, 1]: add --network.output probability if it ends with a sigmoid",)
    sums = json.dumps(digests(variables), sort_keys=True)
    identity = {"code": code, "function": source.name, "variables": hashlib.sha256(sums.encode()).hexdigest()}
    return Given(source, network, variables, brought, identity, notes if bounded and brought is not result else ())


class _OtherResult(ValueError):
    """Raised when the user's function returns something that cannot be used."""


def _network_of(
    source: FunctionInFile, result: Any, x: Inputs, output: str
) -> tuple[Network, Variables, Brought | None]:
    """Return the network and variables that the user's function returned."""
    pair = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if isinstance(result, Brought) or isinstance(pair[0], Network):
        if output != "logit":
            raise _OtherResult(
                f"network.output is for a framework's module, and {source} returns a network of fairjax: pass output= "
                "to bring there"
            )
        if isinstance(result, Brought):
            return result.network, result.variables, result
        _check_variables(source, pair[1])
        return pair[0], pair[1], None
    model, state = pair
    if isinstance(model, nn.Module):
        if state is None:
            raise _OtherResult(f"{source} returns a Linen module alone: return the pair (module, variables)")
        if "masks" in state:  # a module with units of fairjax
            _check_variables(source, state)
            return from_linen(model), state, None
        brought = adapters.linen.bring(model, state, x, output=output)
        return brought.network, brought.variables, brought
    adapter = next((name for library, kind, name in _MODULES if _is_of(model, library, kind)), None)
    if adapter is None or (state is not None and adapter != "equinox"):
        found = " and ".join(type(entry).__name__ for entry in pair if entry is not None) or "None"
        raise _OtherResult(
            f"{source} must return the result of fairjax.adapters.*.bring, a pair (network, variables), a trained "
            "module of PyTorch, NNX, Equinox or Keras, or a Linen or Equinox module in a pair with its variables or "
            f"state, found {found}"
        )
    options = {"output": output, **({} if state is None else {"state": state})}
    brought = getattr(adapters, adapter).bring(model, x, **options)
    return brought.network, brought.variables, brought


def _check_variables(source: FunctionInFile, variables: Any) -> None:
    missing = [name for name in ("params", "masks") if not isinstance(variables, dict) or name not in variables]
    if missing:
        raise _OtherResult(f"the variables that {source} returns lack {' and '.join(missing)}")


def _is_of(model: Any, library: str, kind: str) -> bool:
    """Return whether a model is of a class of a library, without importing the library."""
    module = sys.modules.get(library)
    return module is not None and isinstance(model, getattr(module, kind))


def _check_outputs(
    source: FunctionInFile,
    network: Network,
    variables: Variables,
    x: Inputs,
    classes: Sequence[str],
    columns: Sequence[str],
) -> None:
    """Check that the network takes the rows of the data, and that its outputs fit the label."""
    rows = jax.tree.leaves(x)[0].shape[0]
    try:
        shape = jax.eval_shape(lambda variables, x: network.apply(variables, x)[0], variables, x).shape
    except Exception as error:
        raise ValueError(
            f"the network of {source} cannot be applied to rows of the data ({first_line(error)}); "
            f"{_described(x, columns)}"
        ) from error
    expected = (rows,) if len(classes) == 2 else (rows, len(classes))
    if shape != expected:
        found = "2 classes" if shape == (rows,) else f"{shape[-1]} classes" if len(shape) == 2 else f"shape {shape}"
        raise ValueError(
            f"the network of {source} has outputs for {found}, and the label has {len(classes)} classes, "
            f"{', '.join(classes)}: choose the label that it was trained for"
        )


def _described(x: Inputs, columns: Sequence[str]) -> str:
    """Describe what a network is given."""
    if not columns:
        shapes = ", ".join(f"{tuple(leaf.shape[1:])} of type {leaf.dtype}" for leaf in jax.tree.leaves(x))
        return f"a row of the data has shape {shapes}"
    names = ", ".join(columns[:_SHOWN]) + (f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else "")
    return f"a row of the data has {len(columns)} features, in this order: {names}"
