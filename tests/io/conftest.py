"""Files of cells."""

from cell_files import cells_file, formats, query_file  # noqa: F401 (fixtures)
