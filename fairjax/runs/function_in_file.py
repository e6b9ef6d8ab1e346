"""A function in a user's Python file, named on the command line as FILE.py:FUNCTION."""

import contextlib
import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, NamedTuple

from fairjax.checkpoint import first_line
from fairjax.registry import Registry
from fairjax.runs.values import at_home

_EXTRAS = ("torch", "equinox", "keras")
"""Libraries of networks that are extras of fairjax."""


class FunctionInFile(NamedTuple):
    """A function and the file that defines it."""

    file: Path
    """The Python file."""
    name: str
    """The name of the function."""

    @classmethod
    def parse(cls, text: str, flag: str) -> "FunctionInFile":
        """Read FILE.py:FUNCTION.

        Args:
            text: the value of a setting.
            flag: the setting, for the message.

        Raises:
            ValueError: if the text has another form.
        """
        file, _, name = text.rpartition(":")
        if not (file.endswith(".py") and name.isidentifier()):
            raise ValueError(f"{flag} must be FILE.py:FUNCTION, such as mymodule.py:make, got {text!r}")
        return cls(at_home(flag, Path(file)), name)

    def __str__(self) -> str:
        """Return the function as it is named on the command line."""
        return f"{self.file}:{self.name}"

    def digest(self) -> str:
        """Return the checksum of the file.

        Raises:
            ValueError: if the file cannot be read.
        """
        try:
            return hashlib.sha256(self.file.read_bytes()).hexdigest()
        except OSError as error:
            raise ValueError(f"cannot read {self.file}, which should define {self.name}: {error.strerror}") from error

    def call(self, *available: Any) -> Any:
        """Run the file, and call the function with as many of the available arguments as it requires.

        Modules beside the file can be imported by it.

        Raises:
            ValueError: if there is no such file or function, it requires more arguments, or it raises an error; the
                message names the line.
            ImportError: if a library is not installed.
        """
        self.digest()
        with _folder_on_path(self.file.resolve().parent):
            function = self._function()
            required = _required(function)
            if required > len(available):
                raise ValueError(f"{self} requires {required} arguments, and gets at most {len(available)}")
            return self._running(lambda: function(*available[:required]))

    def _function(self) -> Callable[..., Any]:
        """Run the file and return its function."""
        name = f"fairjax_file_{self.file.stem}"
        spec = importlib.util.spec_from_file_location(name, self.file, loader=_Loader(name, str(self.file)))
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # as dataclasses and pickle require
        self._running(lambda: spec.loader.exec_module(module))  # type: ignore[union-attr]
        known = {name: value for name, value in vars(module).items() if inspect.isfunction(value)}
        if not callable(getattr(module, self.name, None)):
            others = Registry("function", known).unknown(self.name) if known else "it defines no function"
            raise ValueError(f"{self} does not exist: {others}")
        return getattr(module, self.name)

    def _running(self, call: Callable[[], Any]) -> Any:
        """Call code of the file, and say in which line of it an error was raised."""
        try:
            return call()
        except (Exception, SystemExit) as error:
            place = self._place(error)
            missing = error.name.split(".")[0] if isinstance(error, ModuleNotFoundError) and error.name else None
            if missing is not None:
                package = f'"fairjax[{missing}]"' if missing in _EXTRAS else missing
                raise ImportError(f"{place} needs {missing}, which is not installed: pip install {package}") from error
            raise ValueError(f"{place} raises {type(error).__name__}: {first_line(error)}") from error

    def _place(self, error: BaseException) -> str:
        """Return the file and the last of its lines in the traceback of an error."""
        if isinstance(error, SyntaxError) and error.filename == str(self.file):
            return f"{self.file}, line {error.lineno},"
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(self.file)]
        return f"{self.file}, line {lines[-1]}," if lines else str(self)


class _Loader(SourceFileLoader):
    """Loader that compiles the source each time, and writes no compiled file beside it."""

    def get_code(self, fullname: str) -> Any:
        """Compile the source."""
        return self.source_to_code(self.get_data(self.path), self.path)


def _required(function: Callable[..., Any]) -> int:
    """Return the number of positional arguments without a default."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return sum(entry.kind in positional and entry.default is entry.empty for entry in parameters)


@contextlib.contextmanager
def _folder_on_path(folder: Path) -> Iterator[None]:
    """Make the modules of a folder importable, as when a script there is run."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
