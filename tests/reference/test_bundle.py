"""The ``.scq`` directory: what lies in it, that damage is noticed, and that writing is all or nothing."""

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

import scquery_ae as scq
from scquery_ae.dense import Classifier, DenseWeights
from scquery_ae.reference import bundle, digest, serialize

PARTS = ("model", "weights", "calibration", "obs", "embedding", "projected", "decision")


@pytest.fixture
def saved(saved_reference, tmp_path):
    """A copy of the saved reference that may be damaged, alone in its folder."""
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
    """Put other content in place of a part, with a manifest that agrees: what only a look inside can notice."""
    manifest = manifest_of(path)
    old = path / manifest["parts"][part]["file"]
    checksum = hashlib.sha256(content).hexdigest()
    new = path / f"{part}.{checksum[:16]}{old.suffix}"
    old.unlink()
    new.write_bytes(content)
    manifest["parts"][part] = {"file": new.name, "bytes": len(content), "sha256": checksum}
    write_manifest(path, manifest)


def changed_json(path, **changes):
    model = json.loads(file_of(path, "model").read_text())
    replace_part(path, "model", json.dumps(model | changes).encode())


def changed_weights(path, **changes):
    from safetensors.numpy import load_file, save

    arrays = load_file(file_of(path, "weights")) | changes
    replace_part(path, "weights", save({name: np.ascontiguousarray(a) for name, a in arrays.items() if a is not None}))


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


# What lies there, and what comes back.


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
    np.testing.assert_array_equal(back.embedding, reference.embedding)
    assert isinstance(back.embedding, np.memmap)
    assert not back.embedding.flags.writeable
    pd.testing.assert_frame_equal(back.obs, reference.obs)
    np.testing.assert_array_equal(back.label_codes, reference.label_codes)
    np.testing.assert_array_equal(back.predictors.centroids, reference.predictors.centroids)
    assert back.label_key == reference.label_key
    assert back.depth == reference.depth
    assert back.provenance == reference.provenance
    assert back.types == reference.types
    np.testing.assert_array_equal(back.cells.projected, reference.cells.projected)
    assert isinstance(back.cells.projected, np.memmap)
    np.testing.assert_array_equal(back.cells.decision, reference.cells.decision)
    assert isinstance(back.cells.decision, np.memmap)
    assert not back.cells.decision.flags.writeable
    np.testing.assert_array_equal(back.classifier_columns, reference.classifier_columns)
    np.testing.assert_array_equal(back.cells.held_out, reference.cells.held_out)
    assert back.cells.held_out.dtype == bool
    np.testing.assert_array_equal(back.encoder.components, reference.encoder.components)
    for space in ("embedding", "projected"):
        one, other = getattr(back.densities, space), getattr(reference.densities, space)
        np.testing.assert_array_equal(one.means, other.means)
        np.testing.assert_array_equal(one.whitening, other.whitening)
    np.testing.assert_array_equal(back.simulation_cells.names, reference.simulation_cells.names)
    assert len(back.simulation_cells.names) > 0
    np.testing.assert_array_equal(back.simulation_cells.counts.toarray(), reference.simulation_cells.counts.toarray())
    assert back.index_kind == reference.index_kind
    assert back.calibration.method == reference.calibration.method == "held_out"
    for one, other in zip(back.calibration.scales, reference.calibration.scales, strict=True):
        np.testing.assert_array_equal(one.location, other.location)
        np.testing.assert_array_equal(one.spread, other.spread)
    for name in ("scores", "groups", "true_probabilities"):
        np.testing.assert_array_equal(getattr(back.calibration, name), getattr(reference.calibration, name))
    assert back.calibration.combination == reference.calibration.combination
    ours, theirs = back.encoder, reference.encoder
    assert list(ours.genes) == list(theirs.genes)
    assert ours.transform.target_sum == theirs.transform.target_sum
    np.testing.assert_array_equal(ours.transform.mean, theirs.transform.mean)
    np.testing.assert_array_equal(ours.transform.fraction, theirs.transform.fraction)
    for one, other in zip(ours.layers, theirs.layers, strict=True):
        np.testing.assert_array_equal(one.kernel, other.kernel)
        np.testing.assert_array_equal(one.bias, other.bias)
        assert one.activation == other.activation
    np.testing.assert_array_equal(ours.classifier.kernel, theirs.classifier.kernel)
    for name, array in vars(theirs.discriminant).items():
        received = getattr(ours.discriminant, name)
        np.testing.assert_array_equal(received, array, err_msg=name)
        assert type(received) is type(array)
        assert name == "temperature" or received.dtype == array.dtype
    assert ours.discriminant.temperature > 1
    assert ours.history == theirs.history
    assert ours.parameters == json.loads(json.dumps(theirs.parameters))
    assert repr(back) == repr(reference)


