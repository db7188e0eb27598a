"""Makes the golden bundle, which later versions must read, and records the answers of a query to it.

Run ``python tests/reference/make_golden.py`` only for a new version of the format, after deleting the contents of the
folder ``golden`` beside it. Answers that change without a new version are a defect.
"""

import json
import sys
from itertools import pairwise
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

import scquery_ae as scq
from scquery_ae.dense import Classifier, DenseWeights
from scquery_ae.encoder import Encoder
from scquery_ae.loaders import GeneColumns
from scquery_ae.reference import digest, simulate_query
from scquery_ae.stats import GeneDiscriminant
from scquery_ae.transform import Transform

N_GENES, TYPES = 32, ("B cell", "NK cell", "T cell", "γδ T cell")


def make_cells(n, rng, profiles):
    """Return counts of cells of four types, the last of them rare."""
    types = np.where(np.arange(n) % 12 == 0, 3, np.arange(n) % 3)
    counts = rng.poisson(rng.gamma(4.0, profiles[types] / 4)).astype(np.float32)
    return anndata.AnnData(
        counts,
        obs=pd.DataFrame(
            {
                "cell_type": pd.Categorical([TYPES[kind] for kind in types], categories=TYPES),
                "batch": pd.Categorical([f"batch {i % 2}" for i in range(n)]),
                "n_counts": counts.sum(axis=1),
            },
            index=[f"cell{i}" for i in range(n)],
        ),
        var=pd.DataFrame(index=[f"GENE{i}" for i in range(N_GENES)]),
    )


def make_encoder(adata, rng):
    """Return an encoder of random layers with a classifier made of the mean embedding of each type."""
    transform = Transform.fit(GeneColumns(adata.X, np.arange(N_GENES)), adata.var_names.to_numpy())
    layers = tuple(
        DenseWeights(
            (rng.standard_normal((a, b)) / np.sqrt(a)).astype(np.float32),
            (0.1 * rng.standard_normal(b)).astype(np.float32),
            activation,
        )
        for (a, b), activation in zip(pairwise((N_GENES, 16, 8)), ("relu", "linear"), strict=True)
    )
    latent = Encoder(transform, layers).encode(adata.X)
    labels = adata.obs["cell_type"].cat.codes.to_numpy()
    means = np.stack([latent[labels == kind].mean(axis=0) for kind in range(len(TYPES))])
    classifier = Classifier(np.ascontiguousarray(8 * means.T), np.zeros(len(TYPES), np.float32), TYPES)
    discriminant = GeneDiscriminant.fit(transform.log_normalize(adata.X), labels, len(TYPES))
    history = {"finetune": {"loss": [1.5, 0.25]}}
    return Encoder(transform, layers, classifier, history=history, discriminant=discriminant)


def answers(adata, reference):
    """Return the results of a query as lists."""
    adata = adata.copy()
    scq.tl.query(adata, reference, n_neighbors=5, alpha=0.1, coverage=0.9)
    names = ("confidence", "pvalue", "novelty", "unknown", "prediction_set")
    return {
        **{name: adata.obs[f"scquery_{name}"].tolist() for name in names},
        "label": adata.obs["scquery_label"].astype(str).tolist(),
        "neighbors": adata.obsm["scquery_neighbors"].tolist(),
        "distances": adata.obsm["scquery_distances"].tolist(),
        "embedding": adata.obsm["X_scquery"].tolist(),
    }


def queries(counts):
    """Return the query cells, with all genes and with three quarters of them, by name."""
    adata = anndata.AnnData(
        np.asarray(counts, dtype=np.float32),
        obs=pd.DataFrame(index=[f"query{i}" for i in range(len(counts))]),
        var=pd.DataFrame(index=[f"GENE{i}" for i in range(N_GENES)]),
    )
    return {"all genes": adata, "fewer genes": adata[:, ::-1][:, :24].copy()}


def make(folder):
    """Write ``small.scq``, ``small.zip`` and ``answers.json`` to a folder that has none of them."""
    rng = np.random.default_rng(20_240_501)
    # Types that overlap: otherwise every prediction set holds one type.
    profiles = rng.gamma(1.0, 3.0, N_GENES) * np.exp(0.5 * rng.standard_normal((len(TYPES), N_GENES))) + 0.2
    adata = make_cells(100, rng, profiles)
    scq.pp.normalize(adata, n_top_genes=N_GENES)
    encoder = make_encoder(adata, rng)
    # Some cells have no label, and one in five is held out.
    adata.obs.loc[adata.obs_names[5::17], "cell_type"] = np.nan
    adata.obs["scquery_split"] = pd.Categorical(np.where(np.arange(100) % 5 == 2, "validation", "train"))
    reference = scq.tl.build_reference(adata, encoder, label_key="cell_type", index="exact")
    reference.save(folder / "small.scq")
    reference.save(folder / "small.zip")
    query = make_cells(30, rng, profiles).X
    # The last five cells are of no type of the reference.
    query[25:] = rng.permuted(query[25:], axis=1)
    expected_accuracy = simulate_query(reference)
    written = {
        "scquery_ae": scq.__version__,
        "digest": digest(folder / "small.scq"),
        "counts": query.astype(int).tolist(),
        "answers": {name: answers(cells, reference) for name, cells in queries(query).items()},
        "expected_accuracy": {
            "accuracy": expected_accuracy.accuracy,
            "macro_f1": expected_accuracy.macro_f1,
            "n_cells": expected_accuracy.n_cells,
        },
        "repr": repr(reference),
    }

    def rounded(value):
        if isinstance(value, float):
            return round(value, 8)
        if isinstance(value, list):
            return [rounded(one) for one in value]
        return {name: rounded(one) for name, one in value.items()} if isinstance(value, dict) else value

    text = json.dumps(rounded(written), ensure_ascii=False, separators=(",", ":"))
    (folder / "answers.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("golden")
    target.mkdir(exist_ok=True)
    # Git must not convert line ends: the checksums are of bytes.
    (target / ".gitattributes").write_text("* -text\n", encoding="utf-8")
    make(target)
