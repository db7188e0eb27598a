"""The check of words: each entry of its list finds what it refuses and leaves alone what is innocent."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "lint" / "words.py"
VOCABULARY = ROOT.parent / "shared" / "vocabulary.md"

if not SCRIPT.is_file():  # the source distribution carries the tests without it
    pytest.skip("lint/words.py is not here", allow_module_level=True)

spec = importlib.util.spec_from_file_location("words", SCRIPT)
words = sys.modules["words"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(words)
LISTED, _ = words.read_list()


@pytest.mark.parametrize(
    ("word", "line"),
    [pytest.param(word, line, id=f"{word.row}-{line}") for word in LISTED for line in word.refused],
)
def test_a_refused_word_is_found_in_a_planted_file(word, line, tmp_path):
    (tmp_path / "page.md").write_text(f"innocent\n{line}\n")
    assert f"page.md:2: {word.find(line)!r}; use {word.use}: {line}" in list(words.check(["page.md"], tmp_path))


@pytest.mark.parametrize(
    ("word", "line"),
    [pytest.param(word, line, id=f"{word.row}-{line}") for word in LISTED for line in word.innocent],
)
def test_an_innocent_line_is_left_alone(word, line):
    assert word.find(line) is None


def test_notebooks_are_read_without_their_images(tmp_path):
    cells = [
        {"source": ["import scquery_ae as scq\n", "rehearsal"], "outputs": []},
        {
            "source": ["1 + 1"],
            "outputs": [
                {"output_type": "stream", "text": ["preflight\n"]},
                {"data": {"text/html": ["<b>opinions</b>"], "image/png": "replay"}},
            ],
        },
    ]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}))
    found = [message.split(";")[0] for message in words.check(["a.ipynb"], tmp_path)]
    assert found == ["a.ipynb:cell 1: 'rehears'", "a.ipynb:cell 2: 'preflight'", "a.ipynb:cell 2: 'opinion'"]


def test_a_file_may_not_be_named_by_a_refused_word(tmp_path):
    (tmp_path / "replay.py").write_text("")
    (message,) = words.check(["replay.py"], tmp_path)
    assert message.startswith("replay.py:its name: 'replay'; use expected accuracy")


def test_a_word_may_stand_where_the_list_allows_it(tmp_path, monkeypatch):
    (tmp_path / "allowed.py").write_text("replay")
    (tmp_path / "ignored.py").write_text("replay")
    (tmp_path / "other.py").write_text("replay")
    word = words.Word("row", "simulate", "replay", ("replay",), allow=("allow*",))
    monkeypatch.setattr(words, "read_list", lambda: ([word], ["ignored.py"]))
    (message,) = words.check(["allowed.py", "ignored.py", "other.py"], tmp_path)
    assert message == "other.py:1: 'replay'; use simulate: replay"


def test_the_list_has_every_row_of_the_vocabulary():
    if not VOCABULARY.is_file():
        pytest.skip("the vocabulary is not beside this repository")
    table = VOCABULARY.read_text(encoding="utf-8").partition("| now | use |")[2]
    rows = re.findall(r"^\| ([^|]+?) \|", table, re.MULTILINE)
    assert len(rows) > 20
    assert set(rows) - {word.row for word in LISTED} == set()