def test_a_round_trip_gives_identical_answers(query_adata, reference, saved_reference):
    one, other = answers(query_adata, reference), answers(query_adata, scq.Reference.load(saved_reference))
    pd.testing.assert_frame_equal(one.obs, other.obs)
    for name in one.obsm:
        np.testing.assert_array_equal(one.obsm[name], other.obsm[name])


def test_the_same_reference_saved_twice_is_the_same_bundle(reference, saved_reference, tmp_path):
    reference.save(tmp_path / "again.scq")
    assert digest(tmp_path / "again.scq") == digest(saved_reference)
    # And saved from what was loaded, too.
    scq.Reference.load(saved_reference).save(tmp_path / "third.scq")
    assert digest(tmp_path / "third.scq") == digest(saved_reference)


def test_reading_and_querying_write_nothing(query_adata, saved):
    before = {file.name: (file.stat().st_mtime_ns, file.stat().st_size) for file in saved.parent.rglob("*")}
    answers(query_adata, saved)
    assert {file.name: (file.stat().st_mtime_ns, file.stat().st_size) for file in saved.parent.rglob("*")} == before


def test_nothing_is_pickled(saved_reference, query_adata, monkeypatch):
    import pyarrow.parquet as pq

    def refuse(*args, **kwargs):
        msg = "something was unpickled"
        raise AssertionError(msg)

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
    for part in ("embedding", "projected", "decision"):
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


def test_all_kinds_of_annotation_come_back(small, tmp_path):
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


def test_the_order_of_categories_comes_back(small, tmp_path):
    adata, make = small
    adata.obs["stage"] = pd.Categorical(["early", "late"] * 30, categories=["late", "early", "never"], ordered=True)
    make().save(tmp_path / "a.scq")
    pd.testing.assert_series_equal(scq.Reference.load(tmp_path / "a.scq").obs["stage"], adata.obs["stage"])


