"""The command line: `python -m experiments COMMAND --help` explains every setting."""

import contextlib
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
import yaml
from rich.console import Console

from experiments.first_paper.settings import Reproduce, preset
from fairjax.cli.help import group_help, method_help, methods_help, settings_help
from fairjax.cli.old_yaml import updated
from fairjax.runs.settings import Debias, debias_type
from fairjax.runs.values import at_home, expand_paths
from fairjax.types import Number

REGISTRY = tyro.constructors.ConstructorRegistry()


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


COMMANDS = """usage: python -m experiments COMMAND [settings]

commands:
  debias      train networks on splits of a data set and debias them
  reproduce   the first paper's tables and figures, for all data sets that are there, with more methods beside its own
  report DIR  one page, report.html, of the results in a folder that debias or reproduce wrote
  bench       how fast training and debiasing are, beside PyTorch, scikit-learn and the machine's limits
  methods [METHOD]  the methods; the equation, reference and settings of one
  bench-compare FIRST.json SECOND.json  the ratios of two results of bench

`python -m experiments COMMAND --help` explains the settings.
"""


def main(words: Sequence[str] | None = None) -> int:
    """Run a command.

    Errors that a user can fix are reported as one message with exit status 2. Ctrl-C exits with status 130 and SIGTERM
    with status 143. Any other error is reported as a message that names a file with the traceback, with status 70. If
    the reader of the standard output exits early, as `head` does, the command ends quietly.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a finished run must not fail at a character that ASCII lacks
    words = list(sys.argv[1:] if words is None else words)
    try:
        try:
            return _main(words)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # flushed here, since an error when the interpreter exits could not be caught
    except OSError as error:
        _silence()
        if not isinstance(error, BrokenPipeError):
            print(f"error: cannot write to the standard output: {error}", file=sys.stderr)
        return 1


def _silence() -> None:
    """Discard further output, including at interpreter exit, after the reader of the standard output has gone."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _main(words: list[str]) -> int:
    """Run a command and translate errors into messages and exit statuses."""
    console = Console(markup=False)  # folder names may look like markup
    if not words or words[0] in ("-h", "--help"):
        console.print(COMMANDS, end="", highlight=False, markup=False)
        return 0 if words else 2
    commands = {"debias": _debias, "reproduce": _reproduce, "report": _report, "methods": _methods}
    commands |= {"bench": _bench, "bench-compare": _bench_compare}
    if words[0] not in commands:
        print(f"unknown command {words[0]!r}\n\n{COMMANDS}", end="", file=sys.stderr)
        return 2
    try:
        return commands[words[0]](words[1:], console)
    except KeyboardInterrupt as stopped:
        print(str(stopped) or "\nstopped; the same command goes on from the last saved state", file=sys.stderr)
        return getattr(stopped, "status", 130)
    except BrokenPipeError:
        raise
    except (ValueError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"error: out of memory: {str(error) or 'smaller settings need less'}", file=sys.stderr)
        return 2
    except Exception as error:
        if isinstance(error, RecursionError) and "/json/" in "".join(traceback.format_tb(error.__traceback__)):
            print("error: a JSON file of the folder is nested too deeply to be one of a run", file=sys.stderr)
            return 2
        print(_unforeseen(error), file=sys.stderr)
        return 2 if "RESOURCE_EXHAUSTED" in str(error) else 70


