"""Help texts of the command line: short help, a group of settings, a method."""

import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args, get_origin

from fairjax.datasets import DATASETS
from fairjax.losses import BASES, TERMS
from fairjax.methods import METHODS
from fairjax.metrics import GAPS, MEASURES
from fairjax.preprocess import PREPROCESSORS
from fairjax.registry import Registry
from fairjax.runs import labels, specification
from fairjax.runs.composed_losses import settings_of_method
from fairjax.runs.fields import field_docs
from fairjax.runs.own_data import IMAGE_FIELDS, TABLE_FIELDS
from fairjax.runs.postprocessors import POSTPROCESSORS
from fairjax.runs.settings import Settings
from fairjax.runs.values import field_types
from fairjax.selection import RULES

CHOICES: dict[str, Callable[[], Registry[Any]]] = {
    "dataset": lambda: DATASETS,
    "datasets": lambda: DATASETS,
    "measure": lambda: MEASURES,
    "measures": lambda: MEASURES,
    "methods": labels.methods,
    "across": lambda: GAPS,
    "selection.rule": lambda: RULES,
    "preprocess": lambda: PREPROCESSORS,
    "loss.base": lambda: BASES,
    "loss.terms": lambda: TERMS,
}
"""The settings whose values are names in registries, and the registries."""

UNLISTED = ("preprocess",)
"""The settings whose choices are shown only in the help of the setting itself."""

WIDTH = 79
"""Maximum width of a line of help."""


