"""Bad saved references: their directory and manifest."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from abuse.archives import mutate_archive
from abuse.bundle_parts import reseal
from abuse.paths import flipped
from abuse.world import Draft


def bundle_names(draft: Draft) -> list[str]:
    known = (draft.folder / "small.scq", draft.folder / "small.zip")
    return [name for name in draft.named(Path) if draft.arguments[name] in known]


def mutate_bundle(draft: Draft) -> str:
    """Damage a saved reference."""
    path = draft.arguments[draft.pick(bundle_names(draft))]
    if path.suffix == ".zip" and path.is_file() and draft.rng.random() < 0.6:
        return mutate_archive(draft, path)
    if path.suffix == ".zip" and path.is_file():
        inside = draft.folder / "unpacked"
        with zipfile.ZipFile(path) as archive:
            archive.extractall(inside)
        done = _mutate_directory(draft, inside)
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(inside.rglob("*")):
                archive.write(file, str(file.relative_to(inside)))
        shutil.rmtree(inside)
        return f"zipped: {done}"
    return _mutate_directory(draft, path)


def _mutate_directory(draft: Draft, root: Path) -> str:
    rng = draft.rng
    manifest = json.loads((root / "manifest.json").read_text())
    part = draft.pick(manifest["parts"])
    entry = manifest["parts"][part]
    file = root / entry["file"]
    draw = rng.random()
    if draw < 0.3:
        return reseal(draft, root, manifest, part)
    if draw < 0.65:
        return _mutate_manifest(draft, root, manifest, part)

    def replaced(make: Callable[[], object]) -> Callable[[], object]:
        def act() -> object:
            file.unlink()
            return make()

        return act

    kinds: dict[str, Callable[[], object]] = {
        "cut": lambda: file.write_bytes(file.read_bytes()[: int(rng.integers(entry["bytes"]))]),
        "a byte flipped": lambda: file.write_bytes(flipped(file.read_bytes(), rng)),
        "longer": lambda: file.write_bytes(file.read_bytes() + b"\0"),
        "emptied": lambda: file.write_bytes(b""),
        "missing": file.unlink,
        "a directory": replaced(file.mkdir),
        "a link to nothing": replaced(lambda: file.symlink_to("nowhere")),
        "a link to itself": replaced(lambda: file.symlink_to(file.name)),
        "a link to a copy": replaced(lambda: _linked(draft, file, part)),
        "and another file": lambda: (root / "other.txt").write_text("hello"),
        "and another part": lambda: (root / "obs.0123456789abcdef.parquet").write_text("hello"),
        "and no other": lambda: [other.unlink() for other in root.iterdir() if other != file],
    }
    kind = draft.pick(kinds)
    kinds[kind]()
    return f"{part} {kind}"


def _linked(draft: Draft, file: Path, part: str) -> None:
    outside = draft.folder / "outside"
    outside.write_bytes(b"secret")
    file.symlink_to(outside)


def _mutate_manifest(draft: Draft, root: Path, manifest: dict[str, Any], part: str) -> str:
    rng = draft.rng
    file = root / "manifest.json"
    entry = manifest["parts"][part]

    def with_entry(**changes: Any) -> str:
        return json.dumps({**manifest, "parts": {**manifest["parts"], part: {**entry, **changes}}})

    def without(name: str) -> str:
        return json.dumps({key: value for key, value in manifest.items() if key != name})

    junk = draft.pick([None, True, 1.5, -1, "1", [], {}, 10**30, [[]], "x" * 1000])
    texts: dict[str, Callable[[], str | bytes]] = {
        "empty": lambda: "",
        "junk": lambda: rng.bytes(200),
        "a byte flipped": lambda: flipped(file.read_bytes(), rng),
        "cut": lambda: file.read_bytes()[: int(rng.integers(200))],
        "deep lists": lambda: "[" * 100_000,
        "deep objects": lambda: '{"a":' * 50_000 + "1" + "}" * 50_000,
        "a long number": lambda: (
            '{"format": "scquery_ae reference", "format_version": ' + "9" * 10_000 + ', "parts": {}}'
        ),
        "infinite version": lambda: json.dumps({**manifest, "format_version": float("inf")}),
        "version 1e999": lambda: json.dumps(manifest).replace('"format_version": 1', '"format_version": 1e999'),
        "newer version": lambda: json.dumps({**manifest, "format_version": 99}),
        f"version {junk!r:.20}": lambda: json.dumps({**manifest, "format_version": junk}),
        f"format {junk!r:.20}": lambda: json.dumps({**manifest, "format": junk}),
        f"parts {junk!r:.20}": lambda: json.dumps({**manifest, "parts": junk}),
        f"{part} {junk!r:.20}": lambda: json.dumps({**manifest, "parts": {**manifest["parts"], part: junk}}),
        f"file {junk!r:.20}": lambda: with_entry(file=junk),
        f"bytes {junk!r:.20}": lambda: with_entry(bytes=junk),
        f"sha256 {junk!r:.20}": lambda: with_entry(sha256=junk),
        "file upwards": lambda: with_entry(file=f"../{entry['file']}"),
        "absolute file": lambda: with_entry(file="/etc/passwd"),
        "file with NUL": lambda: with_entry(file=f"{entry['file']}\0"),
        "file with newline": lambda: with_entry(file=f"{entry['file']}\n"),
        "file of another part": lambda: with_entry(**manifest["parts"]["obs"]),
        "no format": lambda: without("format"),
        "no version": lambda: without("format_version"),
        "no parts": lambda: without("parts"),
        "a list": lambda: json.dumps([manifest]),
        "a number": lambda: "3",
        "NaN": lambda: "NaN",
        "long": lambda: json.dumps({**manifest, "more": "x" * (1 << 20)}),
        "UTF-16": lambda: json.dumps(manifest).encode("utf-16"),
        "surrogates": lambda: json.dumps({**manifest, "format": "\ud800"}),
        "a key twice": lambda: json.dumps(manifest)[:-1] + ', "parts": {}}',
    }
    if rng.random() < 0.1:
        file.unlink()
        act: Callable[[], object] = draft.pick([lambda: None, file.mkdir, lambda: file.symlink_to("nowhere")])
        act()
        return "manifest not a file"
    kind = draft.pick(texts)
    text = texts[kind]()
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return f"manifest: {kind}"
