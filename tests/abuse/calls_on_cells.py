"""Valid calls of ``pp``, ``tl`` and ``pl``."""

from __future__ import annotations

import copy
from collections.abc import Callable

import scquery_ae as scq
from abuse.world import Draft, gmt, obo, reference, training
from scquery_ae import gene_sets, pl


def _normalize(draft: Draft) -> None:
    draft.function = scq.pp.normalize
    draft.arguments = {"adata": draft.world.query.copy(), "n_top_genes": 30}


def _align_genes(draft: Draft) -> None:
    draft.function = scq.pp.align_genes
    owner = draft.pick([draft.world.reference, draft.world.encoder])
    draft.arguments = {"adata": draft.world.query.copy(), "reference": owner}


def _check(draft: Draft) -> None:
    draft.function = scq.pp.check
    draft.arguments = {"adata": draft.world.query.copy(), "reference": reference(draft)}


def _pretrain(draft: Draft) -> None:
    draft.function = scq.tl.pretrain
    draft.arguments = {"adata": draft.world.cells.copy(), "layer_sizes": (4, 3), **training(draft)}
    draft.fixed = ("epochs", "checkpoint")
    if draft.rng.random() < 0.4:
        path = draft.folder / "sets.gmt"
        path.write_text(gmt(draft))
        draft.arguments["gene_sets"] = draft.pick([path, gene_sets.read_gmt(path)])


def _finetune(draft: Draft) -> None:
    draft.function = scq.tl.finetune
    draft.arguments = {
        "adata": draft.world.cells.copy(),
        "encoder": copy.deepcopy(draft.world.encoder),
        "label_key": "cell_type",
        **training(draft),
    }
    if draft.rng.random() < 0.5:
        draft.arguments["batch_key"] = "batch"
    if draft.rng.random() < 0.3:
        draft.arguments["metric_loss"] = draft.pick(["triplet", "contrastive"])
    draft.fixed = ("epochs",)


def _embed(draft: Draft) -> None:
    draft.function = scq.tl.embed
    draft.arguments = {"adata": draft.world.query.copy(), "encoder": draft.world.encoder}


def _build_reference(draft: Draft) -> None:
    draft.function = scq.tl.build_reference
    draft.arguments = {
        "adata": draft.world.cells.copy(),
        "encoder": copy.deepcopy(draft.world.encoder),
        "label_key": "cell_type",
        "progress": False,
    }
    draft.fixed = ("calibration",) if draft.rng.random() < 0.8 else ()


def _query(draft: Draft) -> None:
    draft.function = scq.tl.query
    draft.arguments = {"adata": draft.world.query.copy(), "reference": reference(draft), "n_neighbors": 5}
    if draft.rng.random() < 0.3:
        extra = draft.pick([{"where": {"batch": "batch 0"}}, {"exclude_key": "batch"}, {"diversify_key": "batch"}])
        draft.arguments.update(extra)


def _audit(draft: Draft) -> None:
    draft.function = scq.tl.audit
    draft.arguments = {
        "adata": draft.world.cells.copy(),
        "encoder": copy.deepcopy(draft.world.encoder),
        "label_key": "cell_type",
        "n_folds": 2,
        "progress": False,
    }
    draft.fixed = ("n_folds",) if draft.rng.random() < 0.5 else ()


def _explain(draft: Draft) -> None:
    draft.function = scq.tl.explain
    draft.arguments = {"adata": draft.world.query.copy(), "reference": reference(draft), "cell": "cell0", "neighbor": 0}


def _coarsen(draft: Draft) -> None:
    draft.function = scq.tl.coarsen
    draft.arguments = {
        "adata": draft.world.queried.copy(),
        "ontology": obo(draft),
        "terms": {f"type {i}": f"type {i}" for i in range(3)},
    }


#: Calls of ``pp`` and ``tl``, with their relative frequencies.
STEPS: dict[Callable[[Draft], None], float] = {
    _normalize: 9,
    _align_genes: 4,
    _check: 7,
    _pretrain: 2,
    _finetune: 2,
    _embed: 6,
    _build_reference: 4,
    _query: 14,
    _audit: 1.5,
    _explain: 6,
    _coarsen: 4,
}


def _history(draft: Draft) -> None:
    draft.function = pl.history
    draft.arguments = {"encoder": copy.deepcopy(draft.world.encoder)}
    _save_figure(draft)


def _plot_embedding(draft: Draft) -> None:
    draft.function = pl.embedding
    draft.arguments = {"adata": draft.world.queried.copy(), "color": "cell_type", "basis": "X_scquery"}
    if draft.rng.random() < 0.3:
        draft.arguments["color"] = "scquery_confidence"
    _save_figure(draft)


def _plot_query(draft: Draft) -> None:
    draft.function = pl.query
    draft.arguments = {"adata": draft.world.queried.copy()}
    _save_figure(draft)


def _plot_explain(draft: Draft) -> None:
    draft.function = pl.explain
    draft.arguments = {"table": scq.tl.explain(draft.world.query, draft.world.reference, 0), "n_genes": 3}
    _save_figure(draft)


def _save_figure(draft: Draft) -> None:
    # A figure that is not saved is not rendered, which is faster.
    if draft.rng.random() < 0.3:
        draft.arguments["save"] = draft.folder / "figure.png"


#: Calls of ``pl``, with their relative frequencies.
PLOTS: dict[Callable[[Draft], None], float] = {
    _history: 1.5,
    _plot_embedding: 3,
    _plot_query: 1.5,
    _plot_explain: 1.5,
}
