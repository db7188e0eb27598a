"""Places of outputs are checked before the work."""

from pathlib import Path

import click
import pytest

from scquery_ae.cli.exit_codes import CommandError
from scquery_ae.cli.outputs import check_outputs, check_reference_output


def test_existing_files_are_kept_by_default(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("")
    with pytest.raises(CommandError, match=r"a.csv already exists. Pass --overwrite to replace it"):
        check_outputs([path], [], overwrite=False)
    check_outputs([path], [], overwrite=True)


@pytest.mark.parametrize("how", ["same", "dots", "symlink", "hardlink"])
def test_inputs_are_never_overwritten(tmp_path, how):
    source = tmp_path / "mine.h5ad"
    source.write_text("cells")
    path = {"same": source, "dots": tmp_path / "x" / ".." / "mine.h5ad"}.get(how, tmp_path / "other.h5ad")
    (tmp_path / "x").mkdir()
    if how == "symlink":
        path.symlink_to(source)
    if how == "hardlink":
        path.hardlink_to(source)
    with pytest.raises(CommandError, match=r"is an input. Choose another place"):
        check_outputs([path], [source], overwrite=True)


def test_nothing_is_written_into_an_input(tmp_path):
    source = tmp_path / "mine.zarr"
    source.mkdir()
    (source / "zarr.json").write_text("{}")
    with pytest.raises(CommandError, match=r"is inside .*mine.zarr, which is an input"):
        check_outputs([source / "a.csv"], [source], overwrite=False)
    # Results may lie beside a 10x matrix.
    check_outputs([tmp_path / "a.csv"], [tmp_path], overwrite=False)


def test_places_that_cannot_be_written_to(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(CommandError, match=r"folder.csv is a folder. Expected the path of a file"):
        check_outputs([tmp_path / "folder.csv"], [], overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match=r"a.csv cannot be written: Not a directory .*Choose another place"):
        check_outputs([tmp_path / "file" / "a.csv"], [], overwrite=False)


def test_a_missing_folder_is_an_error_and_not_made(tmp_path):
    for path in (tmp_path / "new" / "a.csv", tmp_path / "new" / "deep" / "a.csv"):
        with pytest.raises(CommandError, match=r"a.csv cannot be written: there is no folder .*new.*\. Make it first"):
            check_outputs([path], [], overwrite=False)
    with pytest.raises(CommandError, match=r"a.scq cannot be written: there is no folder .*new"):
        check_reference_output(tmp_path / "new" / "a.scq", [], overwrite=False)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_refuses_files(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(CommandError, match=r"a.csv cannot be written: Permission denied"):
        check_outputs([tmp_path / "a.csv"], [], overwrite=False)
    with pytest.raises(CommandError, match=r"a.scq cannot be written: Permission denied"):
        check_reference_output(tmp_path / "a.scq", [], overwrite=False)


def test_unknown_suffixes_and_repeats_are_wrong_usage(tmp_path):
    with pytest.raises(click.UsageError, match=r"The suffix of .*a.txt sets the format. Expected one of .csv, .h5ad"):
        check_outputs([tmp_path / "a.txt"], [], overwrite=False, suffixes=(".csv", ".h5ad"))
    with pytest.raises(click.UsageError, match=r"a.csv is given twice"):
        check_outputs([Path("a.csv"), Path("./a.csv")], [], overwrite=False)


def test_only_a_reference_is_replaced_by_a_reference(tmp_path, saved_reference):
    (tmp_path / "mine").mkdir()
    with pytest.raises(CommandError, match=r"mine already exists and is not a reference"):
        check_reference_output(tmp_path / "mine", [], overwrite=True)
    with pytest.raises(CommandError, match=r"There is already a reference at .*small.scq. Pass --overwrite"):
        check_reference_output(saved_reference, [], overwrite=False)
    check_reference_output(saved_reference, [], overwrite=True)
    with pytest.raises(CommandError, match=r"is an input"):
        check_reference_output(saved_reference, [saved_reference], overwrite=True)
