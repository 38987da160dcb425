from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bench import apis
from bench.cases.scheduler import GRAIN, SCHEDULER_CASES
from bench.catalogue import CASES, EVERY, GRID, select
from bench.contenders import CONTENDERS, LIMIT
from bench.targets import TARGETS, UNWATCHED

pytestmark = pytest.mark.once


def names(*words: str) -> list[str]:
    return [case.name for case in select(words)]


def test_every_case_is_found_by_its_name() -> None:
    for name, case in CASES.items():
        assert case.name == name
        assert names(name) == [name]


def test_no_words_mean_every_case() -> None:
    assert names() == list(CASES)


def test_a_name_means_that_case_only_though_others_begin_alike() -> None:
    assert "call_soon_100" in CASES
    assert names("call_soon") == ["call_soon"]


def test_a_beginning_means_a_group() -> None:
    sizes = (1, 10, 100, 1000, 10_000)
    assert names("echo_1k") == [f"echo_1k_x{size}" for size in sizes]
    for group in ("memory", "tls", "protocol"):
        assert names(group) == [name for name in CASES if name.startswith(f"{group}_")]


def test_patterns_select_cases_in_the_order_of_the_catalogue() -> None:
    assert names("*_x4", "switch") == ["switch", "echo_1m_x4", "tls_1m_x4"]


def test_the_grid_has_every_kind_of_echo_that_the_catalogue_has_and_more() -> None:
    assert names("grid") == [name for name in EVERY if name in GRID]
    assert names("buffered_64k_x1000") == ["buffered_64k_x1000"]
    assert names("protocol_1m") == ["protocol_1m_x1", "protocol_1m_x10"]
    # A name in the catalogue has precedence over the grid, and both hold the same case.
    assert names("sock") == ["sock_1k_x10"]
    assert GRID["sock_1k_x10"] is CASES["sock_1k_x10"]
    kinds = {name.partition("_")[0] for name in GRID}
    assert kinds == {"echo", "readline", "protocol", "buffered", "sock"}
    for kind in kinds:
        assert {f"{kind}_1k_x{number}" for number in (1, 10, 100, 1000, 10_000)} <= GRID.keys()


@pytest.mark.parametrize("word", ["", "swich", "no_*", "echo_1"])
def test_a_word_that_means_nothing_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="no case"):
        names("switch", word)


def test_the_limit_takes_part_only_where_there_is_one() -> None:
    assert CASES["echo_1k_x10"].admits(LIMIT)
    assert CASES["datagram_1k_x10"].admits(LIMIT)
    assert not CASES["tls_1k_x10"].admits(LIMIT)
    assert not CASES["switch"].admits(LIMIT)
    assert CASES["switch"].admits(CONTENDERS["asyncio"])


def test_targets_name_cases_and_contenders_that_exist() -> None:
    for target in TARGETS:
        assert target.case in CASES
        assert {target.contender, target.peer} <= {*CONTENDERS, UNWATCHED}


def test_every_case_of_time_has_a_target_for_both_builds() -> None:
    judged = {(target.case, target.contender) for target in TARGETS}
    for name in CASES:
        assert {(name, "runtime-compiled"), (name, "runtime-pure")} <= judged


def test_every_case_of_1_mib_is_there_in_both_states_of_the_allocator() -> None:
    large = [name for name in CASES if "_1m_" in name]
    assert {name.removesuffix("_freed") for name in large} == {
        name for name in large if not name.endswith("_freed")
    }
    assert all(f"{name.removesuffix('_freed')}_freed" in CASES for name in large)
    assert all("4 MiB freed" in CASES[name].operation for name in large if "freed" in name)


class Counting:
    """asyncio's API, counting the calls that a case makes."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        original = getattr(asyncio, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] = self.calls.get(name, 0) + 1
            return original(*args, **kwargs)

        return counted


SMALL = [name for name, case in SCHEDULER_CASES.items() if case.grain <= GRAIN]


@pytest.mark.parametrize("name", SMALL)
def test_a_case_comes_to_an_end_and_leaves_nothing_to_do(name: str) -> None:
    async def main() -> set[asyncio.Task[Any]]:
        api, _ = apis.load("asyncio")
        await SCHEDULER_CASES[name].body(api, SCHEDULER_CASES[name].grain)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(main()) == set()


@pytest.mark.parametrize(
    ("name", "function", "calls"),
    [
        ("switch", "sleep", GRAIN),
        ("spawn", "create_task", GRAIN),
        ("gather_100", "gather", GRAIN // 100),
        ("lock", "sleep", GRAIN),
        ("call_soon_100", "sleep", GRAIN // 100),
        ("semaphore", "sleep", GRAIN),
        ("event", "Event", GRAIN + 2),
        ("timeout", "timeout", GRAIN),
        ("to_thread", "to_thread", GRAIN),
        ("task_group_100", "TaskGroup", GRAIN // 100),
    ],
)
def test_a_case_does_its_operation_as_often_as_it_is_told(
    name: str, function: str, calls: int
) -> None:
    api: Any = Counting()
    asyncio.run(SCHEDULER_CASES[name].body(api, GRAIN))
    assert api.calls[function] == calls
