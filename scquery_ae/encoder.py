"""The trained network as NumPy arrays, for embedding and querying without Keras."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import sparse

from scquery_ae._errors import ArgumentError, NotFittedError
from scquery_ae.dense import ACTIVATIONS, SLOPES, Classifier, DenseWeights
from scquery_ae.input_state import is_lazy
from scquery_ae.loaders import CHUNK, GeneColumns
from scquery_ae.loaders.dask_blocks import map_blocks
from scquery_ae.stats import GeneDiscriminant
from scquery_ae.transform import Transform

#: Fraction of nonzero entries above which a dense product takes less time than a sparse one: it needs far more
#: operations, each of them much faster.
DENSE_ABOVE = 0.08

#: Rows made dense at once.
DENSE_ROWS = 512


@dataclass
class Encoder:
    """Normalisation and network of a reference, run by NumPy and SciPy.

    :func:`scquery_ae.tl.pretrain` makes one, and :func:`scquery_ae.tl.finetune` trains it further in place.

    Attributes
    ----------
    transform
        Normalisation, with the model genes.
    layers
        Encoder layers from the input inwards; the output of the last, scaled to unit length, is the embedding.
    classifier
        Softmax over cell types; None before fine-tuning.
    history
        Losses by epoch: ``"pretrain"`` a list with one dictionary per layer, ``"finetune"`` a dictionary.
    parameters
        Arguments of each training step.
    pretrained
        Layers that fine-tuning started from; None before it, and in a reference that was loaded.
    components
        Principal directions of the cells of pretraining, float32 ``(n_genes, n_components)``, which do not depend on
        labels. None without pretraining.
    discriminant
        Gaussian discriminant over the genes for the classifier's types; None before fine-tuning.
    """

    transform: Transform
    layers: tuple[DenseWeights, ...]
    classifier: Classifier | None = None
    history: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    pretrained: tuple[DenseWeights, ...] | None = None
    components: np.ndarray | None = None
    discriminant: GeneDiscriminant | None = None

    def __post_init__(self) -> None:
        if self.components is not None and self.components.shape[:-1] != (self.transform.n_genes,):
            msg = (
                f"`components` must have a row for each of the {self.transform.n_genes} model genes. "
                f"Received shape {self.components.shape}."
            )
            raise ArgumentError(msg)
        if self.discriminant is not None and self.classifier is not None:
            expected_shape = (len(self.classifier.types), self.transform.n_genes)
            if self.discriminant.means.shape != expected_shape:
                msg = (
                    f"`discriminant` must have a mean for each of the classifier's types and each model gene, shape "
                    f"{expected_shape}. Received {self.discriminant.means.shape}."
                )
                raise ArgumentError(msg)
        widths = [len(self.transform.genes), *(layer.kernel.shape[1] for layer in self.layers)]
        expected = [layer.kernel.shape[0] for layer in self.layers]
        if self.classifier is not None:
            expected.append(self.classifier.kernel.shape[0])
        if not self.layers or widths[: len(expected)] != expected:
            msg = (
                f"Each layer's input width must be the output width of the layer before. Received {widths[0]} genes, "
                f"output widths {widths[1:]}, and input widths {expected} (with the classifier)."
            )
            raise ArgumentError(msg)

    @property
    def n_latent(self) -> int:
        """Width of the embedding."""
        return int(self.layers[-1].kernel.shape[1])

    def gene_gradient(self, x: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Return the gradient of one embedding along a direction with respect to each gene, float32 ``(n_genes,)``.

        The direction is propagated back through the transposed kernels and the slopes of the activations at the input.
        The length of the embedding is held fixed. Where activations are piecewise linear, the sum of gradient times
        input over the genes, plus the part of the biases, is the inner product of embedding and direction.

        Parameters
        ----------
        x
            Network input: log-normalised values minus the mean, ``(n_genes,)``.
        direction
            ``(n_latent,)``.
        """
        slopes = []
        for layer in self.layers:
            before = x @ layer.kernel + layer.bias
            slopes.append(SLOPES[layer.activation](before))
            x = ACTIVATIONS[layer.activation](before)
        back = direction / max(float(np.linalg.norm(x)), 1e-12)
        for layer, slope in zip(reversed(self.layers), reversed(slopes), strict=True):
            back = layer.kernel @ (back * slope)
        return np.asarray(back, dtype=np.float32)

    def gene_weights(self) -> np.ndarray:
        """Return the Euclidean norm of each model gene's weights in the first layer, float32 ``(n_genes,)``."""
        return np.asarray(np.linalg.norm(self.layers[0].kernel, axis=1))

    @property
    def genes(self) -> np.ndarray:
        """Model genes, in the order of the network's inputs."""
        return self.transform.genes

    def encode(self, counts: Any, present: np.ndarray | None = None) -> np.ndarray:
        """Return the unit-length embedding of cells, float32 ``(n, n_latent)``.

        Parameters
        ----------
        counts
            Counts of the model genes, ``(n, n_genes)``, sparse or dense.
        present
            Which model genes were measured, bool ``(n_genes,)``; None for all.
        """
        if np.ndim(counts) != 2 or counts.shape[1] != self.transform.n_genes:
            msg = (
                f"`encode` needs the counts of the {self.transform.n_genes} model genes, shape "
                f"(n, {self.transform.n_genes}). Received {np.shape(counts)}; align the genes first."
            )
            raise ArgumentError(msg)
        return self.encode_logged(self.transform.log_normalize(counts, present), present)

    def encode_logged(self, logged: Any, present: np.ndarray | None = None) -> np.ndarray:
        """Return the embedding of log-normalised rows, block by block; see :meth:`encode` for counts.

        Parameters
        ----------
        logged
            CSR ``(n, n_genes)``, or any object whose slices are CSR.
        present
            As for :meth:`encode`.
        """
        first, *rest = self.layers
        mean = self._mean(present)
        # (z - mean) @ W = z @ W - mean @ W: the product stays sparse.
        bias = first.bias - mean @ first.kernel
        latent = np.empty((logged.shape[0], self.n_latent), dtype=np.float32)
        for rows, block in _blocks(logged):
            x = ACTIVATIONS[first.activation](_product(block, first.kernel) + bias)
            for layer in rest:
                x = layer(x)
            norm = np.sqrt(np.einsum("ij,ij->i", x, x))[:, None]
            latent[rows] = x / np.where(norm > 0, norm, 1)
        return latent

    def project(self, logged: Any, present: np.ndarray | None = None) -> np.ndarray:
        """Return the principal component scores of log-normalised rows, float32, with missing genes at their mean."""
        components = self.fitted_components
        shift = self._mean(present) @ components
        projected = np.empty((logged.shape[0], components.shape[1]), dtype=np.float32)
        for rows, block in _blocks(logged):
            projected[rows] = block @ components - shift
        return projected

    def decision(self, logged: Any, totals: np.ndarray, present: np.ndarray | None = None) -> np.ndarray:
        """Return the decision function of the discriminant for each type of the classifier, float32 ``(n, n_types)``.

        The values of a cell with fewer counts than the reference's median are scaled down in proportion, because the
        discriminant was fitted to deeper cells.

        Parameters
        ----------
        logged
            Log-normalised rows, CSR ``(n, n_genes)``.
        totals
            Counts of each cell in the model genes, ``(n,)``.
        present
            As for :meth:`encode`.

        Raises
        ------
        NotFittedError
            If there is no discriminant.
        """
        discriminant = self.fitted_discriminant
        # Without any of the genes the target is 0, and so are all decision values.
        usual = max(self.transform.target(present), np.finfo(np.float64).tiny)
        relative_depth = np.minimum(totals / usual, 1).astype(np.float32)[:, None]
        decision = np.empty((logged.shape[0], len(discriminant.means)), dtype=np.float32)
        for rows, block in _blocks(logged):
            decision[rows] = discriminant.decision(block, present) * relative_depth[rows]
        return decision

    def _mean(self, present: np.ndarray | None) -> np.ndarray:
        """Return the mean of each present gene, and zero for missing ones, whose values are zero already."""
        mean = self.transform.mean
        return mean if present is None else np.where(present, mean, np.float32(0))

    def embed(self, cells: GeneColumns) -> np.ndarray:
        """Return the embedding of all cells, float32 ``(n_obs, n_latent)``, by chunks or by blocks of a Dask array."""
        if is_lazy(cells.matrix):
            lean = Encoder(self.transform, self.layers)
            return map_blocks(_embed_block, cells, lean)["embedding"]
        latent = np.empty((cells.shape[0], self.n_latent), dtype=np.float32)
        start = 0
        for chunk in cells.chunks():
            latent[start : start + chunk.shape[0]] = self.encode(chunk, cells.present)
            start += chunk.shape[0]
        return latent

    def classify(self, latent: np.ndarray) -> np.ndarray:
        """Return the classifier's probability of each type, ``(n, n_types)``, for embeddings made by :meth:`encode`."""
        return self.fitted_classifier(latent)

    @property
    def fitted_classifier(self) -> Classifier:
        """The classifier.

        Raises
        ------
        NotFittedError
            If the encoder was not fine-tuned.
        """
        if self.classifier is None:
            msg = (
                "The encoder has no classifier: it was pretrained but not fine-tuned. "
                "Call `scq.tl.finetune(adata, encoder, label_key=...)` first."
            )
            raise NotFittedError(msg)
        return self.classifier

    @property
    def fitted_discriminant(self) -> GeneDiscriminant:
        """The discriminant.

        Raises
        ------
        NotFittedError
            If the encoder was not fine-tuned.
        """
        if self.discriminant is None:
            msg = (
                "The encoder has no discriminant: it was not fine-tuned. "
                "Call `scq.tl.finetune(adata, encoder, label_key=...)` first."
            )
            raise NotFittedError(msg)
        return self.discriminant

    @property
    def fitted_components(self) -> np.ndarray:
        """The principal directions.

        Raises
        ------
        NotFittedError
            If there are none.
        """
        if self.components is None:
            msg = "The encoder has no principal components. Use an encoder made by `scq.tl.pretrain`."
            raise NotFittedError(msg)
        return self.components

    def lean(self) -> Encoder:
        """Return what embedding needs, without history and parameters, to send it to Dask workers."""
        return replace(self, history={}, parameters={}, pretrained=None)

    def __repr__(self) -> str:
        sizes = " -> ".join(str(n) for n in (self.transform.n_genes, *(layer.kernel.shape[1] for layer in self.layers)))
        types = "not fine-tuned" if self.classifier is None else f"{len(self.classifier.types)} types"
        return f"Encoder({sizes}, {types})"


def _embed_block(encoder: Encoder, cells: GeneColumns) -> dict[str, np.ndarray]:
    return {"embedding": encoder.embed(cells)}


def _blocks(matrix: Any) -> Iterator[tuple[slice, sparse.csr_matrix]]:
    """Yield slices and their rows, because the output of a layer for all rows may take gigabytes."""
    for start in range(0, matrix.shape[0], CHUNK):
        rows = slice(start, start + CHUNK)
        yield rows, matrix[rows]


def _product(block: sparse.csr_matrix, kernel: np.ndarray) -> np.ndarray:
    """Return ``block @ kernel``, by a dense product if the block has many nonzero entries."""
    n, d = block.shape
    if block.nnz < DENSE_ABOVE * n * d:
        return np.asarray(block @ kernel)
    # Reuse a few rows of memory: allocating a whole dense block each time takes longer.
    product, dense = np.empty((n, kernel.shape[1]), np.float32), np.empty((min(n, DENSE_ROWS), d), np.float32)
    for start in range(0, n, DENSE_ROWS):
        rows = slice(start, min(start + DENSE_ROWS, n))
        part = dense[: rows.stop - start]
        block[rows].toarray(out=part)
        np.matmul(part, kernel, out=product[rows])
    return product
