"""Runs of several processes, and runs whose processes are killed, with real processes on this machine."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fairjax.runs.hosts import Hosts
from fairjax.runs.states import verify

ROOT = Path(__file__).parents[3]
KILLS = int(os.environ.get("FAIRJAX_TEST_KILLS", "2"))
"""Number of processes killed in each test that kills; increase it for a longer search."""
WORDS = [
    *("--dataset", "loh", "--simulation.rows", "600", "--seeds", "1", "2", "3"),  # no number of devices divides 3
    *("--network.widths", "8", "--training.epochs", "30", "--bias-gda.epochs", "40"),
    *("--random-perturbation.draws", "40", "--save-every", "0"),
]
METHODS = ("standard", "bias_gda")
PROGRAM = "import sys; from fairjax.cli import main; sys.exit(main(sys.argv[1:]))"
"""The command `fairjax`, which starts faster than `python -m experiments`."""
SAME = ("results.csv", "trajectories.csv", "table.md")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Return a folder for compiled programs, so that a restarted process catches up quickly."""
    return tmp_path_factory.mktemp("cache")


def begin(out, cache, *words, methods=METHODS, devices=2, error=subprocess.PIPE, **variables):
    command = [sys.executable, "-c", PROGRAM, "debias", *WORDS, "--methods", *methods, "--out", str(out), *words]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), **variables}
    return subprocess.Popen(
        [*command, "--compilation-cache", str(cache)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=error,
        text=True,
    )


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def begin_two(out, cache, folder, launcher="hand", methods=METHODS):
    """Start two processes with two devices each; their messages go to files, which outlive the processes."""
    port, started = free_port(), []
    for i in range(2):
        words = ["--hosts.coordinator", f"127.0.0.1:{port}", "--hosts.processes", "2", "--hosts.process", str(i)]
        variables = {}
        if launcher == "slurm":  # the variables that srun sets; JAX derives the port from the job's number
            words = ["--hosts.cluster"]
            variables = {
                "SLURM_JOB_ID": str(port),
                "SLURM_STEP_NODELIST": "localhost",
                "SLURM_NTASKS": "2",
                "SLURM_PROCID": str(i),
                "SLURM_LOCALID": str(i),
                "SLURM_STEP_NUM_NODES": "1",
            }
        words += ["--hosts.wait", "45"]
        with (folder / f"errors{i}").open("w") as errors:
            where = out if i == 0 else folder / "nothing"
            started.append(begin(where, cache, *words, methods=methods, error=errors, **variables))
    return started


def same(found, expected):
    for name in SAME:
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name


def whole(folder):
    """Check that nothing is half-written: every state has a number, and no temporary file is left."""
    left = [path for path in folder.rglob("*") if path.name.startswith(".")]
    assert not left and not [path for path in folder.rglob("*.orbax-checkpoint-tmp*")]


def entries(folder):
    """Return what is in a folder that a process writes to; folders that disappear meanwhile are left out."""
    return {(root, name) for root, folders, files in os.walk(folder) for name in (*folders, *files)}


@pytest.fixture(scope="module")
def alone(tmp_path_factory, cache):
    """Return the results of an uninterrupted run of a single process."""
    out = tmp_path_factory.mktemp("alone") / "r"
    process = begin(out, cache)
    assert process.communicate()[1] == "" and process.returncode == 0
    return out


@pytest.mark.slow
def test_two_processes_give_the_results_of_one_written_once(alone, tmp_path, cache):
    """One of the methods uses processes of its own, and one is not in other tests."""
    methods = (*METHODS, "random_perturbation", "equalized_odds")
    assert begin(tmp_path / "one", cache, methods=methods, error=subprocess.DEVNULL).wait() == 0
    processes = begin_two(tmp_path / "r", cache, tmp_path, methods=methods)
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    same(tmp_path / "r", tmp_path / "one")
    whole(tmp_path / "r")
    assert not (tmp_path / "nothing").exists(), "only the first process writes"
    for name in ("trained", "bias_gda", "random_perturbation"):
        assert (tmp_path / "r" / "networks" / name / "network.json").exists()


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_the_same_on_other_numbers_of_devices(alone, tmp_path, cache):
    rng, states = np.random.default_rng(0), tmp_path / "r" / "states"
    for _ in range(KILLS):
        saved = entries(states)
        process = begin(tmp_path / "r", cache, devices=int(rng.integers(1, 3)), error=subprocess.DEVNULL)
        while process.poll() is None and entries(states) <= saved:
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 1.5))
        process.send_signal(signal.SIGKILL)
        assert process.wait() in (-signal.SIGKILL, 0)
    assert begin(tmp_path / "r", cache, devices=1, error=subprocess.DEVNULL).wait() == 0
    same(tmp_path / "r", alone)
    whole(tmp_path / "r")


