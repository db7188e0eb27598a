"""A reference as one zip file: round trips, refused files, and overwriting."""

import gc
import io
import os
import stat
import struct
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import scquery_ae as scq
from scquery_ae.reference import digest, serialize


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory, monkeypatch):
    """The folder in which zip files are unpacked."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def zipped(reference, tmp_path):
    path = tmp_path / "small.zip"
    reference.save(path)
    return path


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {member.filename: archive.read(member) for member in archive.infolist()}


def rewrite(path, contents, compression=zipfile.ZIP_STORED):
    """Write members, given as pairs, so that names may repeat."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in contents:
            archive.writestr(name, content)


def refused(path, match):
    with pytest.raises(scq.BundleError, match=match):
        scq.Reference.load(path)


# Round trips.


def test_members_are_the_files_of_the_directory(reference, saved_reference, zipped):
    assert [file.name for file in zipped.parent.iterdir()] == ["small.zip"]
    assert members(zipped) == {file.name: file.read_bytes() for file in saved_reference.iterdir()}
    with zipfile.ZipFile(zipped) as archive:
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
    assert digest(zipped) == digest(saved_reference)


def test_a_round_trip_gives_identical_answers(reference, zipped, query_adata):
    back = scq.Reference.load(zipped)
    assert isinstance(back.embedding, np.memmap)
    np.testing.assert_array_equal(back.embedding, reference.embedding)
    pd.testing.assert_frame_equal(back.obs, reference.obs)
    one, other = query_adata.copy(), query_adata.copy()
    scq.tl.query(one, reference)
    scq.tl.query(other, back)
    pd.testing.assert_frame_equal(one.obs, other.obs)
    np.testing.assert_array_equal(one.obsm["scquery_neighbors"], other.obsm["scquery_neighbors"])
    scq.tl.query(query_adata, str(zipped))
    assert query_adata.uns["scquery"]["reference"] == {"name": "small.zip", "sha256": digest(zipped)}


def test_unpacked_files_are_deleted_with_the_reference(zipped, temporary):
    back = scq.Reference.load(zipped)
    (folder,) = temporary.iterdir()
    assert Path(back.embedding.filename).parent == folder
    del back
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_the_digest_is_read_without_unpacking(zipped, temporary):
    digest(zipped)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("kind", ["hnsw", "int8"])
def test_an_index_is_a_member(reference, tmp_path, kind):
    replace(reference, index_kind=kind, index=None).save(tmp_path / "a.zip")
    assert sum(name.startswith("index.") for name in members(tmp_path / "a.zip")) == 1
    assert scq.Reference.load(tmp_path / "a.zip").index.kind == kind


# Refused files.


def test_compressed_members_are_refused(zipped, temporary):
    rewrite(zipped, members(zipped).items(), zipfile.ZIP_DEFLATED)
    refused(zipped, r"small\.zip cannot be read as a zipped reference: the member .* is not one that `Reference\.save`")
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "../model.0123456789abcdef.json",
        "/model.0123456789abcdef.json",
        "sub/model.0123456789abcdef.json",
        "..\\model.0123456789abcdef.json",
        "sub/",
        "readme.txt",
        "manifest.json.exe",
        "MANIFEST.JSON",
        "model.0123456789abcdef.pickle",
        "model.0123456789ABCDEF.json",
        "model.0123456789abcdef.json\n",
    ],
)
def test_members_under_other_names_are_refused_and_not_written(zipped, temporary, name):
    rewrite(zipped, [*members(zipped).items(), (name, b"hello")])
    before = sorted(zipped.parent.iterdir()), sorted(temporary.parent.iterdir())
    refused(zipped, r"cannot be read as a zipped reference: the member .* is not one that `Reference\.save` writes")
    assert (sorted(zipped.parent.iterdir()), sorted(temporary.parent.iterdir())) == before
    assert list(temporary.iterdir()) == []


