"""Compare label transfer with other methods: accuracy, retrieval, calibration and detection of unknown types.

    python benchmarks/accuracy.py --data ../shared/data                               # scquery_ae and scikit-learn
    python benchmarks/accuracy.py --data ../shared/data --peers build/peers --jobs 2  # all methods
    python benchmarks/accuracy.py --data ../shared/data --peers build/peers --task-set held_out
    python benchmarks/accuracy.py --data ../shared/data --quick                       # regression test, five minutes

``--peers`` names a virtual environment for the other packages. It is created if it does not exist (``peers.txt``,
Python 3.11). Each method runs in separate processes, one for each task and training set, which run all seeds in turn.
A method that has spent five minutes on a task and training set starts no further seed. References without one of their
types are run with two seeds.

Rows are appended to ``results/accuracy.csv`` as they are computed. Rows that exist are not computed again, so that an
interrupted run can be continued; ``--again METHOD`` drops the rows of a method first. A method that fails gets a row
with its message. At the end ``results/accuracy.md`` and ``accuracy_summary.md`` are written (``tables.py``). With
``--task-set development`` or ``held_out``, the tasks come from ``tasks_development.json`` or ``tasks_held_out.json``,
and rows and tables are named after the set.

Tasks and their variants are described in ``tasks.py``, measures in ``scores.py``, methods in ``methods.py`` and
``peers.py``. Times in these rows were measured while other processes ran; ``times.py`` measures them alone.
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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import pandas as pd
from methods import METHODS
from peers import PEERS as PEER_METHODS
from tables import OURS
from tasks import TASK_FILES, WITH_QUERY, task_names

HERE = Path(__file__).resolve().parent
RESULTS, EMBEDDINGS = HERE / "results", HERE.parent / "build" / "accuracy"
TASKS = (
    "pancreas_protocol",
    "pancreas_species",
    "pbmc_donor",
    "pbmc_purified",
    "pbmc_stimulated",
    "celllines_protocol",
)
OWN, PEERS = tuple(METHODS), tuple(PEER_METHODS)
COLUMNS = [
    *("task", "variant", "method", "seed", "accuracy", "macro_f1", "map", "ece", "aurc", "auroc"),
    *("fit_s", "query_s", "peak_mib", "failed"),
]
#: Seconds after which a method starts no further seed of a task and training set.
BUDGET = 300
#: Tasks of ``--quick``, and how far the macro-F1 of one seed may fall below the mean in the table.
QUICK, TOLERANCE = ("pancreas_protocol", "celllines_protocol"), 0.03


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .h5ad files and tasks.json")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--tasks", nargs="+", choices=[*TASKS, *(name for task_set in TASK_FILES for name in task_names(task_set))]
    )
    parser.add_argument("--task-set", choices=TASK_FILES, help="another set of tasks in place of the six main tasks")
    parser.add_argument("--methods", nargs="+", choices=OWN + PEERS)
    parser.add_argument("--training-sets", nargs="+", help="such as whole (default: all)")
    parser.add_argument("--peers", type=Path, help="virtual environment of the peers")
    parser.add_argument("--again", nargs="+", default=[], choices=OWN + PEERS, help="methods to run again")
    parser.add_argument("--jobs", type=int, default=1, help="number of processes, which share the cores")
    parser.add_argument(
        "--quick", action="store_true", help="compare two tasks with the committed table; write nothing"
    )
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        method, task, training_set, seeds = arguments.run
        seeds = [int(seed) for seed in seeds.split(",")]
        run(arguments.data, method, task, training_set, seeds, quick=arguments.quick)
        return 0
    if arguments.quick:
        return quick(arguments.data)
    # Each set of tasks has a file of its own.
    names = task_names(arguments.task_set) if arguments.task_set else list(TASKS)
    if not set(arguments.tasks or ()) <= set(names):
        parser.error(f"--tasks must be among {', '.join(names)}; pass --task-set for tasks of another set")
    methods = arguments.methods or (OWN + PEERS if arguments.peers else OWN)
    if arguments.peers:
        make_environment(arguments.peers)
    csv = RESULTS / f"{arguments.task_set or 'accuracy'}.csv"
    done = pd.read_csv(csv) if csv.exists() else pd.DataFrame(columns=COLUMNS)
    done = done[~done["method"].isin(arguments.again)]
    jobs = []
    for name in arguments.tasks or names:
        training_sets = arguments.training_sets or training_sets_of(arguments.data, name)
        for method in methods:
            python = arguments.peers / "bin" / "python" if method in PEERS else Path(sys.executable)
            for training_set in training_sets:
                seeds = missing(done, name, method, training_set, arguments.seeds)
                # Only scquery_ae is run with the query's cells in pretraining.
                if seeds and (training_set != WITH_QUERY or method == OURS):
                    jobs.append((python, arguments.data, method, name, training_set, seeds))
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


def belongs_to(training_set: str) -> Callable[[str], bool]:
    """Return a function that tells whether a variant is computed with a training set."""
    return lambda variant: variant == training_set or (training_set == "whole" and " of the " in variant)


def missing(done: pd.DataFrame, task: str, method: str, training_set: str, n_seeds: int) -> list[int]:
    """Return the seeds that have not been run, or none if the method has used up its time."""
    mine = done[(done["task"] == task) & (done["method"] == method) & done["variant"].map(belongs_to(training_set))]
    # Every query's row repeats the time of the training that it used.
    if mine.drop_duplicates("fit_s")["fit_s"].sum() + mine["query_s"].sum() > BUDGET:
        return []
    # Removing each type in turn is a repetition already.
    most = min(n_seeds, 2) if training_set.startswith("without") else n_seeds
    return [seed for seed in range(most) if seed not in set(mine["seed"])]


def training_sets_of(folder: Path, name: str) -> list[str]:
    from tasks import load, training_sets

    return training_sets(load(folder, name))


def rows_of(
    python: Path, folder: Path, method: str, task: str, training_set: str, seeds: list[int], *more: str
) -> Iterator[dict[str, Any]]:
    """Run a process and yield its rows as they come."""
    command = [python, HERE / "accuracy.py", "--data", folder, *more, "--run", method, task, training_set]
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
        yield {"task": task, "variant": training_set, "method": method, "seed": seeds[0], "failed": failed}


def run(folder: Path, name: str, task_name: str, training_set: str, seeds: list[int], *, quick: bool) -> None:
    """Train and query one method, and print a row of JSON for each seed and variant."""
    from scale import memory
    from scores import score
    from tasks import load, variants

    kind = (METHODS | PEER_METHODS)[name]
    for module in kind.modules:
        importlib.import_module(module)
    method: Any = None
    spent = 0.0
    for seed in seeds:
        if spent > BUDGET:
            return
        trained_on: tuple[str, ...] = ()
        rows = []
        for variant, task in variants(load(folder, task_name, seed), training_set, seed):
            row = {"task": task_name, "variant": variant, "method": name, "seed": seed}
            genes, started = tuple(task.query.var_names), time.perf_counter()
            try:
                if not trained_on or (method.same_genes and genes != trained_on):
                    Path("/proc/self/clear_refs").write_text("5")  # resets the peak of memory
                    began = time.perf_counter()
                    method = kind()
                    method.fit(task.reference[:, genes] if method.same_genes else task.reference, seed)
                    trained_on, fit_s = genes, time.perf_counter() - began
                began = time.perf_counter()
                prediction = method.predict(task.query, logged=task.logged)
                query_s = time.perf_counter() - began
                peak = memory("VmHWM") / 2**20
                row |= {"fit_s": fit_s, "query_s": query_s, "peak_mib": peak, **score(task, prediction)}
                if variant == "whole" and prediction.latent is not None:
                    save_embedding(prediction.latent, f"{task_name}-{name}-{seed}")
            except Exception as error:  # noqa: BLE001 (any error of a peer is recorded as its result)
                row["failed"] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            spent += time.perf_counter() - started
            rows.append(row)
            if "failed" in row and variant == "whole":
                break
            if quick:
                break
        # All rows of a seed are printed at once, so that an interrupted seed is run again.
        print(*map(json.dumps, rows), sep="\n", flush=True)


def save_embedding(latent: tuple[Any, Any], name: str) -> None:
    """Write an embedding for ``scib.py``."""
    import numpy as np

    EMBEDDINGS.mkdir(parents=True, exist_ok=True)
    np.savez(EMBEDDINGS / f"{name}.npz", reference=latent[0].astype("float32"), query=latent[1].astype("float32"))


def make_environment(folder: Path) -> None:
    """Create the virtual environment of the peers if it does not exist."""
    if (folder / "installed").exists():
        return
    if sys.version_info[:2] != (3, 11):
        sys.exit(
            f"The environment of the peers was not created. Expected Python 3.11; received Python "
            f"{sys.version.split()[0]}. Run this script with python3.11."
        )
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    # The CPU build of PyTorch; by default, pip installs a build of several gigabytes.
    subprocess.run([*pip, "torch==2.13.0"], check=True)
    subprocess.run([*pip, "-r", HERE / "peers.txt"], check=True)
    (folder / "installed").touch()


def quick(folder: Path) -> int:
    """Compare two tasks with the committed table and write nothing; return 1 if a method has become worse."""
    table = pd.read_csv(RESULTS / "accuracy.csv")
    worse = []
    for task in QUICK:
        for method in ("majority class", "PCA + kNN", "logistic regression", "scquery_ae"):
            (row,) = rows_of(Path(sys.executable), folder, method, task, "whole", [0], "--quick")
            same = (table["task"] == task) & (table["method"] == method) & (table["variant"] == "whole")
            before = table.loc[same, "macro_f1"].mean()
            print(f"{task}, {method}: macro-F1 {row.get('macro_f1', float('nan')):.3f}, in the table {before:.3f}")
            if not row.get("macro_f1", 0) >= before - TOLERANCE:
                worse.append(f"{method} on {task}: {row}")
    print(*worse, sep="\n")
    return int(bool(worse))


if __name__ == "__main__":
    sys.exit(main())
