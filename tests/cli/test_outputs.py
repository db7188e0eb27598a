"""Where results go: looked at first, and whole or not at all."""

from pathlib import Path

import click
import pytest

from scquery_ae.cli.failures import Problem
from scquery_ae.cli.outputs import check_outputs, check_reference_output, write


def test_a_file_is_put_in_place_whole(tmp_path):
    path = tmp_path / "new" / "table.csv"

    def save(draft):
        assert draft.parent == path.parent
        assert draft.suffix == ".csv"
        assert not path.exists()
        draft.write_text("done")

    write(path, save)
    assert path.read_text() == "done"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("disk is full"), RuntimeError("errno = 28")])
def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path, error):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def save(draft):
        draft.write_text("half")
        raise error

    with pytest.raises(Problem, match=r"table.csv could not be written: (disk is full|errno = 28). Nothing was left"):
        write(path, save)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_there_is_kept_unless_asked(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("")
    with pytest.raises(Problem, match=r"a.csv is there already. Pass --overwrite to replace it"):
        check_outputs([path], [], overwrite=False)
    check_outputs([path], [], overwrite=True)


@pytest.mark.parametrize("how", ["same", "dots", "symlink", "hardlink"])
def test_the_input_is_never_the_output(tmp_path, how):
    source = tmp_path / "mine.h5ad"
    source.write_text("cells")
    path = {"same": source, "dots": tmp_path / "x" / ".." / "mine.h5ad"}.get(how, tmp_path / "other.h5ad")
    (tmp_path / "x").mkdir()
    if how == "symlink":
        path.symlink_to(source)
    if how == "hardlink":
        path.hardlink_to(source)
    with pytest.raises(Problem, match=r"is what is read. Choose another place"):
        check_outputs([path], [source], overwrite=True)


def test_nothing_is_written_into_what_is_read(tmp_path):
    source = tmp_path / "mine.zarr"
    source.mkdir()
    (source / "zarr.json").write_text("{}")
    with pytest.raises(Problem, match=r"is inside .*mine.zarr, which is read"):
        check_outputs([source / "sub" / "a.csv"], [source], overwrite=False)
    # Beside a loose matrix there is room for results.
    check_outputs([tmp_path / "a.csv"], [tmp_path], overwrite=False)


def test_places_that_cannot_be_written_to(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(Problem, match=r"folder.csv is a folder, and would have to be a file"):
        check_outputs([tmp_path / "folder.csv"], [], overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(Problem, match=r"a.csv cannot be written: Not a directory .*Choose another place with --output"):
        check_outputs([tmp_path / "file" / "a.csv"], [], overwrite=False)


def test_a_folder_that_refuses_files(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(Problem, match=r"a.csv cannot be written: Permission denied"):
        check_outputs([tmp_path / "deep" / "a.csv"], [], overwrite=False)
    with pytest.raises(Problem, match=r"a.scq cannot be written: Permission denied"):
        check_reference_output(tmp_path / "a.scq", [], overwrite=False)


def test_endings_and_repeats_are_wrong_use(tmp_path):
    with pytest.raises(click.UsageError, match=r"a.txt ends in none of .csv, .h5ad, which say what to write"):
        check_outputs([tmp_path / "a.txt"], [], overwrite=False, endings=(".csv", ".h5ad"))
    with pytest.raises(click.UsageError, match=r"a.csv is named twice"):
        check_outputs([Path("a.csv"), Path("./a.csv")], [], overwrite=False)


def test_a_reference_replaces_references_alone(tmp_path, saved_reference):
    (tmp_path / "mine").mkdir()
    with pytest.raises(Problem, match=r"mine is there already and is no reference"):
        check_reference_output(tmp_path / "mine", [], overwrite=True)
    with pytest.raises(Problem, match=r"There is a reference at .*small.scq already. Pass --overwrite"):
        check_reference_output(saved_reference, [], overwrite=False)
    check_reference_output(saved_reference, [], overwrite=True)
    with pytest.raises(Problem, match=r"is what is read"):
        check_reference_output(saved_reference, [saved_reference], overwrite=True)
