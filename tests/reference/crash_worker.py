"""Saves, adds, removes and embeds in processes that are killed or run out of disk space, and reports what is left.

A separate program without Keras: it loads everything once, and each trial is a fork of it. It reads calls from standard
input, one JSON object per line, and writes one line of results for each.
"""

import ctypes
import errno
import gc
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from hashlib import sha256
from pathlib import Path

import anndata

import scquery_ae as scq

if sys.platform != "win32":
    import resource

#: Position of HDF5's consistency flags, which version 0 of its superblock does not use.
HDF5_FLAGS = 20

#: Audit events of Python that change files, and those of them that need disk space.
CHANGES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.fsync"}
WRITES = {"open", "os.rename", "os.mkdir", "os.fsync"}


def announce(handle):
    """Raise the audit event without synchronising: the system survives a killed process, so this only saves time."""
    sys.audit("os.fsync", handle)


def set_up(arena):
    """Load what all trials use. Importing this file does nothing, because doctest imports it too."""
    global ARENA, PLACE, ERROR, OLD, NEW, OTHER, MORE, GONE, synchronise
    ARENA = arena
    # The folder that a trial writes to, emptied before each.
    PLACE, ERROR = ARENA / "place", ARENA / "error.txt"
    OLD, NEW, OTHER = (scq.Reference.load(ARENA / f"{name}.scq") for name in ("old", "new", "other"))
    MORE = anndata.read_h5ad(ARENA / "more.h5ad")
    GONE = list(OLD.obs.index[:20])
    warnings.simplefilter("ignore")
    os.fsync, synchronise = announce, os.fsync
    tempfile.tempdir = str(ARENA / "temporary")
    for folder in (PLACE, ARENA / "temporary"):
        folder.mkdir()
    OLD.save(ARENA / "old.zip")
    # Imports at first use happen here, once for all trials.
    warm_up = scq.Reference.load(ARENA / "old.zip")
    warm_up.add(MORE)
    warm_up.remove(GONE)
    scq.tl.embed(MORE.copy(), OLD.encoder)
    # A garbage collection in a fork would copy most of its memory.
    gc.freeze()


# Steps: the source of the old state, the target, and the function.


def save(target):
    NEW.save(target, overwrite=True)


def add(target):
    reference = scq.Reference.load(target)
    reference.add(MORE)
    reference.save(target, overwrite=True)


def remove(target):
    reference = scq.Reference.load(target)
    reference.remove(GONE)
    reference.save(target, overwrite=True)


def embed(target, mode="r+"):
    adata = anndata.read_h5ad(target, backed=mode)
    scq.tl.embed(adata, OLD.encoder)
    adata.file.close()


STEPS = {
    "save": ("old.scq", "a.scq", save),
    "save zip": ("old.zip", "a.zip", save),
    "first save": (None, "a.scq", save),
    "first save zip": (None, "a.zip", save),
    "first save in a new folder": (None, "b/c/a.scq", save),
    "add": ("old.scq", "a.scq", add),
    "add zip": ("old.zip", "a.zip", add),
    "remove": ("old.scq", "a.scq", remove),
    "remove zip": ("old.zip", "a.zip", remove),
    "embed": ("more.h5ad", "a.h5ad", embed),
}


def prepare(step):
    """Put the old state into the emptied folder and return the target."""
    source, name, _ = STEPS[step]
    for entry in PLACE.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    if source is not None:
        copy = shutil.copytree if source.endswith(".scq") else shutil.copyfile
        copy(ARENA / source, PLACE / name)
    return PLACE / name


# States.


def state(path):
    """Return a hash of what a path holds, except the times of edits; raise if it cannot be read."""
    if not path.exists():
        return "nothing"
    if path.suffix == ".h5ad":
        # One byte of HDF5 tells whether a file is open for writing; all others must be the same.
        adata, content = anndata.read_h5ad(path), bytearray(path.read_bytes())
        content[HDF5_FLAGS] = 0
        return sha256(str(adata).encode() + adata.X.toarray().tobytes() + content).hexdigest()
    scq.Reference.load(path)
    if path.is_dir():
        files = {file.name: file.read_bytes() for file in path.iterdir()}
    else:
        with zipfile.ZipFile(path) as archive:
            files = {member.filename: archive.read(member) for member in archive.infolist()}
    manifest = json.loads(files["manifest.json"])
    model = json.loads(files[manifest["parts"].pop("model")["file"]])
    for change in model["provenance"].get("steps", []):
        change.pop("time")
    return sha256(json.dumps([manifest, model], sort_keys=True).encode()).hexdigest()