def test_too_many_members_are_refused(zipped):
    own, more = members(zipped), [(f"model.{i:016x}.json", b"{}") for i in range(40)]
    rewrite(zipped, [*own.items(), *more])
    refused(zipped, f"cannot be read as a zipped reference: it has {len(own) + 40} members, or some twice")


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_repeated_member_is_refused(zipped):
    own = members(zipped)
    rewrite(zipped, [*own.items(), ("manifest.json", b"{}")])
    refused(zipped, f"cannot be read as a zipped reference: it has {len(own) + 1} members, or some twice")


def test_members_that_claim_to_be_larger_than_the_file_are_refused(zipped):
    content = bytearray(zipped.read_bytes())
    # The first entry of the central directory; its sizes lie 20 and 24 bytes in.
    start = content.index(b"PK\x01\x02")
    content[start + 20 : start + 28] = struct.pack("<II", 1 << 30, 1 << 30)
    zipped.write_bytes(content)
    refused(zipped, "cannot be read as a zipped reference: its members claim to be larger than the file")


def test_encrypted_members_are_refused(zipped):
    content = bytearray(zipped.read_bytes())
    start = content.index(b"PK\x01\x02")
    content[start + 8] |= 1
    content[6] |= 1
    zipped.write_bytes(content)
    refused(zipped, r"cannot be read as a zipped reference: .*encrypted")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x05\x06" + bytes(18)], ids=["nothing", "text", "empty zip"])
def test_other_files_are_refused(zipped, content):
    zipped.write_bytes(content)
    refused(zipped, "cannot be read as a zipped reference: File is not a zip|is not a reference: it has no manifest")


def test_a_missing_file_is_named(tmp_path):
    refused(tmp_path / "none.zip", r"There is no reference at .*none\.zip")


def test_a_zip_without_a_manifest_is_refused(zipped):
    rewrite(zipped, [("model.0123456789abcdef.json", b"{}")])
    refused(zipped, r"small\.zip is not a reference: it has no manifest\.json")


def test_errors_name_the_zip_file_instead_of_the_temporary_folder(zipped, temporary):
    kept = [(name, content) for name, content in members(zipped).items() if not name.startswith("obs.")]
    rewrite(zipped, kept)
    with pytest.raises(scq.BundleError, match=r"small\.zip is incomplete: obs\..* is missing") as caught:
        scq.Reference.load(zipped)
    assert str(temporary) not in str(caught.value)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("fraction", [0.001, 0.25, 0.5, 0.99])
def test_a_truncated_file_is_refused(zipped, fraction):
    content = zipped.read_bytes()
    zipped.write_bytes(content[: int(fraction * len(content))])
    refused(zipped, r"cannot be read as a zipped reference: .*Copy it again from its source")