def _unforeseen(error: Exception) -> str:
    """Save the traceback of an unexpected error to a file and return a message that names the file."""
    text = "".join(traceback.format_exception(error))
    what = " ".join(f"{type(error).__name__}: {error}".split())
    what = what if len(what) <= 200 else f"{what[:200]}..."
    if "RESOURCE_EXHAUSTED" in str(error):
        what = f"out of memory: {what}; --lanes 2 needs the least"
    else:
        what = f"this is a bug in fairjax: {what}"
    try:
        handle, name = tempfile.mkstemp(prefix="fairjax-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        return f"error: {what}\n{text}"
    return f"error: {what}; the traceback is in {name}"


def parse(words: Sequence[str]) -> Debias:
    """Parse the settings of `debias` from the command line: a preset, overridden by a file, overridden by flags.

    Raises:
        ValueError: for invalid values and for files that cannot be read.
    """
    words = list(words)
    name, words = _taken(words, "--preset")
    start = preset(name) if name is not None else debias_type()()
    about = (
        "--preset paper|authors starts from a reading of the paper, its text or its authors' code; --config FILE.yaml "
        "changes settings (the names below, nested by their dots); flags come last."
    )
    return _parsed("debias", start, about, words)


def parse_reproduce(words: Sequence[str]) -> Reproduce:
    """Parse the settings of `reproduce` from the command line: a file, overridden by flags.

    Raises:
        ValueError: for invalid values and for files that cannot be read.
    """
    about = "--config FILE.yaml changes settings (the names below, nested by their dots); flags come last."
    return _parsed("reproduce", Reproduce(), about, list(words))


def _parsed(command: str, start: Any, about: str, words: list[str]) -> Any:
    """Parse settings from a file and flags; --help prints the help and exits."""
    asked = next((i for i, word in enumerate(words) if word in ("-h", "--help")), None)
    if asked is not None and words[asked + 1 : asked + 2] != ["all"]:
        group = words[asked + 1] if asked + 1 < len(words) and not words[asked + 1].startswith("-") else None
        print(settings_help(command, start, about) if group is None else group_help(command, start, group))
        raise SystemExit(0)
    if asked is not None:
        words = ["--help"]
    file, words = _taken(words, "--config")
    if file is not None:
        start = updated(start, read_yaml(at_home("config", Path(file))))
    return tyro.cli(
        Annotated[type(start), tyro.conf.arg(name="")],
        prog=f"python -m experiments {command}",
        description=f"{type(start).__doc__}\n\n{about}",
        default=start,
        args=words,
        registry=REGISTRY,
    )


def _taken(words: list[str], flag: str) -> tuple[str | None, list[str]]:
    """Return the value of `--flag value` or `--flag=value`, and the remaining arguments."""
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


def _debias(words: list[str], console: Console) -> int:
    """Run `debias`: train, debias and write the folder of results."""
    settings = parse(words)
    set_up(settings)
    from fairjax.cli import debias
    from fairjax.runs import driver, hosts

    heeding = contextlib.nullcontext() if settings.hosts.several else driver.stopping_on_sigterm()
    with heeding, hosts.joined(settings.hosts):
        debias.run(settings, console if hosts.is_primary() else Console(quiet=True))
    return 0


def _reproduce(words: list[str], console: Console) -> int:
    """Run `reproduce`: complete all unfinished runs, and write the tables and figures of all of them."""
    settings = parse_reproduce(words)
    set_up(settings.each)
    from experiments.first_paper import reproduce, summary
    from fairjax.runs import driver, hosts

    heeding = contextlib.nullcontext() if settings.each.hosts.several else driver.stopping_on_sigterm()
    with heeding, hosts.joined(settings.each.hosts):
        console = console if hosts.is_primary() else Console(quiet=True)
        missing = reproduce.run(settings, console)
        if hosts.is_primary():
            written = summary.write(settings, missing)
            console.print("results:", *map(str, written), sep="\n", soft_wrap=True, markup=False)
    return 0


def _report(words: list[str], console: Console) -> int:
    """Run `report`: write the page of a folder of results."""
    if len(words) != 1 or words[0].startswith("-"):
        console.print(
            "usage: python -m experiments report DIR\n\nwrites DIR/report.html", highlight=False, markup=False
        )
        return 0 if words and words[0] in ("-h", "--help") else 2
    from fairjax.report import html

    page = _read(words[0], lambda: html.write(at_home("DIR", Path(words[0]))))
    console.print(f"page: {page}", soft_wrap=True, markup=False)
    return 0


def _bench(words: list[str], console: Console) -> int:
    """Run `bench`: measure the speed."""
    from experiments.benchmarks.settings import Bench

    about = "--config FILE.yaml changes settings (the names below); flags come last."
    settings = _parsed("bench", Bench(), about, words)
    expand_paths(settings)
    from experiments.benchmarks import command

    return command.bench(settings, console)


def _bench_compare(words: list[str], console: Console) -> int:
    """Run `bench-compare`: compare two results of the benchmark of speed."""
    from experiments.benchmarks import command

    return _read(" or ".join(words), lambda: command.bench_compare(words, console))


def _methods(words: list[str], console: Console) -> int:
    """Run `methods`: describe all methods, or one."""
    asked = [word for word in words if word not in ("-h", "--help")]
    if len(asked) > 1:
        raise ValueError(f"methods takes the name of one method, got {' '.join(asked)}")
    text = method_help(asked[0]) if asked else methods_help()
    console.print(text, soft_wrap=True, markup=False, highlight=False)
    return 0


def _read(what: str, read: Callable[[], Any]) -> Any:
    """Call a function that reads files, and turn errors due to invalid contents into a ValueError.

    Raises:
        ValueError: if the contents cannot be used; the message names what cannot be read.
    """
    try:
        return read()
    except (LookupError, ArithmeticError, AttributeError, RecursionError, MemoryError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{what} holds files that cannot be read ({reason})") from error


def set_up(settings: Debias) -> None:
    """Configure JAX before its first use: one virtual CPU device per core, and the folder of the compilation cache."""
    import jax  # imported late, since --help does not need JAX

    use_cores(jax)
    if settings.compilation_cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(settings.compilation_cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def use_cores(jax) -> None:
    """Use one virtual CPU device per core, unless the user has set the number of devices."""
    if jax.config.jax_num_cpu_devices >= 0 or "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jax.config.update("jax_num_cpu_devices", cores)
