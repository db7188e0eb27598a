"""Files that keep training: what they hold, how they are replaced, and which are refused."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from scquery_ae._errors import ArgumentError, StorageError
from scquery_ae.nn import MatrixRows, open_checkpoint, pretrain_stack
from scquery_ae.nn.checkpoint import Checkpoint

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 5)).astype("float32")
ARRAYS = {"model.0": np.arange(6, dtype="float32").reshape(2, 3), "model.1": np.array(7, dtype="int64")}


def test_saved_arrays_and_records_are_loaded(tmp_path):
    kept = Checkpoint(tmp_path / "deep" / "folder", "ours")
    assert kept.load("layer_0") is None
    assert not (tmp_path / "deep").exists()
    kept.save("layer_0", ARRAYS, {"epoch": 3, "history": {"loss": [1.5, float("nan")]}})
    arrays, record = kept.load("layer_0")
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(arrays[name], array)
    assert record["epoch"] == 3
    np.testing.assert_array_equal(record["history"]["loss"], [1.5, np.nan])
    # Another name is another model.
    assert kept.load("layer_1") is None
    # Arrays that are views with steps are saved by what they show.
    kept.save("layer_0", {"model.0": ARRAYS["model.0"].T}, {})
    np.testing.assert_array_equal(kept.load("layer_0")[0]["model.0"], [[0, 3], [1, 4], [2, 5]])
    assert [path.name for path in (tmp_path / "deep" / "folder").iterdir()] == ["layer_0.safetensors"]


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "flipped header"])
def test_damaged_files_are_refused(tmp_path, damage):
    kept = Checkpoint(tmp_path, "ours")
    kept.save("layer_0", ARRAYS, {"epoch": 3})
    path = tmp_path / "layer_0.safetensors"
    content = path.read_bytes()
    path.write_bytes(
        {
            "cut": content[:-5],
            "empty": b"",
            "text": b"not a checkpoint at all",
            "flipped header": content[:12] + b"\xff\xff" + content[14:],
        }[damage]
    )
    with pytest.raises(
        ArgumentError,
        match=r"`checkpoint` is damaged: .*layer_0\.safetensors cannot be read \(.+\)\. Delete the file",
    ):
        kept.load("layer_0")


def test_files_of_another_program_are_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file(ARRAYS, tmp_path / "layer_0.safetensors")
    with pytest.raises(ArgumentError, match=r"`checkpoint` holds another run: .*layer_0.safetensors was written with"):
        Checkpoint(tmp_path, "ours").load("layer_0")


def test_checkpoints_of_another_run_are_refused(tmp_path):
    Checkpoint(tmp_path, "ours").save("layer_0", ARRAYS, {})
    with pytest.raises(
        ArgumentError,
        match=r"`checkpoint` holds another run: .* was written with other settings or other data than those of this "
        r"call\. Pass another folder, or delete this one",
    ):
        Checkpoint(tmp_path, "theirs").load("layer_0")


# Which run it is.


def fingerprint(x=X, arrays=(), settings=("a", 1)):
    return open_checkpoint("somewhere", MatrixRows(x), arrays, settings).fingerprint


def test_the_same_run_is_recognised():
    assert open_checkpoint(None, MatrixRows(X), [], []) is None
    assert fingerprint() == fingerprint(X.copy(), arrays=[None], settings=["a", 1])
    assert not Path("somewhere").exists()


def test_another_run_is_told_apart():
    other = X.copy()
    other[0, 0] += 1
    last = X.copy()
    last[-1, -1] += 1
    labels = np.arange(90)
    swapped = labels.copy()
    # One of all, which a sample could miss.
    swapped[[40, 41]] = swapped[[41, 40]]
    runs = [
        fingerprint(),
        fingerprint(other),
        fingerprint(last),
        fingerprint(X[:-1]),
        fingerprint(settings=["a", 2]),
        fingerprint(settings=["b", 1]),
        fingerprint(arrays=[labels]),
        fingerprint(arrays=[swapped]),
        fingerprint(arrays=[MatrixRows(X)]),
        fingerprint(arrays=[MatrixRows(other)]),
    ]
    assert len(set(runs)) == len(runs)


# A disk that cannot hold it.


def test_a_full_disk_is_an_error_that_names_the_folder(tmp_path, monkeypatch):
    kept = Checkpoint(tmp_path / "run", "ours")
    kept.save("layer_0", ARRAYS, {"epoch": 0})

    def half(self, content):
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    large = {"model.0": np.zeros((500, 1000), "float32")}
    with pytest.raises(
        StorageError,
        match=r"The checkpoint of 2 MB cannot be written to .*run \(\[Errno 28\] No space left on device\)\. "
        r"Free some space or pass another folder, and call again: training resumes from the last saved epoch",
    ) as caught:
        kept.save("layer_0", large, {"epoch": 1})
    assert isinstance(caught.value, OSError)
    monkeypatch.undo()
    # The half is gone, and the epoch before is still there.
    assert [path.name for path in kept.folder.iterdir()] == ["layer_0.safetensors"]
    assert kept.load("layer_0")[1]["epoch"] == 0


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="the system has no limit on the size of a file")
def test_a_limit_of_the_system_is_an_error_too(tmp_path):
    """Nothing is replaced here: the kernel refuses to write beyond the limit."""
    resource = pytest.importorskip("resource")
    kept = Checkpoint(tmp_path, "ours")
    kept.save("layer_0", ARRAYS, {"epoch": 0})
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        with pytest.raises(StorageError, match=r"cannot be written to .* \(\[Errno 27\] File too large"):
            kept.save("layer_0", {"model.0": np.zeros(10_000)}, {"epoch": 1})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert kept.load("layer_0")[1]["epoch"] == 0
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot be written to .*file.below \("):
        Checkpoint(tmp_path / "file" / "below", "ours").save("layer_0", ARRAYS, {})


@pytest.mark.backend
@pytest.mark.usefixtures("eager")
def test_training_resumes_once_there_is_space(tmp_path, monkeypatch):
    arguments = {"epochs": 3, "batch_size": 32, "progress": False, "patience": 3}
    whole = pretrain_stack(X, (3,), **arguments)
    write, written = Path.write_bytes, []

    def full(self, content):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(self.name)
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="No space left on device"):
        pretrain_stack(X, (3,), **arguments, checkpoint=tmp_path)
    monkeypatch.setattr(Path, "write_bytes", write)
    resumed = pretrain_stack(X, (3,), **arguments, checkpoint=tmp_path)
    assert resumed.history == whole.history
    for (kernel, bias), (other_kernel, other_bias) in zip(resumed.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(kernel, other_kernel)
        np.testing.assert_array_equal(bias, other_bias)


# What is in the files of a run.


@pytest.mark.backend
@pytest.mark.usefixtures("eager")
def test_one_file_a_layer_and_no_optimiser_once_it_is_finished(tmp_path, monkeypatch):
    save, saved = Checkpoint.save, []

    def spy(self, name, arrays, record):
        saved.append((name, {key.split(".")[0] for key in arrays}, record["finished"]))
        save(self, name, arrays, record)

    monkeypatch.setattr(Checkpoint, "save", spy)
    stack = pretrain_stack(X, (3, 2), epochs=2, batch_size=32, progress=False, checkpoint=tmp_path)
    during, after = {"model", "optimizer", "best"}, {"model"}
    assert saved == [
        (f"layer_{i}", parts, finished)
        for i in (0, 1)
        for parts, finished in ((during, False), (during, False), (after, True))
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["layer_0.safetensors", "layer_1.safetensors"]
    for i, (kernel, bias) in enumerate(stack.weights):
        arrays = load_file(tmp_path / f"layer_{i}.safetensors")
        np.testing.assert_array_equal(arrays["model.0"], kernel)
        np.testing.assert_array_equal(arrays["model.1"], bias)
        header = (tmp_path / f"layer_{i}.safetensors").read_bytes()
        length = int.from_bytes(header[:8], "little")
        record = json.loads(json.loads(header[8 : 8 + length])["__metadata__"]["record"])
        assert record["history"] == stack.history[i]


# Killed while it writes.

KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from scquery_ae.nn.checkpoint import Checkpoint

kept, rng, reached = Checkpoint(Path(sys.argv[1]), "ours"), random.Random(0), []
for _ in range(8):
    child = os.fork()
    if child == 0:
        # Zeros, then ones, ...: a mixture would be half of one epoch and half of the next.
        epoch = reached[-1] if reached else 0
        while True:
            epoch += 1
            kept.save("layer_0", {str(i): np.full(50_000, epoch, "float32") for i in range(4)}, {"epoch": epoch})
    time.sleep(0.02 + 0.1 * rng.random())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = kept.load("layer_0")
    if found is not None:
        arrays, record = found
        assert all((array == record["epoch"]).all() for array in arrays.values()), record
        reached.append(record["epoch"])
assert reached == sorted(set(reached)), reached
files = {path.name for path in kept.folder.iterdir()}
assert files <= {"layer_0.safetensors", "layer_0.part"}, files
print(len(reached))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no process can be killed like this")
def test_killed_at_any_moment_it_leaves_a_whole_file(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= 6
