"""A collection as Milvus keeps it: a number, a vector and metadata a row, and one index."""

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
from scquery_ae.index.milvus.columns import FIELD_TYPES, MOST_TEXT, PREFIX, Table
from scquery_ae.index.milvus.conditions import REQUEST_IDS, row_conditions
from scquery_ae.index.milvus.service import Service, redacted

#: What the kinds are in Milvus; those that both the embedded file and the server have.
INDEX_TYPES = {"exact": "FLAT", "hnsw": "HNSW", "ivf": "IVF_FLAT", "int8": "IVF_SQ8"}
#: A limit of our own on one request: Milvus takes 64 MB.
REQUEST_BYTES = 16 << 20


@dataclass(frozen=True)
class Collection:
    """Name, kind of index, width of the vectors, columns by kind, and number of lists, 0 without."""

    service: Service
    name: str
    kind: str
    width: int
    columns: Mapping[str, str]
    n_lists: int

    @classmethod
    def find(cls, service: Service, name: str) -> Collection:
        """Load a collection, and return it as Milvus describes it."""
        if not service("has_collection", name):
            there = shown(service("list_collections"), limit=20) or "none"
            msg = f"{redacted(service.uri)} has no collection called {name!r}. Expected one of {there}."
            raise MissingKeyError(msg)
        fields = {field["name"]: field for field in service("describe_collection", name)["fields"]}
        made = service("describe_index", name, "vector") or {}
        types = {field: known["type"].name for field, known in fields.items()}
        kinds = {kind: known for known, kind in INDEX_TYPES.items()}
        words = {kind: known for known, kind in FIELD_TYPES.items()}
        metadata = {field: kind for field, kind in types.items() if field.startswith(PREFIX)}
        if (
            types != {"row": "INT64", "vector": "FLOAT_VECTOR", **metadata}
            or not set(metadata.values()) <= set(words)
            or made.get("metric_type") != "IP"
            or made.get("index_type") not in kinds
        ):
            msg = (
                f"The collection {name!r} is none that `MilvusIndex.build` made. Received the fields {shown(types)} "
                f"with index {made.get('index_type')} by {made.get('metric_type')}; build one under another name."
            )
            raise ArgumentError(msg)
        service("load_collection", name)
        columns = {field.removeprefix(PREFIX): words[kind] for field, kind in metadata.items()}
        # Options of the index are packed or beside the rest, depending on the server.
        n_lists = int({**(made.get("params") or {}), **made}.get("nlist", 0))
        return cls(service, name, kinds[made["index_type"]], int(fields["vector"]["params"]["dim"]), columns, n_lists)

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
        """Make a collection under a name of its own, and give it its name once it is whole."""
        replaces = service("has_collection", name)
        if replaces and not overwrite:
            msg = (
                f"{redacted(service.uri)} has a collection called {name!r}. Open it with `MilvusIndex.open`, give "
                "another name as `collection=`, or replace it with `overwrite=True`."
            )
            raise ArgumentError(msg)
        n, width = vectors.shape
        n_lists = max(min(round(4 * math.sqrt(n)), n // 39), 1) if kind in ("ivf", "int8") else 0
        made = cls(service, name, kind, width, {column: known for column, (known, _) in table.items()}, n_lists)
        fresh, old = (f"{name}_{uuid.uuid4().hex}" for _ in range(2))
        with ExitStack() as undo:
            undo.callback(service.undo, "drop_collection", fresh)
            replace(made, name=fresh)._fill(vectors, table, batch_size)
            if replaces:
                # Names of dropped collections are not always free at once: the old one gets another name first.
                service("rename_collection", name, old)
                undo.callback(service.undo, "load_collection", name)
                undo.callback(service.undo, "rename_collection", old, name)
            service("rename_collection", fresh, name)
            undo.callback(service.undo, "rename_collection", name, fresh)
            # Milvus Lite unloads what it renames.
            service("load_collection", name)
            undo.pop_all()
        if replaces:
            service("drop_collection", old)
        return made

    def _fill(self, vectors: np.ndarray, table: Table, batch_size: int) -> None:
        """Create it, write, index and load it, and see that all of it is there."""
        from pymilvus import DataType, MilvusClient

        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("row", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.width)
        for name, kind in self.columns.items():
            options = {"max_length": MOST_TEXT} if kind == "text" else {}
            schema.add_field(PREFIX + name, DataType[FIELD_TYPES[kind]], nullable=True, **options)
        # What is added is to be found at once, by whoever searches.
        self.service("create_collection", self.name, schema=schema, consistency_level="Strong")
        self._write("insert", vectors, np.arange(len(vectors)), table, batch_size)
        options = {"nlist": self.n_lists} if self.n_lists else {}
        options = {"M": 32, "efConstruction": 200} if self.kind == "hnsw" else options
        # So packed they reach the server and the embedded file, which does not see them otherwise.
        packed = {"params": options} if options else {}
        index = MilvusClient.prepare_index_params()
        index.add_index("vector", index_type=INDEX_TYPES[self.kind], metric_type="IP", params=packed)
        self.service("flush", self.name)
        self.service("create_index", self.name, index)
        self.service("load_collection", self.name)
        there, n = self.count([""]), len(vectors)
        if there != n:
            msg = f"Milvus holds {there} of {n} vectors after they were all sent. Nothing was kept; build it again."
            raise SearchServiceError(msg)

    def add(self, vectors: np.ndarray, rows: np.ndarray, table: Table, batch_size: int) -> None:
        """Write under numbers that are free, all or none."""
        taken = self.count(row_conditions(rows))
        if taken:
            msg = f"{taken} of the {len(rows)} rows to add are there already. Remove those first, or number on."
            raise ArgumentError(msg)
        try:
            self._write("upsert", vectors, rows, table, batch_size)
        except BaseException:
            with suppress(SearchServiceError):
                self._delete(rows)
            raise

    def remove(self, rows: np.ndarray) -> None:
        """Take out rows that are there, all or none."""
        there = self.count(row_conditions(rows))
        if there < len(rows):
            msg = (
                f"{len(rows) - there} of the {len(rows)} rows to remove are not in {self.name!r}. Nothing was removed; "
                "give rows that are there."
            )
            raise MissingKeyError(msg)
        self._delete(rows)

    def _write(self, method: str, vectors: np.ndarray, rows: np.ndarray, table: Table, batch_size: int) -> None:
        """Send vectors in requests that Milvus takes."""
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
        for start in range(0, len(rows), REQUEST_IDS):
            self.service("delete", self.name, ids=rows[start : start + REQUEST_IDS].tolist())

    def query(self, condition: str, fields: list[str]) -> list[Any]:
        """Return fields of the rows that meet a condition."""
        options = {"filter": condition, "output_fields": fields, "consistency_level": "Strong"}
        answer: list[Any] = self.service("query", self.name, **options)
        return answer

    def count(self, conditions: Iterable[str]) -> int:
        """Return how many rows meet one of some conditions that exclude each other."""
        return sum(int(self.query(condition, ["count(*)"])[0]["count(*)"]) for condition in conditions)


def check_name(name: Any) -> None:
    """Raise unless `name` can be that of a collection."""
    # A name for the time of its making, 33 characters longer, has to fit into Milvus' 255.
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,199}", check_text("collection", name)):
        msg = (
            "`collection` must be up to 200 letters, digits and underscores, and begin with no digit. "
            f"Received {name!r}."
        )
        raise ArgumentError(msg)