def tried(function, *arguments):
    """Return the result of a function, or its traceback."""
    try:
        return function(*arguments)
    except Exception:  # noqa: BLE001
        return traceback.format_exc()


def files():
    return sorted(str(file.relative_to(PLACE)) for file in PLACE.rglob("*"))


def listed(path):
    """Return the files that should exist if there is nothing but this path."""
    if not path.exists():
        return []
    paths = [path, *(folder for folder in path.parents if PLACE in folder.parents)]
    if path.is_dir():
        manifest = json.loads((path / "manifest.json").read_text())
        paths += [path / "manifest.json", *(path / entry["file"] for entry in manifest["parts"].values())]
    return sorted(str(file.relative_to(PLACE)) for file in paths)


def recovers(step, target):
    """Return whether a later save succeeds and leaves only its own files."""
    if step == "embed":
        embed(target)
        return state(target) == state(ARENA / "more.h5ad") and files() == [target.name]
    NEW.save(target, overwrite=True)
    return state(target) == state(ARENA / "new.scq") and files() == listed(target)


def still_recovers(known, step, target, trial):
    """Return :func:`recovers`, once for all trials that leave the same files except for names of temporary folders."""
    sizes = [file.stat().st_size for file in sorted(PLACE.rglob("*")) if file.is_file()]
    left = [trial["state"], *(re.sub("writing-[^/]*", "", name) for name in trial["files"]), *sizes]
    if left in known:
        return True
    if not recovers(step, target):
        return False
    known.append(left)
    return True


# Trials.


def fork(work):
    """Run a function in a fork and return its process id.

    Exit codes: 0 for success, 5 for success in spite of an injected failure, 3 for our own error, 4 for another one.
    """
    ERROR.unlink(missing_ok=True)
    pid = os.fork()
    if pid:
        return pid
    # A fork that hangs is killed, and the test fails.
    signal.alarm(120)
    code = 4
    try:
        work()
        code = 5 if FAILED else 0
    except scq.BundleError as error:
        code, text = 3, str(error)
    except BaseException:  # noqa: BLE001
        text = traceback.format_exc()
    finally:
        os.seteuid(os.getuid())
        resource.setrlimit(resource.RLIMIT_FSIZE, [resource.getrlimit(resource.RLIMIT_FSIZE)[1]] * 2)
        if code in (3, 4):
            ERROR.write_text(text)
        os._exit(code)


def wait(pid):
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {"code": code, "message": ERROR.read_text() if ERROR.exists() else ""}


def at_event(number, act, kinds=CHANGES):
    """Act just before the n-th change that this process makes to the folder; 0 stands for each."""
    count = 0

    def hook(event, arguments):
        nonlocal count
        if event not in kinds or (event == "open" and not arguments[2] & os.O_CREAT):
            return
        path = arguments[0]
        # Relative names come from the removal of a folder, numbers from open files.
        if isinstance(path, str | os.PathLike) and Path(path).is_absolute() and PLACE not in Path(path).parents:
            return
        count += 1
        if number in (0, count):
            act()

    sys.addaudithook(hook)


def kill_me():
    os.kill(os.getpid(), signal.SIGKILL)


#: Failures that were injected into this process.
FAILED = []


def disk_is_full():
    FAILED.append(errno.ENOSPC)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def ends(step):
    """Return the states before and after a step without interruption."""
    target = prepare(step)
    before = state(target)
    result = wait(fork(lambda: STEPS[step][2](target)))
    if result["code"]:
        raise RuntimeError(result["message"])
    return {"old": before, "new": state(target)}


def trial(step, target, pid):
    result = wait(pid)
    return {**result, "state": tried(state, target), "files": files(), "listed": tried(listed, target)}


