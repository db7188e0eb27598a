"""Failed connections, invalid addresses, and their error messages."""

import gc
import subprocess
import sys
import threading
import time

import pytest

from milvus.synthetic import same
from scquery_ae import ArgumentError, SearchServiceError
from scquery_ae.index import ExactIndex, MilvusIndex
from scquery_ae.index.milvus.service import PAUSES, Service

pytest.importorskip("pymilvus", reason="the extra `milvus` is not installed")


def free_port():
    import socket

    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        return there.getsockname()[1]


def test_a_server_that_does_not_answer_is_an_error_after_four_attempts(at_once, items, quiet):
    address = f"http://me:secret@127.0.0.1:{free_port()}"
    place = address.replace("me:secret@", "")
    for call in (lambda: MilvusIndex.open(address), lambda: MilvusIndex.build(items, address, token="x", timeout=5)):
        at_once.clear()
        with pytest.raises(ConnectionError, match=f"No Milvus server answers at {place} after 4 attempts") as error:
            call()
        assert isinstance(error.value, SearchServiceError)
        assert at_once == list(PAUSES)
        assert "standalone_embed.sh start" in str(error.value)
        assert "secret" not in str(error.value)


class Flaky:
    """A client whose connection fails `times` times."""

    def __init__(self, times, error):
        self.times, self.error, self.calls = times, error, []

    def insert(self, *args, timeout):
        return self._call("insert", args, timeout)

    def upsert(self, *args, timeout):
        return self._call("upsert", args, timeout)

    def close(self):
        self.calls.append(("close",))

    def _call(self, *what):
        self.calls.append(what)
        if len(self.calls) <= self.times:
            raise self.error
        return "done"


def failures():
    import grpc
    from pymilvus.exceptions import MilvusException

    class Gone(grpc.RpcError):
        def code(self):
            return grpc.StatusCode.UNAVAILABLE

        def details(self):
            return "socket closed"

    return {
        "gone": Gone(),
        "no connection": MilvusException(2, "socket closed"),
        "retriable": MilvusException(65535, "socket closed", retriable=True),
    }


@pytest.mark.parametrize("failure", failures())
def test_a_connection_that_fails_twice_is_tried_three_times(at_once, failure):
    client = Flaky(2, failures()[failure])
    service = Service("http://there:1", lambda: client, 3.0)
    # The first attempt may have written the rows before its answer was lost.
    assert service("insert", "rows") == "done"
    assert client.calls == [("insert", ("rows",), 3.0)] + [("upsert", ("rows",), 3.0)] * 2
    assert at_once == [0.1, 0.4]


@pytest.mark.parametrize("failure", failures())
def test_a_connection_that_keeps_failing_is_an_error(at_once, failure):
    service = Service("http://there:1", lambda: Flaky(9, failures()[failure]), 3.0)
    with pytest.raises(SearchServiceError, match="No Milvus server answers at http://there:1 after 4 attempts: socket"):
        service("insert", "rows")
    assert at_once == [0.1, 0.4, 1.6]


def test_methods_that_grow_with_the_collection_have_an_hour():
    allowed = {}

    class Client:
        def __getattr__(self, method):
            return lambda timeout: allowed.update({method: timeout})

    service = Service("http://there:1", Client, 3.0)
    for method in ("flush", "create_index", "load_collection", "query", "insert"):
        service(method)
    assert allowed == {"flush": 3600, "create_index": 3600, "load_collection": 3600, "query": 3, "insert": 3}


def test_a_refusal_is_not_repeated(at_once):
    import grpc
    from pymilvus.exceptions import MilvusException

    class Late(grpc.RpcError):
        def code(self):
            return grpc.StatusCode.DEADLINE_EXCEEDED

        def details(self):
            return "too late"

    for error, message in (
        (MilvusException(1100, "no such thing"), r"Milvus at http://there:1 refused the request: no such thing\."),
        (Late(), r"Milvus at http://there:1 did not answer in time: too late\. Increase `timeout=`"),
    ):
        client = Flaky(9, error)
        with pytest.raises(SearchServiceError, match=message):
            Service("http://there:1", lambda client=client: client, 3.0)("insert", 1)
        assert len(client.calls) == 1
    assert at_once == []


