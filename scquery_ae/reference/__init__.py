"""A reference in memory and on disk. Neither Keras nor TensorFlow is needed to load or search one."""

from scquery_ae.reference.annotation import Annotation, EmbeddedCells
from scquery_ae.reference.bundle import digest
from scquery_ae.reference.calibration import Calibration
from scquery_ae.reference.novelty import Novelty
from scquery_ae.reference.reference import Reference, open_reference
from scquery_ae.reference.search import SearchFilter
from scquery_ae.reference.simulate import ExpectedAccuracy, SimulationCells, simulate_query

__all__ = [
    "Annotation",
    "Calibration",
    "EmbeddedCells",
    "ExpectedAccuracy",
    "Novelty",
    "Reference",
    "SearchFilter",
    "SimulationCells",
    "digest",
    "open_reference",
    "simulate_query",
]
