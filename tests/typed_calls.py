"""Public calls for the type checker. ``python dev.py check`` runs mypy on this file; nothing runs the file itself.

A line with ``type: ignore`` is wrong on purpose: mypy reports an ignore that suppresses no error.
"""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import pandas as pd
from anndata import AnnData

import scquery_ae as scq
from scquery_ae.pp import CheckReport


def right(adata: AnnData) -> None:
    """Calls as in the guides, with the types of their results."""
    assert_type(scq.__version__, str)
    assert_type(scq.settings.verbosity, int)
    scq.settings.verbosity = 2
    scq.settings.verbosity = "info"
    encoder = scq.tl.pretrain(adata, layer_sizes=(64, 8), epochs=[1, 2], progress=False)
    assert_type(encoder, scq.Encoder)
    scq.tl.finetune(adata, encoder, label_key="cell_type", metric_loss="contrastive")
    scq.tl.embed(adata, encoder, orthologs={"Actb": "ACTB"})
    assert_type(scq.tl.audit(adata, encoder, label_key="cell_type"), pd.DataFrame)

    reference = scq.tl.build_reference(adata, encoder, label_key="cell_type")
    assert_type(reference, scq.Reference)
    reference.save(Path("reference.scq"))
    assert_type(scq.Reference.load("reference.scq"), scq.Reference)

    assert_type(scq.pp.check(adata, reference), CheckReport)
    scq.tl.query(adata, "reference.scq", n_neighbors=5, where={"study": "baron"})
    assert_type(scq.tl.explain(adata, reference, 0), pd.DataFrame)
    assert_type(scq.report.write(adata, "report.html", reference=reference), Path)


def wrong(adata: AnnData, encoder: scq.Encoder) -> None:
    """Calls that a type checker must refuse."""
    scq.qurey  # type: ignore[attr-defined]
    scq.settings.verbsoity = 2  # type: ignore[attr-defined]
    scq.settings.verbosity = 2.5  # type: ignore[assignment]
    scq.tl.qurey  # type: ignore[attr-defined]
    scq.tl.query(adata, encoder)  # type: ignore[arg-type]
    scq.tl.query(adata, "reference.scq", n_neighbors="5")  # type: ignore[arg-type]
    scq.tl.query(adata, "reference.scq", neighbors=5)  # type: ignore[call-arg]
    scq.tl.query(adata, "reference.scq", 5)  # type: ignore[call-arg]
    scq.tl.finetune(adata, encoder)  # type: ignore[call-arg]
    scq.tl.pretrain(adata, layer_sizes=64)  # type: ignore[arg-type]
    scq.Encoder()  # type: ignore[call-arg]
