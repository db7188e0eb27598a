"""The steps of ``scquery-ae fit``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from anndata import AnnData

from scquery_ae import pp, tl
from scquery_ae._caller import argument, current
from scquery_ae._checks import check_layer, check_obs_key, check_unique, shown
from scquery_ae.cli.cells import read_cells
from scquery_ae.cli.console import import_keras, show_progress
from scquery_ae.cli.exit_codes import FEW_GENES, CommandError
from scquery_ae.cli.layout import format_pairs
from scquery_ae.cli.tables import check_gene_sets
from scquery_ae.genes import match_genes
from scquery_ae.input_state import in_memory
from scquery_ae.labels import label_types
from scquery_ae.loaders import gene_names
from scquery_ae.reference import Reference, simulate_query
from scquery_ae.transform import row_sums

#: Smallest number of genes that the cells and the cells of ``--genes-of`` must have in common.
FEWEST_COMMON_GENES = 20

#: Options that are arguments of ``scq.read``.
READING = ("lazy", "use_raw", "make_unique", "join", "file_key")

#: Options that are arguments of each call, except epochs and seed.
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


def prepare_cells(paths: Sequence[Path], options: dict[str, Any]) -> AnnData:
    """Read one file or several, name the genes, and keep those that the cells of ``--genes-of`` have."""
    if options["gene_sets"] is not None:
        check_gene_sets(options["gene_sets"])
    adata = read_cells(paths, **{name: options[name] for name in READING})
    if options["label_key"] is None:
        there = ", ".join(map(str, adata.obs)) or "none"
        msg = f"Give --label-key, the column of obs with the cell types. Its columns: {there}."
        raise click.UsageError(msg)
    gene_key = options["gene_key"]
    if gene_key not in (None, "var_names"):
        if gene_key not in adata.var:
            there = ", ".join(map(str, adata.var)) or "none"
            msg = f"--gene-key {gene_key} is not a column of var. Its columns: {there}."
            raise CommandError(msg)
        adata.var_names = adata.var[gene_key].astype(str).to_numpy()
    kept = adata
    for path in options["genes_of"]:
        kept = _keep_shared_genes(kept, path)
    if options["genes_of"] and not options["drop_empty"]:
        _check_counts_left(adata, kept, options)
    return kept


def _check_counts_left(adata: AnnData, kept: AnnData, options: dict[str, Any]) -> None:
    """Raise if ``--genes-of`` leaves cells without a count, which later calls would report as empty."""
    before, after = (check_layer(cells, options["layer"]) for cells in (adata, kept))
    if adata.isbacked or not in_memory(before):  # a pass over the file; `pp.normalize` finds the cells then
        return
    emptied = int(((row_sums(before) > 0) & (row_sums(after) == 0)).sum())
    if emptied:
        msg = (
            f"{argument('genes_of', options['genes_of'])} leaves {kept.n_vars} of {adata.n_vars} genes, and {emptied} "
            f"of {adata.n_obs} cells have counts in other genes only. If more genes should be in common, name the "
            "genes by another column with --gene-key; otherwise pass --drop-empty to drop these cells."
        )
        raise CommandError(msg, FEW_GENES)


def _keep_shared_genes(adata: AnnData, path: Path) -> AnnData:
    """Return the cells with the genes that the cells of another file have too."""
    match = match_genes(adata.var_names, gene_names(read_cells(path), None))
    fewest = min(FEWEST_COMMON_GENES, adata.n_vars)
    if match.n_found < fewest:
        msg = (
            f"--genes-of {path} has {match.n_found} of the {adata.n_vars} genes of the labelled cells. Expected at "
            f"least {fewest} genes in common, with names such as {shown(adata.var_names)}; received names such as "
            f"{shown(match.examples)}. Name the genes by another column with --gene-key, or leave out --genes-of."
        )
        raise CommandError(msg, FEW_GENES)
    show_progress(f"{match.n_found} of {adata.n_vars} genes are in {path} too")
    return adata[:, match.columns >= 0].copy()


def check_labels(adata: AnnData, options: dict[str, Any]) -> None:
    """Find before training what would stop it hours later."""
    label_key, batch_key = options["label_key"], options["batch_key"]
    labels = check_obs_key(adata, label_key, "label_key")
    if options["unlabelled"]:
        there = labels.dropna().astype(str).unique()
        absent = [label for label in options["unlabelled"] if label not in there]
        if absent:
            msg = (
                f"{argument('unlabelled', absent)} is no label in --label-key {label_key}. Expected some of "
                f"{shown(sorted(there), 20)}; correct the label or leave the option out."
            )
            raise CommandError(msg)
        without = labels.astype(str).isin(options["unlabelled"])
        labels = labels.astype(object).mask(without).astype("category")
        adata.obs[label_key] = labels
    types = label_types(labels)
    if len(types) < 2:
        msg = (
            f"--label-key {label_key} must give at least two cell types. Received {len(types)} "
            f"({int(labels.notna().sum())} of {adata.n_obs} cells have a label); name another column."
        )
        raise CommandError(msg)
    by_batch = options["calibration"] == "leave_one_batch_out" or options["adversarial_weight"]
    if by_batch and batch_key is None:
        msg = "--calibration leave_one_batch_out and --adversarial-weight need --batch-key, the column of the batches."
        raise CommandError(msg)
    if batch_key is not None:
        batches = check_obs_key(adata, batch_key, "batch_key")
        if by_batch and batches[labels.notna()].nunique() < 2:
            msg = (
                "--calibration leave_one_batch_out and --adversarial-weight need two batches of labelled cells. "
                f"--batch-key {batch_key} gives one; name another column, or leave out both options."
            )
            raise CommandError(msg)
    check_unique(adata.obs_names, "Names of cells", f"{current().make_unique('obs')}.")


def train(adata: AnnData, options: dict[str, Any]) -> Reference:
    """Normalise, pretrain, fine-tune, and build the reference."""
    chosen = {step: {name: options[name] for name in names} for step, names in ARGUMENTS.items()}
    for step in ("pretrain", "finetune"):
        chosen[step]["epochs"] = options["epochs"] or options[f"{step}_epochs"]
        chosen[step]["random_state"] = options["seed"]
    show_progress(f"choosing among {adata.n_vars} genes of {adata.n_obs} cells")
    pp.normalize(adata, **chosen["normalize"])
    import_keras()
    encoder = tl.pretrain(adata, **chosen["pretrain"])
    tl.finetune(adata, encoder, **chosen["finetune"])
    show_progress("building the reference")
    return tl.build_reference(adata, encoder, **chosen["build_reference"])


def describe_reference(reference: Reference) -> dict[str, Any]:
    """Return what the command reports on a new reference."""
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
    }


def summarize(found: dict[str, Any]) -> str:
    """Return the result of the command as text."""
    rows = [
        ("reference", str(found["output"])),
        ("cells", f"{found['n_obs']}, {found['n_unlabelled']} without a label"),
        ("genes", str(found["n_genes"])),
        ("types", f"{len(found['types'])} in {found['label_key']}"),
    ]
    held_out = found["held_out"]
    if held_out is not None:
        scores = f"accuracy {held_out['accuracy']:.3f}, macro-F1 {held_out['macro_f1']:.3f}"
        rows.append(("held out", f"{held_out['n_cells']} cells: {scores}"))
        weak = sorted((kind["f1"], kind["label"], kind["n_cells"]) for kind in held_out["types"] if kind["f1"] < 0.8)
        if weak:
            rows.append(
                ("weak types", "F1 of " + ", ".join(f"{name} {f1:.2f} ({n} cells)" for f1, name, n in weak[:8]))
            )
    rows.append(("time", f"{found['seconds']:.0f} s"))
    return format_pairs(rows)
