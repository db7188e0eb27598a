"""A connection to Milvus: where it is, when to ask again, and what to say when that does not help."""

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

#: Seconds to wait before a request is made again.
PAUSES = (0.1, 0.4, 1.6)
#: What is asked instead the second time: rows that were written before the answer was lost are not to be there twice.
AGAIN = {"insert": "upsert"}
#: What takes as long as the collection is large, and seconds for it.
SLOW = ("flush", "create_index", "load_collection")
BUILD_SECONDS = 3600.0

SERVER_COMMAND = (
    "curl -sfL https://raw.githubusercontent.com/milvus-io/milvus/master/scripts/standalone_embed.sh"
    " -o standalone_embed.sh && bash standalone_embed.sh start"
)

#: How many connections of ours are open to each embedded file, whose server runs in this process.
_OPEN: Counter[str] = Counter()


class Service:
    """A connection to Milvus."""

    def __init__(self, uri: str, connect: Callable[[], Any], timeout: float) -> None:
        self.uri, self.timeout = uri, timeout
        self.client: Any = self._tried(lambda _: connect())

    @classmethod
    @contextmanager
    def open(cls, uri: Any, token: Any, timeout: Any, *, there: bool = False) -> Iterator[Service]:
        """Connect to a server or a file, which has to be `there` or may be made; disconnect if the block fails."""
        timeout = check_number("timeout", timeout, 0, BUILD_SECONDS, closed="neither")
        place = check_uri(uri)
        token = "" if token is None else check_text("token", token)
        embedded = _is_file(place)
        if there and embedded and not Path(place).exists():
            msg = f"There is no file {place}. Expected one that `MilvusIndex.build` made; check the path."
            raise ArgumentError(msg)
        try:
            if embedded:
                importlib.import_module("milvus_lite")
            from pymilvus import MilvusClient
        except ImportError as error:
            msg = (
                f"Search in Milvus needs `{error.name}`, which is not installed. "
                "Install it with `pip install 'scquery-ae[milvus]'`."
            )
            raise SearchServiceError(msg) from error
        service = cls(place, lambda: MilvusClient(place, token=token, timeout=timeout, dedicated=True), timeout)
        if embedded:
            _OPEN[place] += 1
        try:
            yield service
        except BaseException:
            service.close()
            raise

    def __call__(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the client."""
        if self.client is None:
            msg = f"The connection to {redacted(self.uri)} is closed. Open it again with `MilvusIndex.open`."
            raise ArgumentError(msg)
        kwargs["timeout"] = BUILD_SECONDS if method in SLOW else self.timeout
        again = AGAIN.get(method, method)
        return self._tried(lambda first: getattr(self.client, method if first else again)(*args, **kwargs))

    def undo(self, method: str, *args: Any) -> None:
        """Call a method to clear away after an error, which is what is to be told, whether or not this works."""
        with suppress(SearchServiceError):
            self(method, *args)

    def _tried(self, request: Callable[[bool], Any]) -> Any:
        import grpc
        from pymilvus.exceptions import MilvusException

        attempt = 0
        while True:
            try:
                return request(attempt == 0)
            except (MilvusException, grpc.RpcError) as error:
                code = error.code() if callable(error.code) else error.code
                # 2 stands for a connection that failed, and for a service that is not available.
                away = code in (grpc.StatusCode.UNAVAILABLE, 2) or getattr(error, "retriable", False)
                if attempt == len(PAUSES) or not away:
                    late = code == grpc.StatusCode.DEADLINE_EXCEEDED
                    raise SearchServiceError(_explained(self.uri, error, away=away, late=late)) from error
            time.sleep(PAUSES[attempt])
            attempt += 1

    def close(self) -> None:
        """Disconnect; the last of an embedded file stops its server."""
        if self.client is None:
            return
        self.client.close()
        self.client = None
        if _is_file(self.uri):
            _OPEN[self.uri] -= 1
            if not _OPEN[self.uri]:
                importlib.import_module("milvus_lite.server_manager").server_manager_instance.release_server(self.uri)


def check_uri(uri: Any) -> str:
    """Return where Milvus is: the address of a server as it is, or the absolute path of an embedded file."""
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
        msg = f"There is no folder {path.parent} for {path.name}. Make it first, or give another path as `uri`."
        raise ArgumentError(msg)
    if path.is_file():
        msg = f"{path} is a file, where Milvus Lite keeps a folder: not its own, or of its releases before 3. Move it."
        raise ArgumentError(msg)
    return os.path.abspath(path)  # noqa: PTH100, as Milvus Lite does it


def redacted(uri: str) -> str:
    """Return an address without the password that it may hold."""
    return re.sub(r"//[^/@]*@", "//", uri)


def _is_file(place: str) -> bool:
    return "://" not in place


def _explained(uri: str, error: Any, *, away: bool, late: bool) -> str:
    said = (error.details() if hasattr(error, "details") else error.message) or error
    place = redacted(uri)
    if _is_file(uri) and "Open local milvus failed" in str(said):
        return (
            f"Milvus Lite could not open {place}. It may be open in another process, which has to close it first, or "
            "be no file of Milvus Lite. For several processes, run a server."
        )
    if away:
        return (
            f"No Milvus answers at {place}, also when asked {len(PAUSES) + 1} times: {said}. Check the address, or "
            f"start a server on this machine: {SERVER_COMMAND}"
        )
    if late:
        return f"Milvus at {place} gave no answer in time: {said}. Allow more with `timeout=`, or ask for less at once."
    return f"Milvus at {place} could not do what it was asked: {said}."