@pytest.mark.parametrize("part", ["manifest", *serialize.REQUIRED])
def test_a_flipped_bit_in_a_member_is_refused(zipped, part):
    content = bytearray(zipped.read_bytes())
    with zipfile.ZipFile(zipped) as archive:
        (member,) = [m for m in archive.infolist() if m.filename.startswith(f"{part}.")]
    # Header of 30 bytes, then the name, then the content.
    content[member.header_offset + 30 + len(member.filename) + member.file_size // 2] ^= 1
    zipped.write_bytes(content)
    refused(zipped, rf"cannot be read as a zipped reference: Bad CRC-32 for file '{part}\.")


def test_a_flipped_byte_anywhere_is_refused_or_harmless(zipped, reference):
    """Dates and modes of members may change. Any other change is refused with our own error."""
    original = zipped.read_bytes()
    directory = original.index(b"PK\x01\x02")
    places = {*range(30), *range(directory, len(original), 13), *range(30, directory, directory // 40)}
    n_refused = 0
    for place in places:
        content = bytearray(original)
        content[place] ^= 0xFF
        zipped.write_bytes(content)
        try:
            back = scq.Reference.load(zipped)
        except scq.BundleError:
            n_refused += 1
        else:
            np.testing.assert_array_equal(back.embedding, reference.embedding)
            assert back.types == reference.types
    assert n_refused > len(places) / 2


def test_members_that_differ_from_the_manifest_are_refused(zipped, temporary):
    changed = [
        (name, content + b" " if name.startswith("model.") else content) for name, content in members(zipped).items()
    ]
    rewrite(zipped, changed)
    refused(zipped, r"small\.zip is damaged: model\..* is not what its manifest says")
    assert list(temporary.iterdir()) == []


# Writing.


def test_a_zip_is_not_replaced_without_overwrite(reference, zipped):
    before = zipped.read_bytes()
    with pytest.raises(scq.BundleError, match=r"There is a reference at .*small\.zip already\. Pass `overwrite=True`"):
        reference.save(zipped)
    assert zipped.read_bytes() == before
    assert [file.name for file in zipped.parent.iterdir()] == ["small.zip"]


def test_a_zip_is_replaced_with_overwrite(reference, zipped):
    opened = scq.Reference.load(zipped)
    other = replace(reference, cells=replace(reference.cells, obs=reference.obs.assign(extra=1)))
    other.save(zipped, overwrite=True)
    assert "extra" in scq.Reference.load(zipped).obs
    assert [file.name for file in zipped.parent.iterdir()] == ["small.zip"]
    # An open reference keeps its arrays.
    np.testing.assert_array_equal(opened.embedding, reference.embedding)
    # It can be saved to the file from which it was loaded.
    opened.save(zipped, overwrite=True)
    assert "extra" not in scq.Reference.load(zipped).obs


def foreign_zip():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("holiday.jpg", b"precious")
    return buffer.getvalue()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["text", "nothing", "zip of photos", "folder", "bundle", "link", "dangling link"])
def test_other_files_are_never_replaced(reference, tmp_path, overwrite, kind):
    target = tmp_path / "here" / "precious.zip"
    target.parent.mkdir()
    contents = {"text": b"data", "nothing": b"", "zip of photos": foreign_zip()}
    if kind in contents:
        target.write_bytes(contents[kind])
    elif kind in ("folder", "bundle"):
        target.mkdir()
        (target / ("manifest.json" if kind == "bundle" else "data.csv")).write_text("1,2")
    else:
        if kind == "link":
            (tmp_path / "elsewhere").write_bytes(b"data")
        target.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        scq.BundleError,
        match=r"precious\.zip exists and is not a zipped reference\. It is left as it is; choose another",
    ):
        reference.save(target, overwrite=overwrite)
    assert [file.name for file in target.parent.iterdir()] == ["precious.zip"]
    if kind in contents:
        assert target.read_bytes() == contents[kind]
    elif target.is_dir():
        assert len(list(target.iterdir())) == 1
    else:
        assert target.is_symlink()


def test_a_full_disk_leaves_the_old_file_and_nothing_else(reference, zipped, monkeypatch):
    before = zipped.read_bytes()

    def fail(self, *args, **kwargs):
        msg = "No space left on device"
        raise OSError(28, msg)

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "write", fail)
        with pytest.raises(scq.BundleError, match=r"No space left on device\. The one that is there is unchanged"):
            reference.save(zipped, overwrite=True)
        with pytest.raises(scq.BundleError, match=r"No space left on device\. Nothing was left behind"):
            reference.save(zipped.parent / "new.zip")
    assert zipped.read_bytes() == before
    assert [file.name for file in zipped.parent.iterdir()] == ["small.zip"]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_the_file_mode_follows_the_umask(reference, tmp_path, mask):
    old = os.umask(mask)
    try:
        reference.save(tmp_path / "a.zip")
        (tmp_path / "any").write_text("")
    finally:
        os.umask(old)
    modes = [stat.S_IMODE(Path(tmp_path / name).stat().st_mode) for name in ("a.zip", "any")]
    assert modes[0] == modes[1]
