"""Download of public files with pooch. Each file is pinned by its SHA-256."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import LogRecord
from pathlib import Path

import pooch

from scquery_ae._errors import DatasetError
from scquery_ae._logging import logger

#: Environment variable that names the cache folder.
FOLDER = "SCQUERY_AE_DATA"
#: Further attempts after a failed download. pooch waits one second before the first and two before the second.
RETRIES = 2


@dataclass(frozen=True)
class DataFile:
    """A public file.

    Attributes
    ----------
    name
        Name of the file in the cache folder.
    url
        Address of a version of the file that does not change.
    sha256
        SHA-256 of the content, in hexadecimal.
    """

    name: str
    url: str
    sha256: str


def fetch(file: DataFile) -> Path:
    """Return the path of a file in the cache folder. Download the file first if it is not there.

    The cache folder is the one that the environment variable ``SCQUERY_AE_DATA`` names, or else the folder of scanpy's
    datasets, ``scanpy.settings.datasetdir`` (``data`` in the working directory).

    Raises
    ------
    DatasetError
        If the file cannot be downloaded, or its SHA-256 is not the expected one.
    """
    import scanpy as sc

    cache = pooch.create(
        path=sc.settings.datasetdir,
        env=FOLDER,
        base_url="",
        registry={file.name: file.sha256},
        urls={file.name: file.url},
        retry_if_failed=RETRIES,
    )
    path: Path = cache.abspath / file.name
    if path.exists():
        # pooch would replace the file, which may be the user's own.
        verify(path, file.sha256, f"Remove it; the next call downloads it again from {file.url}.")
        return path
    by_hand = (
        f"download {file.url} by other means, name it {file.name}, and put it into that folder or into one that the "
        f"environment variable {FOLDER} names."
    )
    try:
        with _logged_at_our_level():
            cache.fetch(file.name)
    except ValueError as error:
        msg = (
            f"{file.url} did not return the expected file: {error} A proxy or a login page may have answered instead. "
            f"Open the address in a browser, or {by_hand}"
        )
        raise DatasetError(msg) from error
    except OSError as error:  # includes the exceptions of requests
        msg = (
            f"{file.name} could not be downloaded into {str(cache.abspath)!r}: {error}. "
            f"Check the network and the folder. Without a network, {by_hand}"
        )
        raise DatasetError(msg) from error
    return path


def verify(path: Path, sha256: str, remedy: str) -> None:
    """Raise `DatasetError` unless the file has this SHA-256. `remedy` ends the message."""
    received: str = pooch.file_hash(path)
    if received != sha256:
        msg = f"{path} is not the expected file: SHA-256 {received[:12]}..., expected {sha256[:12]}.... {remedy}"
        raise DatasetError(msg)


@contextmanager
def _logged_at_our_level() -> Iterator[None]:
    """Let pooch log at the level of ``scq.settings.verbosity``. Its own default prints every download."""

    # Setting the level would not do: pooch's logger is outside logging's hierarchy and caches which levels are on.
    def is_on(record: LogRecord) -> bool:
        return logger.isEnabledFor(record.levelno)

    log = pooch.get_logger()
    log.addFilter(is_on)
    try:
        yield
    finally:
        log.removeFilter(is_on)
