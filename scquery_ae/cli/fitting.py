"""The steps of ``scquery-ae fit``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from anndata import AnnData

from scquery_ae import pp, tl
from scquery_ae._checks import check_obs_key, check_unique, shown
from scquery_ae.cli import echo
from scquery_ae.cli.cells import existing, read_cells
from scquery_ae.cli.failures import Problem, TooFewGenes
from scquery_ae.genes import match_genes
from scquery_ae.labels import label_types
from scquery_ae.loaders import gene_names
from scquery_ae.loaders.files import read_lazy
from scquery_ae.reference import Reference, simulate_query

#: Which options are arguments of which call, beside epochs and seed.
ARGUMENTS = {
    "normalize": ("n_top_genes", "batch_key", "layer", "input_state", "drop_empty"),
    "pretrain": ("layer_sizes", "corruption", "corruption_level", "gene_sets", "checkpoint"),
    "finetune": (
        "label_key",
        "batch_key",
        "gene_masking",
        "class_weight_power",
        "metric_loss",
        "adversarial_weight",
        "label_issues",
        "checkpoint",
    ),
    "build_reference": ("label_key", "batch_key", "calibration", "index"),
}


def read_all(paths: Sequence[Path], options: dict[str, Any]) -> AnnData:
    """Return the cells of one file, or of several."""
    if len(paths) == 1:
        how = {name: options[name] for name in ("lazy", "use_raw", "make_unique")}
        adata = read_cells(paths[0], **how)
        if options["file_key"]:
            adata.obs[options["file_key"]] = paths[0].stem
    else:
        if options["use_raw"]:
            msg = "--use-raw is for one file of cells. Write the raw matrices as files of their own first."
            raise Problem(msg)
        for path in paths:
            existing(path, "file of cells")
        echo.note(f"reading {len(paths)} files in blocks")
        adata = read_lazy(list(paths), join=options["join"], file_key=options["file_key"])
        if options["lazy"] is False:
            adata = adata.to_memory()
        if options["make_unique"]:
            adata.obs_names_make_unique()
            adata.var_names_make_unique()
    adata = _named(adata, options["gene_key"])
    for path in options["genes_of"]:
        adata = _shared(adata, path)
    return adata


def _named(adata: AnnData, gene_key: str | None) -> AnnData:
    """Name the genes by a column of var."""
    if gene_key not in (None, "var_names"):
        if gene_key not in adata.var:
            there = ", ".join(map(str, adata.var)) or "none"
            msg = f"--gene-key {gene_key} is not a column of var. Its columns: {there}."
            raise Problem(msg)
        adata.var_names = adata.var[gene_key].astype(str).to_numpy()
    return adata


def _shared(adata: AnnData, path: Path) -> AnnData:
    """Return the cells over the genes that those of another file have too."""
    match = match_genes(adata.var_names, gene_names(read_cells(path), None))
    if not match.n_found:
        msg = (
            f"{path} has none of the {adata.n_vars} genes. Expected names such as {shown(adata.var_names)}, and "
            f"received names such as {shown(match.examples)}; name the genes by another column with --gene-key."
        )
        raise TooFewGenes(msg)
    echo.note(f"{match.n_found} of {adata.n_vars} genes are in {path} too")
    return adata[:, match.columns >= 0].copy()


def check_label_key(adata: AnnData, options: dict[str, Any]) -> None:
    """Say which columns there are if none was named."""
    if options["label_key"] is None:
        there = ", ".join(map(str, adata.obs)) or "none"
        msg = f"Say with --label-key which column of obs has the cell types. There are: {there}."
        raise click.UsageError(msg)


def check_labels(adata: AnnData, options: dict[str, Any]) -> None:
    """Find now what would be found after hours of pretraining."""
    check_label_key(adata, options)
    label_key, batch_key = options["label_key"], options["batch_key"]
    labels = check_obs_key(adata, label_key, "label_key")
    if options["unlabelled"]:
        without = labels.astype(str).isin(options["unlabelled"])
        labels = labels.astype(object).mask(without).astype("category")
        adata.obs[label_key] = labels
    types = label_types(labels)
    if len(types) < 2:
        msg = (
            f"--label-key {label_key} must give at least two cell types. Received {len(types)} "
            f"({int(labels.notna().sum())} of {adata.n_obs} cells have a label); name another column."
        )
        raise Problem(msg)
    by_batch = options["calibration"] == "leave_one_batch_out" or options["adversarial_weight"]
    if by_batch and batch_key is None:
        msg = (
            "--calibration leave_one_batch_out and --adversarial-weight need a --batch-key: the column of the batches."
        )
        raise Problem(msg)
    if batch_key is not None:
        batches = check_obs_key(adata, batch_key, "batch_key")
        if by_batch and batches[labels.notna()].nunique() < 2:
            msg = (
                "--calibration leave_one_batch_out and --adversarial-weight need two batches of labelled cells. "
                f"--batch-key {batch_key} gives one; name another column, or leave them out."
            )
            raise Problem(msg)
    check_unique(adata.obs_names, "Names of cells", "pass --make-unique to number them.")


def train(adata: AnnData, options: dict[str, Any]) -> Reference:
    """Normalise, pretrain, fine-tune and build."""
    chosen = {step: {name: options[name] for name in names} for step, names in ARGUMENTS.items()}
    for step in ("pretrain", "finetune"):
        chosen[step]["epochs"] = options["epochs"] or options[f"{step}_epochs"]
        chosen[step]["random_state"] = options["seed"]
    echo.note(f"choosing genes among {adata.n_vars}, for {adata.n_obs} cells")
    pp.normalize(adata, **chosen["normalize"])
    echo.import_keras()
    encoder = tl.pretrain(adata, **chosen["pretrain"])
    tl.finetune(adata, encoder, **chosen["finetune"])
    echo.note("building the reference")
    return tl.build_reference(adata, encoder, **chosen["build_reference"])


def found_out(reference: Reference) -> dict[str, Any]:
    """Return what to report of a new reference."""
    simulated = simulate_query(reference)
    held_out = None
    if simulated is not None:
        held_out = {
            "n_cells": sum(simulated.n_cells.values()),
            "accuracy": simulated.accuracy,
            "macro_f1": simulated.macro_f1,
            "types": [
                {"label": kind, "n_cells": simulated.n_cells[kind], "f1": f1} for kind, f1 in simulated.f1.items()
            ],
        }
    return {
        "n_obs": reference.n_obs,
        "n_unlabelled": int((reference.label_codes < 0).sum()),
        "n_genes": len(reference.encoder.genes),
        "label_key": reference.label_key,
        "types": list(reference.types),
        "held_out": held_out,
        "warnings": click.get_current_context().obj,
    }


def summary(found: dict[str, Any]) -> str:
    """Return the report as text."""
    rows = [
        ("reference", str(found["output"])),
        ("cells", f"{found['n_obs']}, {found['n_unlabelled']} of them without a label"),
        ("genes", str(found["n_genes"])),
        ("types", f"{len(found['types'])} in {found['label_key']}"),
    ]
    held = found["held_out"]
    if held is not None:
        well = f"accuracy {held['accuracy']:.3f}, macro-F1 {held['macro_f1']:.3f}"
        rows.append(("held out", f"{held['n_cells']} cells: {well}"))
        weak = sorted((kind["f1"], kind["label"], kind["n_cells"]) for kind in held["types"] if kind["f1"] < 0.8)
        if weak:
            rows.append(
                ("weak types", "F1 of " + ", ".join(f"{name} {f1:.2f} ({n} cells)" for f1, name, n in weak[:8]))
            )
    rows.append(("time", f"{found['seconds']:.0f} s"))
    return echo.pairs(rows)
