"""Accuracy, retrieval, confidence and rejection beside every peer, on all tasks and their variants.

    python benchmarks/accuracy.py --data ../shared/data                            # what takes no other package
    python benchmarks/accuracy.py --data ../shared/data --peers build/peers --jobs 2 # and every peer
    python benchmarks/accuracy.py --data ../shared/data --peers build/peers --others more # other tasks
    python benchmarks/accuracy.py --data ../shared/data --quick                    # five minutes: does it still hold?

``--peers`` names a virtual environment, made where it is not there (``peers.txt``, Python 3.11). Each method runs in
processes of its own, one for a task and a training set, all seeds in turn; a method that has spent five minutes there
begins no further seed, and types are taken out of references in two seeds alone. Rows go to ``results/accuracy.csv`` as
they come, and what is there is not run again (``--again METHOD`` drops a method's rows first), so that an interrupted
run goes on. A method that fails is a row with its message. ``results/accuracy.md`` and ``accuracy_summary.md`` are made
of the rows (``tables.py``), and the figures of the documentation (``figures.py``). With ``--others more`` the
tasks are those of ``tasks_development.json``, and rows and tables go to ``results/more.csv``, ``more.md`` and
``more_summary.md``; likewise with ``--others untouched``.

Tasks and variants are described in ``tasks.py``, figures in ``scores.py``, methods in ``methods.py`` and ``peers.py``.
Times in the rows are those of one process beside whatever else ran; ``times.py`` measures them by themselves.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import pandas as pd
from methods import METHODS
from peers import PEERS as OTHER_METHODS
from tables import OURS
from tasks import OTHERS, WITH_QUERY, other_tasks

HERE = Path(__file__).resolve().parent
RESULTS, CODES = HERE / "results", HERE.parent / "build" / "accuracy"
TASKS = (
    "pancreas_protocol",
    "pancreas_species",
    "pbmc_donor",
    "pbmc_purified",
    "pbmc_stimulated",
    "celllines_protocol",
)
OWN, PEERS = tuple(METHODS), tuple(OTHER_METHODS)
COLUMNS = [
    *("task", "variant", "method", "seed", "accuracy", "macro_f1", "map", "ece", "aurc", "auroc"),
    *("fit_s", "ask_s", "peak_mib", "failed"),
]
#: Seconds after which a method begins no further seed of a task and training set.
BUDGET = 300
#: What ``--quick`` runs, and by how much less macro-F1 than in the table a seed may come out.
QUICK, SLACK = ("pancreas_protocol", "celllines_protocol"), 0.03


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .h5ad files and tasks.json")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--tasks", nargs="+", choices=[*TASKS, *(name for which in OTHERS for name in other_tasks(which))]
    )
    parser.add_argument("--others", choices=OTHERS, help="tasks of another file, instead of the six")
    parser.add_argument("--methods", nargs="+", choices=OWN + PEERS)
    parser.add_argument("--groups", nargs="+", help="training sets, such as whole; all, unless told otherwise")
    parser.add_argument("--peers", type=Path, help="virtual environment of the peers")
    parser.add_argument("--again", nargs="+", default=[], choices=OWN + PEERS)
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time, which share the cores")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        method, task, group, seeds = arguments.run
        run(arguments.data, method, task, group, [int(seed) for seed in seeds.split(",")], quick=arguments.quick)
        return 0
    if arguments.quick:
        return quick(arguments.data)
    # Rows of one kind of task go to one file.
    wanted = other_tasks(arguments.others) if arguments.others else list(TASKS)
    if not set(arguments.tasks or ()) <= set(wanted):
        parser.error(f"--tasks must be among {', '.join(wanted)}; --others is for those of other files")
    methods = arguments.methods or (OWN + PEERS if arguments.peers else OWN)
    if arguments.peers:
        make_environment(arguments.peers)
    csv = RESULTS / f"{arguments.others or 'accuracy'}.csv"
    done = pd.read_csv(csv) if csv.exists() else pd.DataFrame(columns=COLUMNS)
    done = done[~done["method"].isin(arguments.again)]
    jobs = []
    for name in arguments.tasks or wanted:
        groups = arguments.groups or listed(arguments.data, name)
        for method in methods:
            python = arguments.peers / "bin" / "python" if method in PEERS else Path(sys.executable)
            for group in groups:
                seeds = missing(done, name, method, group, arguments.seeds)
                # Of the methods here that learn from cells without labels, this one's table asks what they bring.
                if seeds and (group != WITH_QUERY or method == OURS):
                    jobs.append((python, arguments.data, method, name, group, seeds))
    lock = Lock()

    def work(job: tuple[Path, Path, str, str, str, list[int]]) -> None:
        nonlocal done
        for row in rows_of(*job):
            with lock:
                new = pd.DataFrame([row], columns=COLUMNS)
                done = pd.concat([done, new], ignore_index=True) if len(done) else new
                done.to_csv(csv, index=False, float_format="%.5g")
                print({key: row.get(key) for key in COLUMNS}, flush=True)

    if arguments.jobs > 1:
        os.environ["OMP_NUM_THREADS"] = str(max((os.cpu_count() or 1) // arguments.jobs, 1))
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(work, jobs))
    from tables import markdown, summary

    rows = pd.read_csv(csv)
    (RESULTS / csv.name).with_suffix(".md").write_text(markdown(rows))
    (RESULTS / f"{csv.stem}_summary.md").write_text(summary(rows))
    print(summary(rows))
    return 0


def of(group: str) -> Callable[[str], bool]:
    """Return whether a variant is among those of a training set."""
    return lambda variant: variant == group or (group == "whole" and " of the " in variant)


def missing(done: pd.DataFrame, task: str, method: str, group: str, n_seeds: int) -> list[int]:
    """Return the seeds that have not been run, if the method has time left for them."""
    mine = done[(done["task"] == task) & (done["method"] == method) & done["variant"].map(of(group))]
    # Training is told with each query that was asked of it.
    if mine.drop_duplicates("fit_s")["fit_s"].sum() + mine["ask_s"].sum() > BUDGET:
        return []
    # Types are taken out in turn, so that they are repeats already.
    most = min(n_seeds, 2) if group.startswith("without") else n_seeds
    return [seed for seed in range(most) if seed not in set(mine["seed"])]


def listed(folder: Path, name: str) -> list[str]:
    from tasks import groups, load

    return groups(load(folder, name))


def rows_of(python: Path, folder: Path, method: str, task: str, group: str, seeds: list[int], *more: str):
    """Yield the rows of one process as they come."""
    command = [python, HERE / "accuracy.py", "--data", folder, *more, "--run", method, task, group]
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE.parent),
        "PYTHONWARNINGS": "ignore",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    with subprocess.Popen(
        [*command, ",".join(map(str, seeds))], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                yield json.loads(line)
    if process.returncode:
        failed = f"the process ended with {process.returncode}"
        yield {"task": task, "variant": group, "method": method, "seed": seeds[0], "failed": failed}


def run(folder: Path, name: str, task_name: str, group: str, seeds: list[int], *, quick: bool) -> None:
    """Train and ask one method, and print a row of JSON for each seed and variant."""
    from scale import memory
    from scores import score
    from tasks import load, queries

    kind = (METHODS | OTHER_METHODS)[name]
    for module in kind.modules:
        importlib.import_module(module)
    method: Any = None
    spent = 0.0
    for seed in seeds:
        if spent > BUDGET:
            return
        trained: tuple[str, ...] = ()
        rows = []
        for variant, task in queries(load(folder, task_name, seed), group, seed):
            row = {"task": task_name, "variant": variant, "method": name, "seed": seed}
            genes, started = tuple(task.query.var_names), time.perf_counter()
            try:
                if not trained or (method.same_genes and genes != trained):
                    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
                    began = time.perf_counter()
                    method = kind()
                    method.fit(task.reference[:, genes] if method.same_genes else task.reference, seed)
                    trained, fit_s = genes, time.perf_counter() - began
                began = time.perf_counter()
                answer = method.ask(task.query, logged=task.logged)
                ask_s = time.perf_counter() - began
                peak = memory("VmHWM") / 2**20
                row |= {"fit_s": fit_s, "ask_s": ask_s, "peak_mib": peak, **score(task, answer)}
                if variant == "whole" and answer.latent is not None:
                    keep(answer.latent, f"{task_name}-{name}-{seed}")
            except Exception as error:  # noqa: BLE001 (whatever a peer raises is its result)
                row["failed"] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            spent += time.perf_counter() - started
            rows.append(row)
            if "failed" in row and variant == "whole":
                break
            if quick:
                break
        # All of a seed or nothing, so that an interrupted one is run again.
        print(*map(json.dumps, rows), sep="\n", flush=True)


def keep(latent, name: str) -> None:
    """Write an embedding for ``scib.py``."""
    import numpy as np

    CODES.mkdir(parents=True, exist_ok=True)
    np.savez(CODES / f"{name}.npz", reference=latent[0].astype("float32"), query=latent[1].astype("float32"))


def make_environment(folder: Path) -> None:
    """Make the virtual environment of the peers where it is not there."""
    if (folder / "installed").exists():
        return
    if sys.version_info[:2] != (3, 11):
        sys.exit(f"The peers need Python 3.11; this is {sys.version.split()[0]}. Call this with python3.11.")
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    # The processor build of PyTorch; left to itself, pip takes one of several gigabytes.
    subprocess.run([*pip, "torch==2.13.0"], check=True)
    subprocess.run([*pip, "-r", HERE / "peers.txt"], check=True)
    (folder / "installed").touch()


def quick(folder: Path) -> int:
    """Run a part, without writing anything, and compare with the table; return 1 where this package has lost."""
    table = pd.read_csv(RESULTS / "accuracy.csv")
    lost = []
    for task in QUICK:
        for method in ("majority class", "PCA + kNN", "logistic regression", "scquery_ae"):
            (row,) = rows_of(Path(sys.executable), folder, method, task, "whole", [0], "--quick")
            same = (table["task"] == task) & (table["method"] == method) & (table["variant"] == "whole")
            before = table.loc[same, "macro_f1"].mean()
            print(f"{task}, {method}: macro-F1 {row.get('macro_f1', float('nan')):.3f}, in the table {before:.3f}")
            if not row.get("macro_f1", 0) >= before - SLACK:
                lost.append(f"{method} on {task}: {row}")
    print(*lost, sep="\n")
    return int(bool(lost))


if __name__ == "__main__":
    sys.exit(main())
