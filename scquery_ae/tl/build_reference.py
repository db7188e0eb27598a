"""``tl.build_reference``: a reference from a fine-tuned encoder and labelled cells."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from scquery_ae._caller import argument, current, slot
from scquery_ae._checks import check_choice, check_flag, check_slots, check_unique
from scquery_ae._docs import shared_parameters
from scquery_ae._errors import ArgumentError
from scquery_ae._logging import logger
from scquery_ae.annotate import Calibration, TypeDensities
from scquery_ae.embedding import embed_rows
from scquery_ae.encoder import Encoder
from scquery_ae.index import INDEXES, choose_index, usable_index
from scquery_ae.labels import batch_codes, known_label_codes
from scquery_ae.loaders import CellRows, open_training
from scquery_ae.reference import Reference, ReferenceCells, SimulationCells, median_depth, to_storable
from scquery_ae.tl._split import read_split
from scquery_ae.training import make_folds, out_of_fold, with_components

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


CALIBRATIONS = ("held_out", "cross_validated", "leave_one_batch_out")


@shared_parameters
def build_reference(
    adata: AnnData,
    encoder: Encoder,
    *,
    label_key: str,
    batch_key: str | None = None,
    calibration: str = "held_out",
    index: str = "auto",
    key_added: str = "scquery",
    progress: bool = True,
) -> Reference:
    """Make a reference of labelled cells and a fine-tuned encoder, with calibrated confidence.

    Classifier, neighbors and discriminant are combined, and confidence, p-values and prediction sets are calibrated, on
    the cells that fine-tuning held out (``obs["scquery_split"]``), each predicted from all other cells.

    Parameters
    ----------
    adata
        Cells after :func:`scquery_ae.pp.normalize` and :func:`scquery_ae.tl.finetune`; not changed. Cells without a
        label can be neighbors of a query cell but do not vote.
    encoder
        Fine-tuned encoder.
    label_key
        Column of ``obs`` with the cell types that the encoder was fine-tuned on. Labels that fine-tuning dropped as
        label issues are missing in the reference.
    batch_key
        Column of ``obs`` with the batches (studies, donors), for `calibration`.
    calibration
        Cells that confidence, p-values and prediction sets are calibrated on. ``"held_out"``: the cells that
        fine-tuning held out, without further training; right for queries like the reference's own cells.
        ``"cross_validated"``: all labelled cells in five folds, each predicted by an encoder fine-tuned on the others;
        better for rare types. ``"leave_one_batch_out"``: the same with whole batches of `batch_key` as folds (ten at
        most), which resembles a query from another batch. The last two repeat fine-tuning once per fold.
    index
        Kind of neighbor search: ``"exact"``, ``"hnsw"``, ``"ivf"``, ``"int8"``, ``"pq"``, or ``"auto"`` to choose by
        the number of cells (exact up to 100,000, a graph up to two million, compressed lists above).
    key_added
        Prefix of the slot that fine-tuning wrote.
    %(progress)s

    Returns
    -------
    A reference, to be saved or passed to :func:`scquery_ae.tl.query`.

    Raises
    ------
    NotFittedError
        If `adata` was not normalised or the encoder was not fine-tuned.
    MissingKeyError
        If `label_key` is not a column of ``obs``.
    ArgumentError
        If a label is not among the encoder's types, or an argument is out of its range.
    """
    if not isinstance(encoder, Encoder):
        msg = f"`tl.build_reference` needs a fine-tuned encoder. Received {type(encoder).__name__}."
        raise ArgumentError(msg)
    slots = check_slots(key_added)
    check_choice("index", index, INDEXES)
    check_flag("progress", progress)
    check_choice("calibration", calibration, CALIBRATIONS)
    types = encoder.fitted_classifier.types
    cells = open_training(adata, encoder.transform, "tl.build_reference")
    if adata.n_obs < 2:
        msg = f"`tl.build_reference` needs at least two cells. Received {adata.n_obs}; pass the cells of the training."
        raise ArgumentError(msg)
    if usable_index(adata.n_obs, index) != choose_index(adata.n_obs, index):
        msg = (
            f"{argument('index', index)} must be trained on more than the {adata.n_obs} cells received. Use "
            f"{argument('index', 'exact')} or {argument('index', 'auto')}."
        )
        raise ArgumentError(msg)
    codes = known_label_codes(adata, label_key, types)
    held_out, label_issue = read_split(adata, slots.split)
    codes[label_issue] = -1
    check_unique(adata.obs_names, slot("obs_names"), f"{current().make_unique('obs')}.")
    folds, batches = _folds(adata, codes, batch_key, calibration)
    if folds is not None and batches is None and encoder.parameters.get("finetune", {}).get("adversarial_weight"):
        msg = (
            f"The encoder was fine-tuned with {argument('adversarial_weight')}, and "
            f"{argument('calibration', calibration)} fine-tunes again. Pass the same {argument('batch_key')}."
        )
        raise ArgumentError(msg)
    rows = CellRows.read(cells, encoder.transform)
    encoder = with_components(encoder, rows)
    embedded = ReferenceCells.from_embedded(
        embed_rows(encoder, rows),
        _annotation(adata, label_key, label_issue),
        held_out=held_out,
        added=np.zeros(adata.n_obs, dtype=bool),
    )
    reference = Reference(
        encoder=encoder,
        cells=embedded,
        label_key=label_key,
        types=types,
        classifier_columns=np.arange(len(types)),
        densities=TypeDensities.fit(embedded.embedding, embedded.projected, codes, len(types)),
        calibration=Calibration.empty(len(types)),
        simulation_cells=SimulationCells.choose(cells, adata.obs_names.to_numpy(), codes, held_out),
        depth=median_depth(rows.totals, rows.detected),
        index_kind=index,
        index=None,
        provenance={"scquery_ae": version("scquery-ae"), "n_obs": adata.n_obs, "label_key": label_key, "steps": []},
    )
    if folds is None:
        reference.calibrate()
    else:
        predicted = out_of_fold(encoder, rows, codes, folds, batches, progress=progress)
        reference.calibration = Calibration.fit(
            predicted.members, predicted.measures, codes[predicted.rows], calibration
        )
    logger.info(
        "built %r%s; returned it with its calibration (%s, on %d cells), and wrote nothing into the AnnData",
        reference,
        f", without the labels of {label_issue.sum()} cells with a label issue" if label_issue.any() else "",
        reference.calibration.method,
        len(reference.calibration.scores),
    )
    return reference


def _folds(
    adata: AnnData, codes: np.ndarray, batch_key: str | None, calibration: str
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the fold and the batch of each cell, or None where the calibration needs none."""
    batches = batch_codes(adata, batch_key)
    if calibration == "held_out":
        return None, batches
    if calibration == "cross_validated":
        return make_folds(codes, None, 5, 0), batches
    # Predictions for a batch without labelled cells cannot be compared with anything.
    n_batches = 0 if batches is None else len(np.unique(batches[codes >= 0]))
    if n_batches < 2:
        msg = (
            f"{argument('calibration', calibration)} needs {argument('batch_key')} with at least two labelled batches. "
            f"Received {batch_key!r}{' with one' if n_batches else ''}; "
            f"name the column of the batches, or use {argument('calibration', 'cross_validated')}."
        )
        raise ArgumentError(msg)
    return make_folds(codes, batches, min(n_batches, 10), 0), batches


def _annotation(adata: AnnData, label_key: str, label_issue: np.ndarray) -> pd.DataFrame:
    """Return the cells' annotation, with label issues set to missing so that they do not vote."""
    obs = to_storable(adata.obs)
    if label_issue.any():
        obs[label_key] = obs[label_key].mask(label_issue)
    return obs
