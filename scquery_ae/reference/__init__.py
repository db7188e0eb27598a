"""A reference in memory and on disk. Neither Keras nor TensorFlow is needed to load or search one."""

from scquery_ae.reference.bundle import digest
from scquery_ae.reference.calibration import Calibration
from scquery_ae.reference.reference import Annotation, Reference, open_reference

__all__ = ["Annotation", "Calibration", "Reference", "digest", "open_reference"]