def settings_help(program: str, command: str, settings: Any, note: str) -> str:
    """Return the help of a command, which is about two screens long.

    Args:
        program: the name of the program.
        command: the name of the command.
        settings: its settings, a dataclass instance with the defaults to show.
        note: further text for the introduction.
    """
    docs, lines, columns, of_images, groups = field_docs(type(settings)), [], [], [], []
    for field in _settable(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            groups.append(field.name)
            continue
        if field.name in TABLE_FIELDS and isinstance(settings, Settings):
            columns.append(field.name.replace("_", "-"))
            continue
        if field.name in IMAGE_FIELDS and isinstance(settings, Settings):
            of_images.append(field.name.replace("_", "-"))
            continue
        flag = f"--{field.name.replace('_', '-')}"
        words = _first_sentence(docs.get(field.name, ""))
        listed = field.name in CHOICES and field.name not in UNLISTED
        if listed and (field.name != "dataset" or value in DATASETS):
            words += f": {', '.join(_own_choices(settings, field.name) or CHOICES[field.name]())}"
        lines.append(_entry(flag, f"{words} [{_shown(value)}]"))
    own = [name for name in groups if name not in METHODS]
    text = [
        f"usage: {program} {command} [--SETTING VALUE ...]",
        "",
        *_wrapped(f"{inspect.getdoc(type(settings)) or ''} {note}"),
        "",
        *lines,
    ]
    if columns:
        text += ["", *_wrapped(f"Columns of --table; `{command} --help SETTING` explains one: {', '.join(columns)}")]
        text += _wrapped(f"Images of --images; `{command} --help SETTING` explains one: {', '.join(of_images)}")
    if own:
        text += [
            *_wrapped(f"Groups, --GROUP.SETTING VALUE; `{command} --help GROUP` explains one: {', '.join(own)}"),
        ]
    if "network" in own:
        text += ["--network FILE.py:FUNCTION debiases a trained network; see `--help network`"]
    if len(own) < len(groups):
        text += ["Methods have settings too, --METHOD.SETTING VALUE; `methods METHOD` lists them"]
    return "\n".join([*text, f"`{command} --help SETTING` explains one setting, `--help all` everything."])


def setting_help(command: str, settings: Any, name: str) -> str:
    """Return the help of a setting or of a group of settings, with full descriptions and all choices.

    Args:
        command: how the command is called.
        settings: its settings, a dataclass instance with the defaults to show.
        name: the name of a setting or a group.

    Raises:
        ValueError: if there is no such setting or group.
    """
    known = Registry("setting", {field.name: getattr(settings, field.name) for field in _settable(settings)})
    name = name.replace("-", "_")
    if name not in known:
        raise ValueError(f"--help takes the name of a setting or all: {known.unknown(name)}")
    value = known[name]
    if not dataclasses.is_dataclass(value):
        return "\n".join([f"{command} --{name.replace('_', '-')} VALUE", "", *_fields(settings, "", [name])])
    head = [f"{command} --{name}.SETTING VALUE", "", *_wrapped(inspect.getdoc(type(value)) or ""), ""]
    return "\n".join([*head, *_fields(value, f"{name}.")])


def _settable(settings: Any) -> list[dataclasses.Field[Any]]:
    """Return the fields that the command line can set."""
    return [field for field in dataclasses.fields(settings) if field.init]


def methods_help(program: str) -> str:
    """Return the help of all methods, one line per method."""
    lines = [f"usage: {program} methods [METHOD]", ""]
    for name, found in labels.methods().items():
        lines.append(
            _entry(name, f"{found.label} ({found.reference})" + ("; needs the group" if found.needs_group else ""))
        )
    return "\n".join([*lines, "", "`methods METHOD` explains one: its equation, reference and settings."])


def method_help(name: str) -> str:
    """Describe a method: what it does, its equation, references, limits and settings.

    Raises:
        ValueError: if there is no such method.
    """
    if name not in METHODS:
        known = labels.methods()
        if name not in known:
            raise ValueError(known.unknown(name))
        found = known[name]
        kind = (
            "It needs the protected attribute at test time."
            if name in POSTPROCESSORS
            else ("It chooses among the candidates that other methods selected, by the selection rule.")
        )
        return (
            f"{name}: {found.label} ({found.reference})\n\n{kind}\n`debias --help` lists its settings, if it has any."
        )
    method = METHODS[name]
    words, _, references = (inspect.getdoc(method) or "").partition("References:")
    lines = [f"{name}: {METHODS.label(name)} ({method.reference})", ""]
    for paragraph in words.strip().split("\n\n"):
        lines += [*_wrapped(paragraph), ""]
    if method.equation:
        lines += [*_wrapped(f"Equation: {method.equation}"), ""]
    limits = [
        f"at most {int(most)} {what}"
        for most, what in ((method.groups, "groups"), (method.classes, "classes"))
        if most < 1e9
    ]
    if limits:
        lines += [f"Limits: {', '.join(limits)}", ""]
    if references:
        lines += ["References:", textwrap.indent(textwrap.dedent(references.strip("\n")), "  ").rstrip(), ""]
    settings = _fields(settings_of_method(name, method), f"{name}.")
    return "\n".join([*lines, *(["Settings:", "", *settings] if settings else ["It has no settings."])])


def _fields(settings: Any, prefix: str, names: Sequence[str] = ()) -> list[str]:
    """Describe the fields of a dataclass, or those with the given names, and the choices of each."""
    docs, lines = field_docs(type(settings)), []
    for name in names or [field.name for field in dataclasses.fields(settings)]:
        flag = f"--{prefix}{name.replace('_', '-')}"
        lines.append(_entry(flag, f"{docs.get(name, '')} [{_shown(getattr(settings, name))}]"))
        if f"{prefix}{name}" in CHOICES:
            choices = CHOICES[f"{prefix}{name}"]()
            shown = _own_choices(settings, name) or choices
            lines += [_entry(f"  {choice}", _of_choice(choices, choice)) for choice in shown]
    return lines


def _of_choice(choices: Registry[Any], name: str) -> str:
    """Describe an entry of a registry, with its settings if it is a term or a preprocessor."""
    words = choices.summary(name)
    if choices is not TERMS and choices is not PREPROCESSORS:
        return words
    settings = specification.settings_of(choices[name])
    return f"{words} Settings: {', '.join(settings)}." if settings else words


def _own_choices(settings: Any, name: str) -> tuple[str, ...]:
    """Return the choices that the type of a setting names; empty if it takes all entries of a registry."""
    kind = field_types(type(settings)).get(name)
    entry = get_args(kind)[0] if get_origin(kind) is tuple else kind
    return get_args(entry) if get_origin(entry) is Literal else ()


def _entry(flag: str, words: str, indent: int = 22) -> str:
    """Format a flag and its description with a hanging indent."""
    body = textwrap.wrap(words, WIDTH - indent) or [""]
    first = f"  {flag:<{indent - 3}} " if len(flag) <= indent - 3 else f"  {flag}\n{' ' * indent}"
    return first + f"\n{' ' * indent}".join(body)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), WIDTH)


def _first_sentence(text: str) -> str:
    """Return the text up to the first full stop, or up to the first semicolon if that is long."""
    first = text.split(". ")[0].rstrip(".")
    return first.split("; ")[0] if len(first) > 110 else first


def _shown(value: Any) -> str:
    """Format a default value briefly."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        if len(value) > 4:
            return f"{value[0]} ... {value[-1]}, {len(value)} of them"
        return " ".join(map(str, value)) or "none"
    return str(value)
