"""Tables with one row per cell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scquery_ae.io.write_whole import write_whole

if TYPE_CHECKING:
    import pandas as pd


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table with its index, as CSV, compressed CSV or Parquet by the suffix of `path`."""
    if path.suffix == ".parquet":
        write_whole(path, table.reset_index().to_parquet)
    elif path.suffix == ".gz":
        write_whole(path, lambda draft: table.to_csv(draft, compression="gzip"))
    else:
        write_whole(path, table.to_csv)
