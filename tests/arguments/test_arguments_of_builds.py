"""Odd arguments in both builds: the compiled build accepts and answers as the interpreted one.

Compiled functions check their arguments against the annotations, so that a float with a whole value
would not be accepted as an ``int``. Therefore everything public is called with odd but lawful
arguments in both builds.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

import runtime
from tests.arguments import calls
from tests.support import build
from tests.support.programs import ROOT, run_program

CODE = """
import json, sys
from tests.arguments import calls
found = calls.all_outcomes()
open(sys.argv[1], "w").write(json.dumps(found))
"""


def outcomes(environment: dict[str, str], path: Path) -> dict[str, str]:
    """Return the outcomes of all calls in a process with the given environment."""
    result = run_program("-c", CODE, path, environment={**os.environ, **environment})
    assert result.returncode == 0, result.stderr
    found: dict[str, str] = json.loads(path.read_text())
    return found


@pytest.mark.skipif(not build.is_compiled(), reason="needs the compiled build")
def test_the_builds_answer_the_same(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    pure = {"PYTHONPATH": path, "RUNTIME_NO_ACCELERATOR": "1"}
    interpreted = outcomes(pure, tmp_path / "interpreted")
    compiled = outcomes({"PYTHONPATH": str(ROOT)}, tmp_path / "compiled")
    assert compiled.keys() == interpreted.keys()
    differing = {
        name: (outcome, interpreted[name])
        for name, outcome in compiled.items()
        if outcome != interpreted[name]
    }
    assert differing == {}


def test_every_parameter_has_a_plain_argument() -> None:
    """This ensures that new public functions are called too."""
    names = {name for name, _, _, _ in calls.cases()}
    assert names >= {"open_connection", "Loop.call_later", "StreamReader.read", "Transport.write"}
    assert calls.without_plain_argument() == []
    unknown = {name.partition(".")[0] for name in calls.NOT_CALLED} - {*runtime.__all__}
    assert unknown == set()


@pytest.mark.parametrize(
    ("limit", "bytes_of_line"), [(4.0, 4), (4.5, 4), (1e6, 100), (float("inf"), 100)]
)
def test_a_limit_may_be_any_number(limit: float, bytes_of_line: int) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            theirs.sendall(b"x" * bytes_of_line + b"\n")
            reader, writer = await runtime.open_connection(sock=ours, limit=limit)
            assert await reader.readline() == b"x" * bytes_of_line + b"\n"
        writer.close()

    runtime.run(main())
