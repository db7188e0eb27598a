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
    ScqueryError,
    ScqueryWarning,
    SearchServiceError,
    StorageError,
    TrainingError,
)
from ._settings import settings
from ._version import __version__
from .encoder import Encoder
from .loaders.files import read_lazy
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
    "read_lazy",
    "report",
    "settings",
    "stats",
    "tl",
]