def durably(work, target):
    os.fsync = synchronise
    work(target)


def killed_at_random(step, moments, seed):
    """Kill a step at moments spread over its duration."""
    work, chance = STEPS[step][2], random.Random(seed)
    durations = []
    for _ in range(3):
        target = prepare(step)
        start = time.perf_counter()
        wait(fork(lambda target=target: durably(work, target)))
        durations.append(time.perf_counter() - start)
    duration = min(durations)
    trials, recovered = [], []
    for i in range(moments):
        target = prepare(step)
        pid = fork(lambda target=target: durably(work, target))
        time.sleep((i + chance.random()) / moments * duration)
        os.kill(pid, signal.SIGKILL)
        trials.append(trial(step, target, pid))
        trials[-1]["recovers"] = still_recovers(recovered, step, target, trials[-1])
    return {**ends(step), "trials": trials}


def killed_at_each_event(step):
    """Kill a step before each change that it makes to a file, until it makes no more."""
    trials, recovered = [], []
    while not trials or trials[-1]["code"]:
        target = prepare(step)

        def work(target=target):
            at_event(len(trials) + 1, kill_me)
            STEPS[step][2](target)

        trials.append(trial(step, target, fork(work)))
        trials[-1]["recovers"] = still_recovers(recovered, step, target, trials[-1])
    return {**ends(step), "trials": trials}


def full_at_each_write(step):
    """Let each creation of a file or folder, each rename and each synchronisation fail in turn."""
    trials = []
    while not trials or trials[-1]["code"]:
        target = prepare(step)
        before = files()

        def work(target=target):
            at_event(len(trials) + 1, disk_is_full, WRITES)
            STEPS[step][2](target)

        trials.append(trial(step, target, fork(work)) | {"before": before})
    return {**ends(step), "trials": trials}


def largest_file(step, limits):
    """Let writing beyond a file size fail."""
    trials = []
    for limit in limits:
        target = prepare(step)
        before = files()

        def work(target=target, limit=limit):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
            STEPS[step][2](target)

        trials.append(trial(step, target, fork(work)) | {"before": before})
    return {**ends(step), "trials": trials}


def in_small_disk(work):
    """Run a function in a fork where the folder is a small disk of its own, and return its result."""
    answer = ARENA / "answer.json"
    answer.unlink(missing_ok=True)

    def inside():
        libc = ctypes.CDLL(None, use_errno=True)
        new_mounts, new_users, private, recursive = 0x20000, 0x10000000, 1 << 18, 1 << 14
        user, group = os.geteuid(), os.getegid()
        if libc.unshare(new_mounts | (new_users if user else 0)):
            raise OSError(ctypes.get_errno(), "unshare")
        if user:  # no one in the new namespace until it is mapped
            for name, line in {"setgroups": "deny", "uid_map": f"0 {user} 1", "gid_map": f"0 {group} 1"}.items():
                Path("/proc/self", name).write_text(line)
        if libc.mount(b"none", b"/", None, private | recursive, None) or libc.mount(
            b"tmpfs", str(PLACE).encode(), b"tmpfs", 0, b"size=4m"
        ):
            raise OSError(ctypes.get_errno(), "mount")
        answer.write_text(json.dumps(work(libc)))

    result = wait(fork(inside))
    if answer.exists():
        return json.loads(answer.read_text())
    return {"unavailable": result["message"]}


def full_disk(step, stride):
    """Leave more and more space on a small disk until the step succeeds."""

    def work(libc):
        trials, room = [], 0
        while not trials or trials[-1]["code"]:
            target = prepare(step)
            left = os.statvfs(PLACE)
            ballast = left.f_bavail * left.f_frsize - room
            with (PLACE / "ballast").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, ballast)
            before = files()
            pid = fork(lambda target=target: STEPS[step][2](target))
            result = trial(step, target, pid)
            result["files"] = [name for name in result["files"] if name != "ballast"]
            trials.append(result | {"before": [name for name in before if name != "ballast"]})
            room += stride
        return {"trials": trials}

    return {**ends(step), **in_small_disk(work)}


