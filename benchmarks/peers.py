"""Other packages that transfer labels from a reference to a query, each at its documented settings.

They run in a separate environment (``peers.txt``), which ``accuracy.py`` creates.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
from methods import N_GENES, Method, Prediction, batches, counts, labelled, most_probable, normalized
from sklearn.neighbors import KNeighborsClassifier
from tasks import BATCH_KEY, LABEL_KEY

UNLABELLED = "Unknown"


class Ingest:
    """``sc.tl.ingest`` as in its tutorial: PCA, neighbors and UMAP of the reference, then label transfer."""

    same_genes = True
    modules = ("umap", "pynndescent")

    def fit(self, reference: anndata.AnnData, seed: int) -> None:
        reference = normalized(labelled(reference))
        self.genes = reference.var_names
        if reference.n_vars > N_GENES:
            sc.pp.highly_variable_genes(reference, n_top_genes=N_GENES)
            self.genes = reference.var_names[reference.var["highly_variable"]]
        self.reference = reference[:, self.genes].copy()
        self.reference.obs[LABEL_KEY] = self.reference.obs[LABEL_KEY].astype(str).astype("category")
        sc.pp.pca(self.reference, n_comps=min(50, min(self.reference.shape) - 1), random_state=seed)
        sc.pp.neighbors(self.reference, random_state=seed)
        sc.tl.umap(self.reference, random_state=seed)

    def predict(self, query: anndata.AnnData, *, logged: bool) -> Prediction:
        query = normalized(query, logged=logged)[:, self.genes].copy()
        del query.obs[LABEL_KEY]
        sc.tl.ingest(query, self.reference, obs=LABEL_KEY)
        latent = self.reference.obsm["X_pca"], query.obsm["X_pca"]
        return Prediction(query.obs[LABEL_KEY].astype(str).to_numpy(), latent=latent)


class CellTypist:
    """CellTypist 1.7 (logistic regression), trained as documented: all genes, 10,000 counts per cell."""

    same_genes = False
    modules = ("celltypist",)

    def fit(self, reference: anndata.AnnData, seed: int) -> None:
        import celltypist

        np.random.seed(seed)  # noqa: NPY002 (CellTypist uses the global generator)
        reference = normalized(labelled(reference))
        with quiet():
            self.model = celltypist.train(
                reference, labels=LABEL_KEY, n_jobs=-1, check_expression=False, with_mean=True
            )

    def predict(self, query: anndata.AnnData, *, logged: bool) -> Prediction:
        import celltypist

        query = normalized(query, logged=logged)
        with quiet():
            found = celltypist.annotate(query, model=self.model)
        table = found.probability_matrix
        return Prediction(
            found.predicted_labels["predicted_labels"].astype(str).to_numpy(), table.to_numpy().max(axis=1)
        )


class Scanvi:
    """scVI, scANVI and scArches, as in the scvi-tools tutorial on reference mapping."""

    same_genes = False
    modules = ("scvi",)

    def fit(self, reference: anndata.AnnData, seed: int) -> None:
        import scvi

        scvi.settings.seed = seed
        scvi.settings.verbosity = 40
        reference = counts(reference, logged=False)
        reference.layers["counts"] = reference.X
        reference.obs[LABEL_KEY] = reference.obs[LABEL_KEY].fillna(UNLABELLED).astype("category")
        reference.obs[BATCH_KEY] = reference.obs[BATCH_KEY].astype(str).astype("category")
        if reference.n_vars > N_GENES:
            several = batches(reference)
            try:
                sc.pp.highly_variable_genes(
                    reference, n_top_genes=N_GENES, flavor="seurat_v3", layer="counts", batch_key=several, subset=True
                )
            except ValueError:  # its regression fails on genes without variance
                sc.pp.filter_genes(reference, min_cells=3)
                sc.pp.highly_variable_genes(
                    reference, n_top_genes=N_GENES, flavor="seurat_v3", layer="counts", span=1.0, subset=True
                )
        reference = reference.copy()
        scvi.model.SCVI.setup_anndata(reference, layer="counts", batch_key=BATCH_KEY)
        first = scvi.model.SCVI(
            reference,
            use_layer_norm="both",
            use_batch_norm="none",
            encode_covariates=True,
            dropout_rate=0.2,
            n_layers=2,
        )
        with quiet():
            first.train(enable_progress_bar=False)
            self.model = scvi.model.SCANVI.from_scvi_model(first, unlabeled_category=UNLABELLED, labels_key=LABEL_KEY)
            self.model.train(max_epochs=20, n_samples_per_label=100, enable_progress_bar=False)
        known = (reference.obs[LABEL_KEY] != UNLABELLED).to_numpy()
        self.latent = self.model.get_latent_representation()[known]

    def predict(self, query: anndata.AnnData, *, logged: bool) -> Prediction:
        import scvi

        query = counts(query, logged=logged)
        query.layers["counts"] = query.X
        query.obs[BATCH_KEY] = "query " + batch_names(query)
        query.obs[LABEL_KEY] = UNLABELLED
        with quiet(), tempfile.TemporaryDirectory() as folder:
            self.model.save(folder, overwrite=True, save_anndata=True)
            scvi.model.SCANVI.prepare_query_anndata(query, folder)
            mapped = scvi.model.SCANVI.load_query_data(query, folder)
            mapped.train(
                max_epochs=100,
                plan_kwargs={"weight_decay": 0.0},
                check_val_every_n_epoch=10,
                enable_progress_bar=False,
            )
            table = mapped.predict(query, soft=True)
            latent = mapped.get_latent_representation(query)
        return most_probable(table.to_numpy(), table.columns.to_numpy(), (self.latent, latent))


class Symphony:
    """symphonypy: Harmony if the reference has several batches, then Symphony's mapping and nearest neighbors."""

    same_genes = False
    modules = ("symphonypy",)

    def fit(self, reference: anndata.AnnData, seed: int) -> None:
        import symphonypy as sp

        reference = normalized(labelled(reference), target=1e5)
        if reference.n_vars > N_GENES:
            sc.pp.highly_variable_genes(reference, n_top_genes=N_GENES, batch_key=batches(reference))
        else:
            reference.var["highly_variable"] = True
        reference = reference[:, reference.var["highly_variable"]].copy()
        sc.pp.scale(reference, max_value=10)
        reference.X = np.maximum(reference.X, -10)
        sc.pp.pca(reference, n_comps=30, zero_center=False, random_state=seed)
        self.basis = "X_pca"
        if batches(reference):
            reference.obs[BATCH_KEY] = reference.obs[BATCH_KEY].astype(str)
            with quiet():
                sp.pp.harmony_integrate(reference, key=BATCH_KEY)
            self.basis = "X_pca_harmony"
        self.reference = reference

    def predict(self, query: anndata.AnnData, *, logged: bool) -> Prediction:
        import symphonypy as sp

        query = normalized(query, logged=logged, target=1e5)
        query.obs[BATCH_KEY] = batch_names(query)
        with quiet():
            sp.tl.map_embedding(query, self.reference, key=BATCH_KEY)
            sp.tl.per_cell_confidence(query, self.reference, ref_basis_adjusted=self.basis)
        latent = self.reference.obsm[self.basis], query.obsm["X_pca_harmony"]
        # The label transfer of symphonypy is this classifier, but returns no probabilities.
        neighbors = KNeighborsClassifier(n_neighbors=5).fit(latent[0], self.reference.obs[LABEL_KEY].astype(str))
        predicted = most_probable(neighbors.predict_proba(latent[1]), neighbors.classes_, latent)
        return Prediction(
            predicted.labels, predicted.confidence, query.obs["symphony_per_cell_dist"].to_numpy(), latent
        )


