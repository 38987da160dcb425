"""Cases that are written for runtimes without an asyncio loop."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import pytest

from bench import apis
from bench.cases.foreign import FOREIGN, body_of, weighing_of
from bench.cases.memory import MEMORY_CASES
from bench.cases.scheduler import SCHEDULER_CASES
from bench.cases.servers import SERVERS

pytestmark = pytest.mark.once

SMALL = [(name, case) for name in FOREIGN for case in FOREIGN[name].bodies]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_case_written_for_another_runtime_exists_in_the_catalogue(name: str) -> None:
    foreign = FOREIGN[name]
    assert foreign.bodies.keys() <= SCHEDULER_CASES.keys()
    assert foreign.servers.keys() <= SERVERS.keys()
    assert foreign.weighings.keys() <= MEMORY_CASES.keys()


@pytest.mark.parametrize("name", FOREIGN)
def test_an_unwritten_case_is_reported_as_lacking(name: str) -> None:
    with pytest.raises(NotImplementedError, match="no case is written"):
        body_of(name, "call_soon")
    with pytest.raises(NotImplementedError, match="no case is written"):
        weighing_of(name, "memory_timer")


def test_every_other_contender_has_every_case() -> None:
    assert body_of("uvloop", "switch") is SCHEDULER_CASES["switch"].body
    assert weighing_of("runtime", "memory_timer") is MEMORY_CASES["memory_timer"].body


@pytest.mark.parametrize(("name", "case"), SMALL)
def test_a_case_comes_to_an_end(name: str, case: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    if case == "switch_100k":
        pytest.skip("the test would take seconds")
    if name == "trio" and case in {"to_thread", "subprocess_spawn"}:
        pytest.skip("trio keeps its threads for a while after its end")
    api, run = apis.load(name)
    module: Any = api
    assert importlib.import_module(name) is module
    count = min(SCHEDULER_CASES[case].grain, 1000)
    run(body_of(name, case)(api, count))
