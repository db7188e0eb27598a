"""Bad zip archives of a saved reference."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from abuse.paths import flipped
from abuse.world import Draft


def mutate_archive(draft: Draft, path: Path) -> str:
    """Damage the archive of a saved reference."""
    rng = draft.rng
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}

    def written(extra: Mapping[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED) -> None:
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in {**members, **(extra or {})}.items():
                archive.writestr(name, content)

    def twice() -> None:
        with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, content in [*members.items(), *members.items()]:
                archive.writestr(name, content)

    def patched(signature: bytes, offset: int, value: bytes) -> None:
        changed = bytearray(data)
        at = changed.find(signature)
        changed[at + offset : at + offset + len(value)] = value
        path.write_bytes(bytes(changed))

    def linked() -> None:
        info = zipfile.ZipInfo("obs.0123456789abcdef.parquet")
        info.external_attr = 0o120777 << 16
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
            archive.writestr(info, "/etc/passwd")

    def directory() -> None:
        path.unlink()
        path.mkdir()

    local, central = b"PK\3\4", b"PK\1\2"
    kinds: dict[str, Callable[[], object]] = {
        "cut": lambda: path.write_bytes(data[: int(rng.integers(len(data)))]),
        "a byte flipped": lambda: path.write_bytes(flipped(data, rng)),
        "a byte flipped in the directory": lambda: path.write_bytes(data[:-600] + flipped(data[-600:], rng)),
        "empty": lambda: path.write_bytes(b""),
        "junk": lambda: path.write_bytes(rng.bytes(500)),
        "no members": lambda: path.write_bytes(b"PK\5\6" + b"\0" * 18),
        "a directory": directory,
        "a member upwards": lambda: written({"../evil.txt": b"evil"}),
        "an absolute member": lambda: written({"/tmp/evil.txt": b"evil"}),
        "a member of another system": lambda: written({"..\\evil.txt": b"evil"}),
        "a member with NUL": lambda: written({"obs.0123456789abcdef.parquet\0": b"evil"}),
        "a directory member": lambda: written({"sub/": b""}),
        "an empty name": lambda: written({"": b"evil"}),
        "another file": lambda: written({"readme.txt": b"hello"}),
        "another part": lambda: written({"obs.0123456789abcdef.parquet": b"hello"}),
        "a bomb": lambda: written({"obs.0123456789abcdef.parquet": b"\0" * 20_000_000}, zipfile.ZIP_DEFLATED),
        "compressed": lambda: written(compression=zipfile.ZIP_DEFLATED),
        "compressed by LZMA": lambda: written(compression=zipfile.ZIP_LZMA),
        "many members": lambda: written({f"obs.{i:016x}.parquet": b"" for i in range(2000)}),
        "members twice": twice,
        "a link": linked,
        "encrypted": lambda: patched(central, 8, b"\1\0"),
        "locally encrypted": lambda: patched(local, 6, b"\1\0"),
        "a lie about the size": lambda: patched(central, 24, b"\xff\xff\xff\x7f"),
        "a lie about both sizes": lambda: patched(central, 20, b"\xff\xff\xff\x7f" * 2),
        "a lie about the place": lambda: patched(central, 42, b"\xff\xff\xff\x7f"),
        "an unknown method": lambda: patched(central, 10, b"\x63\0"),
        "a wrong CRC": lambda: patched(central, 16, b"\0\0\0\0"),
        "a zip in a zip": lambda: path.write_bytes(_zip_of({"small.zip": data})),
        "something before it": lambda: path.write_bytes(b"MZ" * 500 + data),
        "something after it": lambda: path.write_bytes(data + b"\0" * 500),
    }
    kind = draft.pick(kinds)
    kinds[kind]()
    return f"archive: {kind}"


def _zip_of(members: Mapping[str, bytes]) -> bytes:
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()
