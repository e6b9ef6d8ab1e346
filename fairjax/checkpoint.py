"""Save and load networks.

A saved network is a folder: `network.json` describes the network and holds the user's notes, and `variables` is an
orbax checkpoint. Loading never unpickles, and a folder with the requested name is always complete.

The variables of any network can be saved: those of an `Mlp` in format 1, which holds the module too, and all others in
format 2, with the path, shape and dtype of every leaf and the names of the units, against which they are checked.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from fairjax.nn.description import check_like, describe_module, describe_variables, made_module, named_leaves
from fairjax.nn.mlp import Mlp
from fairjax.nn.network import Network, module_of
from fairjax.types import Variables

FORMATS = 1, 2
"""Versions of the layout of a saved network: of an `Mlp`, and of any other network."""

_ABOUT, _VARIABLES = "network.json", "variables"


class CheckpointError(ValueError):
    """Raised when a folder is not a saved network, or when a network cannot be saved."""


class Saved(NamedTuple):
    """A saved network."""

    module: nn.Module | None
    """The Linen module, if it is one of `fairjax.nn`; None for any other network."""
    variables: Variables
    """The variables, with a leading axis if several networks were saved together."""
    about: dict[str, Any]
    """The user's notes."""
    units: dict[str, int]
    """Number of units of each layer with units."""


