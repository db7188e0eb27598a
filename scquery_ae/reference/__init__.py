"""A reference in memory and on disk. Neither Keras nor TensorFlow is needed to load or search one."""

from scquery_ae.reference.annotation import Annotation, EmbeddedCells
from scquery_ae.reference.bundle import digest
from scquery_ae.reference.calibration import Calibration
from scquery_ae.reference.novelty import Novelty
from scquery_ae.reference.reference import Reference, open_reference
from scquery_ae.reference.replay import ReplayCells, ReplayResult, replay
from scquery_ae.reference.search import SearchFilter

__all__ = [
    "Annotation",
    "Calibration",
    "EmbeddedCells",
    "Novelty",
    "Reference",
    "ReplayCells",
    "ReplayResult",
    "SearchFilter",
    "digest",
    "open_reference",
    "replay",
]
