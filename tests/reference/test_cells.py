"""``ReferenceCells``: each per-cell array is validated, taken, concatenated, saved and loaded with all others.

The tests go through ``ReferenceCells.per_cell()``, so that they cover a new array without a change.
"""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import scquery_ae as scq
from scquery_ae.annotate import EmbeddedCells, PerCell
from scquery_ae.reference import ReferenceCells

PER_CELL = ReferenceCells.per_cell()
#: Of each named width another one, so that no array fits in the place of another.
WIDTHS = {name: 3 + i for i, name in enumerate(sorted({mark.width for mark in PER_CELL.values() if mark.width}))}


def make_cells(n, prefix="cell", seed=0):
    """Return cells with random arrays."""
    rng = np.random.default_rng(seed)
    arrays = {
        name: rng.integers(0, 2 if mark.dtype == "bool" else 100, (n, WIDTHS[mark.width]) if mark.width else n).astype(
            mark.dtype
        )
        for name, mark in PER_CELL.items()
    }
    obs = pd.DataFrame({"cell_type": [f"type {i % 2}" for i in range(n)]}, index=[f"{prefix}{i}" for i in range(n)])
    return ReferenceCells(**arrays, obs=obs)


def test_every_array_is_marked():
    arrays = {field.name for field in dataclasses.fields(ReferenceCells)} - {"obs"}
    assert set(PER_CELL) == arrays
    assert set(EmbeddedCells.per_cell()) < arrays
    assert all(isinstance(mark, PerCell) for mark in PER_CELL.values())
    cells = make_cells(3)
    assert {name: id(values) for name, values in cells.arrays.items()} == {
        name: id(getattr(cells, name)) for name in arrays
    }


def test_cells_that_fit_are_valid():
    cells = make_cells(5)
    cells.validate(WIDTHS)
    assert cells.n_obs == 5


@pytest.mark.parametrize("name", PER_CELL)
@pytest.mark.parametrize("change", ["one cell less", "another width", "another dtype", "not an array"])
def test_an_array_that_does_not_fit_is_refused(name, change):
    cells, mark = make_cells(5), PER_CELL[name]
    values = getattr(cells, name)
    changed = {
        "one cell less": lambda: values[:-1],
        "another width": lambda: np.repeat(values[:, None] if values.ndim == 1 else values, 2, axis=1),
        "another dtype": lambda: values.astype("int8"),
        "not an array": values.tolist,
    }[change]()
    with pytest.raises(
        scq.ArgumentError,
        match=rf"A reference needs {mark.dtype} `{name}` of shape \(5,.*\), one row for each of its 5 cells in `obs`\. "
        rf"Received {'list' if change == 'not an array' else changed.dtype}",
    ):
        dataclasses.replace(cells, **{name: changed}).validate(WIDTHS)


@pytest.mark.parametrize(
    "rows",
    [np.array([4, 0, 0]), np.array([True, False, True, False, True]), slice(1, 3), np.zeros(0, int)],
    ids=["integers", "mask", "slice", "none"],
)
@pytest.mark.parametrize("kind", [EmbeddedCells, ReferenceCells])
def test_take_takes_the_rows_of_every_array(rows, kind):
    whole = make_cells(5)
    cells = (
        whole if kind is ReferenceCells else EmbeddedCells(**{n: getattr(whole, n) for n in EmbeddedCells.per_cell()})
    )
    taken = cells.take(rows)
    assert type(taken) is kind
    for name in kind.per_cell():
        received, expected = getattr(taken, name), getattr(cells, name)[rows]
        assert received.dtype == expected.dtype
        np.testing.assert_array_equal(received, expected, err_msg=name)
    if kind is ReferenceCells:
        pd.testing.assert_frame_equal(taken.obs, cells.obs.iloc[rows])
        taken.validate(WIDTHS)


def test_concat_appends_every_array():
    one, other = make_cells(5), make_cells(3, "other", seed=1)
    both = one.concat(other, "cell_type")
    both.validate(WIDTHS)
    for name in PER_CELL:
        np.testing.assert_array_equal(getattr(both, name), [*getattr(one, name), *getattr(other, name)], err_msg=name)
    assert list(both.obs.index) == [*one.obs.index, *other.obs.index]
    assert list(both.obs["cell_type"]) == [*one.obs["cell_type"], *other.obs["cell_type"]]


def test_from_embedded_keeps_every_array():
    cells = make_cells(4)
    embedded = EmbeddedCells(**{name: getattr(cells, name) for name in EmbeddedCells.per_cell()})
    made = ReferenceCells.from_embedded(embedded, cells.obs, held_out=cells.held_out, added=cells.added)
    for name in PER_CELL:
        assert getattr(made, name) is getattr(cells, name)


@pytest.mark.parametrize("suffix", [".scq", ".zip"])
def test_every_array_is_saved_and_loaded(reference, tmp_path, suffix):
    # Other values in every array: a part that is not written, or written twice under one name, shows.
    shuffled = np.random.default_rng(0).permutation(reference.n_obs)
    cells = dataclasses.replace(reference.cells.take(shuffled), added=np.arange(reference.n_obs) % 3 == 0)
    dataclasses.replace(reference, cells=cells, index=None).save(tmp_path / f"a{suffix}")
    back = scq.Reference.load(tmp_path / f"a{suffix}").cells
    for name, values in cells.arrays.items():
        received = getattr(back, name)
        assert received.dtype == values.dtype
        np.testing.assert_array_equal(received, values, err_msg=name)
    pd.testing.assert_frame_equal(back.obs, cells.obs)
