"""Examples in the docstrings of the package, run by doctest."""

from __future__ import annotations

import doctest
import importlib

import pytest

from tests.test_architecture import FILES

# In a compiled module, doctest finds no source and no functions: the examples run interpreted.
WITH_EXAMPLES = sorted(name for name, path in FILES.items() if ">>> " in path.read_text())


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_print_the_documented_output(name: str) -> None:
    failures, attempts = doctest.testmod(
        importlib.import_module(name),
        optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL,
    )
    assert failures == 0
    assert attempts > 0
