"""Explorations: what they find, how they shrink it, and how they repeat it."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import socket
from pathlib import Path

import pytest

import runtime
from runtime import simulation
from runtime.simulation.choices import Strategy
from runtime.simulation.current import Settings
from runtime.simulation.executing import execute
from runtime.simulation.tokens import read_token


async def three_tasks() -> None:
    log: list[str] = []

    async def work(name: str, steps: int) -> None:
        for _ in range(steps):
            await runtime.sleep(0)
        log.append(name)

    async with runtime.TaskGroup() as group:
        group.create_task(work("a", 2))
        group.create_task(work("b", 3))
    assert log == ["a", "b"]


async def fine() -> str:
    await runtime.sleep(1)
    return "fine"


@pytest.mark.parametrize("strategy", ["random", "delays", "pct", "exhaustive", "portfolio"])
def test_each_strategy_finds_a_simple_fault(strategy: str) -> None:
    found = simulation.explore(three_tasks, order="tasks", runs=200, strategy=strategy, check=False)
    assert found.failure is not None
    assert found.failure.deviations == 1
    assert isinstance(found.failure.error, AssertionError)


def test_the_usual_strategy_makes_the_usual_run() -> None:
    assert simulation.explore(three_tasks, order="tasks", runs=20, strategy="usual").failure is None


def test_an_exhaustive_search_says_when_it_is_complete() -> None:
    async def main() -> None:
        await runtime.gather(runtime.sleep(0), runtime.sleep(0))

    found = simulation.explore(main, order="tasks", runs=10_000, strategy=simulation.exhaustive(1))
    assert found.complete
    assert "all within the limit" in str(found)
    found = simulation.explore(main, order="tasks", runs=3, strategy=simulation.exhaustive(1))
    assert not found.complete


def test_choices_after_the_end_of_the_program_are_not_explored() -> None:
    async def main() -> None:
        await runtime.gather(runtime.sleep(0), runtime.sleep(0))

    choices = execute(main, Settings(order="tasks"), Strategy(), 0).choices
    assert 0 < choices.relevant < len(choices.values)
    possible = sum(count - 1 for count in choices.counts[: choices.relevant])
    found = simulation.explore(main, order="tasks", runs=1000, strategy=simulation.exhaustive(1))
    assert found.runs == 1 + possible


def test_the_failure_is_raised_with_its_token_and_schedule() -> None:
    with pytest.raises(AssertionError) as caught:
        simulation.explore(three_tasks, order="tasks", runs=200)
    note = "\n".join(caught.value.__notes__)
    assert "token: sim1-" in note
    assert "asyncio promises no order" in note
    assert "test_exploring.py:" in note


def test_a_token_repeats_the_failure() -> None:
    found = simulation.explore(three_tasks, order="tasks", runs=200, check=False)
    assert found.failure is not None
    with pytest.raises(AssertionError) as caught:
        simulation.replay(three_tasks, found.failure.token)
    assert found.failure.token in "\n".join(caught.value.__notes__)


def test_a_run_without_a_failure_returns_the_value() -> None:
    assert simulation.run(fine) == "fine"
    assert simulation.run(fine, seed=3) == "fine"


def test_a_token_of_another_program_diverges() -> None:
    found = simulation.explore(three_tasks, order="tasks", runs=200, check=False)
    assert found.failure is not None
    with pytest.raises(simulation.DivergenceError, match="the run diverges from its token"):
        simulation.replay(fine, found.failure.token)


@pytest.mark.parametrize("token", ["", "sim1-", "sim1-!!!", "sim2-abc", "sim1-cAAB"])
def test_another_text_is_not_a_token(token: str) -> None:
    with pytest.raises(ValueError, match="not a token"):
        simulation.replay(fine, token)


def test_a_deadlock_is_a_failure() -> None:
    async def main() -> None:
        first, second = runtime.Lock(), runtime.Lock()

        async def forwards() -> None:
            async with first:
                await runtime.sleep(0)
                async with second:
                    pass

        async def backwards() -> None:
            for _ in range(4):
                await runtime.sleep(0)
            async with second, first:
                pass

        await runtime.gather(forwards(), backwards())

    with pytest.raises(runtime.DeadlockError, match=r"waits for <\S+Lock object"):
        simulation.explore(main, order="tasks")


def test_an_exception_that_is_never_retrieved_is_a_failure() -> None:
    async def fails() -> None:
        raise LookupError("lost")

    async def main() -> None:
        runtime.create_task(fails())
        await runtime.sleep(1)

    with pytest.raises(simulation.UnretrievedError, match="lost") as caught:
        simulation.run(main)
    assert isinstance(caught.value.__cause__, LookupError)


def test_tasks_and_locks_that_are_left_are_failures_if_asked_for() -> None:
    locks = []

    async def main() -> None:
        lock = runtime.Lock()
        locks.append(lock)
        await lock.acquire()
        runtime.create_task(runtime.sleep(10), name="straggler")
        await runtime.sleep(0)

    assert simulation.explore(main, runs=3).failure is None
    with pytest.raises(simulation.LeftoverError, match=r"straggler(?s:.*)lock <\S+Lock"):
        simulation.run(main, leftovers=True)
    assert not hasattr(runtime.Lock.__init__, "__wrapped__")
    assert runtime.Lock().locked() is False


def test_sockets_that_are_left_are_failures_if_asked_for() -> None:
    async def main(*, close: bool) -> None:
        async def handle(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with await runtime.start_server(handle, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            _, writer = await runtime.open_connection(*address)
            writer.close()
            await writer.wait_closed()
        if not close:
            opened.append(socket.create_server(("127.0.0.1", 0)))

    opened: list[socket.socket] = []
    simulation.run(functools.partial(main, close=True), leftovers=True)
    with pytest.raises(simulation.LeftoverError, match="left behind:\nopen socket "):
        simulation.run(functools.partial(main, close=False), leftovers=True)
    for each in opened:
        each.close()


def test_a_failure_is_kept_and_tried_first(tmp_path: Path) -> None:
    found = simulation.explore(three_tasks, order="tasks", runs=200, keep=tmp_path, check=False)
    assert found.failure is not None
    (path,) = tmp_path.iterdir()
    assert found.failure.token in path.read_text()
    again = simulation.explore(three_tasks, order="tasks", runs=200, keep=tmp_path, check=False)
    assert again.failure is not None
    assert (again.runs, again.failure.run) == (1, 0)


def test_kept_files_that_are_broken_do_no_harm(tmp_path: Path) -> None:
    simulation.explore(three_tasks, order="tasks", runs=200, keep=tmp_path, check=False)
    (path,) = tmp_path.iterdir()
    kept = json.loads(path.read_text())
    kept["failures"].append({"token": "sim1-broken", "error": ""})
    path.write_text(json.dumps(kept))
    found = simulation.explore(three_tasks, order="tasks", runs=200, keep=tmp_path, check=False)
    assert found.failure
    path.write_text("{")
    assert simulation.explore(fine, runs=2, keep=tmp_path).runs == 2


def test_a_folder_that_cannot_be_written_does_not_hide_the_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AssertionError) as raised:
        simulation.explore(three_tasks, order="tasks", runs=200, keep=tmp_path / "file")
    assert "the token cannot be kept: " in raised.value.__notes__[0]


def test_a_failure_that_does_not_happen_any_more_is_forgotten(tmp_path: Path) -> None:
    is_mended = False

    async def main() -> None:
        assert is_mended

    simulation.explore(main, keep=tmp_path, check=False)
    assert list(tmp_path.iterdir())
    is_mended = True
    assert simulation.explore(main, runs=3, keep=tmp_path).runs == 4
    assert not list(tmp_path.iterdir())


def test_a_decorated_function_is_explored() -> None:
    @simulation.simulated(runs=200, order="tasks")
    async def check(steps: int) -> None:
        log: list[int] = []

        async def work(number: int) -> None:
            for _ in range(number + 1):
                await runtime.sleep(0)
            log.append(number)

        await runtime.gather(*map(work, range(steps)))
        assert log == sorted(log)

    assert check(1).runs == 200
    with pytest.raises(AssertionError):
        check(2)


def test_the_report_is_a_table_of_lanes() -> None:
    found = simulation.explore(three_tasks, order="tasks", runs=200, check=False)
    assert found.failure is not None
    text = str(found.failure.report)
    assert text.startswith("AssertionError")
    assert "then waits for" in text
    assert "three_tasks.<locals>.work test_exploring.py:" in text
    assert str(found).endswith(text)


def test_trace_events_have_a_lane_for_each_task() -> None:
    found = simulation.explore(three_tasks, order="tasks", runs=200, check=False)
    assert found.failure is not None
    events = json.loads(found.failure.report.trace_events())["traceEvents"]
    lanes = {each["args"]["name"] for each in events if each["name"] == "thread_name"}
    assert {"Task-1", "Task-2", "Task-3"} <= lanes
    assert all(each["dur"] == 1 for each in events if each["ph"] == "X")


def test_the_report_is_written_as_a_page_and_as_trace_events(tmp_path: Path) -> None:
    found = simulation.explore(three_tasks, order="tasks", runs=200, check=False)
    assert found.failure is not None
    paths = found.failure.report.write(tmp_path / "reports", "it")
    assert [path.name for path in paths] == ["it.html", "it.trace.json"]
    page = paths[0].read_text()
    assert found.failure.token in page
    assert "src=" not in page
    assert "href=" not in page


@pytest.mark.parametrize("function", [simulation.run, simulation.explore])
def test_a_coroutine_is_refused(function: object) -> None:
    coroutine = fine()
    with pytest.raises(TypeError, match="pass the coroutine function itself"):
        function(coroutine)  # type: ignore[operator]
    with pytest.raises(TypeError, match="expected a function"):
        function(3)  # type: ignore[operator]


@pytest.mark.parametrize(
    "options",
    [
        {"order": "any"},
        {"lateness": -1},
        {"steps": 0},
        {"environment": "mine"},
        {"outside": "yes"},
        {"strategy": "luck"},
        {"runs": 0},
        {"seed": -1},
        {"shrink": -1},
        {"starvation": 0},
    ],
)
def test_invalid_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(options))} must be .*, got "):
        simulation.explore(fine, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["lateness", "steps", "runs", "seed", "shrink", "starvation"])
def test_options_of_another_type_are_refused(option: str) -> None:
    with pytest.raises(TypeError, match=rf"^{option} must be .* number.*, got '5'"):
        simulation.explore(fine, **{option: "5"})  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 1.5])
def test_a_seed_that_has_no_token_is_refused(seed: float) -> None:
    with pytest.raises((TypeError, ValueError), match="^seed must be a whole number"):
        simulation.run(fine, seed=seed)  # type: ignore[arg-type]


def test_a_token_that_is_not_a_text_is_refused() -> None:
    with pytest.raises(TypeError, match="a token must be a text, got None"):
        simulation.replay(fine, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (simulation.random_walk, 0),
        (simulation.random_walk, 2),
        (simulation.delays, 0),
        (simulation.pct, 0),
        (simulation.exhaustive, -1),
    ],
)
def test_invalid_limits_of_strategies_are_refused(function: object, argument: int) -> None:
    with pytest.raises(ValueError, match=str(argument)):
        function(argument)  # type: ignore[operator]


async def test_a_simulation_within_a_run_is_refused() -> None:
    with pytest.raises(RuntimeError, match="running event loop"):
        simulation.run(fine)


def test_the_collector_is_as_it_was() -> None:
    was = gc.isenabled()
    simulation.run(fine)
    assert gc.isenabled() is was


def test_asyncio_s_own_functions_are_simulated() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[int] = asyncio.Queue()
        async with asyncio.timeout(3600), asyncio.TaskGroup() as group:
            group.create_task(queue.put(1))
            assert await queue.get() == 1
            await asyncio.sleep(60)
        return loop.time()

    assert simulation.run(main) == 60.0
    assert simulation.explore(main, runs=50).failure is None


@pytest.mark.parametrize("seed", [None, 1])
def test_an_unknown_strategy_is_refused_with_and_without_a_seed(seed: int | None) -> None:
    with pytest.raises(ValueError, match=r"^strategy must be one of usual, .*, got 'nonsense'"):
        simulation.run(fine, seed=seed, strategy="nonsense")
    with pytest.raises(TypeError, match=r"^strategy must be .*, got \['pct'\]"):
        simulation.run(fine, seed=seed, strategy=["pct"])  # type: ignore[arg-type]


def test_a_strategy_that_is_made_directly_is_checked_too() -> None:
    with pytest.raises(ValueError, match="kind must be one of usual, "):
        simulation.StrategyName("nonsense")
    with pytest.raises(ValueError, match="depth must be a whole number, at least 1, got 0"):
        simulation.StrategyName("delays")
    with pytest.raises(TypeError, match="deviations must be a whole number"):
        simulation.exhaustive(1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="rate must be a number"):
        simulation.random_walk("often")  # type: ignore[arg-type]


def test_options_of_a_decorated_function_are_checked_when_it_is_decorated() -> None:
    with pytest.raises(TypeError, match="simulated\\(\\) got an unexpected argument 'run'"):
        simulation.simulated(run=5)
    with pytest.raises(ValueError, match="strategy must be one of"):
        simulation.simulated(strategy="nonsense")
    with pytest.raises(ValueError, match="order must be"):
        simulation.simulated(order="any")


@pytest.mark.parametrize("lateness", [1e-7, 0.0123456789, 1e305, 0.01, 0, 3])
def test_a_token_keeps_the_lateness_exactly(lateness: float) -> None:
    async def main() -> None:
        await runtime.sleep(1)
        raise LookupError

    found = simulation.explore(main, lateness=lateness, check=False)
    assert found.failure is not None
    assert read_token(found.failure.token).lateness == lateness


def test_a_kept_failure_is_tried_with_the_order_and_the_lateness_of_its_token(
    tmp_path: Path,
) -> None:
    first = simulation.explore(three_tasks, runs=200, order="tasks", keep=tmp_path, check=False)
    assert first.failure is not None
    again = simulation.explore(
        three_tasks, order="events", lateness=0.5, keep=tmp_path, check=False
    )
    assert again.failure is not None
    assert again.failure.run == 0
    assert again.failure.token == first.failure.token
    with pytest.raises(AssertionError):
        simulation.replay(three_tasks, again.failure.token)


async def torn_message() -> None:
    async def answer(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        writer.write(b"%d" % len(await reader.read(100)))
        writer.close()

    server = await runtime.start_server(answer, "127.0.0.1", 7)
    async with server:
        reader, writer = await runtime.open_connection("127.0.0.1", 7)
        writer.write(b"a message")
        answered = await reader.read(100)
        writer.close()
    assert answered == b"9"


def test_the_network_of_an_exploration_has_conditions() -> None:
    assert simulation.explore(torn_message, runs=30).failure is None
    network = simulation.Conditions(splitting=0.3)
    found = simulation.explore(torn_message, runs=100, network=network, check=False)
    assert found.failure is not None
    with pytest.raises(AssertionError):
        simulation.replay(torn_message, found.failure.token, network=network)
    with pytest.raises(TypeError, match=r"network must be simulation\.Conditions or None, got 3"):
        simulation.run(fine, network=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("contents", ["5", '{"failures": 5}', '{"failures": [1, {}]}', "[]", ""])
def test_a_damaged_file_of_failures_is_ignored(tmp_path: Path, contents: str) -> None:
    simulation.explore(three_tasks, order="tasks", runs=200, keep=tmp_path, check=False)
    for file in tmp_path.iterdir():
        file.write_text(contents)
    found = simulation.explore(three_tasks, order="tasks", runs=200, keep=tmp_path, check=False)
    assert found.failure is not None
    assert found.failure.run > 0


@pytest.mark.parametrize("keep", [3, b"folder", True])
def test_a_folder_of_another_type_is_refused(keep: object) -> None:
    with pytest.raises(TypeError, match="keep must be the path of a folder"):
        simulation.explore(three_tasks, keep=keep)  # type: ignore[arg-type]


class UnshownError(Exception):
    """An exception without a message."""

    def __str__(self) -> str:
        raise LookupError("no message")


@pytest.mark.parametrize(
    "error", [UnshownError(), ValueError("half \udc80"), ValueError("\N{GREEK SMALL LETTER PI}")]
)
def test_a_failure_with_an_odd_message_is_found_kept_and_written(
    tmp_path: Path, error: Exception
) -> None:
    async def main() -> None:
        raise error

    with pytest.raises(type(error)):
        simulation.explore(main, keep=tmp_path / "failures")
    found = simulation.explore(main, keep=tmp_path / "failures", check=False)
    assert found.failure is not None
    assert found.failure.run == 0
    assert type(error).__name__ in str(found.failure.report)
    page, _ = found.failure.report.write(tmp_path)
    assert found.failure.token in page.read_bytes().decode("utf-8")


def test_a_function_that_returns_no_coroutine_is_refused() -> None:
    def main() -> int:
        return 3

    with pytest.raises(TypeError, match=r"a function that returns a coroutine, got .*main at .* 3"):
        simulation.run(main)  # type: ignore[arg-type]


def test_locks_that_are_held_are_listed_in_the_order_of_their_creation() -> None:
    async def main() -> list[runtime.Lock | asyncio.Lock]:
        locks: list[runtime.Lock | asyncio.Lock] = []
        for number in range(20):
            lock = runtime.Lock() if number % 2 else asyncio.Lock()
            await lock.acquire()
            locks.append(lock)
        kept[:] = locks  # The failed run is repeated for its report.
        return locks

    kept: list[runtime.Lock | asyncio.Lock] = []
    before = asyncio.Lock.__init__, runtime.Lock.__init__
    with pytest.raises(simulation.LeftoverError) as raised:
        simulation.run(main, leftovers=True)
    assert str(raised.value).splitlines()[1:] == [f"lock {lock!r}" for lock in kept]
    assert (asyncio.Lock.__init__, runtime.Lock.__init__) == before
