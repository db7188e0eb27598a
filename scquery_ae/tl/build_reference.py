"""``tl.build_reference``: from fine-tuned encoder and labelled cells to something that answers queries."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from scquery_ae._checks import check_choice, check_flag, check_slots, check_unique
from scquery_ae._errors import ArgumentError
from scquery_ae._logging import logger
from scquery_ae.encoder import Encoder
from scquery_ae.index import INDEXES, choose_index, usable_index
from scquery_ae.loaders import CellRows, open_training
from scquery_ae.reference import Calibration, Novelty, Reference, SimulationCells
from scquery_ae.reference.novelty import N_KINDS
from scquery_ae.reference.simulate import median_depth
from scquery_ae.reference.to_storable import to_storable
from scquery_ae.tl._labels import batch_codes, known_label_codes, read_split
from scquery_ae.tl._out_of_fold import out_of_fold
from scquery_ae.training import make_folds, principal_components

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


CALIBRATIONS = ("held_out", "cross_validated", "leave_one_batch_out")


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
    """Embed labelled cells and calibrate what they will say about a query.

    Classifier and neighbors are combined, and confidence, p-values and prediction sets calibrated, on the cells that
    fine-tuning held out (``obs["scquery_split"]``), each as if it alone were not in the reference.

    Parameters
    ----------
    adata
        Cells after :func:`scquery_ae.pp.normalize` and :func:`scquery_ae.tl.finetune`; left as it is. Cells without a
        label can be found but do not vote.
    encoder
        Fine-tuned encoder.
    label_key
        Column of ``obs`` with the cell types that the encoder was fine-tuned on. Labels that fine-tuning dropped as
        label_issue are missing in the reference.
    batch_key
        Column of ``obs`` with the batches (studies, donors), for `calibration`.
    calibration
        What confidence, p-values and prediction sets are calibrated on. ``"held_out"``: the cells that fine-tuning held out,
        which costs nothing, and is right for queries like the reference's own cells. ``"cross_validated"``: all
        labelled cells, in five folds, each judged by an encoder fine-tuned on the others; better for rare types.
        ``"leave_one_batch_out"``: the same with whole batches of `batch_key` (at most ten folds), which is what a query
        from elsewhere resembles most. The two fine-tune once a fold.
    index
        Kind of neighbor search: ``"exact"``, ``"hnsw"``, ``"ivf"``, ``"int8"``, ``"pq"``, or ``"auto"`` to go by the
        number of cells (exact up to 100,000, a graph up to two million, compressed lists above).
    key_added
        Slot prefix that fine-tuning wrote under.
    progress
        Show progress bars of fine-tuning on a terminal or in a notebook.

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
    slots = check_slots(key_added)
    check_choice("index", index, INDEXES)
    check_flag("progress", progress)
    check_choice("calibration", calibration, CALIBRATIONS)
    types = encoder.fitted_classifier.types
    cells = open_training(adata, encoder.transform, "tl.build_reference")
    if adata.n_obs < 2:
        msg = f"`tl.build_reference` needs at least two cells. Received {adata.n_obs}; give those of the training."
        raise ArgumentError(msg)
    if usable_index(adata.n_obs, index) != choose_index(adata.n_obs, index):
        msg = (
            f'`index={index!r}` needs more cells than {adata.n_obs}, for its parts are trained. Use "exact" or "auto".'
        )
        raise ArgumentError(msg)
    latent = known_label_codes(adata, label_key, types)
    held_out, label_issue = read_split(adata, slots.split)
    latent[label_issue] = -1
    check_unique(adata.obs_names, "`adata.obs_names`", "call `adata.obs_names_make_unique()`.")
    folds, batches = _folds(adata, latent, batch_key, calibration)
    if folds is not None and batches is None and encoder.parameters.get("finetune", {}).get("adversarial_weight"):
        msg = (
            f'The encoder was fine-tuned with `adversarial_weight`, and `calibration="{calibration}"` fine-tunes again. '
            "Pass the same `batch_key`."
        )
        raise ArgumentError(msg)
    rows = CellRows.read(cells, encoder.transform)
    if encoder.components is None:
        encoder = replace(encoder, components=principal_components(rows.logged))
    projected = encoder.project(rows.logged)
    embedding = encoder.encode_logged(rows.logged)
    reference = Reference(
        encoder=encoder,
        embedding=embedding,
        obs=_annotation(adata, label_key, label_issue),
        label_key=label_key,
        types=types,
        classifier_columns=np.arange(len(types)),
        held_out=held_out,
        novelty=Novelty.fit(embedding, projected, latent, len(types)),
        projected=projected,
        decision=encoder.decision(rows.logged, rows.totals),
        calibration=Calibration.empty(len(types), N_KINDS),
        simulation_cells=SimulationCells.choose(cells, adata.obs_names.to_numpy(), latent, held_out),
        depth=median_depth(rows.totals, rows.detected),
        index_kind=index,
        provenance={"scquery_ae": version("scquery-ae"), "n_obs": adata.n_obs, "label_key": label_key, "steps": []},
    )
    if folds is None:
        reference.calibrate()
    else:
        judged = out_of_fold(encoder, rows, latent, folds, batches, projected=projected, progress=progress)
        reference.calibration = Calibration.fit(judged.members, judged.nonconformity, latent[judged.rows], calibration)
    logger.info(
        "built %r%s; returned it with its calibration (%s, on %d cells), and wrote nothing into the AnnData",
        reference,
        f", {label_issue.sum()} cells with a label issue stand in the reference without one"
        if label_issue.any()
        else "",
        reference.calibration.method,
        len(reference.calibration.scores),
    )
    return reference


def _folds(
    adata: AnnData, latent: np.ndarray, batch_key: str | None, calibration: str
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the fold and the batch of each cell, or None where calibration needs none."""
    batches = batch_codes(adata, batch_key)
    if calibration == "held_out":
        return None, batches
    if calibration == "cross_validated":
        return make_folds(latent, None, 5, 0), batches
    # A batch without a labelled cell has nothing to be judged by.
    n_batches = 0 if batches is None else len(np.unique(batches[latent >= 0]))
    if n_batches < 2:
        msg = (
            '`calibration="leave_one_batch_out"` needs a `batch_key` with at least two labelled batches. '
            f"Received {batch_key!r}{' with one' if n_batches else ''}; "
            'name the column of the batches, or use `calibration="cross_validated"`.'
        )
        raise ArgumentError(msg)
    return make_folds(latent, batches, min(n_batches, 10), 0), batches


def _annotation(adata: AnnData, label_key: str, label_issue: np.ndarray) -> pd.DataFrame:
    """Return the cells' annotation; a label issue is missing, so that it does not vote."""
    obs = to_storable(adata.obs)
    if label_issue.any():
        obs[label_key] = obs[label_key].mask(label_issue)
    return obs
