"""The program `python -m experiments`: that of `fairjax`, with presets, and commands that reproduce and measure."""

import contextlib
import functools
from collections.abc import Sequence

from rich.console import Console

from experiments.first_paper import published
from experiments.first_paper.presets import PRESETS
from experiments.first_paper.settings import Reproduce, preset
from experiments.second_paper.table3.settings import Table3
from fairjax.cli import commands
from fairjax.cli.parsing import parse
from fairjax.cli.program import Command, Program, reading_files
from fairjax.runs.devices import set_up, use_cores
from fairjax.runs.settings import Settings
from fairjax.runs.values import expand_paths

PRESET_SETTINGS = {name: functools.partial(preset, name) for name in PRESETS}
"""The presets as settings of `debias`."""

NAME = "python -m experiments"

_ABOUT = "--config FILE.yaml changes settings (the names below, nested by their dots); flags come last."


def parse_debias(words: Sequence[str]) -> Settings:
    """Parse the settings of `debias`; see `fairjax.cli.commands.parse_debias`."""
    return commands.parse_debias(words, NAME, PRESET_SETTINGS)


def parse_reproduce(words: Sequence[str]) -> Reproduce:
    """Parse the settings of `reproduce`: a file, overridden by flags; see `fairjax.cli.parsing.parse`."""
    return parse(NAME, "reproduce", Reproduce(), _ABOUT, words)


def _reproduce(program: Program, words: list[str], console: Console) -> int:
    """Run `reproduce`: complete all unfinished runs, and write the tables and figures of all of them."""
    del program
    settings = parse_reproduce(words)
    set_up(settings.each)
    from experiments.first_paper import reproduce, summary
    from fairjax.runs import hosts
    from fairjax.runs.signals import stopping_on_sigterm

    guard = contextlib.nullcontext() if settings.each.hosts.several else stopping_on_sigterm()
    with guard, hosts.joined(settings.each.hosts):
        console = console if hosts.is_primary() else Console(quiet=True)
        missing = reproduce.run(settings, console)
        if hosts.is_primary():
            written = summary.write(settings, missing)
            console.print("results:", *map(str, written), sep="\n", soft_wrap=True, markup=False)
    return 0


def _quality(program: Program, words: list[str], console: Console) -> int:
    """Run `quality`: complete all unfinished rows, and write the tables and the figure."""
    from experiments.second_paper.quality import experiment as quality
    from fairjax.runs.signals import stopping_on_sigterm

    settings = parse(program.name, "quality", quality.Quality(), _ABOUT, words)
    use_cores()
    with stopping_on_sigterm():
        quality.run(settings, console)
    return 0


def _mitigate_text(program: Program, words: list[str], console: Console) -> int:
    """Run `mitigate-text`: mitigate a planted bias in classifiers of text."""
    from experiments.second_paper import mitigate_text
    from fairjax.runs.signals import stopping_on_sigterm

    settings = parse(program.name, "mitigate-text", mitigate_text.MitigateText(), _ABOUT, words)
    expand_paths(settings)
    with stopping_on_sigterm():
        mitigate_text.run(settings, console)
    return 0


def _table3(program: Program, words: list[str], console: Console) -> int:
    """Run `table3`: complete all unfinished units, and write the tables and the page."""
    settings = parse(program.name, "table3", Table3(), _ABOUT, words)
    use_cores()
    from experiments.second_paper.table3 import measuring, writing
    from fairjax.runs.signals import stopping_on_sigterm

    with stopping_on_sigterm():
        measuring.measure(settings, console)
    console.print("results:", *map(str, writing.write(settings)), sep="\n", soft_wrap=True, markup=False)
    return 0


def _mitigate(program: Program, words: list[str], console: Console) -> int:
    """Run `mitigate`: complete all unfinished rows, and write the tables, figures and the page of all of them."""
    from experiments.second_paper.mitigate.settings import Mitigate

    settings = parse(program.name, "mitigate", Mitigate(), _ABOUT, words)
    from fairjax.runs.devices import use_cores

    use_cores()
    from experiments.second_paper.mitigate import measuring, summary
    from fairjax.runs.signals import stopping_on_sigterm

    with stopping_on_sigterm():
        measuring.measure(settings, console)
        written = summary.write(settings)
    console.print("results:", *map(str, written), sep="\n", soft_wrap=True, markup=False)
    return 0


def _bench(program: Program, words: list[str], console: Console) -> int:
    """Run `bench`: measure the speed."""
    from experiments.benchmarks import command
    from experiments.benchmarks.settings import Bench

    settings = parse(program.name, "bench", Bench(), _ABOUT, words)
    expand_paths(settings)
    return command.bench(settings, console)


def _bench_compare(program: Program, words: list[str], console: Console) -> int:
    """Run `bench-compare`: compare two results of the benchmark of speed."""
    from experiments.benchmarks import command

    del program
    return reading_files(" or ".join(words), lambda: command.bench_compare(words, console))


def _documents(program: Program, words: list[str], console: Console) -> int:
    """Run `documents`: write or check the generated parts of the documents."""
    from experiments import documents

    return documents.command(program, words, console)


PROGRAM = Program(
    NAME,
    {
        **commands.COMMANDS,
        "debias": commands.debias_command(PRESET_SETTINGS),
        "report": commands.report_command(published.EXTRAS),
        "reproduce": Command(_reproduce, "the first paper's tables and figures, with more methods beside its own"),
        "mitigate": Command(_mitigate, "ways to mitigate bias before, in and after training, on the same splits"),
        "quality": Command(_quality, "accuracy of under-represented groups: weights, resampling, more rows, transfer"),
        "mitigate-text": Command(_mitigate_text, "a planted bias in classifiers of text, mitigated in several ways"),
        "table3": Command(_table3, "the second paper's Table 3, with one coding and on the same splits"),
        "bench": Command(_bench, "the speed beside PyTorch, scikit-learn and the machine's limits"),
        "bench-compare": Command(_bench_compare, "the ratios of two results of bench", "FIRST.json SECOND.json"),
        "documents": Command(_documents, "write or check the generated parts of README.md and docs/", "[--check]"),
    },
)
"""The program."""
