"""The folder of a run: its lock, its configuration, and the files that it never deletes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax import seeds
from fairjax.runs.files import FolderError, clear
from fairjax.runs.folder import RunFolder
from fairjax.runs.lock import LOCK
from fairjax.runs.states import SavedStates

ONE, OTHER = {"seeds": [1]}, {"seeds": [2]}
STATE = {"w": np.arange(3.0)}
OPEN = """
import json, sys, time
from pathlib import Path
from fairjax.runs.folder import FolderError, RunFolder
print("ready", flush=True)
sys.stdin.readline()
try:
    folder = RunFolder(Path(sys.argv[1]), json.loads(sys.argv[2]))
except FolderError as error:
    print(f"refused: {error}", flush=True)
else:
    print("open", flush=True)
    sys.stdin.readline()
"""


class Process:
    """Another process that opens a folder and ends on request."""

    def __init__(self, path, identity):
        command = [sys.executable, "-c", OPEN, str(path), json.dumps(identity)]
        root = Path(__file__).parents[3]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
        assert self.process.stdout.readline() == "ready\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def say(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def answer(self):
        return self.process.stdout.readline()


def save(folder, *numbers, name="training"):
    for number in numbers:
        folder.stage(name).save(number, STATE)


def restore(folder, name="training"):
    return folder.stage(name).restore(STATE, seeds.mesh(jax.devices()[:1]))


def test_a_folder_in_use_by_another_process_is_refused_until_that_process_ends(tmp_path):
    with Process(tmp_path / "r", ONE) as other:
        other.say()
        assert other.answer() == "open\n"
        with pytest.raises(FolderError, match=f"in use by process {other.process.pid} on host {os.uname().nodename}"):
            RunFolder(tmp_path / "r", ONE)
        other.say()
        assert other.process.wait(timeout=60) == 0
    assert not (tmp_path / "r" / LOCK).exists()
    RunFolder(tmp_path / "r", ONE).close()


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path):
    with Process(tmp_path / "r", ONE) as other:
        other.say()
        assert other.answer() == "open\n"
        other.process.send_signal(signal.SIGKILL)
        other.process.wait(timeout=60)
    assert (tmp_path / "r" / LOCK).exists()
    folder = RunFolder(tmp_path / "r", ONE)
    assert json.loads((tmp_path / "r" / LOCK).read_text())["pid"] == os.getpid()
    folder.close()


def test_of_processes_with_different_configurations_one_gets_the_folder(tmp_path):
    identities = [{"seeds": [i]} for i in range(2)]
    with Process(tmp_path / "r", identities[0]) as one, Process(tmp_path / "r", identities[1]) as other:
        for process in (one, other):
            process.say()
        answers = [process.answer() for process in (one, other)]
    assert sorted(answer[:4] for answer in answers) == ["open", "refu"]
    winner = identities[answers.index("open\n")]
    assert json.loads((tmp_path / "r" / "configuration.json").read_text()) == winner


def test_a_process_may_open_a_folder_many_times_and_the_last_use_unlocks_it(tmp_path):
    one, other = RunFolder(tmp_path, ONE), RunFolder(tmp_path, ONE)
    one.close()
    one.close()
    assert (tmp_path / LOCK).exists()
    del other
    assert not (tmp_path / LOCK).exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["configuration.json"]


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(FolderError, match="taken is not a folder; choose another with --out"):
        RunFolder(tmp_path / "taken" / "r", {})


def test_a_refused_folder_is_not_locked(tmp_path):
    RunFolder(tmp_path, ONE).close()
    (tmp_path / "states").mkdir()
    with pytest.raises(FolderError, match="another configuration"):
        RunFolder(tmp_path, OTHER)
    assert not (tmp_path / LOCK).exists()


def test_a_folder_in_which_nothing_was_saved_is_free_for_another_run(tmp_path):
    first = RunFolder(tmp_path, ONE)
    with pytest.raises(FolderError, match="another configuration"):
        RunFolder(tmp_path, OTHER)
    first.close()
    RunFolder(tmp_path, OTHER).close()
    assert json.loads((tmp_path / "configuration.json").read_text()) == OTHER


def test_a_lock_file_alone_does_not_make_a_folder_taken(tmp_path):
    (tmp_path / LOCK).write_text("not JSON")
    RunFolder(tmp_path, ONE).close()
    assert (tmp_path / "configuration.json").exists()


def test_a_lock_file_that_is_a_symbolic_link_is_refused(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / LOCK).symlink_to(tmp_path / "mine")
    with pytest.raises(FolderError, match="cannot open the lock file"):
        RunFolder(tmp_path / "r", ONE)
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_state_of_the_same_configuration_is_restored(tmp_path):
    save(RunFolder(tmp_path, ONE), 1, 2, 3)
    number, state = restore(RunFolder(tmp_path, ONE))
    assert number == 3
    np.testing.assert_array_equal(state["w"], STATE["w"])
    assert sorted(entry.name for entry in (tmp_path / "states" / "training").iterdir()) == ["00000002", "00000003"]


def test_a_state_of_another_configuration_is_refused(tmp_path):
    save(RunFolder(tmp_path / "one", ONE), 1)
    other = RunFolder(tmp_path / "other", OTHER)
    shutil.copytree(tmp_path / "one" / "states", tmp_path / "other" / "states")
    with pytest.raises(FolderError, match="it belongs to another configuration"):
        restore(other)


@pytest.mark.parametrize("change", [lambda sums: sums["files"], lambda sums: {"files": sums["files"]}, lambda sums: []])
def test_a_state_that_does_not_name_its_configuration_is_refused(tmp_path, change):
    folder = RunFolder(tmp_path, ONE)
    save(folder, 1)
    sums = next((tmp_path / "states").rglob("sums.json"))
    sums.write_text(json.dumps(change(json.loads(sums.read_text()))))
    with pytest.raises(FolderError, match=r"cannot be read .*configuration.*; remove it"):
        restore(folder)


@pytest.mark.parametrize("link", ["states", "states/training", "states/training/00000001"])
def test_symbolic_links_among_the_states_are_refused_and_nothing_behind_them_is_touched(tmp_path, link):
    folder = RunFolder(tmp_path / "r", ONE)
    save(folder, 1)
    place, outside = tmp_path / "r" / link, tmp_path / "outside"
    place.rename(outside)
    (outside / ".unfinished-mine").mkdir()
    place.symlink_to(outside)
    before = sorted(outside.rglob("*"))
    for act in (lambda: restore(folder), lambda: save(folder, 1)):
        with pytest.raises(FolderError, match="is a symbolic link"):
            act()
    if link.count("/") < 2:
        with pytest.raises(FolderError, match="is a symbolic link"):
            RunFolder(tmp_path / "r", ONE)
    clear(tmp_path / "r")
    assert sorted(outside.rglob("*")) == before


@pytest.mark.parametrize("link", ["networks", "networks/trained", "states/roc"])
def test_symbolic_links_to_networks_and_stages_are_refused(tmp_path, link):
    folder = RunFolder(tmp_path / "r", ONE)
    (tmp_path / "outside").mkdir()
    place = tmp_path / "r" / link
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(tmp_path / "outside")
    with pytest.raises(FolderError, match=f"{link} is a symbolic link"):
        RunFolder(tmp_path / "r", ONE)
    if link == "states/roc":
        with pytest.raises(FolderError, match="is a symbolic link"):
            folder.stage_folder("roc")


def test_the_run_folder_itself_may_be_reached_by_a_symbolic_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    save(RunFolder(tmp_path / "link", ONE), 1)
    assert restore(RunFolder(tmp_path / "real", ONE))[0] == 1


def test_a_users_own_entries_in_a_stage_stay(tmp_path):
    folder = RunFolder(tmp_path / "r", ONE)
    save(folder, 1)
    stage, outside = tmp_path / "r" / "states" / "training", tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    (stage / "notes").mkdir()
    (stage / "notes" / "file").write_text("mine")
    (stage / "notes.txt").write_text("mine")
    (stage / ".unfinished-link").symlink_to(outside)
    (stage / ".unfinished-left").mkdir()
    save(folder, 2, 3, 4)
    clear(tmp_path / "r")
    names = {entry.name for entry in stage.iterdir()}
    assert names == {"00000003", "00000004", "notes", "notes.txt", ".unfinished-link"}
    assert (outside / "file").read_text() == (stage / "notes" / "file").read_text() == "mine"
    assert restore(folder)[0] == 4


def test_a_stage_without_a_configuration_takes_any_state(tmp_path):
    SavedStates(tmp_path / "states" / "s").save(1, STATE)
    assert SavedStates(tmp_path / "states" / "s").restore(STATE, seeds.mesh(jax.devices()[:1]))[0] == 1


def test_arrays_without_entries_are_restored_with_their_shapes(tmp_path):
    state = {"w": jnp.ones(2), "statistics": jnp.zeros((3, 0)), "trace": np.zeros((0, 4), np.int32)}
    SavedStates(tmp_path / "states" / "s").save(1, state)
    _, restored = SavedStates(tmp_path / "states" / "s").restore(state, seeds.mesh(jax.devices()[:1]))
    assert {name: (leaf.shape, leaf.dtype) for name, leaf in restored.items()} == {
        name: (leaf.shape, leaf.dtype) for name, leaf in state.items()
    }
    np.testing.assert_array_equal(restored["w"], state["w"])
