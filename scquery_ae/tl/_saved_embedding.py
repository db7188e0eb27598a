"""Codes kept on disk chunk by chunk, so that an interrupted embedding can go on."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from scquery_ae._errors import ArgumentError, StorageError
from scquery_ae.encoder import Encoder
from scquery_ae.input_state import is_lazy, read_rows
from scquery_ae.loaders import CHUNK, GeneColumns

#: Cells that stand for all when an embedding is recognised.
SAMPLED_ROWS = 64


def embed_in_steps(encoder: Encoder, cells: GeneColumns, names: pd.Index, folder: Path) -> np.ndarray:
    """Return the embeddings of all cells, of which those that are in the folder already are not computed again.

    Parameters
    ----------
    encoder
        What gives the embeddings.
    cells
        Counts of its genes.
    names
        Names of the cells.
    folder
        Path of a folder, which needs not be there.
    """
    saved = SavedEmbedding(folder, (cells.shape[0], encoder.n_latent), fingerprint(encoder, cells, names))
    if saved.rows < cells.shape[0] and sparse.issparse(cells.matrix) and cells.matrix.format != "csr":
        # Rows of a CSC matrix are scattered. Genes that are not there stay columns of zeros.
        columns = np.where(cells.columns >= 0, np.arange(len(cells.columns)), -1)
        cells = GeneColumns(cells.load(), columns)
    for start, stop in _pieces(cells.matrix):
        if stop > saved.rows:
            piece = read_rows(cells.matrix, slice(max(start, saved.rows), stop))
            saved.append(encoder.embed(replace(cells, matrix=piece)))
    return saved.load()


def fingerprint(encoder: Encoder, cells: GeneColumns, names: pd.Index) -> str:
    """Return what tells one embedding from another: the encoder, and the cells by their names and a sample."""
    chosen = np.unique(np.linspace(0, cells.shape[0] - 1, SAMPLED_ROWS).astype(int))
    transform = encoder.transform
    digest = hashlib.sha256()
    for array in (
        cells.take(chosen).toarray(),
        cells.columns >= 0,
        pd.util.hash_pandas_object(names, index=False).to_numpy(),
        transform.mean,
        transform.fraction,
        *(array for layer in encoder.layers for array in (layer.kernel, layer.bias)),
    ):
        digest.update(np.ascontiguousarray(array).tobytes())
    activations = [layer.activation for layer in encoder.layers]
    genes = [str(gene) for gene in transform.genes]
    digest.update(json.dumps([cells.shape, transform.target_sum, activations, genes]).encode())
    return digest.hexdigest()


class SavedEmbedding:
    """A folder with the embeddings of the first cells and a record of how many these are.

    ``embedding.npy`` is written first and ``embedding.json``, the record, replaced afterwards: whenever the writer stops, the
    record names no rows that are not there.

    Parameters
    ----------
    folder
        Made if it is not there.
    shape
        Cells and width of the embeddings.
    fingerprint
        What the embeddings are of.

    Attributes
    ----------
    rows
        How many cells are done.

    Raises
    ------
    ArgumentError
        If the folder holds something else, or is damaged.
    StorageError
        If the folder cannot be written to.
    """

    def __init__(self, folder: Path, shape: tuple[int, int], fingerprint: str) -> None:
        self._codes, self._record = folder / "embedding.npy", folder / "embedding.json"
        self._shape, self._fingerprint = shape, fingerprint
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
        self._header = header.getvalue()
        self.rows = 0
        if self._record.exists():
            self.rows = self._recorded()
        elif self._codes.exists():
            msg = (
                f"`checkpoint` must be a folder of an embedding, or a new one. Received {folder}, which has a "
                f"{self._codes.name} of something else; name another folder."
            )
            raise ArgumentError(msg)
        else:
            self._keep(0)

    def append(self, latent: np.ndarray) -> None:
        """Keep the embeddings of the next cells, float32 ``(n, n_latent)``, and record that they are done."""
        try:
            self._codes.touch()
            with self._codes.open("r+b") as file:
                if self.rows == 0:
                    file.write(self._header)
                file.seek(self._size(self.rows))
                file.write(np.ascontiguousarray(latent, dtype="<f4").tobytes())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error
        self._keep(self.rows + len(latent))

    def load(self) -> np.ndarray:
        """Return all embeddings, in memory."""
        return np.asarray(np.load(self._codes, allow_pickle=False), dtype=np.float32)

    def _size(self, rows: int) -> int:
        """Return the length of the file of so many embeddings, in bytes."""
        return len(self._header) + 4 * rows * self._shape[1]

    def _recorded(self) -> int:
        """Return how many cells the record says are done, if it is one of these cells and can be true."""
        try:
            record = json.loads(self._record.read_bytes())
            rows, made_of = int(record["rows"]), record["fingerprint"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            msg = f"`checkpoint` is damaged: {self._record} cannot be read ({error!r}). Delete it and embed again."
            raise ArgumentError(msg) from error
        if made_of != self._fingerprint:
            msg = (
                f"`checkpoint` holds another run: {self._codes} was made with another encoder, of other cells or "
                "other genes. Expected those of this call; name another folder, or delete this one."
            )
            raise ArgumentError(msg)
        if rows and not (self._codes.is_file() and self._codes.stat().st_size >= self._size(rows)):
            msg = (
                f"`checkpoint` is damaged: {self._codes} does not hold the {rows} cells that its record names. Delete "
                "it and embed again."
            )
            raise ArgumentError(msg)
        return rows

    def _keep(self, rows: int) -> None:
        part = self._record.with_suffix(".part")
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            with part.open("w", encoding="utf-8") as file:
                json.dump({"rows": rows, "fingerprint": self._fingerprint}, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._record)
        except OSError as error:
            raise self._unwritable(error) from error
        self.rows = rows

    def _unwritable(self, error: OSError) -> StorageError:
        return StorageError(
            f"The embeddings could not be written to the folder {self._codes.parent}: {error}. The {self.rows} cells that "
            "are done are kept; free some space, or name a `checkpoint` on another disk, and call again."
        )


def _pieces(matrix: Any) -> Iterator[tuple[int, int]]:
    """Yield the first row and the one behind the last of what is embedded at once: a block of Dask's, or a chunk."""
    n = int(matrix.shape[0])
    yield from pairwise(np.cumsum([0, *matrix.chunks[0]]).tolist() if is_lazy(matrix) else [*range(0, n, CHUNK), n])
