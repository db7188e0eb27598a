"""Connection to Milvus: opening, repeated attempts, and error messages."""

from __future__ import annotations

import importlib
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scquery_ae._checks import check_number, check_path, check_text
from scquery_ae._errors import ArgumentError, SearchServiceError

#: Seconds to wait before each further attempt.
PAUSES = (0.1, 0.4, 1.6)
#: Methods to call instead in further attempts: the server may have written the rows although its answer was lost.
REPEATED_AS = {"insert": "upsert"}
#: Methods whose time grows with the collection, and their timeout in seconds.
SLOW = ("flush", "create_index", "load_collection")
SLOW_TIMEOUT = 3600.0

SERVER_COMMAND = (
    "curl -sfL https://raw.githubusercontent.com/milvus-io/milvus/master/scripts/standalone_embed.sh"
    " -o standalone_embed.sh && bash standalone_embed.sh start"
)

#: Number of open connections to each local file. The server of a local file runs in this process.
_OPEN: Counter[str] = Counter()


class Service:
    """A connection to Milvus.

    Parameters
    ----------
    uri
        Address of a server, or absolute path of a local file.
    connect
        Function that returns a client.
    timeout
        Seconds to wait for the answer to a request.
    """

    def __init__(self, uri: str, connect: Callable[[], Any], timeout: float) -> None:
        self.uri, self.timeout = uri, timeout
        self.client: Any = self._try(lambda _: connect())

    @classmethod
    @contextmanager
    def open(cls, uri: Any, token: Any, timeout: Any, *, must_exist: bool = False) -> Iterator[Service]:
        """Connect to a server or a local file. Disconnect if the block raises."""
        timeout = check_number("timeout", timeout, 0, SLOW_TIMEOUT, closed="neither")
        place = check_uri(uri)
        token = "" if token is None else check_text("token", token)
        local = _is_file(place)
        if must_exist and local and not Path(place).exists():
            msg = f"There is no file {place}. Expected one that `MilvusIndex.build` made; check the path."
            raise ArgumentError(msg)
        try:
            if local:
                importlib.import_module("milvus_lite")
            from pymilvus import MilvusClient
        except ImportError as error:
            msg = (
                f"Search in Milvus needs `{error.name}`, which is not installed. "
                "Install it with `pip install 'scquery-ae[milvus]'`."
            )
            raise SearchServiceError(msg) from error
        service = cls(place, lambda: MilvusClient(place, token=token, timeout=timeout, dedicated=True), timeout)
        if local:
            _OPEN[place] += 1
        try:
            yield service
        except BaseException:
            service.close()
            raise

    def __call__(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the client, several times if the connection fails."""
        if self.client is None:
            msg = f"The connection to {redacted(self.uri)} is closed. Open it again with `MilvusIndex.open`."
            raise ArgumentError(msg)
        kwargs["timeout"] = SLOW_TIMEOUT if method in SLOW else self.timeout
        repeated = REPEATED_AS.get(method, method)
        return self._try(lambda first: getattr(self.client, method if first else repeated)(*args, **kwargs))

    def undo(self, method: str, *args: Any) -> None:
        """Call a method that cleans up after an error. Ignore its failure, so that the first error is reported."""
        with suppress(SearchServiceError):
            self(method, *args)

    def _try(self, request: Callable[[bool], Any]) -> Any:
        """Return ``request(first)``, where `first` is False in further attempts after a failed connection."""
        import grpc
        from pymilvus.exceptions import MilvusException

        attempt = 0
        while True:
            try:
                return request(attempt == 0)
            except (MilvusException, grpc.RpcError) as error:
                code = error.code() if callable(error.code) else error.code
                # pymilvus uses the code 2 for a failed connection and for a service that is not available.
                away = code in (grpc.StatusCode.UNAVAILABLE, 2) or getattr(error, "retriable", False)
                if attempt == len(PAUSES) or not away:
                    late = code == grpc.StatusCode.DEADLINE_EXCEEDED
                    raise SearchServiceError(_explain(self.uri, error, away=away, late=late)) from error
            time.sleep(PAUSES[attempt])
            attempt += 1

    def close(self) -> None:
        """Disconnect. Closing the last connection to a local file stops its server."""
        if self.client is None:
            return
        self.client.close()
        self.client = None
        if _is_file(self.uri):
            _OPEN[self.uri] -= 1
            if not _OPEN[self.uri]:
                importlib.import_module("milvus_lite.server_manager").server_manager_instance.release_server(self.uri)


def check_uri(uri: Any) -> str:
    """Return the address of a server unchanged, or the absolute path of a local file."""
    if isinstance(uri, str) and re.match(r"(https?|tcp)://[^/\s]", uri):
        return uri
    path = check_path("uri", uri)
    if path.suffix != ".db" or "://" in str(uri):
        msg = (
            "`uri` must be the path of a file that ends in `.db`, or the address of a server, such as "
            f"`http://localhost:19530`. Received {redacted(str(uri))!r}."
        )
        raise ArgumentError(msg)
    if not path.parent.is_dir():
        msg = f"There is no folder {path.parent} for {path.name}. Create the folder, or pass another path as `uri`."
        raise ArgumentError(msg)
    if path.is_file():
        msg = (
            f"{path} is a file, but Milvus Lite stores a folder under this name. It belongs to another program or to "
            "Milvus Lite before version 3. Move it, or pass another path as `uri`."
        )
        raise ArgumentError(msg)
    return os.path.abspath(path)  # noqa: PTH100, as Milvus Lite does it


def redacted(uri: str) -> str:
    """Return an address without the user name and password that it may contain."""
    return re.sub(r"//[^/@]*@", "//", uri)


def _is_file(place: str) -> bool:
    return "://" not in place


def _explain(uri: str, error: Any, *, away: bool, late: bool) -> str:
    """Return the message for an error of Milvus."""
    reason = (error.details() if hasattr(error, "details") else error.message) or error
    place = redacted(uri)
    if _is_file(uri) and "Open local milvus failed" in str(reason):
        return (
            f"Milvus Lite could not open {place}. Another process may have it open, or it is not a file of Milvus "
            "Lite. Close it in the other process; if several processes need it, run a server."
        )
    if away:
        return (
            f"No Milvus server answers at {place} after {len(PAUSES) + 1} attempts: {reason}. Check the address, or "
            f"start a server on this machine: {SERVER_COMMAND}"
        )
    if late:
        return f"Milvus at {place} did not answer in time: {reason}. Increase `timeout=`, or use smaller requests."
    return f"Milvus at {place} refused the request: {reason}."
