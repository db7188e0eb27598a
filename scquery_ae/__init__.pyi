# The public names. A new name needs its import and its entry in `__all__` here, and nothing elsewhere.
from . import datasets, nn, ontology, pl, pp, report, stats, tl
from ._errors import (
    ArgumentError,
    BundleError,
    DatasetError,
    GeneOverlapError,
    InputStateError,
    MissingKeyError,
    NotFittedError,
    ReadError,
    ScqueryError,
    ScqueryWarning,
    SearchServiceError,
    StorageError,
    TrainingError,
)
from ._settings import settings
from ._version import __version__
from .encoder import Encoder
from .io import read
from .reference import Reference

__all__ = [
    "ArgumentError",
    "BundleError",
    "DatasetError",
    "Encoder",
    "GeneOverlapError",
    "InputStateError",
    "MissingKeyError",
    "NotFittedError",
    "ReadError",
    "Reference",
    "ScqueryError",
    "ScqueryWarning",
    "SearchServiceError",
    "StorageError",
    "TrainingError",
    "__version__",
    "datasets",
    "nn",
    "ontology",
    "pl",
    "pp",
    "read",
    "report",
    "settings",
    "stats",
    "tl",
]
