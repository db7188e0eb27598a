"""Measure calibration, detection of unknown types, coverage, expected accuracy, wrong labels and cold start.

    KERAS_BACKEND=jax python benchmarks/trust.py --data ../shared/data --seeds 5

Each part appends rows to ``results/trust.csv``, one measure per row, and skips rows that exist. ``trust.md`` is then
written with means and 95 % intervals over seeds.

rejection
    Each type, and each lineage of Kang's cells, is removed from the reference in turn: AUROC of the p-value and of the
    novelty score for detecting its cells in the query. The query is a quarter of each type of Baron's cells, or two of
    Kang's donors.
donors
    Each of Kang's donors is the query in turn; the reference has at most 500 cells of each other donor. Calibration
    error and coverage of prediction sets, calibrated on held-out cells and, for the first seed, by
    leave-one-batch-out.
tasks
    The tasks of ``tasks.json``, with random panels of the query's genes: the expected accuracy of ``pp.check`` beside
    the observed one; with all genes also calibration error and coverage.
labels
    A fifth of the labels is replaced at random: loss of macro-F1, and precision and recall of ``tl.audit``. Kang's
    reference has at most 500 cells per donor.
start
    Time to load a saved reference and query 1,000 cells in a new process, relative to ``import tensorflow``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import anndata
import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.metrics import f1_score, roc_auc_score
from tables import interval
from tasks import LABEL_KEY, load, subset_genes

import scquery_ae as scq

RESULTS = Path(__file__).parent / "results"
FILES = {"baron": "pancreas_baron_human1", "kang": "pbmc_kang_ctrl_8donor"}
LINEAGES = {
    "monocytes": ("CD14+ Monocytes", "FCGR3A+ Monocytes"),
    "T cells": ("CD4 T cells", "CD8 T cells"),
    **{kind: (kind,) for kind in ("B cells", "NK cells", "Dendritic cells", "Megakaryocytes")},
}
TASKS = ("pancreas_protocol", "pancreas_species", "pbmc_purified", "celllines_protocol", "pbmc_stimulated")
PANELS = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02)
COVERAGE = 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .h5ad files and tasks.json")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    arguments = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "trust.csv"
    done = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["part", "job", "seed", "measure", "value"])
    for part in arguments.parts:
        jobs, run = PARTS[part]
        for seed in range(arguments.seeds):
            for job in jobs(arguments.data):
                if ((done["part"] == part) & (done["job"] == job) & (done["seed"] == seed)).any():
                    continue
                rows = [(part, job, seed, measure, value) for measure, value in run(arguments.data, job, seed).items()]
                new = pd.DataFrame(rows, columns=list(done.columns))
                done = pd.concat([done, new], ignore_index=True) if len(done) else new
                done.round(5).to_csv(path, index=False)
                print(new.to_string(index=False, header=False), flush=True)
    text = markdown(done)
    (RESULTS / "trust.md").write_text(text)
    print(text)


def read(folder: Path, name: str) -> anndata.AnnData:
    adata = anndata.read_h5ad(folder / f"{FILES[name]}.h5ad")
    adata.obs[LABEL_KEY] = adata.obs[LABEL_KEY].astype(str)
    return adata


def split(adata: anndata.AnnData, name: str, seed: int) -> np.ndarray:
    """Return the query cells, bool ``(n_obs,)``: a quarter of each of Baron's types, or two of Kang's donors."""
    rng = np.random.default_rng(seed)
    labels = adata.obs[LABEL_KEY].to_numpy()
    if name == "kang":
        donors = adata.obs["batch"].astype(str).to_numpy()
        return np.isin(donors, rng.permutation(np.unique(donors))[:2])
    query = np.zeros(adata.n_obs, dtype=bool)
    for kind in np.unique(labels):
        members = np.flatnonzero(labels == kind)
        query[rng.permutation(members)[: max(1, round(0.25 * len(members)))]] = True
    return query


def at_most_500_per_donor(adata: anndata.AnnData, rng: np.random.Generator) -> np.ndarray:
    """Return at most 500 cells per donor, bool ``(n_obs,)``, to limit the time of a hundred trainings."""
    order = pd.Series(rng.random(adata.n_obs)).groupby(adata.obs["batch"].astype(str).to_numpy()).rank()
    return order.to_numpy() <= 500


def train(reference: anndata.AnnData, seed: int, label_key: str = LABEL_KEY, **settings: object):
    """Train on a normalised copy; return the encoder and the copy."""
    reference = reference.copy()
    scq.pp.normalize(reference, n_top_genes=2000)
    encoder = scq.tl.pretrain(reference, random_state=seed, progress=False)
    batch = "batch" if reference.obs["batch"].nunique() > 1 else None
    scq.tl.finetune(
        reference, encoder, label_key=label_key, batch_key=batch, random_state=seed, progress=False, **settings
    )
    return encoder, reference


def queried(query: anndata.AnnData, reference: scq.Reference, **settings: object) -> anndata.AnnData:
    """Return a copy of the query with predictions."""
    query = query.copy()
    scq.tl.query(query, reference, coverage=COVERAGE, **settings)
    return query


def calibration_measures(query: anndata.AnnData, truth: np.ndarray) -> dict[str, float]:
    """Return measures of confidence, prediction sets and rejection for cells of known types."""
    right = query.obs["scquery_label"].astype(str).to_numpy() == truth
    sets = [set(str(names).split("|")) for names in query.obs["scquery_prediction_set"]]
    confidence = query.obs["scquery_confidence"].to_numpy()
    return {
        "accuracy": float(right.mean()),
        "ECE": scq.stats.expected_calibration_error(confidence, right),
        f"coverage at {COVERAGE}": float(np.mean([kind in kinds for kind, kinds in zip(truth, sets, strict=True)])),
        "types in a set": float(np.mean([len(kinds) for kinds in sets])),
        "called unknown at .05": float(query.obs["scquery_unknown"].mean()),
    }


def rejection_jobs(folder: Path) -> Iterator[str]:
    for name in FILES:
        for kind in sorted(read(folder, name).obs[LABEL_KEY].unique()):
            yield f"{name}: {kind}"
    for lineage, kinds in LINEAGES.items():
        if len(kinds) > 1:
            yield f"kang: {lineage}"


def rejection(folder: Path, job: str, seed: int) -> dict[str, float]:
    name, removed = job.split(": ")
    kinds = LINEAGES.get(removed, (removed,)) if name == "kang" else (removed,)
    adata = read(folder, name)
    in_query, removed_cells = split(adata, name, seed), adata.obs[LABEL_KEY].isin(kinds).to_numpy()
    unknown = removed_cells[in_query]
    if unknown.sum() < 3:
        return {"unknown cells": float(unknown.sum())}
    encoder, reference = train(adata[~in_query & ~removed_cells], seed)
    found = queried(adata[in_query], scq.tl.build_reference(reference, encoder, label_key=LABEL_KEY)).obs
    pvalues, right = found["scquery_pvalue"].to_numpy(), (found["scquery_label"].astype(str) == found[LABEL_KEY])
    return {
        "unknown cells": float(unknown.sum()),
        "AUROC, p-value": roc_auc_score(unknown, -pvalues),
        "AUROC, novelty score": roc_auc_score(unknown, found["scquery_novelty"]),
        "unknown found at .05": float((pvalues[unknown] <= 0.05).mean()),
        "known called unknown at .05": float((pvalues[~unknown] <= 0.05).mean()),
        "ECE": scq.stats.expected_calibration_error(
            found["scquery_confidence"].to_numpy()[~unknown], right.to_numpy()[~unknown]
        ),
    }


def donor_jobs(folder: Path) -> Iterator[str]:
    yield from sorted(read(folder, "kang").obs["batch"].astype(str).unique())


def donors(folder: Path, job: str, seed: int) -> dict[str, float]:
    adata = read(folder, "kang")
    in_query = adata.obs["batch"].astype(str).to_numpy() == job
    encoder, reference = train(adata[~in_query & at_most_500_per_donor(adata, np.random.default_rng(seed))], seed)
    query = adata[in_query].copy()
    measures = {}
    for calibration in ("held_out", "leave_one_batch_out"):
        if calibration == "leave_one_batch_out" and seed:
            continue  # trains seven times
        built = scq.tl.build_reference(
            reference, encoder, label_key=LABEL_KEY, batch_key="batch", calibration=calibration, progress=False
        )
        values = calibration_measures(queried(query, built), query.obs[LABEL_KEY].to_numpy())
        measures |= {f"{calibration}: {measure}": value for measure, value in values.items()}
    return measures


def tasks(folder: Path, job: str, seed: int) -> dict[str, float]:
    task = load(folder, job)
    encoder, reference = train(task.reference, seed)
    built = scq.tl.build_reference(reference, encoder, label_key=LABEL_KEY)
    truth = task.query.obs[LABEL_KEY].astype(str).to_numpy()[task.known]
    measures = {}
    for fraction in PANELS:
        query = subset_genes(task.query, fraction, seed)
        expected = scq.pp.check(query, built).expected_accuracy
        labelled = queried(query, built, min_gene_overlap=0.0)[task.known]
        predicted = labelled.obs["scquery_label"].astype(str).to_numpy()
        # Compare over the types that the query has.
        seen = [kind for kind in np.unique(truth) if kind in expected.f1]
        measures[f"expected macro-F1, {fraction:.0%} of the genes"] = float(
            np.mean([expected.f1[kind] for kind in seen])
        )
        measures[f"macro-F1, {fraction:.0%} of the genes"] = f1_score(
            truth, predicted, labels=seen, average="macro", zero_division=0
        )
        if fraction == 1:
            measures |= calibration_measures(labelled, truth)
    return measures


def labels(folder: Path, job: str, seed: int) -> dict[str, float]:
    adata = read(folder, job)
    rng = np.random.default_rng([seed, 7])
    in_query = split(adata, job, seed)
    few = at_most_500_per_donor(adata, rng) if job == "kang" else np.ones(adata.n_obs, dtype=bool)
    reference, query = adata[~in_query & few].copy(), adata[in_query].copy()
    given = reference.obs[LABEL_KEY].to_numpy()
    kinds = np.unique(given)
    wrong = np.zeros(len(given), dtype=bool)
    wrong[rng.permutation(len(given))[: round(0.2 * len(given))]] = True
    reference.obs["replaced"] = [
        rng.choice(kinds[kinds != kind]) if swap else kind for kind, swap in zip(given, wrong, strict=True)
    ]
    reference.obs["right"] = reference.obs[LABEL_KEY].mask(wrong)
    truth = query.obs[LABEL_KEY].to_numpy()
    measures = {}
    for name, key, settings in (
        ("clean", LABEL_KEY, {}),
        ("replaced", "replaced", {}),
        ("replaced, left out by an oracle", "right", {"label_issues": "keep"}),
        ("replaced, kept", "replaced", {"label_issues": "keep"}),
    ):
        encoder, trained = train(reference, seed, key, **settings)
        predicted = (
            queried(query, scq.tl.build_reference(trained, encoder, label_key=key)).obs["scquery_label"].astype(str)
        )
        measures[f"macro-F1, {name}"] = f1_score(truth, predicted, labels=kinds, average="macro", zero_division=0)
        if name == "clean":
            measures["right labels dropped"] = float((trained.obs["scquery_split"] == "label_issue").mean())
    found = scq.tl.audit(trained, encoder, label_key="replaced", progress=False)
    label_issue = found["is_label_issue"].reindex(trained.obs_names).to_numpy()
    measures["macro-F1 lost"] = measures["macro-F1, clean"] - measures["macro-F1, replaced"]
    for name in ("kept", "left out by an oracle"):
        measures[f"macro-F1 lost, {name}"] = measures["macro-F1, clean"] - measures[f"macro-F1, replaced, {name}"]
    measures["replaced labels found"] = float(label_issue[wrong].mean())
    measures["of those found, replaced"] = float(wrong[label_issue].mean())
    return measures


def start(folder: Path, job: str, seed: int) -> dict[str, float]:
    adata = read(folder, job)
    encoder, reference = train(adata, seed, epochs=1)
    built = scq.tl.build_reference(reference, encoder, label_key=LABEL_KEY)
    with tempfile.TemporaryDirectory() as place:
        built.save(Path(place) / "r.scq")
        adata[:1000].copy().write_h5ad(Path(place) / "query.h5ad")
        ours = (
            "import sys, anndata, scquery_ae as scq; a = anndata.read_h5ad('query.h5ad'); "
            "scq.tl.query(a, 'r.scq'); assert not {'tensorflow', 'keras'} & set(sys.modules)"
        )
        seconds = {"query 1,000 cells": [], "import tensorflow": []}
        # Measured in turns, so that other load affects both.
        for _ in range(5):
            for name, code in (("query 1,000 cells", ours), ("import tensorflow", "import tensorflow")):
                began = time.perf_counter()
                subprocess.run([sys.executable, "-c", code], cwd=place, check=True, capture_output=True)
                seconds[name].append(time.perf_counter() - began)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    return {
        **{f"{name} (s)": value for name, value in medians.items()},
        "ratio": medians["query 1,000 cells"] / medians["import tensorflow"],
    }


PARTS = {
    "rejection": (rejection_jobs, rejection),
    "donors": (donor_jobs, donors),
    "tasks": (lambda _: iter(TASKS), tasks),
    "labels": (lambda _: iter(FILES), labels),
    "start": (lambda _: iter(["baron"]), start),
}


def markdown(done: pd.DataFrame) -> str:
    """Return the tables of all parts: means and 95 % intervals over seeds."""
    own = {part: done[done["part"] == part] for part in done["part"].unique()}
    lines = ["Means and 95 % intervals over seeds.", ""]
    if "rejection" in own:
        rows = own["rejection"]
        lines += ["## Mean over removed types", "", *_table(pd.concat(_mean_over_types(rows)), "reference"), ""]
        lines += ["## Removed types", "", *_table(rows, "type removed from the reference"), ""]
    if "tasks" in own:
        simple = own["tasks"][~own["tasks"]["measure"].str.contains("of the genes")]
        lines += ["## Across studies", "", *_table(simple, "task"), "", *_expected_accuracy(own["tasks"])]
    if "donors" in own:
        lines += _by_donor(own["donors"])
    if "labels" in own:
        lines += ["## Replaced labels", "", *_table(own["labels"], "reference"), ""]
    if "start" in own:
        lines += ["## Cold start", "", *_table(own["start"], "reference"), ""]
    return "\n".join(lines)


def _table(rows: pd.DataFrame, header: str) -> list[str]:
    """Return jobs by measures."""
    measures = list(dict.fromkeys(rows["measure"]))
    lines = [f"| {header} | " + " | ".join(measures) + " |", "|---|" + "---|" * len(measures)]
    for job, own in rows.groupby("job", sort=False):
        values = own.groupby("measure")["value"].apply(np.array)
        lines.append(f"| {job} | " + " | ".join(interval(values.get(name, [])) for name in measures) + " |")
    return lines


def _expected_accuracy(rows: pd.DataFrame) -> list[str]:
    """Return expected and observed macro-F1 by fraction of the genes, and how well they agree."""
    found = rows[rows["measure"].str.contains("of the genes")]
    names = found["measure"].str.extract(r"^(?P<kind>expected )?macro-F1, (?P<genes>\d+%) of the genes$")
    found = found.assign(kind=np.where(names["kind"].isna(), "observed", "expected"), genes=names["genes"])
    both = found.pivot_table(index=["job", "genes", "seed"], columns="kind", values="value", sort=False).reset_index()
    panels = list(dict.fromkeys(both["genes"]))
    lines = ["## Expected and observed macro-F1 by fraction of the genes", ""]
    lines += ["| task | " + " | ".join(panels) + " |", "|---|" + "---|" * len(panels)]
    for job, own in both.groupby("job", sort=False):
        means = own.groupby("genes")[["expected", "observed"]].mean()
        cells = [f"{means.loc[genes, 'expected']:.2f} / {means.loc[genes, 'observed']:.2f}" for genes in panels]
        lines.append(f"| {job} | " + " | ".join(cells) + " |")
    lines += ["", "## Agreement of expected and observed macro-F1", ""]
    lines.append("| task | rank correlation | mean of expected - observed | mean absolute difference |")
    lines.append("|---|---|---|---|")
    for name, own in [*both.groupby("job", sort=False), ("all", both)]:
        off = own["expected"] - own["observed"]
        rho = spearmanr(own["expected"], own["observed"]).statistic
        lines.append(f"| {name} | {rho:.3f} | {off.mean():.3f} | {off.abs().mean():.3f} |")
    return [*lines, ""]


def _by_donor(rows: pd.DataFrame) -> list[str]:
    """Return both calibrations by donor, and their means over donors for the seed that has both."""
    names = rows["measure"].str.extract(r"^(?P<calibration>\w+): (?P<measure>.*)$")
    split = rows.assign(measure=names["measure"], calibration=names["calibration"].str.replace("_", " "))
    mean = split.groupby(["seed", "calibration", "measure"], sort=False)["value"].mean().reset_index()
    held_out = split[split["calibration"] == "held out"]
    lines = ["## Donors, calibrated on held-out cells", ""]
    lines += _table(pd.concat([held_out, mean[mean["calibration"] == "held out"].assign(job="mean")]), "donor")
    first = split[split["seed"] == 0].assign(job=split["calibration"])
    lines += ["", "## Calibration by donors", "", "Mean and 95 % interval over the donors, one seed.", ""]
    return [*lines, *_table(first, "calibration"), ""]


def _mean_over_types(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield the means over types and over lineages."""
    scored = rows[rows["measure"] != "unknown cells"]
    name, kind = scored["job"].str.split(": ", n=1).str[0], scored["job"].str.split(": ", n=1).str[1]
    lineage = kind.isin(list(LINEAGES))
    together = kind.isin([k for k, kinds in LINEAGES.items() if len(kinds) > 1])
    for label, chosen in (
        ("Baron, types", name == "baron"),
        ("Kang, types", (name == "kang") & ~together),
        ("Kang, lineages", (name == "kang") & lineage),
    ):
        mean = scored[chosen].groupby(["seed", "measure"], sort=False)["value"].mean().reset_index()
        yield mean.assign(job=label, part="rejection")


if __name__ == "__main__":
    main()