def no_room_to_unpack():
    """Load a zip file where the folder for temporary files is full."""

    def work(libc):
        left = os.statvfs(PLACE)
        with (PLACE / "ballast").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, left.f_bavail * left.f_frsize - 8192)
        (PLACE / "temporary").mkdir()
        tempfile.tempdir = str(PLACE / "temporary")
        before = files()
        result = wait(fork(lambda: scq.Reference.load(ARENA / "old.zip")))
        return {**result, "before": before, "files": files()}

    prepare("first save")
    return in_small_disk(work)


def no_permission(step):
    """Save as a user who cannot enter the folder."""
    result = ends(step)
    target = prepare(step)
    before = files()

    def work():
        os.seteuid(65534)
        STEPS[step][2](target)

    return {**result, **trial(step, target, fork(work)), "before": before}


def read_only(step):
    """Save to a read-only disk, and load from it."""

    def work(libc):
        target = prepare(step)
        remount, forbid = 32, 1
        if libc.mount(b"tmpfs", str(PLACE).encode(), b"tmpfs", remount | forbid, None):
            raise OSError(ctypes.get_errno(), "remount")
        before = files()
        return trial(step, target, fork(lambda: STEPS[step][2](target))) | {"before": before}

    return {**ends(step), **in_small_disk(work)}


def two_writers(name, old, writers, rounds, seed):
    """Let two processes save to one path at the same time, with random delays, and read it meanwhile."""
    references = {"old": OLD, "new": NEW, "other": OTHER}
    known = {state(ARENA / f"{which}.scq"): which for which in references}
    results = []
    for i in range(rounds):
        prepare("first save")
        target = PLACE / name
        if old:
            references[old].save(target)
        pids = []
        for k, which in enumerate(writers):

            def work(which=which, k=k, i=i, target=target):
                chance = random.Random(f"{seed} {i} {k}")
                at_event(0, lambda: time.sleep(chance.random() ** 4 * 4e-3))
                references[which].save(target, overwrite=True)

            pids.append(fork(work))
        seen, alive, exit_codes, messages = set(), set(pids), [], []
        while alive:
            seen.add(tried(found, target))
            for pid in list(alive):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    alive.remove(pid)
                    exit_codes.append(os.waitstatus_to_exitcode(status))
                    messages.append(ERROR.read_text() if ERROR.exists() else "")
        final = tried(state, target)
        results.append(
            {
                "seen": sorted(seen),
                "exit_codes": exit_codes,
                "messages": messages,
                "final": known.get(final, final),
                "files": files(),
                "listed": tried(listed, target),
            }
        )
    return results


def found(target):
    """Return the name of the state that a reader finds."""
    if not target.exists():
        return "nothing"
    reference = scq.Reference.load(target)
    known = {"old": OLD, "new": NEW, "other": OTHER}
    return next((which for which, mine in known.items() if same(reference, mine)), "a mixture")


def same(one, other):
    return one.obs.equals(other.obs) and one.embedding.tobytes() == other.embedding.tobytes()


def held_by_a_running_writer():
    """Save to a path while another writer is in the middle of saving to it, and let that one finish."""
    target = prepare("save")
    ready, go = os.pipe(), os.pipe()

    def slow():
        import scquery_ae.reference.bundle as bundle

        durably = bundle._write_durably

        def pause(*arguments):
            os.write(ready[1], b"x")
            os.read(go[0], 1)
            durably(*arguments)

        bundle._write_durably = pause
        OTHER.save(target, overwrite=True)

    pid = fork(slow)
    os.read(ready[0], 1)
    NEW.save(target, overwrite=True)
    between = state(target) == state(ARENA / "new.scq")
    os.write(go[1], b"x")
    result = wait(pid)
    for handle in (*ready, *go):
        os.close(handle)
    last = state(target) == state(ARENA / "other.scq")
    return {**result, "between": between, "last": last, "files": files(), "listed": listed(target)}


def main():
    set_up(Path(sys.argv[1]))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"result": globals()[request["call"]](**request["arguments"])}
        except Exception:  # noqa: BLE001
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