@pytest.mark.slow
def test_when_one_of_two_processes_is_killed_the_other_says_so_and_both_can_be_started_again(alone, tmp_path, cache):
    rng, survived = np.random.default_rng(1), 0
    while survived < KILLS:
        processes, victim = begin_two(tmp_path / "r", cache, tmp_path), survived % 2
        time.sleep(rng.uniform(4.0, 12.0))
        if processes[victim].poll() is None:
            processes[victim].send_signal(signal.SIGKILL)
            survived += 1
        codes = [process.wait(timeout=75) for process in processes]
        if codes[1 - victim] != 0:  # 0: it had finished or was about to
            time.sleep(1.0)
            said = (tmp_path / f"errors{1 - victim}").read_text()
            assert re.search("lost another process|stopped early|could not connect", said), said
        if codes == [0, 0]:
            same(tmp_path / "r", alone)
            shutil.rmtree(tmp_path / "r")
    processes = begin_two(tmp_path / "r", cache, tmp_path, "slurm")
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    same(tmp_path / "r", alone)
    whole(tmp_path / "r")


@pytest.mark.slow
def test_processes_with_different_settings_refuse_to_run_together(tmp_path, cache):
    words = ["--hosts.coordinator", f"127.0.0.1:{free_port()}", "--hosts.processes", "2", "--hosts.process"]
    first = begin(tmp_path / "r", cache, *words, "0", error=subprocess.DEVNULL)
    second = begin(tmp_path / "s", cache, *words, "1", "--bias-gda.epochs", "7")
    said = second.communicate(timeout=100)[1]
    assert second.returncode == 2 and "the configuration differs between process 0 and process 1" in said
    assert first.wait(timeout=60) != 0


@contextlib.contextmanager
def disk(path, size):
    """Mount a small file system, which can be filled and enlarged."""
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", path], check=True)
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.mark.slow
def test_a_disk_that_is_full_or_read_only_is_named_and_the_run_goes_on_when_it_is_neither(alone, tmp_path, cache):
    with disk(tmp_path / "disk", "160k") as remount:
        process = begin(tmp_path / "disk" / "r", cache)
        said = process.communicate()[1]
        assert process.returncode == 2 and "No space left on device" in said, said
        saved = [path.parent for path in (tmp_path / "disk").rglob("sums.json")]
        for state in saved:
            verify(state)
        remount("size=100m,ro")
        process = begin(tmp_path / "disk" / "r", cache)
        said = process.communicate()[1]
        assert process.returncode == 2 and "is not writable; choose another with --out" in said, said
        remount("rw")
        process = begin(tmp_path / "disk" / "r", cache)
        assert (process.communicate()[1], process.returncode) == ("", 0)
        same(tmp_path / "disk" / "r", alone)
        whole(tmp_path / "disk" / "r")
    assert saved, "some states were saved before the disk was full"


@pytest.mark.slow
def test_a_damaged_state_is_named_and_the_one_before_it_stands(alone, tmp_path, cache):
    shutil.copytree(alone, tmp_path / "r")
    for name in SAME:
        (tmp_path / "r" / name).unlink()
    shutil.rmtree(tmp_path / "r" / "states" / "bias_gda")
    states = sorted((tmp_path / "r" / "states" / "training").iterdir())
    assert len(states) == 2
    victim = max((path for path in states[1].rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    victim.write_bytes(content)
    process = begin(tmp_path / "r", cache)
    said = process.communicate()[1]
    assert process.returncode == 2 and str(states[1]) in said and "which resumes from an earlier state" in said
    assert states[0].exists()
    shutil.rmtree(states[1])
    assert begin(tmp_path / "r", cache, error=subprocess.DEVNULL).wait() == 0
    same(tmp_path / "r", alone)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"coordinator": "a:1"}, "must be set together, got only coordinator"),
        ({"coordinator": "a", "processes": 2, "process": 0}, "must be HOST:PORT"),
        ({"coordinator": "a:1", "processes": 2, "process": 2}, "from 0 to 1 for 2 processes, got 2"),
        ({"cluster": True, "process": 0}, "gets hosts.process from the launcher"),
        ({"wait": 0}, "at least 1 second"),
    ],
)
def test_halves_of_a_description_are_refused(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Hosts(**settings)


@pytest.mark.slow
def test_a_process_whose_others_do_not_come_says_so(tmp_path, cache):
    words = ["--hosts.coordinator", f"127.0.0.1:{free_port()}", "--hosts.processes", "2"]
    process = begin(tmp_path / "r", cache, *words, "--hosts.process", "1", "--hosts.wait", "3")
    said = process.communicate(timeout=60)[1]
    assert process.returncode != 0
    assert "could not connect within 3 s" in said or "or never connected" in said, (
        said
    )  # JAX may end the process itself
