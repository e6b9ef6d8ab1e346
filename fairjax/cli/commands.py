"""The commands of `fairjax`: debias, detect, audit, predict, report and methods."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from fairjax.cli.help import method_help, methods_help
from fairjax.cli.parsing import parse, pop_flag, read_yaml
from fairjax.cli.program import Command, Program, reading_files
from fairjax.report.extras import Extras
from fairjax.runs.detecting.settings import DetectSettings, detect_type
from fairjax.runs.detecting_text.settings import DATASET as TEXT
from fairjax.runs.detecting_text.settings import TextSettings
from fairjax.runs.devices import set_up, use_cores
from fairjax.runs.settings import Settings, debias_type
from fairjax.runs.values import at_home

Presets = Mapping[str, Callable[[], Settings]]
"""Named settings from which a run can start."""


def parse_debias(words: Sequence[str], program: str = "fairjax", presets: Presets | None = None) -> Settings:
    """Parse the settings of `debias`: a preset, overridden by a file, overridden by flags.

    Args:
        words: the arguments.
        program: the name of the program, for help.
        presets: what `--preset` can name, if the program has presets.

    Raises:
        ValueError: for invalid values and for files that cannot be read.
        SystemExit: for flags that do not exist or do not parse, and after help.
    """
    words, start = list(words), debias_type()()
    about = "--config FILE.yaml changes settings (names as below, nested by dots); flags come last."
    if presets:
        name, words = pop_flag(words, "--preset")
        if name is not None and name not in presets:
            raise ValueError(f"preset must be one of {', '.join(presets)}, got {name!r}")
        start = start if name is None else presets[name]()
        about = f"--preset {'|'.join(presets)} starts from a reading of the first paper; {about}"
    return parse(program, "debias", start, about, words)


def debias_command(presets: Presets | None = None) -> Command:
    """Return the command `debias`: train, debias and write the folder of results."""

    def run(program: Program, words: list[str], console: Console) -> int:
        settings = parse_debias(words, program.name, presets)
        set_up(settings)
        from fairjax.cli import debias
        from fairjax.runs import hosts
        from fairjax.runs.signals import stopping_on_sigterm

        guard = contextlib.nullcontext() if settings.hosts.several else stopping_on_sigterm()
        with guard, hosts.joined(settings.hosts):
            debias.run(settings, console if hosts.is_primary() else Console(quiet=True))
        return 0

    return Command(run, "train networks on splits of a data set and debias them")


def parse_detect(words: Sequence[str], program: str = "fairjax") -> DetectSettings:
    """Parse the settings of `detect`.

    Args:
        words: the arguments; `--network DIR` is short for `--saved-network DIR`, and `--network FILE.py:FUNCTION` names
            a network of the user's own, as for `debias`.
        program: the name of the program, for help.

    Raises:
        ValueError: for invalid values and for files that cannot be read.
        SystemExit: for flags that do not exist or do not parse, and after help.
    """
    network, words = pop_flag(list(words), "--network")
    if network is not None:
        is_function = ":" in network and not Path(network).exists()
        words = [*words, "--network.file" if is_function else "--saved-network", network]
    about = f"--config FILE.yaml changes settings (names as below); --dataset {TEXT} is about classifiers of text."
    return parse(program, "detect", detect_type()(), about, words)


def _detect(program: Program, words: list[str], console: Console) -> int:
    """Run `detect`: explain the bias of networks, and write tables and a page."""
    if _dataset_of(words) == TEXT:
        return _detect_text(program, words, console)
    settings = parse_detect(words, program.name)
    set_up(settings)
    from fairjax.cli import detect
    from fairjax.runs.signals import stopping_on_sigterm

    with stopping_on_sigterm():
        detect.run(settings, console)
    return 0


def _dataset_of(words: Sequence[str]) -> str | None:
    """Return the data set that the arguments name, or the file of settings that they name."""
    named, _ = pop_flag(list(words), "--dataset")
    file, _ = pop_flag(list(words), "--config")
    if named is not None or file is None:
        return named
    return read_yaml(at_home("config", Path(file))).get("dataset")


def _detect_text(program: Program, words: list[str], console: Console) -> int:
    """Run `detect --dataset snippets`: train and explain classifiers of text."""
    about = f"--dataset {TEXT} trains them; --config FILE.yaml changes settings; flags come last."
    settings = parse(program.name, "detect", TextSettings(), about, words)
    use_cores()
    from fairjax.cli import detect_text
    from fairjax.runs.signals import stopping_on_sigterm

    with stopping_on_sigterm():
        detect_text.run(settings, console)
    return 0


def _audit(program: Program, words: list[str], console: Console) -> int:
    """Run `audit`: count a table of predictions by group, and write tables and a page."""
    from fairjax.cli import audit

    about = "--config FILE.yaml changes settings; flags come last."
    settings = parse(program.name, "audit", audit.AuditSettings(), about, words)
    audit.run(settings, console)
    return 0


def _predict(program: Program, words: list[str], console: Console) -> int:
    """Run `predict`: score new rows."""
    from fairjax.cli import predict

    about = "--config FILE.yaml changes settings; flags come last."
    predict.run(parse(program.name, "predict", predict.PredictSettings(), about, words), console)
    return 0


def report_command(extras: Extras | None = None) -> Command:
    """Return the command `report`: write the page of a folder of results."""

    def run(program: Program, words: list[str], console: Console) -> int:
        if len(words) != 1 or words[0].startswith("-"):
            usage = f"usage: {program.name} report DIR\n\nwrites DIR/report.html"
            console.print(usage, highlight=False, markup=False)
            return 0 if words and words[0] in ("-h", "--help") else 2
        from fairjax.report import html

        page = reading_files(words[0], lambda: html.write(at_home("DIR", Path(words[0])), extras))
        console.print(f"page: {page}", soft_wrap=True, markup=False)
        return 0

    return Command(run, "write one page, report.html, of the results in a folder", "DIR")


def _methods(program: Program, words: list[str], console: Console) -> int:
    """Run `methods`: describe all methods, or one."""
    asked = [word for word in words if word not in ("-h", "--help")]
    if len(asked) > 1:
        raise ValueError(f"methods takes the name of one method, got {' '.join(asked)}")
    text = method_help(asked[0]) if asked else methods_help(program.name)
    console.print(text, soft_wrap=True, markup=False, highlight=False)
    return 0


METHODS_COMMAND = Command(
    _methods, "list the methods, or explain one: its equation, reference and settings", "[METHOD]"
)

COMMANDS = {
    "debias": debias_command(),
    "detect": Command(_detect, "find out why networks are biased: features, proxies, layers, groups; and one page"),
    "audit": Command(_audit, "measure bias in a file of predictions: rates and gaps by group, and one page"),
    "predict": Command(_predict, "score new rows with networks that debias trained on your own table"),
    "report": report_command(),
    "methods": METHODS_COMMAND,
}
"""The commands by name."""

PROGRAM = Program("fairjax", COMMANDS)
"""The program `fairjax`."""
