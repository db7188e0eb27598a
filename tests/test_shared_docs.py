import pytest

from scquery_ae._docs import PARAMETERS, shared_parameters


def test_a_placeholder_becomes_the_parameter_and_its_description():
    @shared_parameters
    def call(layer, examples):
        """Do it, for 50 % of {"cells": 1}.

        Parameters
        ----------
        %(layer)s
        examples
            Own text.
        """

    first, *rest = call.__doc__.splitlines()
    assert first == 'Do it, for 50 % of {"cells": 1}.'
    text = "\n".join(rest)
    assert f"        layer\n            {PARAMETERS['layer']}\n        examples" in text
    assert "%(" not in text


def test_an_unknown_name_and_no_docstring():
    def unknown():
        """Do it.

        %(nothing)s
        """

    with pytest.raises(KeyError, match="nothing"):
        shared_parameters(unknown)
    unknown.__doc__ = None
    assert shared_parameters(unknown).__doc__ is None