class Actinn:
    """actinn-jax, as its README describes for a custom reference."""

    same_genes = False
    modules = ("actinn_jax",)

    def fit(self, reference: anndata.AnnData, seed: int) -> None:
        import actinn_jax

        reference = labelled(reference)
        self.model = actinn_jax.train_reference(reference, train_label_name=LABEL_KEY, seed=seed, print_cost=False)

    def predict(self, query: anndata.AnnData, *, logged: bool) -> Prediction:
        import actinn_jax

        labelled_query, _ = actinn_jax.predict(counts(query, logged=logged), self.model, output_label_name="predicted")
        return Prediction(
            labelled_query.obs["predicted"].astype(str).to_numpy(),
            labelled_query.obs["predicted_probability"].to_numpy(dtype=float),
        )


PEERS: dict[str, type[Method]] = {
    "scanpy ingest": Ingest,
    "CellTypist": CellTypist,
    "scANVI + scArches": Scanvi,
    "symphonypy": Symphony,
    "actinn-jax": Actinn,
}


def batch_names(query: anndata.AnnData) -> pd.Series:
    """Return the batch of each query cell, for packages that correct for it."""
    names = query.obs.get(BATCH_KEY, pd.Series("all", index=query.obs_names))
    return names.astype(str)


@contextlib.contextmanager
def quiet():
    """Suppress the progress output of a package."""
    with (
        warnings.catch_warnings(),
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        warnings.simplefilter("ignore")
        yield
