"""``tl.build_reference``: from fine-tuned encoder and labelled cells to something that answers queries."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from scquery_ae._checks import check_obs_key, check_unique, shown
from scquery_ae._errors import ArgumentError, warn
from scquery_ae._logging import logger
from scquery_ae._slots import Slots
from scquery_ae.encoder import Encoder
from scquery_ae.index import ExactIndex
from scquery_ae.labels import label_codes, label_types
from scquery_ae.loaders import GeneColumns, open_training
from scquery_ae.reference import Calibration, Reference
from scquery_ae.stats import type_centroids

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

#: Hits per held-out cell; the default of ``tl.query``.
CALIBRATION_HITS = 15


def build_reference(adata: AnnData, encoder: Encoder, *, label_key: str, key_added: str = "scquery") -> Reference:
    """Embed labelled cells and calibrate what they will say about a query.

    Head and neighbours are combined, and confidence, p-values and label sets calibrated, on the cells that
    fine-tuning held out (``obs["scquery_split"]``), searched among the others.

    Parameters
    ----------
    adata
        Cells after :func:`scquery_ae.pp.normalize` and :func:`scquery_ae.tl.finetune`; left as it is. Cells without a
        label can be found but do not vote.
    encoder
        Fine-tuned encoder.
    label_key
        Column of ``obs`` with the cell types that the encoder was fine-tuned on.
    key_added
        Slot prefix that fine-tuning wrote under.

    Returns
    -------
    A reference, to be saved or to be passed to :func:`scquery_ae.tl.query`.

    Raises
    ------
    NotFittedError
        If `adata` was not normalised or the encoder not fine-tuned.
    MissingKeyError
        If `label_key` is not a column of ``obs``.
    ArgumentError
        If a label is not among the encoder's types.
    """
    if not isinstance(encoder, Encoder):
        msg = f"`tl.build_reference` needs a fine-tuned encoder. Received {type(encoder).__name__}."
        raise ArgumentError(msg)
    types = encoder.fitted_head.types
    cells = open_training(adata, encoder.transform, "tl.build_reference")
    labels = check_obs_key(adata, label_key, "label_key")
    check_unique(adata.obs_names, "`adata.obs_names`", "call `adata.obs_names_make_unique()`.")
    strangers = sorted(set(label_types(labels)) - set(types))
    if strangers:
        msg = (
            f"`label_key={label_key!r}` holds types that the encoder was not fine-tuned on: {shown(strangers)}. "
            f"Expected {shown(types)}; fine-tune on this column first."
        )
        raise ArgumentError(msg)
    embedding = encoder.embed(cells)
    reference = Reference(
        encoder=encoder,
        embedding=embedding,
        obs=_storable(adata.obs),
        label_key=label_key,
        centroids=type_centroids(embedding, label_codes(labels, types), len(types)),
        calibration=Calibration.empty(),
        depth=_depth(cells),
        provenance={"scquery_ae": version("scquery-ae"), "n_obs": adata.n_obs, "label_key": label_key},
    )
    reference.calibration = _calibrate(reference, _held_out(adata, Slots(key_added).split))
    logger.info("built %r", reference)
    return reference


def _held_out(adata: AnnData, split: str) -> np.ndarray:
    if split not in adata.obs:
        warn(
            f'`adata.obs["{split}"]` is not there, so no cells are known to be held out from training: confidence is '
            "not calibrated and nothing will be called unknown. Use the AnnData that `sq.tl.finetune` was called on."
        )
        return np.zeros(adata.n_obs, dtype=bool)
    held_out = np.asarray(adata.obs[split].astype(object) == "validation")
    if not held_out.any():
        warn(
            "Fine-tuning held no cells out: confidence is not calibrated and nothing will be called unknown. "
            "Fine-tune with a `validation_fraction` above 0."
        )
    return held_out


def _calibrate(reference: Reference, held_out: np.ndarray) -> Calibration:
    labels, embedding = reference.label_codes, np.asarray(reference.embedding)
    held_out = held_out & (labels >= 0)
    if not held_out.any():
        return Calibration.empty()
    others = np.flatnonzero(~held_out)
    codes, searched = embedding[held_out], np.ascontiguousarray(embedding[others])
    neighbors = ExactIndex(searched).search(codes, min(CALIBRATION_HITS, len(others)))
    # Mean codes, too, are those of the cells that are not held out.
    centroids = type_centroids(searched, labels[others], len(reference.types))
    opinions = reference.opinions(codes, neighbors.distances, labels[others][neighbors.indices], centroids)
    return Calibration.fit(opinions, neighbors, labels[held_out])


def _depth(cells: GeneColumns) -> dict[str, float]:
    totals, detected = cells.depth()
    return {"counts": float(np.median(totals)), "genes": float(np.median(detected))}


def _storable(obs: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of `obs` that Parquet takes: numbers, booleans, dates, text and categories."""
    import pandas as pd

    kept = {}
    for name in obs.columns:
        column = obs[name]
        categories = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else ()
        if not all(isinstance(category, str) for category in categories):
            column = column.astype(object)
        if column.dtype == object:  # text, or a mixture that Parquet would refuse
            column = column.map(str, na_action="ignore").astype("category")
        kept[str(name)] = column
    return pd.DataFrame(kept, index=obs.index.astype(str))
