"""Save and load networks.

A saved network is a folder: `network.json` describes the module and holds the user's notes, and `variables` is an orbax
checkpoint. Loading never unpickles, and a folder with the requested name is always complete.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from fairjax.nn.mlp import Mlp
from fairjax.types import Variables

FORMAT = 1
"""Version of the layout of a saved network."""

_ABOUT, _VARIABLES = "network.json", "variables"


class CheckpointError(ValueError):
    """Raised when a folder is not a saved network, or when a network cannot be saved."""


class Saved(NamedTuple):
    """A saved network."""

    module: Mlp
    """The Linen module."""
    variables: Variables
    """The variables, with a leading axis if several networks were saved together."""
    about: dict[str, Any]
    """The user's notes."""


def save(
    path: str | Path, module: Mlp, variables: Variables, *, about: dict[str, Any] | None = None, overwrite: bool = False
) -> None:
    """Save one network, or many networks of one module with a leading axis of seeds.

    Args:
        path: the folder to create; a leading `~` is the home folder.
        module: the Linen module.
        variables: the variables. With several processes, call this function in one process, which must have the whole
            arrays.
        about: the user's notes, as a dictionary that JSON can represent.
        overwrite: whether to replace an existing saved network. Nothing else is ever replaced.

    Raises:
        FileExistsError: if the path exists and `overwrite` is false.
        CheckpointError: if writing fails, or if `overwrite` would replace something that is not a saved network, such
            as a symbolic link, a file or a folder without `network.json`; what existed before is unchanged.

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
    described = {name: getattr(module, name) for name in ("widths", "site", "cut", "dropout", "outputs")}
    content = {
        "format": FORMAT,
        "module": described,
        "shapes": _shapes(variables),
        "about": about or {},
    }
    text = json.dumps(content, indent=2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".unfinished-{path.name}-", dir=path.parent))
    except OSError as error:
        raise CheckpointError(f"cannot write in {path.parent} ({error}); choose another path") from error
    try:
        (temporary / _ABOUT).write_text(text + "\n", encoding="utf-8")
        with checkpointer() as writer:
            writer.save(temporary / _VARIABLES, args=ocp.args.StandardSave(jax.tree.map(np.asarray, variables)))
        temporary.chmod(0o755)
        _replace(temporary, path)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"cannot save a network at {path} ({first_line(error)}); free disk space or choose another path"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load(path: str | Path) -> Saved:
    """Load a network that was saved by `save`.

    Args:
        path: the folder; a leading `~` is the home folder.

    Returns:
        The module, the variables (on the default device) and the user's notes.

    Raises:
        FileNotFoundError: if the path does not exist.
        CheckpointError: if the folder is not a saved network, has another format, or is damaged.
    """
    path = _expanded(path).resolve()
    if not path.exists():
        raise FileNotFoundError(f"no saved network at {path}")
    try:
        content = json.loads((path / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise CheckpointError(
            f"{path} is no saved network: its {_ABOUT} cannot be read ({first_line(error)})"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        version = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"{path} has format {version}, this version of fairjax reads format {FORMAT}")
    missing = [name for name in ("module", "shapes", "about") if name not in content]
    if missing:
        raise CheckpointError(f"the network at {path} is damaged ({_ABOUT} lacks {', '.join(missing)}); save it again")
    try:
        described = content["module"]
        module = Mlp(**{**described, "widths": tuple(described["widths"])})
        with checkpointer() as reader:
            _check_shapes(content["shapes"], reader.metadata(path / _VARIABLES).item_metadata.tree)
            abstract = _abstract(content["shapes"])
            arrays = reader.restore(path / _VARIABLES, args=ocp.args.StandardRestore(abstract))
        variables = jax.tree.map(jnp.asarray, arrays)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
        MemoryError,
    ) as error:
        raise CheckpointError(f"the network at {path} is damaged ({first_line(error)}); save it again") from error
    return Saved(module, variables, content["about"])


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
