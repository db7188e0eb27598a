"""A collection in Milvus: row number, vector and metadata of each item, and one index."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scquery_ae._checks import check_text, shown
from scquery_ae._errors import ArgumentError, MissingKeyError, SearchServiceError
from scquery_ae.index.milvus.columns import FIELD_TYPES, MAX_TEXT, PREFIX, Table
from scquery_ae.index.milvus.conditions import MAX_IDS, row_conditions
from scquery_ae.index.milvus.service import Service, redacted

#: Milvus' type of each kind of index. Both Milvus Lite and the server have these.
INDEX_TYPES = {"exact": "FLAT", "hnsw": "HNSW", "ivf": "IVF_FLAT", "int8": "IVF_SQ8"}
#: Our own limit on one request. Milvus accepts 64 MB.
REQUEST_BYTES = 16 << 20


@dataclass(frozen=True)
class Collection:
    """An existing collection.

    Attributes
    ----------
    service
        Connection to Milvus.
    name
        Name of the collection.
    kind
        Kind of index, a key of ``INDEX_TYPES``.
    width
        Width of the vectors.
    columns
        Kind of each metadata column by name.
    n_lists
        Number of inverted lists, 0 for other kinds of index.
    """

    service: Service
    name: str
    kind: str
    width: int
    columns: Mapping[str, str]
    n_lists: int

    @classmethod
    def find(cls, service: Service, name: str) -> Collection:
        """Load a collection and return its description."""
        if not service("has_collection", name):
            existing = shown(service("list_collections"), limit=20) or "none"
            msg = f"{redacted(service.uri)} has no collection {name!r}. Expected one of {existing}."
            raise MissingKeyError(msg)
        fields = {field["name"]: field for field in service("describe_collection", name)["fields"]}
        index = service("describe_index", name, "vector") or {}
        types = {field: description["type"].name for field, description in fields.items()}
        index_kinds = {milvus: kind for kind, milvus in INDEX_TYPES.items()}
        column_kinds = {milvus: kind for kind, milvus in FIELD_TYPES.items()}
        metadata = {field: milvus for field, milvus in types.items() if field.startswith(PREFIX)}
        if (
            types != {"row": "INT64", "vector": "FLOAT_VECTOR", **metadata}
            or not set(metadata.values()) <= set(column_kinds)
            or index.get("metric_type") != "IP"
            or index.get("index_type") not in index_kinds
        ):
            msg = (
                f"`MilvusIndex.build` did not make the collection {name!r}. Received the fields {shown(types)} "
                f"with index {index.get('index_type')} by {index.get('metric_type')}; build one under another name."
            )
            raise ArgumentError(msg)
        service("load_collection", name)
        columns = {field.removeprefix(PREFIX): column_kinds[milvus] for field, milvus in metadata.items()}
        # Some servers return the options of the index under "params", others beside the rest.
        n_lists = int({**(index.get("params") or {}), **index}.get("nlist", 0))
        width = int(fields["vector"]["params"]["dim"])
        return cls(service, name, index_kinds[index["index_type"]], width, columns, n_lists)

    @classmethod
    def build(
        cls,
        service: Service,
        name: str,
        kind: str,
        vectors: np.ndarray,
        table: Table,
        batch_size: int,
        *,
        overwrite: bool,
    ) -> Collection:
        """Build a collection under a temporary name, and rename it when it is complete."""
        replaces = service("has_collection", name)
        if replaces and not overwrite:
            msg = (
                f"{redacted(service.uri)} already has a collection {name!r}. Open it with `MilvusIndex.open`, pass "
                "another name as `collection=`, or replace it with `overwrite=True`."
            )
            raise ArgumentError(msg)
        n, width = vectors.shape
        n_lists = max(min(round(4 * math.sqrt(n)), n // 39), 1) if kind in ("ivf", "int8") else 0
        made = cls(service, name, kind, width, {column: known for column, (known, _) in table.items()}, n_lists)
        new, old = (f"{name}_{uuid.uuid4().hex}" for _ in range(2))
        with ExitStack() as undo:
            undo.callback(service.undo, "drop_collection", new)
            replace(made, name=new)._fill(vectors, table, batch_size)
            if replaces:
                # The name of a dropped collection may stay taken for a while, so the old one is renamed first.
                service("rename_collection", name, old)
                undo.callback(service.undo, "load_collection", name)
                undo.callback(service.undo, "rename_collection", old, name)
            service("rename_collection", new, name)
            undo.callback(service.undo, "rename_collection", name, new)
            # Milvus Lite unloads a collection when it renames it.
            service("load_collection", name)
            undo.pop_all()
        if replaces:
            service("drop_collection", old)
        return made

    def _fill(self, vectors: np.ndarray, table: Table, batch_size: int) -> None:
        """Create the collection; write, index and load the vectors; check that all are present."""
        from pymilvus import DataType, MilvusClient

        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("row", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.width)
        for name, kind in self.columns.items():
            options = {"max_length": MAX_TEXT} if kind == "text" else {}
            schema.add_field(PREFIX + name, DataType[FIELD_TYPES[kind]], nullable=True, **options)
        # With strong consistency, every client finds added vectors at once.
        self.service("create_collection", self.name, schema=schema, consistency_level="Strong")
        self._write("insert", vectors, np.arange(len(vectors)), table, batch_size)
        options = {"nlist": self.n_lists} if self.n_lists else {}
        options = {"M": 32, "efConstruction": 200} if self.kind == "hnsw" else options
        # Milvus Lite ignores options that are not under "params". The server accepts both.
        nested = {"params": options} if options else {}
        index = MilvusClient.prepare_index_params()
        index.add_index("vector", index_type=INDEX_TYPES[self.kind], metric_type="IP", params=nested)
        self.service("flush", self.name)
        self.service("create_index", self.name, index)
        self.service("load_collection", self.name)
        stored, n = self.count([""]), len(vectors)
        if stored != n:
            msg = f"Milvus stored {stored} of {n} vectors. The new collection was removed; build it again."
            raise SearchServiceError(msg)

    def add(self, vectors: np.ndarray, rows: np.ndarray, table: Table, batch_size: int) -> None:
        """Add vectors under unused row numbers, all or none."""
        n_taken = self.count(row_conditions(rows))
        if n_taken:
            msg = (
                f"{n_taken} of the {len(rows)} row numbers are already in {self.name!r}. "
                "Remove these rows first, or pass unused numbers."
            )
            raise ArgumentError(msg)
        try:
            self._write("upsert", vectors, rows, table, batch_size)
        except BaseException:
            with suppress(SearchServiceError):
                self._delete(rows)
            raise

    def remove(self, rows: np.ndarray) -> None:
        """Remove existing rows, all or none."""
        n_found = self.count(row_conditions(rows))
        if n_found < len(rows):
            msg = (
                f"{len(rows) - n_found} of the {len(rows)} rows to remove are not in {self.name!r}. Nothing was "
                "removed; pass rows that exist."
            )
            raise MissingKeyError(msg)
        self._delete(rows)

    def _write(self, method: str, vectors: np.ndarray, rows: np.ndarray, table: Table, batch_size: int) -> None:
        """Send vectors in requests within Milvus' limits."""
        widest = sum(
            max((len(value.encode()) for value in values if value is not None), default=0) if kind == "text" else 8
            for kind, values in table.values()
        )
        step = max(min(batch_size, REQUEST_BYTES // (4 * self.width + widest + 8)), 1)
        for start in range(0, len(vectors), step):
            batch = [
                {"row": int(rows[i]), "vector": vectors[i], **{PREFIX + name: v[i] for name, (_, v) in table.items()}}
                for i in range(start, min(start + step, len(vectors)))
            ]
            self.service(method, self.name, batch)

    def _delete(self, rows: np.ndarray) -> None:
        for start in range(0, len(rows), MAX_IDS):
            self.service("delete", self.name, ids=rows[start : start + MAX_IDS].tolist())

    def query(self, condition: str, fields: list[str]) -> list[Any]:
        """Return fields of the rows that meet a condition."""
        options = {"filter": condition, "output_fields": fields, "consistency_level": "Strong"}
        answer: list[Any] = self.service("query", self.name, **options)
        return answer

    def count(self, conditions: Iterable[str]) -> int:
        """Return the number of rows that meet any of the conditions, which must be disjoint."""
        return sum(int(self.query(condition, ["count(*)"])[0]["count(*)"]) for condition in conditions)


def check_name(name: Any) -> None:
    """Raise unless `name` can be the name of a collection."""
    # The temporary name is 33 characters longer and has to fit into Milvus' limit of 255.
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,199}", check_text("collection", name)):
        msg = (
            "`collection` must be up to 200 letters, digits and underscores, and must not start with a digit. "
            f"Received {name!r}."
        )
        raise ArgumentError(msg)
