"""Methods that transfer labels from a reference to a query: scquery_ae, and baselines of scanpy and scikit-learn."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Protocol

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from tasks import BATCH_KEY, LABEL_KEY, QUERY_KEY

N_GENES = 2000


@dataclass(frozen=True)
class Prediction:
    """Predictions of a method for query cells.

    Attributes
    ----------
    labels
        Predicted types, ``(n_query,)``.
    confidence
        Probability of the label, ``(n_query,)``.
    novelty
        Score by which cells of unknown types are ranked first, ``(n_query,)``. Without one, ``scores.py`` takes the
        negative confidence.
    latent
        Embeddings of the labelled reference cells and of the query cells.
    """

    labels: np.ndarray
    confidence: np.ndarray | None = None
    novelty: np.ndarray | None = None
    latent: tuple[np.ndarray, np.ndarray] | None = None


class Method(Protocol):
    """A method that is trained on a reference and then labels queries.

    Attributes
    ----------
    same_genes
        Whether the method cannot leave out a gene and is trained again on the genes of each query.
    modules
        Modules that are imported before times are measured.
    """

    same_genes: bool
    modules: tuple[str, ...]

    def fit(self, reference: anndata.AnnData, seed: int) -> None: ...

    def predict(self, query: anndata.AnnData, *, logged: bool) -> Prediction: ...


class Scquery:
    """scquery_ae with default settings."""

    same_genes = False
    modules = ("scquery_ae", "keras")

    def fit(self, reference: anndata.AnnData, seed: int) -> None:
        import scquery_ae as scq

        self.reference = reference.copy()
        batch_key = batches(reference)
        scq.pp.normalize(self.reference, n_top_genes=N_GENES)
        encoder = scq.tl.pretrain(self.reference, random_state=seed, progress=False)
        scq.tl.finetune(
            self.reference, encoder, label_key=LABEL_KEY, batch_key=batch_key, random_state=seed, progress=False
        )
        if QUERY_KEY in self.reference.obs:
            # Query cells take part in pretraining only.
            self.reference = self.reference[~self.reference.obs[QUERY_KEY].to_numpy()].copy()
        self.built = scq.tl.build_reference(self.reference, encoder, label_key=LABEL_KEY, progress=False)

    def predict(self, query: anndata.AnnData, *, logged: bool) -> Prediction:
        import scquery_ae as scq

        query = query.copy()
        scq.tl.query(query, self.built, min_gene_overlap=0.0)
        labelled = self.reference.obs[LABEL_KEY].notna().to_numpy()
        return Prediction(
            query.obs["scquery_label"].astype(str).to_numpy(),
            query.obs["scquery_confidence"].to_numpy(),
            # Cells without a count in the model genes are unknown and have no score.
            query.obs["scquery_novelty"].fillna(np.finfo(np.float32).max).to_numpy(),
            (np.asarray(self.built.embedding)[labelled], query.obsm["X_scquery"]),
        )


class Majority:
    """Predict the most frequent type of the reference for every cell."""

    same_genes = False
    modules = ()

    def fit(self, reference: anndata.AnnData, seed: int) -> None:
        fractions = reference.obs[LABEL_KEY].value_counts(normalize=True)
        self.kind, self.fraction = fractions.index[0], fractions.iloc[0]

    def predict(self, query: anndata.AnnData, *, logged: bool) -> Prediction:
        return Prediction(np.full(query.n_obs, self.kind, dtype=object), np.full(query.n_obs, self.fraction))


class Scaled:
    """Log-normalised variable genes, scaled by the reference and clipped at 10, as in the tutorials of scanpy."""

    same_genes = True
    modules = ()

    def fit(self, reference: anndata.AnnData, seed: int) -> None:
        reference = normalized(labelled(reference))
        if reference.n_vars > N_GENES:
            sc.pp.highly_variable_genes(reference, n_top_genes=N_GENES)
            reference = reference[:, reference.var["highly_variable"]]
        self.genes = reference.var_names
        self.scaler = StandardScaler().fit(reference.X.toarray())
        self.train(self.values(reference), reference.obs[LABEL_KEY].astype(str).to_numpy(), seed)

    def values(self, adata: anndata.AnnData) -> np.ndarray:
        return np.clip(self.scaler.transform(adata[:, self.genes].X.toarray()), -10, 10)

    def predict(self, query: anndata.AnnData, *, logged: bool) -> Prediction:
        return self.classify(self.values(normalized(query, logged=logged)))

    def train(self, values: np.ndarray, labels: np.ndarray, seed: int) -> None:
        raise NotImplementedError

    def classify(self, values: np.ndarray) -> Prediction:
        raise NotImplementedError


class Logistic(Scaled):
    """Logistic regression on scaled genes."""

    def train(self, values: np.ndarray, labels: np.ndarray, seed: int) -> None:
        self.model = LogisticRegression(max_iter=300, random_state=seed).fit(values, labels)

    def classify(self, values: np.ndarray) -> Prediction:
        return most_probable(self.model.predict_proba(values), self.model.classes_)


class Components(Scaled):
    """A classifier on 50 principal components of the scaled genes."""

    classifier: Any

    def train(self, values: np.ndarray, labels: np.ndarray, seed: int) -> None:
        self.pca = PCA(n_components=min(50, *values.shape), random_state=seed).fit(values)
        self.latent = self.pca.transform(values)
        self.model = self.classifier.fit(self.latent, labels)

    def classify(self, values: np.ndarray) -> Prediction:
        latent = self.pca.transform(values)
        return most_probable(self.model.predict_proba(latent), self.model.classes_, (self.latent, latent))


class ComponentsNeighbors(Components):
    """Fifteen nearest neighbors in principal components."""

    classifier = KNeighborsClassifier(n_neighbors=15)


class ComponentsLogistic(Components):
    """Logistic regression on principal components."""

    classifier = LogisticRegression(max_iter=1000)


METHODS: dict[str, type[Method]] = {
    "scquery_ae": Scquery,
    "majority class": Majority,
    "PCA + kNN": ComponentsNeighbors,
    "PCA + logistic regression": ComponentsLogistic,
    "logistic regression": Logistic,
}


def labelled(reference: anndata.AnnData) -> anndata.AnnData:
    """Return the cells that have a label."""
    return reference[reference.obs[LABEL_KEY].notna().to_numpy()].copy()


def batches(reference: anndata.AnnData) -> str | None:
    """Return the name of the batch column, or None if there is only one batch."""
    return BATCH_KEY if reference.obs[BATCH_KEY].nunique() > 1 else None


def normalized(adata: anndata.AnnData, *, logged: bool = False, target: float = 1e4) -> anndata.AnnData:
    """Return log-normalised cells. Logged values are brought back to a linear scale first: their target differs."""
    adata = adata.copy()
    if logged:
        adata.X = adata.X.expm1()
    sc.pp.normalize_total(adata, target_sum=target)
    sc.pp.log1p(adata)
    return adata


def counts(query: anndata.AnnData, *, logged: bool) -> anndata.AnnData:
    """Return the query as integer counts."""
    query = query.copy()
    if logged:
        query.X = query.X.expm1()
    query.X.data = np.rint(query.X.data).astype(np.float32)
    return query


def most_probable(
    probabilities: np.ndarray, kinds: np.ndarray, latent: tuple[np.ndarray, np.ndarray] | None = None
) -> Prediction:
    """Return the most probable type of each row of probabilities ``(n_query, n_types)``."""
    probabilities = np.asarray(probabilities)
    labels = np.asarray(pd.Index(kinds).astype(str))[probabilities.argmax(axis=1)]
    return Prediction(labels, probabilities.max(axis=1), latent=latent)