def test_a_server_on_the_network_that_fails_twice(items, queries, tmp_path, quiet):
    import grpc
    from milvus_lite.adapter.grpc import server as lite
    from pymilvus.grpc_gen import milvus_pb2_grpc

    failed = []

    class FailsTwice(grpc.ServerInterceptor):
        def intercept_service(self, continuation, details):
            if details.method.endswith("/Search") and len(failed) < 2:
                failed.append(details.method)
                return grpc.unary_unary_rpc_method_handler(
                    lambda _, context: context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
                )
            return continuation(details)

    database = lite.MilvusLite(str(tmp_path / "served"))
    with lite.futures.ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, interceptors=[FailsTwice()])
        milvus_pb2_grpc.add_MilvusServiceServicer_to_server(lite.MilvusServicer(database), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            with MilvusIndex.build(items[:90], f"http://127.0.0.1:{port}", timeout=10) as built:
                same(built.search(queries, 5), ExactIndex(items[:90]).search(queries, 5))
                assert len(failed) == 2
                assert built.uri == f"http://127.0.0.1:{port}"
        finally:
            server.stop(None).wait(5)
            database.close()


def test_without_pymilvus_the_message_has_the_command_to_install_it(monkeypatch, items, tmp_path):
    for name in ("pymilvus", "milvus_lite"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(SearchServiceError, match=rf"needs `{name}`.*pip install 'scquery-ae\[milvus\]'"):
                MilvusIndex.build(items, tmp_path / "x.db")


def test_an_import_loads_no_milvus():
    code = "import sys, scquery_ae.index; print([m for m in ('pymilvus', 'milvus_lite', 'grpc') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_closing_the_last_connection_stops_all_threads(items, tmp_path, quiet):
    def running():
        return {t for t in threading.enumerate() if t.is_alive()}

    before = running()
    one = MilvusIndex.build(items[:20], tmp_path / "t.db")
    with MilvusIndex.open(tmp_path / "t.db") as other:
        assert running() - before
        one.close()
        one.close()
        # The server of the file keeps running for the other connection.
        assert other.n_items == 20
    until = time.monotonic() + 20
    while running() - before and time.monotonic() < until:
        # Idle threads of a server end when it is collected.
        gc.collect()
        time.sleep(0.05)
    assert {thread.name for thread in running() - before} == set()
    with pytest.raises(ArgumentError, match=r"The connection to .*t\.db is closed\. Open it again"):
        other.search(items[:1], 1)


def test_only_one_process_can_open_a_file(items, file, index):
    code = f"from scquery_ae.index import MilvusIndex; MilvusIndex.open({str(file)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "SearchServiceError: Milvus Lite could not open" in done.stderr
    assert "Another process may have it open" in done.stderr


@pytest.mark.parametrize("uri", ["cells", "ftp://x/y.db", "cells.sqlite", "http://", 3, ""])
def test_invalid_addresses_are_refused(uri, items):
    with pytest.raises(ArgumentError, match="`uri` must be"):
        MilvusIndex.build(items, uri)


def test_files_that_cannot_be_opened(items, tmp_path):
    with pytest.raises(ArgumentError, match=r"There is no folder .*nowhere for x\.db"):
        MilvusIndex.build(items, tmp_path / "nowhere" / "x.db")
    with pytest.raises(ArgumentError, match=r"There is no file .*x\.db\. Expected one that `MilvusIndex\.build` made"):
        MilvusIndex.open(tmp_path / "x.db")
    (tmp_path / "x.db").write_bytes(b"SQLite format 3")
    with pytest.raises(ArgumentError, match=r"x\.db is a file, but Milvus Lite stores a folder under this name"):
        MilvusIndex.build(items, tmp_path / "x.db")
