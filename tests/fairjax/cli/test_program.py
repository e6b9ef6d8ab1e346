"""The console script `fairjax`: its commands, its messages, and what it says where packages are missing."""

import subprocess
import sys

import pytest
from rich.console import Console

import fairjax.cli
from experiments.cli import PROGRAM as EXPERIMENTS
from experiments.cli import parse_debias, parse_reproduce
from experiments.first_paper.settings import Reproduce
from fairjax.cli.commands import PROGRAM
from fairjax.cli.parsing import flags_of, updated
from fairjax.cli.program import Command, Program
from fairjax.runs.settings import Debias


def test_the_program_lists_its_commands(capsys):
    assert fairjax.cli.main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: fairjax COMMAND")
    assert all(f"  {name}" in printed for name in PROGRAM.commands)
    assert set(PROGRAM.commands) <= set(EXPERIMENTS.commands), "python -m experiments is the same program with more"


def test_every_command_is_called_by_the_name_of_its_program(capsys):
    for program in (PROGRAM, EXPERIMENTS):
        with pytest.raises(SystemExit) as stopped:
            program.main(["debias", "--help"])
        assert stopped.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: {program.name} debias")
        assert program.main(["report"]) == 2
        assert capsys.readouterr().out.startswith(f"usage: {program.name} report DIR")
        assert program.main(["methods"]) == 0
        assert capsys.readouterr().out.startswith(f"usage: {program.name} methods [METHOD]")


def test_presets_belong_to_the_experiments(capsys):
    with pytest.raises(SystemExit) as stopped:
        PROGRAM.main(["debias", "--preset", "paper"])
    assert stopped.value.code == 2
    assert "--preset" in capsys.readouterr().err
    assert EXPERIMENTS.main(["debias", "--preset", "pape"]) == 2
    assert "preset must be one of paper, authors, got 'pape'" in capsys.readouterr().err


def test_a_missing_package_is_named_with_the_extra_that_brings_it():
    program = "import sys; sys.modules['tyro'] = None; from fairjax.cli import main; sys.exit(main(['methods']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == ("error: the command line needs tyro, which is not installed: pip install 'fairjax[cli]'\n")


def test_a_command_gets_its_program_its_arguments_and_the_console():
    heard = []
    program = Program("tool", {"say": Command(lambda *args: heard.append(args) or 7, "say something")})
    assert program.main(["say", "a", "b"]) == 7
    ((called, words, console),) = heard
    assert called is program and words == ["a", "b"] and isinstance(console, Console)


def test_a_file_takes_what_flags_take():
    content = {"seeds": [3, 4], "intersect": True, "hosts": {"cluster": False}, "fine_tuning": {"layers": None}}
    words = ["--seeds", "3", "4", "--intersect", "--hosts.no-cluster", "--fine_tuning.layers=None"]
    assert list(flags_of(content)) == words
    settings = updated(Debias(), content)
    assert settings.seeds == (3, 4) and settings.intersect and not settings.hosts.cluster
    assert updated(Debias(), {"lanes": 4}).group_size == updated(Debias(), {"group_size": 4}).group_size == 4


def test_a_setting_is_found_by_its_former_name():
    assert parse_debias(["--lanes", "4"]).group_size == parse_debias(["--lanes=4"]).group_size == 4
    assert parse_reproduce(["--each.lanes", "4"]).each.group_size == 4
    assert updated(Reproduce(), {"each": {"lanes": 4}}).each.group_size == 4
