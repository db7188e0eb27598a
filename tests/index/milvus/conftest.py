"""A local Milvus file whose collections several tests use."""

import logging
import time
from types import SimpleNamespace

import pytest

from milvus.synthetic import N, table, unit
from scquery_ae.index import MilvusIndex
from scquery_ae.index.milvus import service


@pytest.fixture(scope="package")
def items():
    return unit(0, N)


@pytest.fixture(scope="package")
def queries():
    return unit(1, 40)


@pytest.fixture(scope="package")
def library():
    """Skip without Milvus. Shorten the client's wait of half a second for each index."""
    pytest.importorskip("milvus_lite", reason="Milvus Lite, of the extra `milvus`, is not installed")
    pytest.importorskip("pymilvus", reason="the extra `milvus` is not installed")
    from pymilvus.client import grpc_handler

    quick = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: time.sleep(min(seconds, 0.01))})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grpc_handler, "time", quick)
        yield


@pytest.fixture(scope="package")
def file(library, tmp_path_factory):
    return tmp_path_factory.mktemp("milvus") / "cells.db"


@pytest.fixture(scope="package")
def index(items, file):
    """All tests use this collection: do not change it."""
    with MilvusIndex.build(items, file, metadata=table(N), batch_size=150) as built:
        yield built


@pytest.fixture
def changing(items, file, index):
    """A collection in the same file that a test may change."""
    with MilvusIndex.build(items[:50], file, collection="changing", overwrite=True) as built:
        yield built


@pytest.fixture
def quiet():
    """Silence Milvus' log of the errors that a test provokes."""
    loggers = [
        logging.getLogger(name)
        for name in ("pymilvus.decorators", "pymilvus.client.connection_manager", "grpc._server")
    ]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.fixture
def at_once(monkeypatch):
    """Repeat requests without a pause. Return the pauses that were skipped."""
    pauses = []
    monkeypatch.setattr(service, "time", SimpleNamespace(sleep=pauses.append))
    return pauses
