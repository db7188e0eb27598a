"""A reference in memory and on disk. Loading and searching one needs neither Keras nor TensorFlow."""

from scquery_ae.reference.bundle import digest
from scquery_ae.reference.cells import ReferenceCells
from scquery_ae.reference.contents import ReferenceContents
from scquery_ae.reference.open_reference import (
    ReferenceNotFoundError,
    SavedReference,
    open_reference,
    prepare_for_threads,
)
from scquery_ae.reference.reference import Reference, median_depth
from scquery_ae.reference.search import SearchFilter, check_filter
from scquery_ae.reference.simulate import ExpectedAccuracy, simulate_query
from scquery_ae.reference.simulation_cells import SimulationCells
from scquery_ae.reference.to_storable import to_storable

__all__ = [
    "ExpectedAccuracy",
    "Reference",
    "ReferenceCells",
    "ReferenceContents",
    "ReferenceNotFoundError",
    "SavedReference",
    "SearchFilter",
    "SimulationCells",
    "check_filter",
    "digest",
    "median_depth",
    "open_reference",
    "prepare_for_threads",
    "simulate_query",
    "to_storable",
]
