"""Read settings from flags and YAML files. Both are parsed by tyro, so both take the same names and values."""

import contextlib
import dataclasses
import io
import math
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
import yaml

from fairjax.cli.help import setting_help, settings_help
from fairjax.runs.values import at_home, short_repr
from fairjax.types import Number

REGISTRY = tyro.constructors.ConstructorRegistry()
"""How tyro parses types of fairjax's own."""

FORMER_NAMES = {"lanes": "group_size"}
"""Settings that had other names, which still work."""

SHORTHANDS = {"network": "file"}
"""Groups of settings whose name alone is the flag of one of their settings."""

_FORMER = re.compile(rf"^(--(?:\w+\.)*)({'|'.join(FORMER_NAMES)})(?==|$)")

S = TypeVar("S")


@REGISTRY.primitive_rule
def _number(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """Parse a hyperparameter, which may be an array in Python, as a number on the command line."""
    if info.type != Number:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="FLOAT",
        instance_from_str=lambda words: float(words[0]),
        is_instance=lambda value: isinstance(value, int | float),
        str_from_instance=lambda value: [str(value)],
    )


def parse(program: str, command: str, start: S, about: str, words: Sequence[str]) -> S:
    """Parse the settings of a command: a file given by `--config`, overridden by flags. `--help` prints help and exits.

    Args:
        program: the name of the program, for help.
        command: the name of the command.
        start: the settings before the file and the flags, a dataclass.
        about: further text for the help.
        words: the arguments.

    Returns:
        The settings.

    Raises:
        ValueError: for files that cannot be read, and for names and values in a file that the settings reject.
        SystemExit: for flags that the settings reject, after a message; and after help.
    """
    words, called = list(words), f"{program} {command}"
    asked = next((i for i, word in enumerate(words) if word in ("-h", "--help")), None)
    if asked is not None and words[asked + 1 : asked + 2] != ["all"]:
        name = words[asked + 1] if asked + 1 < len(words) and not words[asked + 1].startswith("-") else None
        print(settings_help(program, command, start, about) if name is None else setting_help(called, start, name))
        raise SystemExit(0)
    if asked is not None:
        words = ["--help"]
    file, words = pop_flag(words, "--config")
    if file is not None:
        path = at_home("config", Path(file))
        start = updated(start, read_yaml(path), path)
    try:
        return _from_flags(start, words, prog=called, description=f"{type(start).__doc__}\n\n{about}")
    except ValueError as error:
        print(f"error: {error}\n`{called} --help` explains the settings", file=sys.stderr)
        raise SystemExit(2) from error


def _from_flags(start: S, words: list[str], **texts: Any) -> S:
    """Parse flags.

    Raises:
        ValueError: for names and values that the settings reject; the message is tyro's, in one line.
        SystemExit: after help.
    """
    words = [_FORMER.sub(lambda flag: f"{flag[1]}{FORMER_NAMES[flag[2]]}", word) for word in words]
    for name, field in SHORTHANDS.items():
        if hasattr(getattr(start, name, None), field):
            words = [re.sub(f"^--{name}(?==|$)", f"--{name}.{field}", word) for word in words]
    _check_fixed(start, words)
    kind = Annotated[type(start), tyro.conf.arg(name="")]  # type: ignore[valid-type]
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(kind, default=start, args=words, registry=REGISTRY, **texts)  # type: ignore[call-overload]
    except SystemExit as stopped:
        if not stopped.code:
            raise
        raise ValueError(_one_line(errors.getvalue(), type(start).__name__)) from stopped


def _check_fixed(start: Any, words: Sequence[str]) -> None:
    """Check that no flag sets a field that is not an argument of the settings class, which tyro would set.

    Raises:
        ValueError: if one does.
    """
    fixed = {field.name for field in dataclasses.fields(start) if not field.init}
    for word in words:
        name = re.split("[.=]", word.removeprefix("--"), maxsplit=1)[0].replace("-", "_")
        if word.startswith("--") and (name in fixed or name.removeprefix("no_") in fixed):
            raise ValueError(f"unrecognized option {word.partition('=')[0]}: this command has no such setting")


