"""Predicting the types of embedded cells: predictors, their combination, calibration and novelty.

Arrays in, arrays out. Queries, simulated queries, audits, cross-validation and the building of references all call the
same functions.
"""

from scquery_ae.annotate.annotation import Annotation, annotate
from scquery_ae.annotate.calibration import Calibration
from scquery_ae.annotate.cells import EmbeddedCells
from scquery_ae.annotate.leave_one_out import calibrate_held_out, leave_one_out_members
from scquery_ae.annotate.novelty import N_MEASURES, TypeDensities
from scquery_ae.annotate.per_cell import PerCell, PerCellArrays
from scquery_ae.annotate.predictors import (
    CALIBRATION_NEIGHBORS,
    MemberProbabilities,
    Predictors,
    combine,
    fit_members,
    latent_types,
)

__all__ = [
    "CALIBRATION_NEIGHBORS",
    "N_MEASURES",
    "Annotation",
    "Calibration",
    "EmbeddedCells",
    "MemberProbabilities",
    "PerCell",
    "PerCellArrays",
    "Predictors",
    "TypeDensities",
    "annotate",
    "calibrate_held_out",
    "combine",
    "fit_members",
    "latent_types",
    "leave_one_out_members",
]
