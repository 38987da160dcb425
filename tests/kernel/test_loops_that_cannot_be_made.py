"""Loops whose creation fails, for lack of descriptors or in the selector: nothing is left open."""

from __future__ import annotations

import os

import pytest

from tests.support.programs import run_code

CODE = """
import os, resource, sys, runtime
warm = runtime.new_event_loop()
warm.close()
lowest = os.dup(0)
os.close(lowest)
made = 0
for left in range(12):
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + left, 4096))
    try:
        runtime.new_event_loop().close()
        made += 1
    except OSError as error:
        assert error.errno == 24, error
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    number = os.dup(0)
    os.close(number)
    assert number == lowest, f"{number - lowest} descriptors were left open"
print("some" if 0 < made < 12 else made)
"""


@pytest.mark.skipif(os.name != "posix", reason="resource limits need POSIX")
def test_no_descriptors_left() -> None:
    ended = run_code(CODE)
    assert (ended.stdout, ended.stderr) == ("some\n", "")


def test_a_selector_that_refuses() -> None:
    """The selector belongs to the caller, and stays open."""
    code = """
import selectors, runtime

class Refuses(selectors.SelectSelector):
    def register(self, *args):
        raise PermissionError("refused")

    def close(self):
        print("closed")

selector = Refuses()
try:
    runtime.Loop(selector)
except PermissionError as error:
    print(error)
"""
    ended = run_code(code)
    assert (ended.stdout, ended.stderr) == ("refused\n", "")