def updated(start: S, content: dict[str, Any], source: Any = "the settings") -> S:
    """Update settings with the content of a YAML file.

    Args:
        start: the settings, a dataclass.
        content: settings by name; a group of settings is a mapping.
        source: where the content is from, for messages.

    Raises:
        ValueError: if a name is unknown or a value does not parse; the message is tyro's.
    """
    words = list(flags_of(content))
    try:
        return _from_flags(start, words, prog=str(source))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _one_line(box: str, settings: str) -> str:
    """Return the message in a box that tyro printed, and the settings that it suggests, without its title and help.

    Args:
        box: the text that tyro printed.
        settings: the name of the settings class, which messages do not repeat.
    """
    parts: list[list[str]] = [[]]
    for line in box.splitlines():
        text = line.strip("│| ")
        if text.startswith("╭") or not text.strip("─-╰╯+"):
            parts.append([])
        else:
            parts[-1].append(text)
    parts = [part for part in parts if part]
    parts = parts if "╭" in box else parts[1:]  # without Unicode, the title has lines of its own
    suggestions = [line for part in parts if part[0] == "Perhaps you meant:" for line in part if line[:2] == "--"]
    suggested = " or ".join(line.split()[0] for line in suggestions)
    message = " ".join(parts[0]).removeprefix(f"Error parsing {settings}: ")
    group = re.match(r"Error parsing ([\w.]+): ", message)
    if group is not None:  # a group of settings
        message = message[group.end() :]
        message = message if message.startswith(f"{group[1]}.") else f"{group[1]}: {message}"
    return message + (f"; perhaps you meant {suggested}" if suggested else "")


def flags_of(content: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Convert the settings in a YAML file to flags.

    Args:
        content: settings by name; a group of settings is a mapping.
        prefix: the names of the groups that contain them.

    Raises:
        ValueError: if a name is no name, or a text in a list looks like a flag.

    Example:
        >>> list(flags_of({"seeds": [1, 2], "training": {"epochs": 5}, "intersect": False}))
        ['--seeds', '1', '2', '--training.epochs=5', '--no-intersect']
    """
    for name, value in content.items():
        if not isinstance(name, str) or not name.replace("-", "_").isidentifier() or name == "help":
            raise ValueError(f"unknown setting {prefix}{name if isinstance(name, str) else short_repr(name)}")
        if isinstance(value, dict):
            if prefix.count(".") > 3:
                raise ValueError(f"unknown setting {prefix}{name}: groups of settings are not nested so deeply")
            yield from flags_of(value, f"{prefix}{name}.")
        elif isinstance(value, bool):
            yield f"--{prefix}{'' if value else 'no-'}{name}"
        elif isinstance(value, list):
            entries = list(map(str, value))
            flags = [entry for entry in entries if entry.startswith("-") and not _is_number(entry)]
            if flags:
                raise ValueError(f"{prefix}{name} must not hold {flags[0]!r}, which is a flag")
            yield from (f"--{prefix}{name}", *entries)
        else:
            yield f"--{prefix}{name}={value}"


def _is_number(text: str) -> bool:
    try:
        return not math.isnan(float(text))
    except ValueError:
        return False


def pop_flag(words: list[str], flag: str) -> tuple[str | None, list[str]]:
    """Return the value of `--flag value` or `--flag=value`, and the remaining arguments.

    Raises:
        ValueError: if the flag is the last argument.
    """
    for i, word in enumerate(words):
        if word == flag:
            if i + 1 == len(words):
                raise ValueError(f"{flag} needs a value")
            return words[i + 1], words[:i] + words[i + 2 :]
        if word.startswith(f"{flag}="):
            return word.partition("=")[2], words[:i] + words[i + 1 :]
    return None, words


def read_yaml(path: Path) -> dict[str, Any]:
    """Read settings from a YAML file.

    Raises:
        ValueError: if there is no such file, or its content is not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read the configuration {path}: {error.strerror}") from error
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply to be settings") from error
    except Exception as error:  # PyYAML raises errors of many types, such as KeyError for `!!bool maybe`
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a mapping of settings, found a {type(content).__name__}")
    return content
