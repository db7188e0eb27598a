"""Sparse rows in a temporary file, against the CSR matrix that they were written from."""

import gc
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import scquery_ae as scq
from scquery_ae.loaders import ScratchRows, scratch

DESCRIPTORS = Path("/proc/self/fd")


def matrix_of(n, d, seed=0, density=0.3):
    """Return CSR rows, some of them empty."""
    matrix = sparse.random(n, d, density, format="csr", dtype=np.float32, random_state=seed)
    matrix = sparse.diags((np.arange(n) % 4 > 0).astype(np.float32)) @ matrix
    matrix.eliminate_zeros()
    return matrix.tocsr()


def chunks_of(matrix, size):
    return (matrix[start : start + size] for start in range(0, matrix.shape[0], size))


def assert_same(received, expected):
    assert received.format == "csr"
    assert received.dtype == np.float32
    assert received.shape == expected.shape
    received.check_format()
    np.testing.assert_array_equal(received.toarray(), expected.toarray())


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 40),
    d=st.integers(1, 15),
    size=st.integers(1, 45),
    start=st.integers(-3, 45),
    stop=st.integers(-3, 45),
    step=st.sampled_from([None, 1, 2, -1]),
)
def test_rows_are_those_of_the_matrix(seed, n, d, size, start, stop, step):
    matrix = matrix_of(n, d, seed)
    rows = ScratchRows(chunks_of(matrix, size), d)
    assert rows.shape == (n, d)
    assert rows.nnz == matrix.nnz
    np.testing.assert_array_equal(rows.indptr, matrix.indptr)
    chosen = np.random.default_rng(seed).integers(-n, n, 2 * n)
    for wanted in (slice(start, stop, step), slice(None), chosen, np.sort(chosen), chosen[:0], list(chosen)):
        assert_same(rows[wanted], matrix[np.arange(n)[wanted]])
    mask = chosen[:n] > 0
    assert_same(rows[mask], matrix[mask])


def test_rows_out_of_range():
    rows = ScratchRows(chunks_of(matrix_of(5, 3), 2), 3)
    with pytest.raises(IndexError):
        rows[np.array([0, 5])]


