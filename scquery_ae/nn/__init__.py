"""Keras layers, corruptions, losses and greedy pretraining on plain arrays.

Importing this module registers its layers with Keras under the package name ``scquery_ae``, so that
``keras.saving.load_model`` finds them.
"""

from scquery_ae.nn.autoencoder import Autoencoder
from scquery_ae.nn.balanced import BalancedBatches
from scquery_ae.nn.batches import Batches
from scquery_ae.nn.checkpoint import ResumePoint, open_checkpoint
from scquery_ae.nn.classifier import build_classifier, read_classifier
from scquery_ae.nn.conv_autoencoder import Conv1DAutoencoder, Conv2DAutoencoder, ConvAutoencoder
from scquery_ae.nn.corruption import (
    CORRUPTIONS,
    Corruption,
    FeatureMaskingNoise,
    GaussianNoise,
    MaskingNoise,
    NoCorruption,
    SaltAndPepperNoise,
    get_corruption,
)
from scquery_ae.nn.dense_autoencoder import DenseLayerAutoencoder
from scquery_ae.nn.fitting import fit
from scquery_ae.nn.gradient_reversal import GradientReversal, StrengthRamp
from scquery_ae.nn.layer_settings import MODULES
from scquery_ae.nn.losses import (
    COUNT_LOSSES,
    RECONSTRUCTION_LOSSES,
    CrossEntropy,
    Dispersion,
    NegativeBinomial,
    Poisson,
    SquaredError,
    get_loss,
    log_gamma,
    negative_binomial_log_likelihood,
    poisson_log_likelihood,
)
from scquery_ae.nn.masked_autoencoder import FixedZeros, MaskedAutoencoder
from scquery_ae.nn.metric_losses import METRIC_LOSSES, ContrastiveLoss, TripletLoss, get_metric_loss
from scquery_ae.nn.pretraining import pretrain_stack
from scquery_ae.nn.principal import principal_weights
from scquery_ae.nn.progress import ProgressBar, check_converged
from scquery_ae.nn.rbm import RestrictedBoltzmannMachine
from scquery_ae.nn.rows import EncodedRows, MatrixRows, Rows, as_rows
from scquery_ae.nn.stack import PretrainedStack
from scquery_ae.nn.unit_norm import UnitNorm, unit_norm

__all__ = [
    "CORRUPTIONS",
    "COUNT_LOSSES",
    "METRIC_LOSSES",
    "MODULES",
    "RECONSTRUCTION_LOSSES",
    "Autoencoder",
    "BalancedBatches",
    "Batches",
    "ContrastiveLoss",
    "Conv1DAutoencoder",
    "Conv2DAutoencoder",
    "ConvAutoencoder",
    "Corruption",
    "CrossEntropy",
    "DenseLayerAutoencoder",
    "Dispersion",
    "EncodedRows",
    "FeatureMaskingNoise",
    "FixedZeros",
    "GaussianNoise",
    "GradientReversal",
    "MaskedAutoencoder",
    "MaskingNoise",
    "MatrixRows",
    "NegativeBinomial",
    "NoCorruption",
    "Poisson",
    "PretrainedStack",
    "ProgressBar",
    "RestrictedBoltzmannMachine",
    "ResumePoint",
    "Rows",
    "SaltAndPepperNoise",
    "SquaredError",
    "StrengthRamp",
    "TripletLoss",
    "UnitNorm",
    "as_rows",
    "build_classifier",
    "check_converged",
    "fit",
    "get_corruption",
    "get_loss",
    "get_metric_loss",
    "log_gamma",
    "negative_binomial_log_likelihood",
    "open_checkpoint",
    "poisson_log_likelihood",
    "pretrain_stack",
    "principal_weights",
    "read_classifier",
    "unit_norm",
]
