"""What a type checker makes of the public calls: mypy reads this file with ``python dev.py check``, nothing runs it.

A line under ``type: ignore`` is wrong on purpose: mypy reports an ignore under which nothing is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import pandas as pd
from anndata import AnnData

import scquery_ae as sq
from scquery_ae.pp import CheckReport


def right(adata: AnnData) -> None:
    """Calls as in the guides, with the types of what they return."""
    assert_type(sq.__version__, str)
    assert_type(sq.settings.verbosity, int)
    sq.settings.verbosity = 2
    sq.settings.verbosity = "info"
    encoder = sq.tl.pretrain(adata, layer_sizes=(64, 8), epochs=[1, 2], progress=False)
    assert_type(encoder, sq.Encoder)
    sq.tl.finetune(adata, encoder, label_key="cell_type", metric_loss="contrastive")
    sq.tl.embed(adata, encoder, orthologs={"Actb": "ACTB"})
    assert_type(sq.tl.audit(adata, encoder, label_key="cell_type"), pd.DataFrame)

    reference = sq.tl.build_reference(adata, encoder, label_key="cell_type")
    assert_type(reference, sq.Reference)
    reference.save(Path("reference.scq"))
    assert_type(sq.Reference.load("reference.scq"), sq.Reference)

    assert_type(sq.pp.check(adata, reference), CheckReport)
    sq.tl.query(adata, "reference.scq", n_neighbors=5, where={"study": "baron"})
    assert_type(sq.tl.explain(adata, reference, 0), pd.DataFrame)


def wrong(adata: AnnData, encoder: sq.Encoder) -> None:
    """Calls that a type checker has to refuse."""
    sq.qurey  # type: ignore[attr-defined]
    sq.settings.verbsoity = 2  # type: ignore[attr-defined]
    sq.settings.verbosity = 2.5  # type: ignore[assignment]
    sq.tl.qurey  # type: ignore[attr-defined]
    sq.tl.query(adata, encoder)  # type: ignore[arg-type]
    sq.tl.query(adata, "reference.scq", n_neighbors="5")  # type: ignore[arg-type]
    sq.tl.query(adata, "reference.scq", n_neighbours=5)  # type: ignore[call-arg]
    sq.tl.query(adata, "reference.scq", 5)  # type: ignore[call-arg]
    sq.tl.finetune(adata, encoder)  # type: ignore[call-arg]
    sq.tl.pretrain(adata, layer_sizes=64)  # type: ignore[arg-type]
    sq.Encoder()  # type: ignore[call-arg]
