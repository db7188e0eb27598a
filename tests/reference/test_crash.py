"""Writers that are killed, run out of disk space or write at the same time: a reader finds the old or the new state."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import scquery_ae as scq
from scquery_ae.dense import DenseWeights

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(os, "fork") or sys.platform == "darwin",
        reason="trials are forks with signals and small disks of their own, as on Linux",
    ),
]

#: Number of random moments at which a process is killed, over all steps.
MOMENTS = int(os.environ.get("SCQUERY_AE_CRASH_MOMENTS", "60"))
KILLED = ("save", "save zip", "first save", "add", "remove zip", "embed")
SAVES = ("save", "save zip", "first save", "first save zip", "first save in a new folder")


@pytest.fixture(scope="module")
def arena(make_adata, make_encoder, tmp_path_factory):
    """A folder with the old and the new references, and cells to add."""
    arena = tmp_path_factory.mktemp("arena")
    adata = make_adata(300, 40)
    encoder = make_encoder(adata, (16, 8))
    scq.pp.normalize(adata)
    adata.obs["scquery_split"] = pd.Categorical(np.where(np.arange(300) % 4 == 0, "validation", "train"))
    old = scq.tl.build_reference(adata, encoder, label_key="cell_type")
    layers = tuple(DenseWeights(layer.kernel * 2, layer.bias, layer.activation) for layer in encoder.layers)
    new = dataclasses.replace(
        old,
        encoder=dataclasses.replace(old.encoder, layers=layers, history={"note": "new"}),
        cells=dataclasses.replace(old.cells.take(slice(None, None, -1)), obs=old.obs.assign(extra=1)),
        calibration=dataclasses.replace(old.calibration, scores=old.calibration.scores / 2),
    )
    # Most of its files have the names and contents of the new one.
    other = dataclasses.replace(new, cells=dataclasses.replace(new.cells, obs=old.obs.assign(extra=2)))
    for name, reference in {"old": old, "new": new, "other": other}.items():
        reference.save(arena / f"{name}.scq")
    more = make_adata(40, 40, seed=5)
    more.obs_names = [f"new{i}" for i in range(40)]
    more.write_h5ad(arena / "more.h5ad")
    return arena


@pytest.fixture(scope="module")
def ask(arena):
    """``ask(function, **arguments)``: the result of a function of the worker."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("crash_worker.py")), str(arena)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Threads of OpenMP do not survive a fork, and the fork would wait for them.
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    ) as worker:

        def call(function, /, **arguments):
            worker.stdin.write(json.dumps({"call": function, "arguments": arguments}) + "\n")
            worker.stdin.flush()
            answer = json.loads(worker.stdout.readline())
            assert "error" not in answer, answer["error"]
            return answer["result"]

        yield call
        worker.stdin.close()


def assert_old_or_new(result, step, trial):
    """Check for the old or the new state, readable, with nothing of the other left after the next save."""
    allowed = {result["old"], result["new"]}
    assert trial["state"] in allowed, trial["state"]
    assert trial["recovers"]
    if step == "embed":
        assert trial["state"] == result["old"]


# Killed.