@pytest.mark.parametrize(("n_columns", "bytes_each"), [(65_535, 2), (65_536, 2), (65_537, 4), (1_000_000, 4)])
def test_columns_take_two_bytes_if_these_suffice(n_columns, bytes_each):
    """The last column is the one that would be cut off."""
    columns = np.array([0, n_columns - 1, n_columns // 2, n_columns - 1])
    matrix = sparse.csr_matrix((np.array([1, 2, 3, 4], np.float32), columns, [0, 2, 2, 4]), shape=(3, n_columns))
    rows = ScratchRows([matrix], n_columns)
    received = rows[[2, 0]]
    np.testing.assert_array_equal(received.indices, columns[[2, 3, 0, 1]])
    np.testing.assert_array_equal(received.data, [3, 4, 1, 2])
    assert [len(mapped) for mapped in rows._maps] == [4 * 4, 4 * bytes_each]


@pytest.mark.parametrize("chunks", [[], [(0, 4)], [(3, 4), (2, 4)]])
def test_a_matrix_without_values(chunks):
    n = sum(shape[0] for shape in chunks)
    rows = ScratchRows([sparse.csr_matrix(shape, dtype=np.float32) for shape in chunks], 4)
    assert (rows.shape, rows.nnz) == ((n, 4), 0)
    assert_same(rows[:], sparse.csr_matrix((n, 4), dtype=np.float32))
    assert_same(rows[np.zeros(0, int)], sparse.csr_matrix((0, 4), dtype=np.float32))


def test_pages_are_released_and_read_again(monkeypatch):
    """What was read is let go of each time; the rows stay."""
    monkeypatch.setattr(scratch, "KEPT_BYTES", 0)
    released = []
    release = ScratchRows._release
    monkeypatch.setattr(ScratchRows, "_release", lambda self: released.append(1) or release(self))
    matrix = matrix_of(200, 30)
    rows = ScratchRows(chunks_of(matrix, 64), 30)
    for seed in range(5):
        chosen = np.random.default_rng(seed).integers(0, 200, 50)
        assert_same(rows[chosen], matrix[chosen])
    assert len(released) == 5
    # Also of a file without a page.
    empty = ScratchRows([sparse.csr_matrix((3, 4), dtype=np.float32)], 4)
    assert_same(empty[:], sparse.csr_matrix((3, 4), dtype=np.float32))


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="no way to see which pages are in memory")
def test_pages_really_leave_memory(monkeypatch):
    """Of 24 MB that were read, no more than the limit is left."""
    n, d = 3000, 1000
    matrix = sparse.csr_matrix(np.ones((1, d), np.float32))
    rows = ScratchRows((matrix for _ in range(n)), d)

    def resident():
        """Megabytes of the temporary files' pages in this process's memory."""
        total, own = 0, False
        with Path("/proc/self/smaps").open() as file:
            for line in file:
                if "-" in line.split(" ")[0] and ":" not in line.split(" ")[0]:
                    own = "(deleted)" in line
                elif own and line.startswith("Rss:"):
                    total += int(line.split()[1])
        return total / 1024

    before = resident()
    monkeypatch.setattr(scratch, "KEPT_BYTES", 1 << 40)
    for start in range(0, n, 100):
        rows[start : start + 100]
    assert resident() - before > 15
    monkeypatch.setattr(scratch, "KEPT_BYTES", 1 << 20)
    for start in range(0, n, 100):
        rows[start : start + 100]
    assert resident() - before < 5


def test_reads_from_several_threads(monkeypatch):
    monkeypatch.setattr(scratch, "KEPT_BYTES", 20_000)
    matrix = matrix_of(400, 50)
    rows = ScratchRows(chunks_of(matrix, 100), 50)
    chosen = [np.random.default_rng(seed).integers(0, 400, 60) for seed in range(60)]
    with ThreadPoolExecutor(4) as pool:
        for wanted, received in zip(chosen, pool.map(rows.__getitem__, chosen), strict=True):
            assert_same(received, matrix[wanted])


def test_nothing_is_left_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rows = ScratchRows(chunks_of(matrix_of(50, 9), 7), 9)
    # Not even while it is in use.
    assert list(tmp_path.iterdir()) == []
    assert rows[3:5].nnz
    open_files = len(list(DESCRIPTORS.iterdir())) if DESCRIPTORS.exists() else 0
    del rows
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    if open_files:
        # A mapping keeps a descriptor of its own, which went with it.
        assert len(list(DESCRIPTORS.iterdir())) == open_files - 2


@pytest.mark.parametrize("size", [40, 2000])
def test_a_full_disk(tmp_path, size):
    """At the first write, and at the last, when what was buffered is written: in a process that may write little."""
    pytest.importorskip("resource")
    code = f"""
import resource
import numpy as np
from scipy import sparse
from scquery_ae import StorageError
from scquery_ae.loaders import ScratchRows
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
matrix = sparse.csr_matrix(np.ones(({size}, 10), np.float32))
try:
    ScratchRows([matrix], 10)
except StorageError as error:
    assert isinstance(error, OSError)
    assert isinstance(error.__cause__, OSError)
    raise SystemExit(str(error))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 1
    assert f"could not be written to a temporary file in {tmp_path}: [Errno 27]" in done.stderr
    assert (
        "about 6 bytes per nonzero value of the model genes; set `TMPDIR` to a folder with enough space" in done.stderr
    )
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_file_that_cannot_be_made(monkeypatch):
    def refused(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    with pytest.raises(scq.StorageError, match=r"not be written to a temporary file.*Permission denied.*set `TMPDIR`"):
        ScratchRows([matrix_of(3, 3)], 3)


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt(), ValueError("no")])
def test_read_errors_do_not_blame_the_temporary_file(error):
    def chunks():
        yield matrix_of(4, 3)
        raise error

    with pytest.raises(type(error)) as raised:
        ScratchRows(chunks(), 3)
    assert raised.value is error