@pytest.mark.parametrize("kind", ["int category", "float", "Int64", "bool", "object"])
def test_labels_that_are_not_text_come_back_and_missing_ones_with_them(small, tmp_path, kind):
    adata, make = small
    latent = adata.obs["cell_type"].cat.codes.to_numpy().astype(int) % (2 if kind == "bool" else 3)
    labels = {
        "int category": lambda: pd.Categorical(latent),
        "float": lambda: latent.astype(float),
        "Int64": lambda: pd.array(latent, dtype="Int64"),
        "bool": lambda: pd.Categorical(latent.astype(bool)),
        "object": lambda: latent.astype(object),
    }[kind]()
    adata.obs["cluster"] = pd.Series(labels, adata.obs_names)
    adata.obs.loc[adata.obs_names[5:9], "cluster"] = None
    from scquery_ae.labels import label_types

    types = label_types(adata.obs["cluster"])
    reference = make("cluster", types + ("other",) * (3 - len(types)))
    expected = latent.copy()
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
def test_a_flipped_bit_is_noticed(saved, part, where):
    file = file_of(saved, part)
    content = bytearray(file.read_bytes())
    content[{"first": 0, "middle": len(content) // 2, "last": -1}[where]] ^= 1
    file.write_bytes(content)
    refused(saved, rf"is damaged: {part}\.[0-9a-f]+\.\w+ is not what its manifest says.*Copy it again from its source")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("size", ["nothing", "all but one byte", "a byte more"])
def test_another_length_is_noticed(saved, part, size):
    file = file_of(saved, part)
    content = file.read_bytes()
    file.write_bytes({"nothing": b"", "all but one byte": content[:-1], "a byte more": content + b"\0"}[size])
    refused(saved, rf"is damaged: {part}\..* is not what its manifest says \(expected {len(content)} bytes")


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_file_is_noticed(saved, part):
    file_of(saved, part).unlink()
    refused(saved, rf"is incomplete: {part}\.[0-9a-f]+\.\w+ is missing\. Copy it again from its source")


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_the_manifest_lacks_is_noticed(saved, part):
    manifest = manifest_of(saved)
    del manifest["parts"][part]
    write_manifest(saved, manifest)
    # Those without a discriminant have no decision.
    refused(
        saved,
        r"is damaged: its parts do not fit together .*decision must have shape \(240, 3\)\. Received \(240, 0\)"
        if part == "decision"
        else f"is damaged: its manifest has no part '{part}'",
    )


@pytest.mark.parametrize("part", PARTS)
def test_a_link_is_not_followed(saved, part, tmp_path):
    file = file_of(saved, part)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    refused(saved, rf"is incomplete: {part}\..* is missing")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    "name", ["../{}", "/etc/passwd", "{}/../{}", "sub/{}", "..\\{}", "", ".", "manifest.json", "{}\n", 7, None, ["{}"]]
)
def test_names_that_lead_elsewhere_are_refused(saved, part, name):
    manifest = manifest_of(saved)
    entry = manifest["parts"][part]
    # A file of the right content lies where the name points: only the name is wrong.
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
def test_entries_that_say_nothing_are_refused(saved, entry):
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
def test_a_manifest_that_is_none_is_refused(saved, content):
    (saved / "manifest.json").write_bytes(content)
    refused(saved, r"manifest\.json cannot be read as the manifest of a reference \(.*\)\. Copy the reference again")


@pytest.mark.parametrize("version", [0, -1, True])
def test_versions_that_never_were_are_refused(saved, version):
    write_manifest(saved, manifest_of(saved) | {"format_version": version})
    refused(saved, "format version|cannot be read as the manifest")


@pytest.mark.parametrize("version", [2, 99])
def test_a_newer_format_asks_for_an_upgrade(saved, version):
    write_manifest(saved, manifest_of(saved) | {"format_version": version})
    refused(
        saved,
        rf"has format version {version}; this scquery_ae reads up to 1\. Upgrade with `pip install --upgrade scquery",
    )


def test_a_manifest_that_says_more_is_read(saved, reference):
    # A later release of the same format may add what this one need not know.
    write_manifest(saved, manifest_of(saved) | {"comment": "made on a Tuesday"})
    assert_readable(saved, reference)


def test_what_is_no_bundle_is_refused(tmp_path):
    refused(
        tmp_path / "none.scq",
        r"There is no reference at .*none\.scq\. Expected a `\.scq` directory that `Reference\.save`",
    )
    refused(tmp_path, r"is not a reference: it has no manifest\.json\. Expected a `\.scq` directory")
    (tmp_path / "file.scq").write_text("hello")
    refused(tmp_path / "file.scq", r"file\.scq is not a reference: it has no manifest\.json")


# Parts that agree with the manifest and not with each other.


class Trap:
    def __reduce__(self):
        return os.mkdir, ("the-pickle-was-run",)


def test_a_pickled_embedding_is_refused_and_not_run(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    replace_part(saved, "embedding", npy(np.array([Trap()], dtype=object)))
    refused(saved, "is damaged: its parts do not fit together")
    assert not (tmp_path / "the-pickle-was-run").exists()


@pytest.mark.parametrize("part", PARTS)
def test_parts_of_another_kind_are_refused(saved, part):
    replace_part(saved, part, b"no such thing" * 20)
    refused(saved, "is damaged: its parts do not fit together")


@pytest.mark.parametrize("part", PARTS)
def test_empty_parts_are_refused(saved, part):
    replace_part(saved, part, b"")
    refused(saved, "is damaged: its parts do not fit together")


@pytest.mark.parametrize("shape", [(239, 8), (240, 7), (240,)])
def test_an_embedding_of_another_shape_is_refused(saved, shape):
    replace_part(saved, "embedding", npy(np.zeros(shape, np.float32)))
    refused(saved, "is damaged: its parts do not fit together")


@pytest.mark.parametrize("shape", [(239, 3), (240, 2), (240, 0), (240,)])
def test_evidence_of_another_shape_is_refused(saved, shape):
    replace_part(saved, "decision", npy(np.zeros(shape, np.float32)))
    refused(saved, "is damaged: its parts do not fit together")


def test_an_embedding_that_looks_like_a_zip_is_refused_and_closed(saved):
    # NumPy would take it for an archive, fail, and leave it open: a warning, which is an error here.
    replace_part(saved, "embedding", b"PK\x03\x04" + bytes(300))
    refused(saved, "is damaged: its parts do not fit together")


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
    ],
    ids=str,
)
def test_a_model_that_does_not_fit_is_refused(saved, changes):
    changed_json(saved, **changes)
    refused(saved, "is damaged: its parts do not fit together")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("components", None),
        ("components", np.zeros((99, 50), np.float32)),
        ("components", np.zeros((100, 49), np.float32)),
        ("components", np.zeros(100, np.float32)),
        ("novelty.latent.means", None),
        ("novelty.latent.means", np.zeros((2, 8), np.float32)),
        ("novelty.latent.whitening", np.zeros((8, 7), np.float32)),
        ("novelty.components.means", np.zeros((2, 50), np.float32)),
        ("novelty.components.whitening", np.zeros((50, 49), np.float32)),
        ("held_out", np.zeros(239, np.uint8)),
        ("classifier.columns", np.array([0, 1])),
        ("classifier.columns", np.array([0, 1, 3])),
        ("classifier.columns", np.array([0, 1, -2])),
        ("simulation.indptr", np.array([0, 1])),
        ("simulation.indices", None),
        ("classifier.kernel", np.zeros((8, 4), np.float32)),
        ("classifier.bias", np.zeros(2, np.float32)),
        ("layers.0.kernel", np.zeros((99, 16), np.float32)),
        ("layers.1.kernel", np.zeros((15, 8), np.float32)),
        ("layers.1.bias", None),
        ("transform.mean", np.zeros(3, np.float32)),
        ("discriminant.means", np.zeros((2, 100), np.float32)),
        ("discriminant.means", np.zeros((3, 99), np.float32)),
        ("discriminant.noise", None),
        ("discriminant.seen", None),
        ("discriminant.center", np.full(100, np.nan, np.float32)),
        ("classifier.bias", np.full(3, np.nan, np.float32)),
        ("novelty.latent.whitening", np.full((8, 8), np.inf, np.float32)),
    ],
)
def test_weights_that_do_not_fit_are_refused(saved, name, value):
    changed_weights(saved, **{name: value})
    refused(saved, "is damaged: its parts do not fit together")


