"""The ``.scq`` directory: its files, the detection of damage, and that a save is complete or has no effect."""

import dataclasses
import hashlib
import io
import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scquery_ae as scq
from scquery_ae.dense import Classifier, DenseWeights
from scquery_ae.labels import label_types
from scquery_ae.reference import ReferenceCells, bundle, digest, serialize

PER_CELL = ReferenceCells.per_cell()
PARTS = ("model", "weights", "calibration", "simulation", "obs", *PER_CELL)
UNFIT = "is damaged: its parts do not fit together"


@pytest.fixture
def saved(saved_reference, tmp_path):
    """A copy of the saved reference, alone in its folder. Tests may damage it."""
    folder = tmp_path / "here"
    folder.mkdir()
    return Path(shutil.copytree(saved_reference, folder / "small.scq"))


def manifest_of(path):
    return json.loads((path / "manifest.json").read_text())


def write_manifest(path, manifest):
    (path / "manifest.json").write_text(json.dumps(manifest))


def file_of(path, part):
    return path / manifest_of(path)["parts"][part]["file"]


def replace_part(path, part, content):
    """Replace the content of a part and its checksum, so that only reading the content shows the damage."""
    manifest = manifest_of(path)
    old = path / manifest["parts"][part]["file"]
    checksum = hashlib.sha256(content).hexdigest()
    new = path / f"{part}.{checksum[:16]}{old.suffix}"
    old.unlink()
    new.write_bytes(content)
    manifest["parts"][part] = {"file": new.name, "bytes": len(content), "sha256": checksum}
    write_manifest(path, manifest)


def replace_array(path, part, name, value):
    """Replace one array of a safetensors part; None removes it."""
    from safetensors.numpy import load_file, save

    arrays = load_file(file_of(path, part)) | {name: value}
    replace_part(path, part, save({key: np.ascontiguousarray(a) for key, a in arrays.items() if a is not None}))


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def answers(adata, reference):
    adata = adata.copy()
    scq.tl.query(adata, reference)
    return adata


def assert_readable(path, reference):
    np.testing.assert_array_equal(scq.Reference.load(path).embedding, reference.embedding)


def assert_equal_contents(one, other, where=""):
    """Compare all that two values hold, through dataclasses and containers."""
    if isinstance(other, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other)
    elif isinstance(other, np.ndarray):
        assert one.dtype == other.dtype, where
        np.testing.assert_array_equal(one, other, err_msg=where)
    elif sparse.issparse(other):
        assert (one.format, one.shape, one.dtype) == (other.format, other.shape, other.dtype), where
        assert (one != other).nnz == 0, where
    elif dataclasses.is_dataclass(other):
        assert type(one) is type(other), where
        for field in dataclasses.fields(other):
            assert_equal_contents(getattr(one, field.name), getattr(other, field.name), f"{where}.{field.name}")
    elif isinstance(other, dict):
        assert list(one) == list(other), where
        for name, value in other.items():
            assert_equal_contents(one[name], value, f"{where}[{name!r}]")
    elif isinstance(other, list | tuple):
        assert len(one) == len(other), where
        for i, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            assert_equal_contents(mine, theirs, f"{where}[{i}]")
    else:
        assert one == other, where


# The files, and a round trip.