@pytest.mark.parametrize("step", KILLED)
def test_killed_at_random_moments(ask, step):
    moments = -(-MOMENTS // len(KILLED))
    result = ask("killed_at_random", step=step, moments=moments, seed=KILLED.index(step))
    assert (result["old"] == result["new"]) == (step == "embed")
    killed = [trial for trial in result["trials"] if trial["code"] == -9]
    # Some may have finished before; none ends with an error.
    assert {trial["code"] for trial in result["trials"]} <= {-9, 0}
    assert len(killed) > moments / 4
    for trial in result["trials"]:
        assert_old_or_new(result, step, trial)


@pytest.mark.parametrize("step", ["save", "save zip", "first save in a new folder", "add", "remove zip"])
def test_killed_before_each_change_of_a_file(ask, step):
    result = ask("killed_at_each_event", step=step)
    *killed, done = result["trials"]
    assert len(killed) >= 20
    assert {trial["code"] for trial in killed} == {-9}
    assert done["code"] == 0
    assert done["state"] == result["new"]
    for trial in result["trials"]:
        assert_old_or_new(result, step, trial)
    # After the new state has appeared, it stays.
    states = [trial["state"] for trial in result["trials"]]
    first = states.index(result["new"])
    assert set(states[:first]) == {result["old"]}
    assert set(states[first:]) == {result["new"]}


def test_embedding_does_not_change_a_backed_file(ask):
    """Results are written to the AnnData in memory, as in scanpy."""
    result = ask("ends", step="embed")
    assert result["old"] == result["new"]


# No space.


def assert_refused_or_done(result, step, match):
    """Check that trials end in the new state, or in an error that names target and remedy and in the old state."""
    unchanged = "Nothing was left behind" if step.startswith("first") else "The one that is there is unchanged"
    for trial in result["trials"]:
        if trial["code"] in (0, 5):
            assert trial["state"] == result["new"]
            assert trial["files"] == trial["listed"]
            continue
        assert trial["code"] == 3, trial["message"]
        assert "The reference could not be written to" in trial["message"]
        assert any(reason in trial["message"] for reason in match), trial["message"]
        assert f"{unchanged}; free some space, or choose a place that can be written to." in trial["message"]
        assert trial["state"] == result["old"]
        assert trial["files"] == trial["before"]


#: NumPy's message in place of the system's.
SHORT = "requested and"
#: The message for a failure that NumPy does not notice.
UNREADABLE = "what was written cannot be read back"


@pytest.mark.parametrize("step", SAVES)
def test_no_space_at_any_change_of_a_file(ask, step):
    result = ask("full_at_each_write", step=step)
    *failed, done = result["trials"]
    assert len(failed) >= 15
    assert done["code"] == 0
    exit_codes = [trial["code"] for trial in failed]
    # Only making a folder that exists may fail without an error.
    assert set(exit_codes) <= {3, 5}
    assert exit_codes.count(5) <= 1
    assert_refused_or_done(result, step, ["[Errno 28] No space left on device"])


@pytest.mark.parametrize("step", ["save", "save zip", "first save in a new folder"])
def test_a_small_disk(ask, step):
    result = ask("full_disk", step=step, stride=8192)
    if "unavailable" in result:
        pytest.skip(f"no small disk can be mounted here: {result['unavailable'].splitlines()[-1]}")
    *failed, done = result["trials"]
    assert len(failed) >= 10
    assert done["code"] == 0
    assert_refused_or_done(result, step, ["No space left on device", "StorageFull", SHORT, UNREADABLE])


@pytest.mark.parametrize("step", ["save", "save zip", "first save"])
def test_files_that_may_not_grow(ask, arena, step):
    """A limit of the file size, which needs no small disk to be mounted."""
    sizes = sorted({file.stat().st_size for file in (arena / "new.scq").iterdir()})
    limits = [limit for size in sizes for limit in (size // 2, size - 1)]
    whole = sum(sizes) + (1 << 16)
    result = ask("largest_file", step=step, limits=[*limits, sizes[-1] + 1, whole])
    exit_codes = [trial["code"] for trial in result["trials"]]
    assert set(exit_codes[:-2]) == {3}
    assert exit_codes[-2] == (3 if step.endswith("zip") else 0)
    assert exit_codes[-1] == 0
    assert_refused_or_done(result, step, ["File too large", "FileTooLarge", SHORT, UNREADABLE])


def test_no_room_to_unpack_a_zip(ask):
    result = ask("no_room_to_unpack")
    if "unavailable" in result:
        pytest.skip(f"no small disk can be mounted here: {result['unavailable'].splitlines()[-1]}")
    assert result["code"] == 3, result["message"]
    assert "old.zip could not be unpacked to the folder for temporary files: [Errno 28]" in result["message"]
    assert "Free some space there, set TMPDIR" in result["message"]
    assert result["files"] == result["before"]


# No permission to write.


@pytest.mark.parametrize("step", ["save", "save zip", "first save in a new folder"])
def test_a_read_only_disk(ask, step):
    result = ask("read_only", step=step)
    if "unavailable" in result:
        pytest.skip(f"no small disk can be mounted here: {result['unavailable'].splitlines()[-1]}")
    assert result["code"] == 3
    # The state was read in the worker.
    assert_refused_or_done({**result, "trials": [result]}, step, ["[Errno 30] Read-only file system"])


@pytest.mark.parametrize("name", ["a.scq", "a.zip"])
def test_a_folder_without_permission_to_write(arena, tmp_path, name):
    if os.geteuid() == 0:
        pytest.skip("root may write to any folder")
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(scq.BundleError, match=r"could not be written to .*\[Errno 13\] Permission denied"):
            scq.Reference.load(arena / "old.scq").save(tmp_path / name)
        assert list(tmp_path.iterdir()) == []
    finally:
        tmp_path.chmod(0o755)


def test_a_folder_that_cannot_be_entered(ask):
    if os.geteuid() != 0:
        pytest.skip("only root can become someone else")
    result = ask("no_permission", step="first save")
    assert result["code"] == 3, result["message"]
    assert_refused_or_done({**result, "trials": [result]}, "first save", ["[Errno 13] Permission denied"])


# Two writers at a time.


@pytest.mark.parametrize("name", ["a.scq", "a.zip"])
@pytest.mark.parametrize("old", [None, "new"])
@pytest.mark.parametrize("writers", [("new", "other"), ("old", "other")], ids="-".join)
def test_two_writers_and_a_reader(ask, name, old, writers):
    for trial in ask("two_writers", name=name, old=old, writers=writers, rounds=4, seed=1):
        assert trial["exit_codes"] == [0, 0], trial["messages"]
        assert trial["final"] in writers
        assert trial["files"] == trial["listed"]
        assert set(trial["seen"]) <= {old or "nothing", *writers}, trial["seen"]


def test_files_of_a_running_writer_are_kept(ask):
    result = ask("held_by_a_running_writer")
    assert result["code"] == 0, result["message"]
    assert result["between"]
    assert result["last"]
    assert result["files"] == result["listed"]
