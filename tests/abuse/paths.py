"""Bad paths and text files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from abuse.world import Draft


def mutate_path(draft: Draft) -> str:
    """Move or replace a file or directory among the arguments."""
    name = draft.pick(draft.named(Path))
    path = draft.arguments[name]
    kind = draft.pick(["as text", "long name", "NUL", "below a file", "below itself", "a link", "a loop", "nothing"])
    if kind == "as text":
        draft.arguments[name] = str(path)
    elif kind == "long name":
        draft.arguments[name] = path.with_name("x" * 300 + path.suffix)
    elif kind == "NUL":
        draft.arguments[name] = Path(f"{path}\0{path.suffix}")
    elif kind == "below a file":
        blocker = draft.folder / "blocker"
        blocker.write_text("a file")
        draft.arguments[name] = blocker / path.name
    elif kind == "below itself":
        draft.arguments[name] = path / path.name
    elif kind == "nothing":
        draft.arguments[name] = draft.folder / f"nothing{path.suffix}"
    else:
        link = draft.folder / f"link{path.suffix}"
        link.symlink_to(link if kind == "a loop" else path)
        draft.arguments[name] = link
    return f"{name}: {kind}"


def mutate_file(draft: Draft) -> str:
    """Damage a text file among the arguments."""
    path = draft.arguments[draft.pick(text_file_names(draft))]
    text = path.read_bytes()
    kinds: dict[str, Callable[[], bytes]] = {
        "empty": lambda: b"",
        "NUL": lambda: b"\0" * 100,
        "no UTF-8": lambda: text + b"\xff\xfe\xfa",
        "UTF-16": lambda: text.decode().encode("utf-16"),
        "cut": lambda: text[: int(draft.rng.integers(len(text)))],
        "a byte flipped": lambda: flipped(text, draft.rng),
        "junk": lambda: draft.rng.bytes(300),
        "JSON": lambda: b'{"a": [1, 2]}',
        "twice": lambda: text + text,
        "long line": lambda: text + b"x" * 100_000,
        "spaces": lambda: b"   \n\t\n",
        "CRLF": lambda: text.replace(b"\n", b"\r\n"),
        "no tabs": lambda: text.replace(b"\t", b" ").replace(b":", b""),
        "empty names": lambda: b"\t\t\n" + text,
        "a cycle": lambda: text + b"\n[Term]\nid: CL:0000000\nis_a: CL:0000003\n",
        "an unknown parent": lambda: text + b"\n[Term]\nid: CL:7\nname: seven\nis_a: CL:99\n",
        "a term without id": lambda: text + b"\n[Term]\nname: nothing\n",
        "open brackets": lambda: text + b"\n[Term\nid: {[(\n",
    }
    kind = draft.pick(kinds)
    if draft.rng.random() < 0.1:
        path.unlink()
        path.mkdir()
        return f"{path.name}: a directory"
    path.write_bytes(kinds[kind]())
    return f"{path.name}: {kind}"


def text_file_names(draft: Draft) -> list[str]:
    return [name for name in draft.named(Path) if draft.arguments[name].suffix in (".obo", ".gmt")]


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data or b"x")
    changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)
