"""A program of several commands: run one, and translate errors into messages and exit statuses."""

import contextlib
import dataclasses
import io
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console

from fairjax.registry import Registry


class Command(NamedTuple):
    """A command of a program."""

    run: Callable[["Program", list[str], Console], int]
    """Run the command with its arguments, and return the exit status."""
    about: str
    """One line of help."""
    arguments: str = ""
    """What follows the name in the list of commands."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A name and its commands."""

    name: str
    """How the program is called, such as `fairjax`."""
    commands: Mapping[str, Command]
    """Commands by name."""

    def usage(self) -> str:
        """Return the list of commands."""
        called = {name: " ".join([name, command.arguments]).strip() for name, command in self.commands.items()}
        width = max(len(text) for text in called.values() if len(text) < 24)
        lines = [f"usage: {self.name} COMMAND [settings]", "", "commands:"]
        lines += [f"  {called[name]:<{width}}  {command.about}" for name, command in self.commands.items()]
        return "\n".join([*lines, "", f"`{self.name} COMMAND --help` explains the settings."]) + "\n"

    def main(self, words: Sequence[str] | None = None) -> int:
        """Run a command.

        Errors that a user can fix are reported as one message with exit status 2. Ctrl-C exits with status 130 and
        SIGTERM with status 143. Any other error is reported as a message that names a file with the traceback, with
        status 70. If the reader of the standard output exits early, as `head` does, the command ends quietly.

        Args:
            words: the arguments; those of the process if omitted.

        Returns:
            The exit status.
        """
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a finished run must not fail at a character that ASCII lacks
        words = list(sys.argv[1:] if words is None else words)
        try:
            try:
                return self._run(words)
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()  # flushed here, since an error when the interpreter exits could not be caught
        except OSError as error:
            _silence()
            if not isinstance(error, BrokenPipeError):
                print(f"error: cannot write to the standard output: {error}", file=sys.stderr)
            return 1

    def _run(self, words: list[str]) -> int:
        """Run a command and translate errors into messages and exit statuses."""
        console = Console(markup=False)  # folder names may look like markup
        if not words or words[0] in ("-h", "--help"):
            console.print(self.usage(), end="", highlight=False, markup=False, soft_wrap=True)
            return 0 if words else 2
        if words[0] not in self.commands:
            unknown = Registry("command", dict(self.commands)).unknown(words[0])
            print(f"error: {unknown}\n\n{self.usage()}", end="", file=sys.stderr)
            return 2
        try:
            return self.commands[words[0]].run(self, words[1:], console)
        except KeyboardInterrupt as stopped:
            print(
                str(stopped) or "\nstopped; run the same command again to resume from the last saved state",
                file=sys.stderr,
            )
            return getattr(stopped, "status", 130)
        except BrokenPipeError:
            raise
        except (ValueError, TypeError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except MemoryError as error:
            print(f"error: out of memory: {str(error) or 'use smaller settings'}", file=sys.stderr)
            return 2
        except Exception as error:
            if isinstance(error, RecursionError) and "/json/" in "".join(traceback.format_tb(error.__traceback__)):
                print(
                    "error: a JSON file in the folder is nested too deeply to have been written by a run",
                    file=sys.stderr,
                )
                return 2
            print(_report_unexpected(error), file=sys.stderr)
            return 2 if "RESOURCE_EXHAUSTED" in str(error) else 70


def _silence() -> None:
    """Discard further output, including at interpreter exit, after the reader of the standard output has gone."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report_unexpected(error: Exception) -> str:
    """Save the traceback of an unexpected error to a file and return a message that names the file."""
    text = "".join(traceback.format_exception(error))
    what = " ".join(f"{type(error).__name__}: {error}".split())
    what = what if len(what) <= 200 else f"{what[:200]}..."
    if "RESOURCE_EXHAUSTED" in str(error):
        what = f"out of memory: {what}; --group-size 2 uses the least memory"
    else:
        what = f"this is a bug in fairjax: {what}"
    try:
        handle, name = tempfile.mkstemp(prefix="fairjax-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        return f"error: {what}\n{text}"
    return f"error: {what}; the traceback is in {name}"


def reading_files(what: str, read: Callable[[], Any]) -> Any:
    """Call a function that reads files, and turn errors due to invalid contents into a ValueError.

    Args:
        what: the files, for the message.
        read: the function.

    Raises:
        ValueError: if the contents cannot be used; the message names what cannot be read.
    """
    try:
        return read()
    except (LookupError, ArithmeticError, AttributeError, RecursionError, MemoryError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{what} holds files that cannot be read ({reason})") from error
