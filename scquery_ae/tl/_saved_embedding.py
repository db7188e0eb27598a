"""Embedding of cells with a checkpoint on disk, so that an interrupted call can continue."""

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

#: Number of cells whose counts are part of the fingerprint of an embedding.
SAMPLED_ROWS = 64


def embed_in_steps(encoder: Encoder, cells: GeneColumns, names: pd.Index, folder: Path) -> np.ndarray:
    """Return the embedding of all cells, reading rows that are in the folder and saving the others there.

    Parameters
    ----------
    encoder
        The encoder.
    cells
        Counts of its genes.
    names
        Names of the cells.
    folder
        Folder of the checkpoint; it is created if it does not exist.
    """
    saved = SavedEmbedding(folder, (cells.shape[0], encoder.n_latent), fingerprint(encoder, cells, names))
    if saved.rows < cells.shape[0] and sparse.issparse(cells.matrix) and cells.matrix.format != "csr":
        # Rows of a CSC matrix are slow to read. The loaded matrix has columns of zeros for missing genes.
        columns = np.where(cells.columns >= 0, np.arange(len(cells.columns)), -1)
        cells = GeneColumns(cells.load(), columns)
    for start, stop in _row_ranges(cells.matrix):
        if stop > saved.rows:
            block = read_rows(cells.matrix, slice(max(start, saved.rows), stop))
            saved.append(encoder.embed(replace(cells, matrix=block)))
    return saved.load()


def fingerprint(encoder: Encoder, cells: GeneColumns, names: pd.Index) -> str:
    """Return a hash of the encoder, the names of all cells and the counts of a sample of them."""
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
    """A folder with the embedding of the first cells and a record of their number.

    Rows are written to ``embedding.npy`` before the record, ``embedding.json``, is replaced. The record therefore never
    counts rows that are missing, whenever the writer stops.

    Parameters
    ----------
    folder
        The folder; it is created if it does not exist.
    shape
        Number of cells and width of the embedding.
    fingerprint
        Hash of the encoder and the cells.

    Attributes
    ----------
    rows
        Number of cells whose embedding is saved.

    Raises
    ------
    ArgumentError
        If the folder holds another embedding or other files, or is damaged.
    StorageError
        If the folder cannot be written to.
    """

    def __init__(self, folder: Path, shape: tuple[int, int], fingerprint: str) -> None:
        self._embedding, self._record = folder / "embedding.npy", folder / "embedding.json"
        self._shape, self._fingerprint = shape, fingerprint
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
        self._header = header.getvalue()
        self.rows = 0
        if self._record.exists():
            self.rows = self._read_record()
        elif self._embedding.exists():
            msg = (
                f"`checkpoint` must be a new folder, or one that `scq.tl.embed` wrote. Received {folder}, which has "
                f"{self._embedding.name} without {self._record.name}; name another folder."
            )
            raise ArgumentError(msg)
        else:
            self._write_record(0)

    def append(self, latent: np.ndarray) -> None:
        """Save the embedding of the next cells, float32 ``(n, n_latent)``, and record their number."""
        try:
            self._embedding.touch()
            with self._embedding.open("r+b") as file:
                if self.rows == 0:
                    file.write(self._header)
                file.seek(self._size(self.rows))
                file.write(np.ascontiguousarray(latent, dtype="<f4").tobytes())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error
        self._write_record(self.rows + len(latent))

    def load(self) -> np.ndarray:
        """Return the embedding of all cells, in memory."""
        return np.asarray(np.load(self._embedding, allow_pickle=False), dtype=np.float32)

    def _size(self, rows: int) -> int:
        """Return the size in bytes of an ``embedding.npy`` that is filled up to a number of rows."""
        return len(self._header) + 4 * rows * self._shape[1]

    def _read_record(self) -> int:
        """Return the number of saved cells from the record, after checking it against the call and the file."""
        try:
            record = json.loads(self._record.read_bytes())
            rows, recorded = int(record["rows"]), record["fingerprint"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            msg = (
                f"`checkpoint` is damaged: {self._record} cannot be read ({error!r}). "
                "Delete the folder and embed again."
            )
            raise ArgumentError(msg) from error
        if recorded != self._fingerprint:
            msg = (
                f"`checkpoint` holds another run: {self._embedding} was computed with another encoder, or from other "
                "cells or genes. Expected those of this call; name another folder, or delete this one."
            )
            raise ArgumentError(msg)
        if rows and not (self._embedding.is_file() and self._embedding.stat().st_size >= self._size(rows)):
            msg = (
                f"`checkpoint` is damaged: {self._embedding} does not hold the {rows} cells in {self._record.name}. "
                "Delete the folder and embed again."
            )
            raise ArgumentError(msg)
        return rows

    def _write_record(self, rows: int) -> None:
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
            f"The embedding could not be written to the folder {self._embedding.parent}: {error}. {self.rows} cells "
            "are saved. Free some space, or name a `checkpoint` on another disk, and call again."
        )


def _row_ranges(matrix: Any) -> Iterator[tuple[int, int]]:
    """Yield start and stop of the rows that are embedded at once: a block of a Dask array, or a chunk."""
    n = int(matrix.shape[0])
    yield from pairwise(np.cumsum([0, *matrix.chunks[0]]).tolist() if is_lazy(matrix) else [*range(0, n, CHUNK), n])
