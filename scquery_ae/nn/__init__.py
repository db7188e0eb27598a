"""Keras layers and greedy pretraining on plain arrays.

Importing this module registers the layers under the package name ``scquery_ae``, which
``keras.saving.load_model`` needs to find them.
"""

from scquery_ae.nn.batches import Batches
from scquery_ae.nn.classifier import build_classifier, read_classifier
from scquery_ae.nn.corruption import CORRUPTIONS, Corruption, GaussianNoise, MaskingNoise, NoCorruption, get_corruption
from scquery_ae.nn.dense_autoencoder import DenseLayerAutoencoder
from scquery_ae.nn.pretraining import PretrainedStack, pretrain_stack
from scquery_ae.nn.progress import ProgressBar, check_converged
from scquery_ae.nn.rows import EncodedRows, MatrixRows, Rows, as_rows
from scquery_ae.nn.unit_norm import UnitNorm, unit_norm

__all__ = [
    "CORRUPTIONS",
    "Batches",
    "Corruption",
    "DenseLayerAutoencoder",
    "EncodedRows",
    "GaussianNoise",
    "MaskingNoise",
    "MatrixRows",
    "NoCorruption",
    "PretrainedStack",
    "ProgressBar",
    "Rows",
    "UnitNorm",
    "as_rows",
    "build_classifier",
    "check_converged",
    "get_corruption",
    "pretrain_stack",
    "read_classifier",
    "unit_norm",
]
