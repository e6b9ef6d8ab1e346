"""Output of runs and how they end: tables, progress in a log, unusual terminals and folders, signals, errors."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from experiments.cli import PROGRAM
from experiments.cli import parse_debias as parse
from fairjax.cli import debias, program
from fairjax.report import results_table
from fairjax.runs import progress, signals
from fairjax.runs.structure import BINARY

ROOT = Path(__file__).parents[3]
SMALL = (
    "--seeds 1 2 --simulation.rows 400 --simulation.alpha 2.5 --network.widths 6 --training.epochs 20 "
    "--pruning.units 2 --bias-gda.epochs 20 --bias-gda.learning-rate 1e-3 --save-every 0"
).split()


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def begin(*words, **variables) -> subprocess.Popen:
    """Start the command as a user does, with its output read like a log."""
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "COLUMNS": "80", **variables}
    return subprocess.Popen(
        [sys.executable, "-m", "experiments", *map(str, words)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def rows(methods) -> pd.DataFrame:
    """Return made-up results for some methods."""
    random, made = np.random.default_rng(0), []
    for method, rule in methods:
        for seed in range(100):
            numbers = {"balanced_accuracy": random.uniform(), "bias": random.normal(), "objective": random.uniform()}
            about = {"dataset": "bank_full", "measure": "spd", "method": method, "rule": rule, "seed": seed}
            made.append({**about, **numbers, "part": "test", "satisfied": True, "diverged": False})
    return pd.DataFrame(made)


def text_of(results: pd.DataFrame, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(results_table.printed(results, 0.05, width))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_the_table_fits_the_terminal_and_cuts_no_number(width):
    methods = [("standard", "none"), ("adversarial_fine_tuning", "objective"), ("adversarial_fine_tuning", "pooled")]
    results = rows(methods)
    text = text_of(results, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for row in results_table.summary(results).itertuples(index=False):
        for entry in row[1:]:
            assert entry in text


def test_a_table_of_short_names_is_one_block_in_80_columns():
    text = text_of(rows([("standard", "none"), ("pruning", "objective"), ("bias_gda", "objective")]), 80)
    assert sum(line.startswith("method") for line in text.splitlines()) == 1


def test_wider_tables_repeat_the_method_in_every_block():
    text = text_of(rows([("standard", "none"), ("adversarial_fine_tuning", "objective")]), 60)
    blocks = sum(line.startswith("method") for line in text.splitlines())
    assert blocks > 1
    assert text.count("Adversarial fine-tuning") == blocks


def test_progress_in_a_log_is_a_line_at_the_beginning_now_and_then_and_at_the_end(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    console = Console(file=io.StringIO(), width=40)
    with progress.progress_of(console) as bars:
        bar = bars.add_task("training", total=1000, unit="epochs", note="20 networks left")
        for second in range(1, 31):
            now[0] = float(second)
            bars.update(bar, completed=10 * second, note=f"{20 - second // 2} networks left")
        bars.update(bar, completed=310, total=310, note="0 networks left")
        bars.update(bar, completed=310)
        other = bars.add_task("equalized_odds", total=2, unit="networks", note="")
        bars.update(other, advance=1)
        bars.update(other, advance=1)
    assert console.file.getvalue().splitlines() == [
        "training: started, 1000 epochs at most, 20 networks left",
        "training: 100 of 1000 epochs, 15 networks left, after 10.0 s",
        "training: 200 of 1000 epochs, 10 networks left, after 20.0 s",
        "training: 300 of 1000 epochs, 5 networks left, after 30.0 s",
        "training: 310 of 310 epochs, 0 networks left, finished after 30.0 s",
        "equalized_odds: started, 2 networks",
        "equalized_odds: 2 of 2 networks, finished after 0.0 s",
    ]


def test_a_terminal_has_bars():
    assert isinstance(progress.progress_of(Console(force_terminal=True, force_interactive=True)), progress.Progress)


def test_a_run_into_a_folder_that_looks_like_markup_ends_well_on_an_ascii_output(tmp_path, cache):
    folder = tmp_path / "[" / "x]"  # the path contains [/x]
    process = begin(
        "debias",
        *SMALL,
        "--out",
        folder,
        "--compilation-cache",
        cache,
        PYTHONIOENCODING="ascii",
        PYTHONWARNINGS="error",
    )
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert "[/x]" in out and f"results: {folder}" in out
    assert re.search(r"^training: started, 20 epochs at most, 2 networks left$", out, re.MULTILINE)
    assert re.search(r"^bias_gda: \d+ of \d+ candidates, finished after", out, re.MULTILINE)
    assert "?" in out and "±" not in out
    assert json.loads((folder / "run.json").read_text())


def test_sigterm_saves_the_state_and_the_same_command_ends_as_if_there_had_been_none(tmp_path, cache):
    words = ["debias", *SMALL, "--compilation-cache", cache, "--methods", "standard", "bias_gda"]
    words += ["--bias-gda.epochs", "1000", "--save-every", "1000"]  # 1000 s: only the signal saves
    folder = tmp_path / "stopped"
    process = begin(*words, "--out", folder)
    for line in process.stdout:
        if line.startswith("bias_gda: started"):
            break
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert err == "stopped by SIGTERM; the state is saved: run the same command again to resume\n"
    assert list((folder / "states" / "bias_gda").iterdir())
    assert not (folder / "results.csv").exists()
    runs = [begin(*words, "--out", out) for out in (folder, tmp_path / "whole")]
    assert [(run.communicate(timeout=120)[1], run.returncode) for run in runs] == [("", 0)] * 2
    for name in ("results.csv", "trajectories.csv"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_sigterm_is_as_before_when_a_run_is_over():
    before = signal.getsignal(signal.SIGTERM)
    with signals.stopping_on_sigterm():
        signals.stop_if_asked()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(signals.Stopped):
            signals.stop_if_asked()
    signals.stop_if_asked()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("words", ["--help", "debias --help"])
def test_help_into_a_pipe_that_closes_early_ends_quietly(words):
    process = begin(*words.split(), PYTHONUNBUFFERED="1")
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) in (0, 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_takes_nothing_is_said_in_one_line():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "experiments", "--help"]
        run = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert run.returncode in (1, 2)
    assert run.stderr.startswith("error: ") and run.stderr.count("\n") == 1


def test_what_nobody_foresaw_is_one_line_that_names_a_file_with_the_traceback(tmp_path, monkeypatch, capsys):
    def broken(settings, console):
        raise AssertionError("two\nlines")

    monkeypatch.setattr(debias, "run", broken)
    monkeypatch.setattr(program.tempfile, "tempdir", str(tmp_path))
    assert PROGRAM.main(["debias", "--out", str(tmp_path / "r")]) == 70
    message = capsys.readouterr().err
    assert message.startswith("error: this is a bug in fairjax: AssertionError: two lines; the traceback is in ")
    assert message.count("\n") == 1
    (file,) = tmp_path.glob("fairjax-error-*.txt")
    assert str(file) in message and "in broken" in file.read_text()


def test_memory_that_runs_out_is_no_bug(tmp_path, monkeypatch, capsys):
    def hungry(settings, console):
        raise MemoryError("Unable to allocate 8 TiB")

    monkeypatch.setattr(debias, "run", hungry)
    assert PROGRAM.main(["debias", "--out", str(tmp_path / "r")]) == 2
    assert capsys.readouterr().err == "error: out of memory: Unable to allocate 8 TiB\n"


def test_a_configuration_nested_too_deeply_is_refused(tmp_path, capsys):
    (tmp_path / "configuration.json").write_text("[" * 100_000)
    assert PROGRAM.main(["debias", "--out", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "this is a bug" not in message and message.count("\n") == 1


def test_run_json_is_written_before_anything_is_printed(tmp_path, monkeypatch):
    class Deaf(Exception):
        pass

    def deaf(*args):
        raise Deaf

    (tmp_path / "r").mkdir()
    monkeypatch.setattr(debias, "prepare", lambda *args: None)
    monkeypatch.setattr(debias, "debias_all", lambda *args: SimpleNamespace(prepared=SimpleNamespace(structure=BINARY)))
    monkeypatch.setattr(debias, "_write", lambda *args: (None, []))
    monkeypatch.setattr(debias, "provenance", lambda *args: {"seconds": 1})
    monkeypatch.setattr(results_table, "printed", deaf)
    with pytest.raises(Deaf):
        debias.run(parse(["--out", str(tmp_path / "r")]), Console(quiet=True))
    assert json.loads((tmp_path / "r" / "run.json").read_text()) == {"seconds": 1}
