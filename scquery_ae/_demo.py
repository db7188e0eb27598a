"""The demo: train a reference, query it, and compare with PCA + kNN, on data that need no download."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scquery_ae import pl, pp, tl
from scquery_ae._caller import argument
from scquery_ae._errors import StorageError
from scquery_ae.datasets import pbmc68k_reduced
from scquery_ae.transform import row_sums

if TYPE_CHECKING:
    from anndata import AnnData

    from scquery_ae.reference import Reference

LABEL_KEY = "cell_type"
HELD_OUT = 0.25


def run_demo(output: Path, *, n_seeds: int, echo: Callable[[str], object]) -> pd.DataFrame:
    """Run the demo and write its results.

    Parameters
    ----------
    output
        Folder for ``query.h5ad``, ``pbmc.scq`` and ``query.png``. It is made if it does not exist.
    n_seeds
        Number of random splits and trainings, with seeds 0, 1, ...
    echo
        Called with each line of output.

    Returns
    -------
    One row per seed and method, with accuracy and macro-F1 on the held-out cells.
    """
    try:
        output.mkdir(exist_ok=True)
    except OSError as error:
        msg = f"The demo cannot write to {output}: {error}. Choose another folder with {argument('output')}."
        raise StorageError(msg) from error
    cells = pbmc68k_reduced()
    echo(
        f"{cells.n_obs} PBMC, {cells.n_vars} genes, {cells.obs[LABEL_KEY].nunique()} cell types; "
        f"{HELD_OUT:.0%} are held out and labelled"
    )
    rows = []
    for seed in range(n_seeds):
        echo(f"\nseed {seed} ({seed + 1} of {n_seeds})")
        training, query = split(cells, seed)
        reference = train(training, seed)
        baseline = pca_knn(training, query)
        tl.query(query, reference)
        rows.append(score("scquery_ae", seed, query.obs["scquery_label"], query.obs[LABEL_KEY]))
        rows.append(score("PCA(50) + kNN(15)", seed, baseline, query.obs[LABEL_KEY]))
        if seed == 0:
            reference.save(output / "pbmc.scq", overwrite=True)
            query.write_h5ad(output / "query.h5ad")
            pl.query(query, show=False, save=output / "query.png")
    table = pd.DataFrame(rows)
    echo(f"\n{summary(table)}\n")
    echo(f"labelled cells    {output / 'query.h5ad'}")
    echo(f"reference         {output / 'pbmc.scq'}")
    echo(f"figure            {output / 'query.png'}")
    return table


def split(cells: AnnData, seed: int) -> tuple[AnnData, AnnData]:
    """Return training and held-out cells. Both have every type."""
    from sklearn.model_selection import train_test_split

    training, held_out = train_test_split(
        np.arange(cells.n_obs), test_size=HELD_OUT, stratify=cells.obs[LABEL_KEY], random_state=seed
    )
    return cells[np.sort(training)].copy(), cells[np.sort(held_out)].copy()


def train(cells: AnnData, seed: int) -> Reference:
    """Train a reference on labelled counts."""
    pp.normalize(cells, n_top_genes=2000, batch_key="study")
    encoder = tl.pretrain(cells, layer_sizes=(512, 64), corruption="masking", corruption_level=0.3, random_state=seed)
    tl.finetune(cells, encoder, label_key=LABEL_KEY, batch_key="study", random_state=seed)
    return tl.build_reference(cells, encoder, label_key=LABEL_KEY)


def pca_knn(training: AnnData, query: AnnData) -> np.ndarray:
    """Predict labels with the 15 nearest neighbors on 50 principal components."""
    import scanpy as sc
    from sklearn.decomposition import PCA
    from sklearn.neighbors import KNeighborsClassifier

    other = query.copy()
    sc.pp.normalize_total(other, target_sum=float(np.median(row_sums(training.layers["counts"]))))
    sc.pp.log1p(other)
    pca = PCA(n_components=50, random_state=0)
    # Small enough to be dense: 525 cells by 765 genes.
    expression = training.X.toarray()
    knn = KNeighborsClassifier(n_neighbors=15).fit(pca.fit(expression).transform(expression), training.obs[LABEL_KEY])
    return np.asarray(knn.predict(pca.transform(other.X.toarray())))


def score(method: str, seed: int, predicted: pd.Series | np.ndarray, truth: pd.Series) -> dict[str, str | int | float]:
    """Return accuracy and macro-F1 as a row of the table."""
    from sklearn.metrics import accuracy_score, f1_score

    predicted, true = np.asarray(predicted, dtype=str), np.asarray(truth, dtype=str)
    return {
        "method": method,
        "seed": seed,
        "accuracy": float(accuracy_score(true, predicted)),
        "macro-F1": float(f1_score(true, predicted, average="macro", labels=np.unique(true), zero_division=0)),
    }


def summary(table: pd.DataFrame) -> str:
    """Return the table as text: mean and, for several seeds, standard deviation over seeds."""
    n_seeds = table["seed"].nunique()
    lines = [f"{'held-out cells, ' + str(n_seeds) + ' seed(s)':<28}{'accuracy':>16}{'macro-F1':>16}"]
    if n_seeds > 1:
        lines.insert(0, "mean ± standard deviation over seeds")
    for method, rows in table.groupby("method", sort=False):
        shown = [
            f"{rows[column].mean():.3f}" + (f" ± {rows[column].std():.3f}" if n_seeds > 1 else "")
            for column in ("accuracy", "macro-F1")
        ]
        lines.append(f"{method!s:<28}{shown[0]:>16}{shown[1]:>16}")
    return "\n".join(lines)