def test_negative_or_repeated_columns_of_replay_cells_are_refused(saved):
    from safetensors.numpy import load_file

    indices = load_file(file_of(saved, "weights"))["simulation.indices"].copy()
    indices[0] = -1
    changed_weights(saved, **{"simulation.indices": indices})
    refused(saved, "is damaged: its parts do not fit together")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("locations", np.zeros((2, 2))),
        ("spreads", np.ones((2, 4))),
        ("spreads", np.ones((1, 3))),
        ("scores", None),
        ("strangers", np.zeros(1)),
    ],
)
def test_a_calibration_that_does_not_fit_is_refused(saved, name, value):
    from safetensors.numpy import load_file, save

    arrays = load_file(file_of(saved, "calibration")) | {name: value}
    replace_part(saved, "calibration", save({key: array for key, array in arrays.items() if array is not None}))
    refused(saved, "is damaged: its parts do not fit together")


def test_a_calibration_of_before_ranks_by_the_type_s_own_unit(saved, reference, query_adata):
    from safetensors.numpy import load_file, save

    arrays = load_file(file_of(saved, "calibration"))
    arrays |= {name: np.ascontiguousarray(arrays[name][:3]) for name in ("locations", "spreads")}
    replace_part(saved, "calibration", save(arrays))
    old = scq.Reference.load(saved)
    assert old.calibration.scales[3] is old.calibration.scales[2]
    before, after = query_adata.copy(), query_adata.copy()
    scq.tl.query(before, reference)
    scq.tl.query(after, old)
    np.testing.assert_array_equal(after.obs["scquery_pvalue"], before.obs["scquery_pvalue"])
    assert (after.obs["scquery_novelty"] != before.obs["scquery_novelty"]).any()


# An index beside the embedding.


@pytest.fixture(params=["hnsw", "int8"])
def indexed(request, reference, tmp_path):
    """A reference with an approximate index, and where it was saved."""
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
    # Near enough to a search through all of them, by NumPy.
    exact = np.argsort(-(one.obsm["X_scquery"] @ made.embedding.T), axis=1)[:, :15]
    shared = [len(set(a) & set(b)) for a, b in zip(exact, one.obsm["scquery_neighbors"], strict=True)]
    assert np.mean(shared) > 0.8 * 15


