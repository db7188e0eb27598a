"""Exceptions are builtins too, and warnings point at the user's line."""

import pickle
import warnings
from pathlib import Path

import pytest

import scquery_ae as scq
from scquery_ae import _errors


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("ArgumentError", ValueError),
        ("InputStateError", ValueError),
        ("GeneOverlapError", ValueError),
        ("NotFittedError", ValueError),
        ("MissingKeyError", KeyError),
        ("BundleError", ValueError),
        ("ReadError", OSError),
        ("StorageError", OSError),
        ("DatasetError", OSError),
    ],
)
def test_each_exception_is_also_a_builtin(name, builtin):
    error = getattr(scq, name)
    assert issubclass(error, scq.ScqueryError)
    assert issubclass(error, builtin)
    assert error.__doc__
    # Exceptions cross process borders pickled; the sentence must arrive whole.
    assert str(pickle.loads(pickle.dumps(error("a 'sentence'")))) == "a 'sentence'"


def test_every_exception_is_public():
    ours = {
        name
        for name, value in vars(_errors).items()
        if isinstance(value, type) and issubclass(value, scq.ScqueryError | scq.ScqueryWarning)
    }
    assert ours <= set(scq.__all__)


def test_a_missing_key_reads_as_a_sentence():
    assert str(scq.MissingKeyError("`x` is not there.")) == "`x` is not there."
    assert str(scq.MissingKeyError()) == ""


def test_warnings_point_at_the_users_line(query_adata, reference):
    few = query_adata[:, reference.encoder.genes[:30]].copy()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scq.tl.embed(few, reference.encoder)  # THIS LINE
    (warning,) = caught
    assert warning.category is scq.ScqueryWarning
    assert Path(warning.filename) == Path(__file__)
    assert "THIS LINE" in Path(__file__).read_text(encoding="utf-8").splitlines()[warning.lineno - 1]


def test_a_folder_with_the_prefix_of_the_package_is_outside():
    # A user's code beside the package, as in a checkout: scquery_ae/ and scquery_ae_analysis.py.
    beside = str(Path(scq.__file__).parent) + "_analysis.py"
    space = {}
    exec(compile("def call(warn): warn('look here')", beside, "exec"), space)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        space["call"](_errors.warn)
    assert caught[0].filename == beside
