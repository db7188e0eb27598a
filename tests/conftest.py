"""Fixtures for all tests: synthetic cells, a small trained reference, and the folder of real data."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

# Set before anything imports TensorFlow, whose messages would appear among the test output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import anndata
import numpy as np
import pandas as pd
import pytest
from cell_files import cells_file, formats, query_file  # noqa: F401 (fixtures)
from hypothesis import settings
from scipy import sparse
from scipy.special import softmax
from scipy.stats import multivariate_normal

import scquery_ae as scq
from scquery_ae.dense import Classifier, DenseWeights
from scquery_ae.encoder import Encoder
from scquery_ae.stats import GeneDiscriminant
from scquery_ae.transform import Transform

# No deadline: other processes run on the same cores.
settings.register_profile("scquery_ae", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("scquery_ae")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move files with slow tests to the front, so that parallel processes end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


FORMATS: dict[str, Callable[[np.ndarray], object]] = {
    "dense": np.asarray,
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
}


@dataclass(frozen=True)
class Trained:
    """One small training run. All tests use the same: copy `adata` before changing it."""

    adata: anndata.AnnData
    encoder: Encoder
    reference: scq.Reference


def build_adata(
    n_obs: int = 60,
    n_vars: int = 40,
    *,
    fmt: str = "csr",
    dtype: str = "float32",
    n_types: int = 3,
    n_batches: int = 2,
    seed: int = 0,
) -> anndata.AnnData:
    """Return cells with negative-binomial counts. Each type has marker genes, and each batch shifts all genes a little.

    ``obs`` has ``cell_type`` and ``batch`` (categorical). ``var`` has ``ensembl``, with version suffixes. Types and
    batches alternate, and no cell is empty.
    """
    # Genes and batches do not depend on the seed: two seeds give different cells of the same biology.
    biology = np.random.default_rng(n_vars)
    rng = np.random.default_rng([seed, n_obs])
    base = biology.gamma(1.0, 2.0, n_vars) + 0.3
    profiles = np.tile(base, (n_types, 1))
    markers = np.array_split(biology.permutation(n_vars)[: n_vars // 2], n_types)
    for cell_type, genes in enumerate(markers):
        profiles[cell_type, genes] = base[genes] * 8 + 3
    shifts = np.exp(0.15 * biology.standard_normal((n_batches, n_vars)))
    types = np.arange(n_obs) % n_types
    batches = rng.permutation(np.arange(n_obs) % n_batches)
    depth = np.exp(0.3 * rng.standard_normal(n_obs))
    means = profiles[types] * shifts[batches] * depth[:, None]
    counts = rng.poisson(rng.gamma(2.0, means / 2.0)).astype(dtype)
    counts[counts.sum(axis=1) == 0, 0] = 1
    return anndata.AnnData(
        FORMATS[fmt](counts),
        obs=pd.DataFrame(
            {
                "cell_type": pd.Categorical([f"type {t}" for t in types]),
                "batch": pd.Categorical([f"batch {b}" for b in batches]),
            },
            index=[f"cell{i}" for i in range(n_obs)],
        ),
        var=pd.DataFrame(
            {"ensembl": [f"ENSG{i:011d}.{1 + i % 7}" for i in range(n_vars)]},
            index=[f"GENE{i}" for i in range(n_vars)],
        ),
    )


@pytest.fixture(scope="session")
def make_adata() -> Callable[..., anndata.AnnData]:
    """``make_adata(n_obs, n_vars, *, fmt="csr"|"csc"|"dense", dtype, n_types, n_batches, seed)``."""
    return build_adata


@pytest.fixture(autouse=True)
def restored_logger() -> Iterator[None]:
    """Restore level and handlers of the package's logger, which a test may change."""
    logger = logging.getLogger("scquery_ae")
    level, handlers, disabled = logger.level, list(logger.handlers), logger.disabled
    yield
    logger.setLevel(level)
    logger.handlers[:], logger.disabled = handlers, disabled


@pytest.fixture
def eager(monkeypatch):
    """Train for few epochs without compiling, which is several times faster."""
    from scquery_ae.nn import fitting

    run = fitting.run_epochs

    def run_eagerly(model, *args, **kwargs):
        model.run_eagerly = kwargs["epochs"] < 5
        return run(model, *args, **kwargs)

    monkeypatch.setattr(fitting, "run_epochs", run_eagerly)


@pytest.fixture(scope="session")
def make_encoder() -> Callable[..., Encoder]:
    """``make_encoder(adata, layer_sizes=(7, 4), seed=0)``: fitted normalisation and random weights, without Keras."""

    def make(adata: anndata.AnnData, layer_sizes: tuple[int, ...] = (7, 4), seed: int = 0) -> Encoder:
        from scquery_ae.loaders import GeneColumns

        rng = np.random.default_rng(seed)
        columns = np.arange(adata.n_vars)
        transform = Transform.fit(GeneColumns(adata.X, columns), adata.var_names.to_numpy())
        widths = (adata.n_vars, *layer_sizes)
        layers = [
            DenseWeights(
                (rng.standard_normal((a, b)) / np.sqrt(a)).astype(np.float32),
                (0.1 * rng.standard_normal(b)).astype(np.float32),
                "relu" if i < len(layer_sizes) - 1 else "linear",
            )
            for i, (a, b) in enumerate(pairwise(widths))
        ]
        types = tuple(adata.obs["cell_type"].cat.categories)
        classifier = Classifier(
            rng.standard_normal((layer_sizes[-1], len(types))).astype(np.float32),
            np.zeros(len(types), np.float32),
            types,
        )
        labels = adata.obs["cell_type"].cat.codes.to_numpy()
        discriminant = GeneDiscriminant.fit(transform.log_normalize(adata.X), labels, len(types))
        return Encoder(transform, tuple(layers), classifier, discriminant=discriminant)

    return make