def save(
    path: str | Path,
    network: nn.Module | Network | Any,
    variables: Variables,
    *,
    about: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Save one network, or many networks of one kind with a leading axis of seeds.

    Args:
        path: the folder to create; a leading `~` is the home folder.
        network: a Linen module, a `Network`, or the result of an adapter's `bring`. Modules of `fairjax.nn` are saved
            with the variables; the functions of other networks are not, so keep the code that makes them.
        variables: the variables, of any structure. With several processes, call this function in one process, which
            must have the whole arrays.
        about: the user's notes, as a dictionary that JSON can represent.
        overwrite: whether to replace an existing saved network. Nothing else is ever replaced.

    Raises:
        FileExistsError: if the path exists and `overwrite` is false.
        CheckpointError: if the variables cannot be saved, writing fails, or `overwrite` would replace something that is
            not a saved network, such as a symbolic link, a file or a folder without `network.json`; what existed before
            is unchanged.

    Example:
        >>> from fairjax.nn import from_linen
        >>> module = Mlp(widths=(4,))
        >>> variables = from_linen(module).init(jax.random.key(0), jnp.ones((1, 3)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(Path(folder) / "mine", module, variables, about={"data": "compas"})
        ...     load(Path(folder) / "mine").about
        {'data': 'compas'}
    """
    path = _expanded(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; choose another path or pass overwrite=True")
    _check_replaceable(path)
    path = path.resolve()
    content, arrays = _described(network, variables)
    text = json.dumps({**content, "about": about or {}}, indent=2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".unfinished-{path.name}-", dir=path.parent))
    except OSError as error:
        raise CheckpointError(f"cannot write in {path.parent} ({error}); choose another path") from error
    try:
        (temporary / _ABOUT).write_text(text + "\n", encoding="utf-8")
        with checkpointer() as writer:
            writer.save(temporary / _VARIABLES, args=ocp.args.StandardSave(arrays))
        temporary.chmod(0o755)
        _replace(temporary, path)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"cannot save a network at {path} ({first_line(error)}); free disk space or choose another path"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _described(network: Any, variables: Variables) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the description of a network, and its arrays."""
    if not isinstance(network, nn.Module | Network):
        network = getattr(network, "network", network)  # the result of an adapter's `bring`
    module = network if isinstance(network, nn.Module) else module_of(network)
    if isinstance(module, Mlp):
        described = {name: getattr(module, name) for name in ("widths", "site", "cut", "dropout", "outputs")}
        content = {"format": 1, "module": described, "shapes": _shapes(variables)}
        return content, jax.tree.map(np.asarray, variables)
    if module is None and not isinstance(network, Network):
        raise CheckpointError(
            f"network must be a Linen module, a fairjax.Network or the result of bring, found {type(network).__name__}"
        )
    missing = [name for name in ("params", "masks") if name not in variables]
    if missing:
        raise CheckpointError(f"variables must have params and masks, and lack {' and '.join(missing)}")
    try:
        leaves, described = named_leaves(variables), describe_variables(variables)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the variables cannot be saved: {first_line(error)}") from error
    content = {"format": 2, "module": None if module is None else describe_module(module), **described}
    return content, {f"{number:06d}": np.asarray(leaf) for number, leaf in enumerate(leaves.values()) if leaf.size}


def load(path: str | Path, like: Variables | None = None) -> Saved:
    """Load a network that was saved by `save`.

    Args:
        path: the folder; a leading `~` is the home folder.
        like: variables of the same network, such as those from `bring`, or their shapes and dtypes; the saved ones are
            checked against them and get their structure. Needed only if the saved structure has other containers than
            dictionaries, such as lists.

    Returns:
        The module if it is one of `fairjax.nn`, the variables (on the default device), the user's notes and the units.

    Raises:
        FileNotFoundError: if the path does not exist.
        CheckpointError: if the folder is not a saved network, has another format, or is damaged, or if the variables
            differ from `like`; the message names the first leaf that does.
    """
    path = _expanded(path).resolve()
    if not path.exists():
        raise FileNotFoundError(f"no saved network at {path}")
    content = _content(path)
    try:
        module, variables, units = (_load_mlp if content["format"] == 1 else _load_any)(path, content, like)
    except _Differs as error:
        raise CheckpointError(f"the network at {path} is another one: {error}") from error
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
        MemoryError,
    ) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"the network at {path} is damaged ({first_line(error)}); save it again") from error
    return Saved(module, variables, content["about"], units)


class _Differs(Exception):
    """Raised when variables differ from those they should be like."""


def _content(path: Path) -> dict[str, Any]:
    """Read the description of a saved network."""
    try:
        content = json.loads((path / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise CheckpointError(
            f"{path} is no saved network: its {_ABOUT} cannot be read ({first_line(error)})"
        ) from error
    version = content.get("format") if isinstance(content, dict) else type(content).__name__
    if version not in FORMATS:
        formats = " and ".join(map(str, FORMATS))
        raise CheckpointError(f"{path} has format {version}, this version of fairjax reads formats {formats}")
    required = ("module", "shapes", "about") if version == 1 else ("module", "leaves", "units", "structure", "about")
    missing = [name for name in required if name not in content]
    if missing:
        raise CheckpointError(f"the network at {path} is damaged ({_ABOUT} lacks {', '.join(missing)}); save it again")
    return content


def _load_mlp(path: Path, content: dict[str, Any], like: Variables | None) -> tuple[Mlp, Variables, dict[str, int]]:
    """Load a network in format 1."""
    described = content["module"]
    module = Mlp(**{**described, "widths": tuple(described["widths"])})
    variables = _restored(path, content["shapes"])
    described = describe_variables(variables)
    _check_like(described["leaves"], like)
    return module, variables, described["units"]


def _load_any(
    path: Path, content: dict[str, Any], like: Variables | None
) -> tuple[nn.Module | None, Variables, dict[str, int]]:
    """Load a network in format 2."""
    leaves = content["leaves"]
    _check_like(leaves, like)
    if like is None and content["structure"] is None:
        raise CheckpointError(
            f"the network at {path} has other containers than dictionaries: pass load(path, like=variables), with "
            "variables of the same network"
        )
    wide = [[name, dtype] for name, _, dtype in leaves if jax.dtypes.canonicalize_dtype(jnp.dtype(dtype)) != dtype]
    if wide:
        raise CheckpointError(
            f"{wide[0][0]} of the network at {path} is {wide[0][1]}, which JAX would round: enable jax_enable_x64"
        )
    module = None if content["module"] is None else made_module(content["module"])
    shapes = {f"{number:06d}": leaf[1:] for number, leaf in enumerate(leaves)}
    arrays = _restored(path, {name: leaf for name, leaf in shapes.items() if 0 not in leaf[0]})
    # orbax does not save arrays without values
    ordered = [arrays[name] if name in arrays else jnp.zeros(*leaf) for name, leaf in shapes.items()]
    if like is not None:
        return module, jax.tree.unflatten(jax.tree.structure(like), ordered), content["units"]
    return module, _filled(content["structure"], ordered), content["units"]


def _check_like(leaves: list[Any], like: Variables | None) -> None:
    try:
        if like is not None:
            check_like(leaves, like)
    except ValueError as error:
        raise _Differs(str(error)) from error


def _restored(path: Path, shapes: Any) -> Any:
    """Restore the arrays of a checkpoint, after comparing their shapes with the description."""
    with checkpointer() as reader:
        _check_shapes(shapes, reader.metadata(path / _VARIABLES).item_metadata.tree)
        arrays = reader.restore(path / _VARIABLES, args=ocp.args.StandardRestore(_abstract(shapes)))
    return jax.tree.map(jnp.asarray, arrays)


def _filled(structure: Any, leaves: list[Any]) -> Any:
    """Put leaves in the places of their numbers."""
    if isinstance(structure, dict):
        return {name: _filled(branch, leaves) for name, branch in structure.items()}
    return leaves[structure]


def _expanded(path: str | Path) -> Path:
    """Replace a leading `~` of a path by the home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise CheckpointError(f"{path} names a home folder that is not known ({first_line(error)})") from error


def _check_replaceable(path: Path) -> None:
    """Check that the folder to be replaced is a saved network."""
    if path.is_symlink():
        kind = "a symbolic link"
    elif not path.exists() or (path.is_dir() and (path / _ABOUT).is_file()):
        return
    elif path.is_dir():
        kind = f"a folder without {_ABOUT}"
    else:
        kind = "a file"
    raise CheckpointError(
        f"{path} is {kind}, not a saved network, and is not replaced; choose another path or remove it"
    )


def _check_shapes(described: Any, stored: Any, name: str = "") -> None:
    """Compare described shapes with those of the checkpoint, before memory is allocated for them.

    Raises:
        ValueError: naming the first array that differs.
    """
    if isinstance(described, dict) and isinstance(stored, dict):
        for key in sorted({*described, *stored}):
            if key not in described or key not in stored:
                raise ValueError(f"{name}/{key} is not in both {_ABOUT} and the checkpoint".replace("/", "", 1))
            _check_shapes(described[key], stored[key], f"{name}/{key}")
        return
    shape, _ = described
    if list(shape) != list(stored.shape):
        raise ValueError(f"the shape of {name.lstrip('/')} is {list(stored.shape)}, {_ABOUT} says {shape}")


def checkpointer() -> ocp.Checkpointer:
    """Make an orbax checkpointer for NumPy arrays that does not wait for other processes."""
    if jax.process_count() == 1:
        return ocp.Checkpointer(ocp.StandardCheckpointHandler())
    process = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=process, active_processes={process}, barrier_sync_key_prefix=f"process{process}"
    )
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=options)


def _shapes(tree: Any) -> Any:
    """Describe a tree by dictionaries with [shape, dtype] for each array."""
    if isinstance(tree, dict):
        return {name: _shapes(branch) for name, branch in tree.items()}
    return [list(tree.shape), str(tree.dtype)]


def _abstract(shapes: Any) -> Any:
    """Convert a description from `_shapes` to abstract arrays into which orbax restores."""
    if isinstance(shapes, dict):
        return {name: _abstract(branch) for name, branch in shapes.items()}
    shape, dtype = shapes
    return np.zeros(tuple(shape), jnp.dtype(dtype))


def _replace(temporary: Path, path: Path) -> None:
    """Replace a folder by another one; the former is removed only after the latter has its name."""
    if not path.exists():
        temporary.rename(path)
        return
    backup = Path(tempfile.mkdtemp(prefix=f".unfinished-{path.name}-old-", dir=path.parent))
    path.rename(backup / path.name)
    try:
        temporary.rename(path)
    except OSError:
        (backup / path.name).rename(path)
        raise
    finally:
        shutil.rmtree(backup, ignore_errors=True)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the error's type if the message is empty."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
