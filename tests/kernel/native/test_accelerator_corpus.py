"""Programs that the fuzzer of the accelerator has found, each run once: see ``tests.fuzz``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz import programs, run

try:
    built: Any = importlib.import_module("runtime.kernel.native._accelerator")
except ImportError:
    built = None

pytestmark = [
    pytest.mark.skipif(built is None, reason="the accelerator was not built"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the programs need Linux"),
    # A program need not close the objects that it drops.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "FOLDER", tmp_path)


def corpus() -> list[bytes]:
    return [path.read_bytes() for path in sorted(run.CORPUS.iterdir())]


def test_every_program_of_the_corpus() -> None:
    found = corpus()
    assert found
    for data in found:
        programs.run(built, data)