def test_files_and_manifest(saved_reference):
    manifest = manifest_of(saved_reference)
    assert manifest["format"] == "scquery_ae reference"
    assert manifest["format_version"] == 1
    assert set(manifest["parts"]) == set(PARTS)
    listed = {entry["file"] for entry in manifest["parts"].values()}
    assert {file.name for file in saved_reference.iterdir()} == listed | {"manifest.json"}
    for name, entry in manifest["parts"].items():
        content = (saved_reference / entry["file"]).read_bytes()
        assert entry["bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["file"].startswith(f"{name}.{entry['sha256'][:16]}.")
    assert digest(saved_reference) == hashlib.sha256((saved_reference / "manifest.json").read_bytes()).hexdigest()


def test_a_round_trip_gives_the_same_reference(reference, saved_reference):
    back = scq.Reference.load(saved_reference)
    assert len(reference.simulation_cells.names) > 0
    assert reference.encoder.discriminant.temperature > 1
    assert reference.calibration.method == "held_out"
    for field in dataclasses.fields(reference):
        mine, expected = getattr(back, field.name), getattr(reference, field.name)
        if field.name == "encoder":
            # Only fine-tuning in the same session needs the layers of pretraining.
            assert mine.pretrained is None
            parameters = json.loads(json.dumps(expected.parameters))
            expected = dataclasses.replace(expected, pretrained=None, parameters=parameters)
        if field.name != "index":
            assert_equal_contents(mine, expected, field.name)
    np.testing.assert_array_equal(back.label_codes, reference.label_codes)
    np.testing.assert_array_equal(back.predictors.centroids, reference.predictors.centroids)
    assert repr(back) == repr(reference)


@pytest.mark.parametrize("name", PER_CELL)
def test_wide_arrays_stay_on_disk(saved_reference, name):
    values = getattr(scq.Reference.load(saved_reference).cells, name)
    assert isinstance(values, np.memmap) == (PER_CELL[name].width is not None)
    assert values.flags.writeable != isinstance(values, np.memmap)


def test_a_round_trip_gives_identical_answers(query_adata, reference, saved_reference):
    one, other = answers(query_adata, reference), answers(query_adata, scq.Reference.load(saved_reference))
    pd.testing.assert_frame_equal(one.obs, other.obs)
    for name in one.obsm:
        np.testing.assert_array_equal(one.obsm[name], other.obsm[name])


def test_the_same_reference_saved_twice_is_the_same_bundle(reference, saved_reference, tmp_path):
    reference.save(tmp_path / "again.scq")
    assert digest(tmp_path / "again.scq") == digest(saved_reference)
    # A loaded reference too.
    scq.Reference.load(saved_reference).save(tmp_path / "third.scq")
    assert digest(tmp_path / "third.scq") == digest(saved_reference)


def test_reading_and_querying_write_nothing(query_adata, saved):
    before = {file.name: (file.stat().st_mtime_ns, file.stat().st_size) for file in saved.parent.rglob("*")}
    answers(query_adata, saved)
    assert {file.name: (file.stat().st_mtime_ns, file.stat().st_size) for file in saved.parent.rglob("*")} == before


def test_nothing_is_pickled(saved_reference, query_adata, monkeypatch):
    import pyarrow.parquet as pq

    def refuse(*args, **kwargs):
        pytest.fail("something was unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    answers(query_adata, saved_reference)
    for part, magic in {"embedding": b"\x93NUMPY", "obs": b"PAR1", "model": b"{"}.items():
        assert file_of(saved_reference, part).read_bytes().startswith(magic)
    for part in ("weights", "calibration", "simulation"):
        content = file_of(saved_reference, part).read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} <= {
            "F32",
            "F64",
            "I32",
            "I64",
            "U8",
        }
    for part in PER_CELL:
        assert b"|O" not in file_of(saved_reference, part).read_bytes()[:128]
    types = {str(field.type) for field in pq.read_schema(file_of(saved_reference, "obs"))}
    assert not any("binary" in name for name in types)
    # Pickles of protocol 2 and later open with these bytes and a number.
    assert not any(file.read_bytes()[:1] == pickle.PROTO for file in saved_reference.iterdir())


FRESH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"keras", "tensorflow", "jax", "torch", "matplotlib"}:
            raise AssertionError(f"{name} was imported")

sys.meta_path.insert(0, Refuse())
import anndata
import scquery_ae as scq