@pytest.fixture(scope="session")
def genes_by_hand() -> Callable[[Encoder, np.ndarray], np.ndarray]:
    """``genes_by_hand(encoder, counts)``: the discriminant's member probabilities, computed with SciPy."""

    def by_hand(encoder: Encoder, counts: np.ndarray) -> np.ndarray:
        known, target = encoder.fitted_discriminant, encoder.transform.target_sum
        totals = counts.sum(axis=1, keepdims=True).astype(float)
        units = np.minimum((np.log1p(counts / totals * target) - known.center) / known.scale, 10)
        covariance = known.loadings.astype(float) @ known.loadings.T + np.diag(known.noise)
        densities = np.stack([multivariate_normal(mean, covariance).logpdf(units) for mean in known.means], axis=1)
        return softmax(np.minimum(totals / target, 1) * densities / known.temperature, axis=1)

    return by_hand


@pytest.fixture(scope="session")
def trained() -> Trained:
    """A reference of 240 cells and 120 genes, 24 cells without a label, trained for a few epochs."""
    adata = build_adata(240, 120, seed=1)
    adata.obs["quality"] = np.linspace(0, 1, adata.n_obs)
    # Every tenth cell: the types alternate with period three, so this includes each type.
    adata.obs.iloc[np.arange(0, 240, 10), adata.obs.columns.get_loc("cell_type")] = np.nan
    scq.pp.normalize(adata, n_top_genes=100)
    encoder = scq.tl.pretrain(adata, layer_sizes=(16, 8), epochs=3, batch_size=32, progress=False)
    scq.tl.finetune(
        adata,
        encoder,
        label_key="cell_type",
        batch_key="batch",
        epochs=8,
        batch_size=32,
        learning_rate=5e-3,
        validation_fraction=0.3,
        progress=False,
    )
    scq.tl.embed(adata, encoder)
    reference = scq.tl.build_reference(adata, encoder, label_key="cell_type")
    return Trained(adata, encoder, reference)


@pytest.fixture
def reference(trained: Trained) -> scq.Reference:
    """The small trained reference. All tests use the same: do not change it."""
    return trained.reference


@pytest.fixture
def query_adata(trained: Trained) -> anndata.AnnData:
    """Counts of thirty new cells of the reference's types, a new AnnData for each test."""
    return build_adata(30, 120, seed=2)


@pytest.fixture(scope="session")
def saved_reference(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of the small reference on disk. All tests use the same: copy it before changing it."""
    path = tmp_path_factory.mktemp("saved") / "small.scq"
    trained.reference.save(path)
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the labelled real data beside the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "pancreas_baron_human1.h5ad").is_file():
        pytest.skip(f"the labelled real data are not in ../{folder.parent.name}/{folder.name}")
    return folder


@pytest.fixture(scope="session")
def make_queried() -> Callable[..., anndata.AnnData]:
    """``make_queried(n, n_types, names)``: cells with results of a query, known types, donors and a UMAP.

    Their neighbors are rows of a reference of as many cells.
    """

    def make(n: int = 200, n_types: int = 4, names: str = "type {}", seed: int = 0) -> anndata.AnnData:
        rng = np.random.default_rng(seed)
        types = [names.format(i) for i in range(n_types)]
        truth = rng.permutation(np.arange(n) % n_types)
        wrong = rng.random(n) < 0.2
        label = np.where(wrong, (truth + rng.integers(1, n_types, n)) % n_types, truth)
        pvalue = rng.random(n).round(2).astype(np.float32)
        obs = pd.DataFrame(
            {
                "truth": pd.Categorical.from_codes(truth, types),
                "donor": pd.Categorical.from_codes(rng.integers(0, 3, n), ["donor a", "donor b", "donor c"]),
                "scquery_label": pd.Categorical.from_codes(label, types),
                "scquery_confidence": np.where(wrong, rng.beta(4, 3, n), rng.beta(8, 2, n)).astype(np.float32),
                "scquery_pvalue": pvalue,
                "scquery_unknown": pvalue <= 0.1,
            },
            index=[f"cell{i}" for i in range(n)],
        )
        adata = anndata.AnnData(np.ones((n, 2), np.float32), obs=obs)
        adata.obsm["scquery_neighbors"] = rng.integers(0, n, (n, 5))
        adata.obsm["X_umap"] = rng.normal(size=(n, 2)) + 8 * np.c_[truth % 3, truth // 3]
        return adata

    return make


@pytest.fixture
def queried(make_queried) -> anndata.AnnData:
    """200 cells of :func:`make_queried`."""
    return make_queried()