def test_an_index_that_is_missing_from_the_manifest_is_built_again(indexed, query_adata):
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
def test_an_index_that_is_none_is_refused(indexed, content):
    _, path = indexed
    replace_part(path, "index", content)
    refused(path, "is damaged: its parts do not fit together")


def test_an_index_of_other_cells_is_refused(indexed, tmp_path):
    from scquery_ae.index import ApproximateIndex

    made, path = indexed
    ApproximateIndex.build(made.embedding[:200], made.index_kind).write(tmp_path / "other")
    replace_part(path, "index", (tmp_path / "other").read_bytes())
    refused(path, r"is damaged: its parts do not fit together .*vectors of shape \(200, 8\) where \(240, 8\)")


def test_overwriting_an_indexed_reference_drops_its_index(indexed, reference):
    _, path = indexed
    reference.save(path, overwrite=True)
    assert not list(path.glob("index.*"))
    assert_readable(path, reference)


# Writing.


def siblings(path):
    return sorted(file.name for file in path.parent.iterdir())


def other_reference(reference):
    """A reference that differs in every part."""
    encoder = dataclasses.replace(
        reference.encoder,
        layers=tuple(
            DenseWeights(layer.kernel * 2, layer.bias, layer.activation) for layer in reference.encoder.layers
        ),
        history={"note": "other"},
    )
    calibration = dataclasses.replace(reference.calibration, scores=reference.calibration.scores / 2)
    return dataclasses.replace(
        reference,
        encoder=encoder,
        embedding=np.ascontiguousarray(reference.embedding[::-1]),
        projected=np.ascontiguousarray(reference.cells.projected[::-1]),
        decision=np.ascontiguousarray(reference.cells.decision[::-1]),
        obs=reference.obs.assign(extra=1),
        calibration=calibration,
    )


def test_folders_above_are_made(reference, tmp_path):
    reference.save(str(tmp_path / "a" / "b" / "c.scq"))
    assert_readable(tmp_path / "a" / "b" / "c.scq", reference)
    assert siblings(tmp_path / "a" / "b" / "c.scq") == ["c.scq"]


def test_a_relative_path(reference, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reference.save("here.scq")
    assert_readable("here.scq", reference)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_it_is_as_readable_as_any_file(reference, tmp_path):
    old = os.umask(0o022)
    try:
        reference.save(tmp_path / "a.scq")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.scq").stat().st_mode) == 0o755
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "a.scq").iterdir()} == {0o644}


def test_a_reference_that_is_there_is_not_replaced_unasked(reference, saved):
    before = digest(saved)
    with pytest.raises(
        scq.BundleError, match=r"There is a reference at .* already\. Pass `overwrite=True` to replace it"
    ):
        other_reference(reference).save(saved)
    assert digest(saved) == before
    assert siblings(saved) == ["small.scq"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["folder", "empty folder", "file", "dangling link"])
def test_what_is_no_reference_is_never_replaced(reference, tmp_path, overwrite, kind):
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


def test_overwriting_leaves_no_stale_files_and_spares_others(reference, saved):
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


def test_whoever_has_the_old_one_open_keeps_it(query_adata, reference, saved):
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
def test_a_full_disk_while_writing_leaves_the_old_one_and_nothing_else(reference, saved, monkeypatch, part):
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


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), MemoryError()], ids=repr)
def test_a_failure_while_writing_a_new_one_leaves_nothing(reference, tmp_path, monkeypatch, part, error):
    failing_writers(monkeypatch, part, error)
    expected = (scq.BundleError, "Nothing was left behind") if isinstance(error, OSError) else (type(error), None)
    with pytest.raises(expected[0], match=expected[1]):
        reference.save(tmp_path / "new.scq")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moved", range(8))
def test_a_failure_while_putting_the_new_one_in_place(reference, saved, monkeypatch, moved):
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
    # What was left in the folder is cleared away by the next one.
    other.save(saved, overwrite=True)
    assert_readable(saved, other)
    assert len(list(saved.iterdir())) == 8


def test_a_place_that_cannot_be_written_to(reference, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(scq.BundleError, match=r"could not be written to .*a\.scq"):
        reference.save(tmp_path / "file" / "a.scq")


def test_the_format_is_the_one_tested_here():
    assert bundle.FORMAT_VERSION == 1
    assert tuple(part for part in PARTS if part != "decision") == serialize.REQUIRED
    assert set(serialize.SUFFIXES) == {*PARTS, "index"}
