"""Ways to name query cells by a reference: this package, and what takes only scanpy and scikit-learn."""

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
from tasks import ASKED_KEY, BATCH_KEY, LABEL_KEY

N_GENES = 2000


@dataclass(frozen=True)
class Answer:
    """What a method says of query cells.

    `confidence` is the probability of the label, `novelty` what tells cells of unknown types (less confidence,
    where a method has nothing else), `latent` those of the labelled reference and of the query, for a method with an
    embedding.
    """

    labels: np.ndarray
    confidence: np.ndarray | None = None
    novelty: np.ndarray | None = None
    latent: tuple[np.ndarray, np.ndarray] | None = None


class Method(Protocol):
    """Trained once on a reference, then asked about queries.

    A method for which `same_genes` holds is trained anew on the genes that a query has. `modules` are imported before
    its time counts.
    """

    same_genes: bool
    modules: tuple[str, ...]

    def fit(self, reference: anndata.AnnData, seed: int) -> None: ...

    def ask(self, query: anndata.AnnData, *, logged: bool) -> Answer: ...


class Scquery:
    """scquery_ae, as its README has it."""

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
        if ASKED_KEY in self.reference.obs:
            # They take part in pretraining, and are no neighbors.
            self.reference = self.reference[~self.reference.obs[ASKED_KEY].to_numpy()].copy()
        self.built = scq.tl.build_reference(self.reference, encoder, label_key=LABEL_KEY, progress=False)

    def ask(self, query: anndata.AnnData, *, logged: bool) -> Answer:
        import scquery_ae as scq

        asked = query.copy()
        scq.tl.query(asked, self.built, min_gene_overlap=0.0)
        labelled = self.reference.obs[LABEL_KEY].notna().to_numpy()
        return Answer(
            asked.obs["scquery_label"].astype(str).to_numpy(),
            asked.obs["scquery_confidence"].to_numpy(),
            # Cells without a count in the model genes are unknown and have none.
            asked.obs["scquery_novelty"].fillna(np.finfo(np.float32).max).to_numpy(),
            (np.asarray(self.built.embedding)[labelled], asked.obsm["X_scquery"]),
        )


class Majority:
    """The reference's most frequent type for every cell."""

    same_genes = False
    modules = ()

    def fit(self, reference: anndata.AnnData, seed: int) -> None:
        shares = reference.obs[LABEL_KEY].value_counts(normalize=True)
        self.kind, self.share = shares.index[0], shares.iloc[0]

    def ask(self, query: anndata.AnnData, *, logged: bool) -> Answer:
        return Answer(np.full(query.n_obs, self.kind, dtype=object), np.full(query.n_obs, self.share))


class Scaled:
    """Log-normalised variable genes, scaled by the reference and cut at 10, as in scanpy's tutorials."""

    same_genes = True
    modules = ()

    def fit(self, reference: anndata.AnnData, seed: int) -> None:
        reference = normalized(labelled(reference))
        if reference.n_vars > N_GENES:
            sc.pp.highly_variable_genes(reference, n_top_genes=N_GENES)
            reference = reference[:, reference.var["highly_variable"]]
        self.genes = reference.var_names
        self.scaler = StandardScaler().fit(reference.X.toarray())
        self.learn(self.values(reference), reference.obs[LABEL_KEY].astype(str).to_numpy(), seed)

    def values(self, adata: anndata.AnnData) -> np.ndarray:
        return np.clip(self.scaler.transform(adata[:, self.genes].X.toarray()), -10, 10)

    def ask(self, query: anndata.AnnData, *, logged: bool) -> Answer:
        return self.answer(self.values(normalized(query, logged=logged)))

    def learn(self, values: np.ndarray, labels: np.ndarray, seed: int) -> None:
        raise NotImplementedError

    def answer(self, values: np.ndarray) -> Answer:
        raise NotImplementedError


class Logistic(Scaled):
    """Logistic regression on scaled genes."""

    def learn(self, values: np.ndarray, labels: np.ndarray, seed: int) -> None:
        self.model = LogisticRegression(max_iter=300, random_state=seed).fit(values, labels)

    def answer(self, values: np.ndarray) -> Answer:
        return most_probable(self.model.predict_proba(values), self.model.classes_)


class Components(Scaled):
    """A classifier on 50 principal components."""

    classifier: Any

    def learn(self, values: np.ndarray, labels: np.ndarray, seed: int) -> None:
        self.pca = PCA(n_components=min(50, *values.shape), random_state=seed).fit(values)
        self.latent = self.pca.transform(values)
        self.model = self.classifier.fit(self.latent, labels)

    def answer(self, values: np.ndarray) -> Answer:
        latent = self.pca.transform(values)
        return most_probable(self.model.predict_proba(latent), self.model.classes_, (self.latent, latent))


class ComponentsNeighbors(Components):
    """The 15 nearest neighbors in principal components."""

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
    """Return the cells with a label."""
    return reference[reference.obs[LABEL_KEY].notna().to_numpy()].copy()


def batches(reference: anndata.AnnData) -> str | None:
    """Return the column of the batches where there are several."""
    return BATCH_KEY if reference.obs[BATCH_KEY].nunique() > 1 else None


def normalized(adata: anndata.AnnData, *, logged: bool = False, target: float = 1e4) -> anndata.AnnData:
    """Return log-normalised cells; those that came so, by another target and over other genes, are done again."""
    adata = adata.copy()
    if logged:
        adata.X = adata.X.expm1()
    sc.pp.normalize_total(adata, target_sum=target)
    sc.pp.log1p(adata)
    return adata


def counts(query: anndata.AnnData, *, logged: bool) -> anndata.AnnData:
    """Return whole numbers for a method that needs counts."""
    query = query.copy()
    if logged:
        query.X = query.X.expm1()
    query.X.data = np.rint(query.X.data).astype(np.float32)
    return query


def most_probable(
    probabilities: np.ndarray, kinds: np.ndarray, latent: tuple[np.ndarray, np.ndarray] | None = None
) -> Answer:
    """Return the answer that probabilities ``(n, n_types)`` make."""
    probabilities = np.asarray(probabilities)
    labels = np.asarray(pd.Index(kinds).astype(str))[probabilities.argmax(axis=1)]
    return Answer(labels, probabilities.max(axis=1), latent=latent)
