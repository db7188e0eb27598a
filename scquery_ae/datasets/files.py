"""Files of public datasets: fetched once into a cache, and known by their SHA-256."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from scquery_ae._errors import DatasetError
from scquery_ae._logging import logger

#: Environment variable with a folder of files that are there already; nothing is fetched if it is set.
FOLDER = "SCQUERY_AE_DATA"
#: Seconds without an answer after which fetching is given up.
_PATIENCE = 30


@dataclass(frozen=True)
class DataFile:
    """A public file.

    Attributes
    ----------
    name
        What it is called in the cache.
    url
        Where it is, in a version that does not change.
    sha256
        SHA-256 of its content, in hexadecimal.
    """

    name: str
    url: str
    sha256: str


def fetch(file: DataFile) -> Path:
    """Return where a file is, fetched if need be and verified in any case.

    It is looked for in the folder that the environment variable ``SCQUERY_AE_DATA`` names. Without one it is kept in
    the folder in which scanpy keeps its own, ``scanpy.settings.datasetdir`` (``data`` in the working folder).

    Raises
    ------
    DatasetError
        If it cannot be fetched, is not in the folder named, or is not the one expected.
    """
    if folder := os.environ.get(FOLDER):
        path = Path(folder).expanduser() / file.name
        if not path.is_file():
            msg = (
                f"{FOLDER} names the folder {folder!r}, in which there is no {file.name}. Fetch it from {file.url} and "
                "put it there under this name, or unset the variable to have it fetched into a cache."
            )
            raise DatasetError(msg)
        verify(path, file.sha256, f"Fetch it again from {file.url}.")
        return path
    import scanpy as sc

    path = Path(sc.settings.datasetdir) / file.name
    if path.is_file():
        verify(path, file.sha256, "Remove it; the next call fetches it again.")
    else:
        _download(file, path)
    return path


def verify(path: Path, sha256: str, remedy: str) -> None:
    """Raise unless a file has this SHA-256; `remedy` ends the message."""
    with path.open("rb") as handle:
        received = hashlib.file_digest(handle, "sha256").hexdigest()
    if received != sha256:
        msg = f"{path} is not the expected file: SHA-256 {received[:12]}..., expected {sha256[:12]}.... {remedy}"
        raise DatasetError(msg)


def _download(file: DataFile, path: Path) -> None:
    """Put a file in its place whole and verified, or not at all."""
    logger.info("fetching %s from %s", path, file.url)
    draft = path.with_name(f".{file.name}.{secrets.token_hex(4)}.fetching")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The address is one of those written in this package.
        with urlopen(file.url, timeout=_PATIENCE) as answer, draft.open("wb") as handle:  # noqa: S310
            shutil.copyfileobj(answer, handle)
        verify(draft, file.sha256, f"This came from {file.url}: is there a page to log in to in between?")
        draft.replace(path)
    except DatasetError:  # which is an OSError
        raise
    except (OSError, HTTPException) as error:
        msg = (
            f"{file.name} could not be fetched from {file.url} into {str(path.parent)!r}: {error}. Try again later, or "
            f"bring the file here by other means and name its folder in the environment variable {FOLDER}."
        )
        raise DatasetError(msg) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