adata = anndata.read_h5ad(sys.argv[2])
print(scq.pp.check(adata, sys.argv[1]).input_state)
scq.tl.query(adata, sys.argv[1], n_neighbors=5)
reference = scq.Reference.load(sys.argv[1])
reference.save(sys.argv[3])
heavy = ("keras", "tensorflow", "jax", "torch", "matplotlib", "scanpy")
print(*[name for name in heavy if name in sys.modules], "none loaded")
adata.write_h5ad(sys.argv[4])
"""


@pytest.mark.slow
def test_a_query_runs_where_keras_and_tensorflow_cannot_be_imported(query_adata, saved_reference, tmp_path):
    query_adata.write_h5ad(tmp_path / "q.h5ad")
    arguments = [
        str(p) for p in (saved_reference, tmp_path / "q.h5ad", tmp_path / "copy.scq", tmp_path / "answer.h5ad")
    ]
    result = subprocess.run([sys.executable, "-c", FRESH, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[:2] == ["counts", "none loaded"]
    assert digest(tmp_path / "copy.scq") == digest(saved_reference)
    answer = anndata.read_h5ad(tmp_path / "answer.h5ad")
    scq.tl.query(query_adata, saved_reference, n_neighbors=5)
    pd.testing.assert_frame_equal(answer.obs, query_adata.obs)
    np.testing.assert_array_equal(answer.obsm["scquery_neighbors"], query_adata.obsm["scquery_neighbors"])


@pytest.fixture
def small(make_adata, make_encoder):
    """Cells, and a function that makes a reference of them without training."""
    adata = make_adata(60, 25)
    scq.pp.normalize(adata)
    adata.obs["scquery_split"] = pd.Categorical(np.where(np.arange(60) % 4 == 0, "validation", "train"))
    encoder = make_encoder(make_adata(60, 25))

    def make(label_key="cell_type", types=None):
        model = (
            encoder
            if types is None
            else dataclasses.replace(
                encoder, classifier=Classifier(encoder.classifier.kernel, encoder.classifier.bias, types)
            )
        )
        return scq.tl.build_reference(adata, model, label_key=label_key)

    return adata, make


def test_columns_of_all_dtypes_survive_saving(small, tmp_path):
    adata, make = small
    n = adata.n_obs
    adata.obs["whole"] = np.arange(n)
    adata.obs["real"] = np.linspace(0, 1, n, dtype=np.float32)
    adata.obs["flag"] = np.arange(n) % 2 == 0
    adata.obs["lane"] = pd.Categorical(["a", "b"] * (n // 2))
    adata.obs["text"] = pd.Series([None if i == 3 else f"note {i} µ" for i in range(n)], adata.obs_names, dtype=object)
    adata.obs["mixed"] = pd.Series([i if i % 2 else f"{i}a" for i in range(n)], adata.obs_names, dtype=object)
    adata.obs["string"] = pd.array(["a", None] * (n // 2), dtype="string")
    adata.obs["day"] = pd.Timestamp("2024-05-01") + pd.to_timedelta(np.arange(n), unit="D")
    adata.obs["nullable"] = pd.array([None, *range(n - 1)], dtype="Int64")
    make().save(tmp_path / "a.scq")
    back = scq.Reference.load(tmp_path / "a.scq").obs
    assert list(back.index) == list(adata.obs_names)
    for name in ("whole", "real", "flag", "lane", "day", "nullable"):
        pd.testing.assert_series_equal(back[name], adata.obs[name])
    for name in ("text", "mixed", "string"):
        expected = [None if pd.isna(v) else str(v) for v in adata.obs[name]]
        assert [None if pd.isna(v) else str(v) for v in back[name]] == expected


def test_the_order_of_categories_survives_saving(small, tmp_path):
    adata, make = small
    adata.obs["stage"] = pd.Categorical(["early", "late"] * 30, categories=["late", "early", "never"], ordered=True)
    make().save(tmp_path / "a.scq")
    pd.testing.assert_series_equal(scq.Reference.load(tmp_path / "a.scq").obs["stage"], adata.obs["stage"])


@pytest.mark.parametrize("kind", ["int category", "float", "Int64", "bool", "object"])
def test_labels_that_are_not_text_survive_saving(small, tmp_path, kind):
    adata, make = small
    numbers = adata.obs["cell_type"].cat.codes.to_numpy().astype(int) % (2 if kind == "bool" else 3)
    labels = {
        "int category": lambda: pd.Categorical(numbers),
        "float": lambda: numbers.astype(float),
        "Int64": lambda: pd.array(numbers, dtype="Int64"),
        "bool": lambda: pd.Categorical(numbers.astype(bool)),
        "object": lambda: numbers.astype(object),
    }[kind]()
    adata.obs["cluster"] = pd.Series(labels, adata.obs_names)
    adata.obs.loc[adata.obs_names[5:9], "cluster"] = None
    types = label_types(adata.obs["cluster"])
    reference = make("cluster", types + ("other",) * (3 - len(types)))
    expected = numbers.copy()
    expected[5:9] = -1
    np.testing.assert_array_equal(reference.label_codes, expected)
    reference.save(tmp_path / "a.scq")
    np.testing.assert_array_equal(scq.Reference.load(tmp_path / "a.scq").label_codes, expected)


def test_types_with_unusual_names(small, tmp_path):
    adata, make = small
    names = {"type 0": "γδ T cell", "type 1": 'CD4+, "naive"', "type 2": "a/b\\c\n"}
    adata.obs["cell_type"] = adata.obs["cell_type"].cat.rename_categories(names)
    reference = make(types=tuple(sorted(names.values())))
    reference.save(tmp_path / "a.scq")
    back = scq.Reference.load(tmp_path / "a.scq")
    assert back.types == reference.types
    np.testing.assert_array_equal(back.label_codes, reference.label_codes)


def test_a_reference_without_held_out_cells_can_be_saved(small, tmp_path):
    adata, make = small
    adata.obs["scquery_split"] = "train"
    with pytest.warns(scq.ScqueryWarning, match="held out no cells"):
        make().save(tmp_path / "a.scq")
    back = scq.Reference.load(tmp_path / "a.scq")
    assert len(back.calibration.scores) == 0


def test_an_encoder_that_was_not_fine_tuned_cannot_be_saved(reference, tmp_path):
    bare = dataclasses.replace(reference, encoder=reference.encoder)
    bare.encoder = dataclasses.replace(reference.encoder, classifier=None)
    with pytest.raises(scq.NotFittedError, match="The encoder has no classifier"):
        bare.save(tmp_path / "a.scq")
    assert list(tmp_path.iterdir()) == []


# Damage.


def refused(path, match):
    with pytest.raises(scq.BundleError, match=match):
        scq.Reference.load(path)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_flipped_bit_is_detected(saved, part, where):
    file = file_of(saved, part)
    content = bytearray(file.read_bytes())
    content[{"first": 0, "middle": len(content) // 2, "last": -1}[where]] ^= 1
    file.write_bytes(content)
    refused(saved, rf"is damaged: {part}\.[0-9a-f]+\.\w+ is not what its manifest says.*Copy it again from its source")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("size", ["nothing", "all but one byte", "a byte more"])
def test_another_length_is_detected(saved, part, size):
    file = file_of(saved, part)
    content = file.read_bytes()
    file.write_bytes({"nothing": b"", "all but one byte": content[:-1], "a byte more": content + b"\0"}[size])
    refused(saved, rf"is damaged: {part}\..* is not what its manifest says \(expected {len(content)} bytes")


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_file_is_detected(saved, part):
    file_of(saved, part).unlink()
    refused(saved, rf"is incomplete: {part}\.[0-9a-f]+\.\w+ is missing\. Copy it again from its source")


@pytest.mark.parametrize("part", PARTS)
def test_a_part_missing_in_the_manifest_is_detected(saved, part):
    manifest = manifest_of(saved)
    del manifest["parts"][part]
    write_manifest(saved, manifest)
    refused(saved, f"is damaged: its manifest has no part '{part}'")


@pytest.mark.parametrize("part", PARTS)
def test_a_link_is_not_followed(saved, part, tmp_path):
    file = file_of(saved, part)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    refused(saved, rf"is incomplete: {part}\..* is missing")


NAMES_THAT_LEAD_ELSEWHERE = [
    *("../{}", "/etc/passwd", "{}/../{}", "sub/{}", "..\\{}", "", ".", "manifest.json", "{}\n"),
    *(7, None, ["{}"]),
]


@pytest.mark.parametrize(
    ("part", "name"),
    [*(("weights", name) for name in NAMES_THAT_LEAD_ELSEWHERE), *((part, "../{}") for part in PARTS)],
)
def test_names_that_lead_elsewhere_are_refused(saved, part, name):
    manifest = manifest_of(saved)
    entry = manifest["parts"][part]
    # The file that the name leads to has the right content, so only the name is wrong.
    shutil.copy(saved / entry["file"], saved.parent / entry["file"])
    entry["file"] = name.replace("{}", entry["file"]) if isinstance(name, str) else name
    write_manifest(saved, manifest)
    refused(saved, rf"is damaged: its manifest names .* as the part '{part}'")


def test_a_part_under_another_name_is_refused(saved):
    manifest = manifest_of(saved)
    manifest["parts"]["calibration"] = manifest["parts"]["weights"]
    write_manifest(saved, manifest)
    refused(saved, r"is damaged: its manifest names 'weights\..*' as the part 'calibration'")


@pytest.mark.parametrize("entry", [None, 3, "x", [], {}, {"file": "obs.0123456789abcdef.parquet"}])
def test_entries_without_file_or_checksum_are_refused(saved, entry):
    manifest = manifest_of(saved)
    manifest["parts"]["obs"] = entry
    write_manifest(saved, manifest)
    refused(saved, "is damaged: its manifest names .* as the part 'obs'")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b"3",
        b"{}",
        b'{"format": "scquery_ae reference"}',
        b'{"format": "something else", "format_version": 1, "parts": {}}',
        b'{"format": "scquery_ae reference", "format_version": "1", "parts": {}}',
        b'{"format": "scquery_ae reference", "format_version": 1, "parts": []}',
        pytest.param(b'{"a": "' + b"x" * (1 << 20) + b'"}', id="too long"),
        pytest.param(b"[" * 100_000, id="too deep"),
    ],
)
def test_an_unreadable_manifest_is_refused(saved, content):
    (saved / "manifest.json").write_bytes(content)
    refused(saved, r"manifest\.json cannot be read as the manifest of a reference \(.*\)\. Copy the reference again")


@pytest.mark.parametrize("version", [0, -1, True])
def test_versions_that_never_existed_are_refused(saved, version):
    write_manifest(saved, manifest_of(saved) | {"format_version": version})
    refused(saved, r"manifest\.json cannot be read as the manifest of a reference")


@pytest.mark.parametrize("version", [2, 99])
def test_a_newer_format_asks_for_an_upgrade(saved, version):
    write_manifest(saved, manifest_of(saved) | {"format_version": version})
    refused(
        saved,
        rf"has format version {version}; this scquery_ae reads up to 1\. Upgrade with `pip install --upgrade scquery",
    )


def test_additional_entries_of_a_manifest_are_ignored(saved, reference):
    # A later release of the same format may add some.
    write_manifest(saved, manifest_of(saved) | {"comment": "made on a Tuesday"})
    assert_readable(saved, reference)


def test_other_files_and_folders_are_refused(tmp_path):
    refused(
        tmp_path / "none.scq",
        r"There is no reference at .*none\.scq\. Expected a `\.scq` directory that `Reference\.save`",
    )
    refused(tmp_path, r"is not a reference: it has no manifest\.json\. Expected a `\.scq` directory")
    (tmp_path / "file.scq").write_text("hello")
    refused(tmp_path / "file.scq", r"file\.scq is not a reference: it has no manifest\.json")


# Parts that agree with the manifest but not with each other.


class Trap:
    def __reduce__(self):
        return os.mkdir, ("the-pickle-was-run",)


@pytest.mark.parametrize("name", PER_CELL)
def test_a_pickled_array_is_refused_and_not_run(saved, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    replace_part(saved, name, npy(np.array([Trap()], dtype=object)))
    refused(saved, UNFIT)
    assert not (tmp_path / "the-pickle-was-run").exists()


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("content", [b"no such thing" * 20, b""], ids=["text", "empty"])
def test_parts_of_another_format_are_refused(saved, part, content):
    replace_part(saved, part, content)
    refused(saved, UNFIT)


@pytest.mark.parametrize("name", PER_CELL)
def test_an_array_that_looks_like_a_zip_is_refused_and_closed(saved, name):
    # np.load takes it for an archive, fails, and leaves it open: a warning, which is an error here.
    replace_part(saved, name, b"PK\x03\x04" + bytes(300))
    refused(saved, UNFIT)


@pytest.mark.parametrize("name", PER_CELL)
@pytest.mark.parametrize("change", ["fewer cells", "more cells", "other width", "other dtype", "one axis more"])
def test_an_array_of_another_shape_or_dtype_is_refused(saved, name, change):
    values = np.load(file_of(saved, name))
    changed = {
        "fewer cells": lambda: values[:-1],
        "more cells": lambda: np.concatenate([values, values[:1]]),
        "other width": lambda: values[:, :-1] if values.ndim == 2 else np.stack([values, values], axis=1),
        "other dtype": lambda: values.astype(np.uint8 if values.dtype == bool else np.float16),
        "one axis more": lambda: values[..., None],
    }[change]()
    replace_part(saved, name, npy(changed))
    refused(saved, rf"{UNFIT} \(A reference needs {PER_CELL[name].dtype} `{name}` of shape")


@pytest.mark.parametrize(
    "changes",
    [
        {"genes": ["GENE1"]},
        {"activations": ["relu"]},
        {"activations": ["relu", "__import__"]},
        {"label_key": "no such column"},
        {"types": ["type 0", "type 1"]},
        {"target_sum": -1},
        {"target_sum": "many"},
        {"temperature": 0},
        {"simulation_names": ["cell0"]},
    ],
    ids=str,
)
def test_a_model_that_does_not_fit_is_refused(saved, changes):
    model = json.loads(file_of(saved, "model").read_text())
    replace_part(saved, "model", json.dumps(model | changes).encode())
    refused(saved, UNFIT)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("weights", "components", None),
        ("weights", "components", np.zeros((99, 50), np.float32)),
        ("weights", "components", np.zeros((100, 49), np.float32)),
        ("weights", "components", np.zeros(100, np.float32)),
        ("weights", "densities.embedding.means", None),
        ("weights", "densities.embedding.means", np.zeros((2, 8), np.float32)),
        ("weights", "densities.embedding.whitening", np.zeros((8, 7), np.float32)),
        ("weights", "densities.embedding.whitening", np.full((8, 8), np.inf, np.float32)),
        ("weights", "densities.projected.means", np.zeros((2, 50), np.float32)),
        ("weights", "densities.projected.whitening", np.zeros((50, 49), np.float32)),
        ("weights", "classifier.columns", np.array([0, 1])),
        ("weights", "classifier.columns", np.array([0, 1, 3])),
        ("weights", "classifier.columns", np.array([0, 1, -2])),
        ("weights", "classifier.kernel", np.zeros((8, 4), np.float32)),
        ("weights", "classifier.bias", np.zeros(2, np.float32)),
        ("weights", "classifier.bias", np.full(3, np.nan, np.float32)),
        ("weights", "layers.0.kernel", np.zeros((99, 16), np.float32)),
        ("weights", "layers.1.kernel", np.zeros((15, 8), np.float32)),
        ("weights", "layers.1.bias", None),
        ("weights", "transform.mean", np.zeros(3, np.float32)),
        ("weights", "discriminant.means", np.zeros((2, 100), np.float32)),
        ("weights", "discriminant.means", np.zeros((3, 99), np.float32)),
        ("weights", "discriminant.noise", None),
        ("weights", "discriminant.seen", None),
        ("weights", "discriminant.center", np.full(100, np.nan, np.float32)),
        ("simulation", "indptr", np.array([0, 1])),
        ("simulation", "indices", None),
        ("simulation", "indices", np.zeros(3, np.float32)),
        ("simulation", "data", None),
        ("calibration", "locations", np.zeros((2, 2))),
        ("calibration", "spreads", np.ones((2, 4))),
        ("calibration", "spreads", np.ones((1, 3))),
        ("calibration", "scores", None),
        ("calibration", "unknown", np.zeros(1)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(saved, part, name, value):
    replace_array(saved, part, name, value)
    refused(saved, UNFIT)


def test_negative_columns_of_simulation_cells_are_refused(saved):
    from safetensors.numpy import load_file

    indices = load_file(file_of(saved, "simulation"))["indices"].copy()
    indices[0] = -1
    replace_array(saved, "simulation", "indices", indices)
    refused(saved, UNFIT)


# An index beside the embedding.


@pytest.fixture(params=["hnsw", "int8"])
def indexed(request, reference, tmp_path):
    """A reference with an approximate index, and its path."""
    made = dataclasses.replace(reference, index_kind=request.param, index=None)
    made.save(tmp_path / "indexed.scq")
    return made, tmp_path / "indexed.scq"


def test_an_index_is_saved_loaded_and_searched(indexed, query_adata):
    made, path = indexed
    assert set(manifest_of(path)["parts"]) == {*PARTS, "index"}
    assert file_of(path, "index").suffix == ".faiss"
    back = scq.Reference.load(path)
    assert back.index is not None
    assert back.index.kind == back.index_kind == made.index_kind
    assert back.index.n_items == 240
    one, other = answers(query_adata, made), answers(query_adata, back)
    np.testing.assert_array_equal(one.obsm["scquery_neighbors"], other.obsm["scquery_neighbors"])
    np.testing.assert_array_equal(one.obsm["scquery_distances"], other.obsm["scquery_distances"])
    # Most neighbors are those of an exact search by NumPy.
    exact = np.argsort(-(one.obsm["X_scquery"] @ made.embedding.T), axis=1)[:, :15]
    shared = [len(set(a) & set(b)) for a, b in zip(exact, one.obsm["scquery_neighbors"], strict=True)]
    assert np.mean(shared) > 0.8 * 15


def test_an_index_missing_in_the_manifest_is_built_again(indexed, query_adata):
    made, path = indexed
    manifest = manifest_of(path)
    del manifest["parts"]["index"]
    write_manifest(path, manifest)
    back = scq.Reference.load(path)
    assert back.index is None
    one, other = answers(query_adata, made), answers(query_adata, back)
    np.testing.assert_array_equal(one.obsm["scquery_neighbors"], other.obsm["scquery_neighbors"])


def test_a_damaged_index_is_refused(indexed):
    _, path = indexed
    file = file_of(path, "index")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    refused(path, r"is damaged: index\..* is not what its manifest says")


@pytest.mark.parametrize("content", [b"", b"no such thing" * 20])
def test_an_unreadable_index_is_refused(indexed, content):
    _, path = indexed
    replace_part(path, "index", content)
    refused(path, UNFIT)


def test_an_index_of_other_cells_is_refused(indexed, tmp_path):
    from scquery_ae.index import ApproximateIndex

    made, path = indexed
    ApproximateIndex.build(made.embedding[:200], made.index_kind).write(tmp_path / "other")
    replace_part(path, "index", (tmp_path / "other").read_bytes())
    refused(path, rf"{UNFIT} .*vectors of shape \(200, 8\), but \(240, 8\) is expected")


def test_overwriting_an_indexed_reference_drops_its_index(indexed, reference):
    _, path = indexed
    reference.save(path, overwrite=True)
    assert not list(path.glob("index.*"))
    assert_readable(path, reference)


# Writing.


def siblings(path):
    return sorted(file.name for file in path.parent.iterdir())


def other_reference(reference):
    """Return a reference that differs in every part."""
    encoder = dataclasses.replace(
        reference.encoder,
        layers=tuple(
            DenseWeights(layer.kernel * 2, layer.bias, layer.activation) for layer in reference.encoder.layers
        ),
        history={"note": "other"},
    )
    reversed_arrays = {name: np.ascontiguousarray(values[::-1]) for name, values in reference.cells.arrays.items()}
    # Reversed, this array would stay what it is: all False.
    reversed_arrays["added"] = ~reference.cells.added
    return dataclasses.replace(
        reference,
        encoder=encoder,
        cells=dataclasses.replace(reference.cells, **reversed_arrays, obs=reference.obs.assign(extra=1)),
        calibration=dataclasses.replace(reference.calibration, scores=reference.calibration.scores / 2),
        simulation_cells=reference.simulation_cells.without(reference.simulation_cells.names[:1]),
    )


def test_missing_parent_folders_are_made(reference, tmp_path):
    reference.save(str(tmp_path / "a" / "b" / "c.scq"))
    assert_readable(tmp_path / "a" / "b" / "c.scq", reference)
    assert siblings(tmp_path / "a" / "b" / "c.scq") == ["c.scq"]


def test_a_relative_path(reference, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reference.save("here.scq")
    assert_readable("here.scq", reference)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_file_modes_follow_the_umask(reference, tmp_path):
    old = os.umask(0o022)
    try:
        reference.save(tmp_path / "a.scq")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.scq").stat().st_mode) == 0o755
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "a.scq").iterdir()} == {0o644}


def test_a_reference_is_not_replaced_without_overwrite(reference, saved):
    before = digest(saved)
    with pytest.raises(
        scq.BundleError, match=r"There is a reference at .* already\. Pass `overwrite=True` to replace it"
    ):
        other_reference(reference).save(saved)
    assert digest(saved) == before
    assert siblings(saved) == ["small.scq"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["folder", "empty folder", "file", "dangling link"])
def test_other_files_and_folders_are_never_replaced(reference, tmp_path, overwrite, kind):
    target = tmp_path / "precious"
    if kind == "file":
        target.write_text("data")
    elif kind == "dangling link":
        target.symlink_to(tmp_path / "gone")
    else:
        target.mkdir()
        if kind == "folder":
            (target / "data.csv").write_text("1,2")
    with pytest.raises(
        scq.BundleError, match=r"precious exists and is not a reference\. It is left as it is; choose another name"
    ):
        reference.save(target, overwrite=overwrite)
    assert siblings(target) == ["precious"]
    if kind == "folder":
        assert [file.name for file in target.iterdir()] == ["data.csv"]


def test_overwriting_removes_stale_files_only(reference, saved):
    old_files = {file.name for file in saved.iterdir()}
    (saved / "notes.txt").write_text("mine")
    other = other_reference(reference)
    other.save(saved, overwrite=True)
    assert_readable(saved, other)
    listed = {entry["file"] for entry in manifest_of(saved)["parts"].values()}
    assert {file.name for file in saved.iterdir()} == {*listed, "manifest.json", "notes.txt"}
    assert not listed & old_files
    assert siblings(saved) == ["small.scq"]


def test_overwriting_with_itself(reference, saved):
    before = digest(saved)
    loaded = scq.Reference.load(saved)
    loaded.save(saved, overwrite=True)
    assert digest(saved) == before
    assert_readable(saved, reference)
    np.testing.assert_array_equal(loaded.embedding, reference.embedding)


def test_an_open_reference_stays_readable_after_overwriting(query_adata, reference, saved):
    opened = scq.Reference.load(saved)
    other_reference(reference).save(saved, overwrite=True)
    one, expected = answers(query_adata, opened), answers(query_adata, reference)
    np.testing.assert_array_equal(one.obsm["scquery_neighbors"], expected.obsm["scquery_neighbors"])


def failing_writers(monkeypatch, part, error):
    original = serialize.writers

    def writers(contents):
        def fail(path):
            path.write_bytes(b"half of")
            raise error

        return {name: fail if name == part else save for name, save in original(contents).items()}

    monkeypatch.setattr(serialize, "writers", writers)


@pytest.mark.parametrize("part", PARTS)
def test_a_full_disk_leaves_the_old_reference_and_nothing_else(reference, saved, monkeypatch, part):
    before = {file.name: file.read_bytes() for file in saved.iterdir()}
    with monkeypatch.context() as patch:
        failing_writers(patch, part, OSError(28, "No space left on device"))
        with pytest.raises(
            scq.BundleError,
            match=r"could not be written to .*No space left on device\. The one that is there is unchanged; free some",
        ):
            other_reference(reference).save(saved, overwrite=True)
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before
    assert siblings(saved) == ["small.scq"]
    assert_readable(saved, reference)


@pytest.mark.parametrize(
    ("part", "error"),
    [*((part, OSError("disk full")) for part in PARTS), ("obs", KeyboardInterrupt()), ("weights", MemoryError())],
    ids=str,
)
def test_a_failure_in_a_first_save_leaves_nothing(reference, tmp_path, monkeypatch, part, error):
    failing_writers(monkeypatch, part, error)
    expected = (scq.BundleError, "Nothing was left behind") if isinstance(error, OSError) else (type(error), None)
    with pytest.raises(expected[0], match=expected[1]):
        reference.save(tmp_path / "new.scq")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moved", range(len(PARTS) + 1))
def test_a_failure_while_moving_files_into_place(reference, saved, monkeypatch, moved):
    other, count, replace = other_reference(reference), 0, Path.replace

    def fail_later(self, target):
        nonlocal count
        count += 1
        if count > moved:
            msg = "the network drive is gone"
            raise OSError(msg)
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail_later)
        with pytest.raises(scq.BundleError, match=r"the network drive is gone\. The one that is there is unchanged"):
            other.save(saved, overwrite=True)
    assert_readable(saved, reference)
    assert siblings(saved) == ["small.scq"]
    # The next save removes what this one left in the folder.
    other.save(saved, overwrite=True)
    assert_readable(saved, other)
    assert len(list(saved.iterdir())) == len(PARTS) + 1


def test_a_path_below_a_file_is_refused(reference, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(scq.BundleError, match=r"could not be written to .*a\.scq"):
        reference.save(tmp_path / "file" / "a.scq")


def test_the_format_is_the_one_tested_here():
    assert bundle.FORMAT_VERSION == 1
    assert set(serialize.REQUIRED) == set(PARTS)
    assert set(serialize.SUFFIXES) == {*PARTS, "index"}
