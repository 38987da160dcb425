"""The environment of a run: time, chance, and what is refused."""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime
import functools
import os
import queue
import random
import socket
import subprocess
import sys
import threading
import time
import uuid
from datetime import datetime as moment
from typing import Any

import pytest

import runtime
from runtime import simulation
from runtime.simulation.environment import EPOCH

REPLACED = [
    (time, "time"),
    (time, "monotonic"),
    (time, "perf_counter_ns"),
    (time, "sleep"),
    (time, "localtime"),
    (time, "strftime"),
    (random, "seed"),
    (random.Random, "seed"),
    (uuid, "_generate_time_safe"),
    (os, "urandom"),
    (threading.Thread, "start"),
    (subprocess.Popen, "__init__"),
    (concurrent.futures.Future, "result"),
]


async def environment() -> tuple[object, ...]:
    await runtime.sleep(2.5)
    return (
        time.time(),
        time.monotonic(),
        time.perf_counter(),
        time.time_ns(),
        time.monotonic_ns(),
        moment.now(datetime.UTC),
        datetime.datetime.now(datetime.UTC),
        datetime.date.today(),
        random.random(),
        random.SystemRandom().random(),
        uuid.uuid4(),
        os.urandom(8),
        os.getrandom(8) if hasattr(os, "getrandom") else b"",
        random.Random().random(),
        uuid.uuid1(),
    )


def test_time_is_that_of_the_clock() -> None:
    found = simulation.run(environment)
    assert found[:5] == (EPOCH + 2.5, 2.5, 2.5, round((EPOCH + 2.5) * 1e9), 2_500_000_000)
    expected = datetime.datetime.fromtimestamp(EPOCH + 2.5, datetime.UTC)
    assert found[5:7] == (expected, expected)
    assert type(found[6]) is datetime.datetime


def test_chance_depends_on_the_seed_alone() -> None:
    assert simulation.run(environment) == simulation.run(environment)
    assert simulation.run(environment, seed=1) == simulation.run(environment, seed=1)
    first, second = (simulation.run(environment, seed=seed)[8:] for seed in (1, 2))
    assert all(one != other for one, other in zip(first, second, strict=True))


def test_a_generator_that_the_program_seeds_is_as_usual() -> None:
    async def main() -> tuple[float, ...]:
        random.seed(5)
        return random.Random(5).random(), random.random()

    assert simulation.run(main) == (random.Random(5).random(),) * 2


def test_a_generator_that_is_made_once_does_not_change_what_the_system_gives() -> None:
    kept: list[random.Random] = []

    async def main() -> bytes:
        if not kept:
            kept.append(random.Random())
        random.seed()
        return os.urandom(8)

    assert simulation.run(main) == simulation.run(main)


def test_the_calendar_shows_the_time_of_the_run() -> None:
    async def read() -> tuple[object, ...]:
        await runtime.sleep(2.5)
        assert time.gmtime(1e9)[:6] == (2001, 9, 9, 1, 46, 40)
        assert time.strftime("%Y", time.gmtime(1e9)) == "2001"
        assert time.asctime(time.gmtime(1e9)) == "Sun Sep  9 01:46:40 2001"
        return (
            time.gmtime()[:6],
            time.gmtime(None)[:6],
            time.localtime() == time.localtime(time.time()),
            time.ctime() == time.ctime(time.time()),
            time.asctime() == time.asctime(time.localtime(time.time())),
            time.strftime("%c") == time.strftime("%c", time.localtime(time.time())),
            time.clock_gettime(time.CLOCK_REALTIME) == time.time(),
            time.clock_gettime_ns(time.CLOCK_MONOTONIC),
        )

    now = (2026, 1, 1, 0, 0, 2)
    assert simulation.run(read) == (now, now, True, True, True, True, True, 2_500_000_000)

    async def main() -> int:
        host = simulation.current_world().host("a")
        host.clock_offset = 86400.0
        found = await host.create_task(read())
        day: int = found[0][2]  # type: ignore[index]
        return day

    assert simulation.run(main) == 2


def test_time_is_controlled_for_a_function_with_arguments() -> None:
    async def main(number: int) -> moment:
        return moment.now(datetime.UTC)

    expected = datetime.datetime.fromtimestamp(EPOCH, datetime.UTC)
    assert simulation.run(functools.partial(main, 1)) == expected


def test_everything_is_restored() -> None:
    async def fails() -> None:
        raise LookupError

    before = [getattr(owner, name) for owner, name in REPLACED]
    random.seed(5)
    state = random.getstate()
    simulation.run(environment)
    with pytest.raises(LookupError):
        simulation.run(fails)
    assert [getattr(owner, name) for owner, name in REPLACED] == before
    assert random.getstate() == state


def test_the_module_datetime_itself_stays_for_extensions_in_c() -> None:
    async def main() -> object:
        return sys.modules["datetime"].datetime

    assert simulation.run(main) is moment
    assert moment.__name__ == "datetime"


def test_classes_of_datetime_work_as_usual() -> None:
    async def main() -> None:
        made = datetime.datetime(2020, 1, 2, 3)
        assert isinstance(made, datetime.datetime)
        assert isinstance(made, datetime.date)
        assert isinstance(datetime.date(2020, 1, 1), datetime.date)
        assert issubclass(datetime.datetime, datetime.date)
        assert datetime.datetime.fromisoformat("2020-01-02T03:00:00") == made
        assert made - datetime.timedelta(1) == datetime.datetime(2020, 1, 1, 3)

    simulation.run(main)


def test_a_blocking_sleep_takes_time_on_the_clock() -> None:
    async def main() -> float:
        time.sleep(3)
        return runtime.get_running_loop().time()

    assert simulation.run(main) == 3.0


def test_a_sleep_in_an_executor_does_not_block_the_loop() -> None:
    async def main() -> tuple[float, float]:
        loop = runtime.get_running_loop()
        call = runtime.create_task(runtime.to_thread(time.sleep, 3))
        await runtime.sleep(1)
        first = loop.time()
        await call
        return first, loop.time()

    assert simulation.run(main) == (1.0, 3.0)


def test_an_exception_of_a_call_in_an_executor_is_raised() -> None:
    def fails() -> None:
        raise LookupError("in the executor")

    async def main() -> None:
        with pytest.raises(LookupError, match="in the executor"):
            await runtime.to_thread(fails)

    simulation.run(main)


def test_a_call_in_an_executor_sees_no_running_loop() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="no running event loop"):
            await runtime.to_thread(runtime.get_running_loop)

    simulation.run(main)


async def uses_a_thread() -> None:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()


async def uses_a_process() -> None:
    subprocess.run(["true"], check=True)


async def waits_for_a_concurrent_future() -> None:
    with pytest.raises(TimeoutError):
        concurrent.futures.Future[int]().result(0.01)


@pytest.mark.parametrize("main", [uses_a_thread, uses_a_process, waits_for_a_concurrent_future])
def test_what_is_outside_is_refused_or_listed(main: object) -> None:
    with pytest.raises(simulation.OutsideError, match=r"at .*test_environment.py:\d+"):
        simulation.run(main)  # type: ignore[arg-type]
    found = simulation.explore(main, runs=2, outside="allow")  # type: ignore[arg-type]
    assert len(found.outside) == 1
    assert "outside of the simulation: " in str(found)


def test_the_use_of_the_environment_can_be_reported() -> None:
    async def main() -> None:
        assert time.monotonic() != 0.0
        random.random()

    found = simulation.explore(main, runs=2, environment="report")
    assert [line.partition(" at ")[0] for line in found.outside] == [
        "time.monotonic()",
        "random.random()",
    ]
    assert "test_environment.py:" in found.outside[0]


def test_every_function_for_time_and_chance_is_reported() -> None:
    async def main() -> None:
        moment.now()
        time.time()
        datetime.date.today()
        time.localtime(0)
        time.localtime()
        time.strftime("%Y", time.gmtime(0))
        time.perf_counter_ns()
        random.gauss(0, 1)
        random.getrandbits(8)
        random.Random(5).random()
        random.Random()
        os.urandom(1)

    found = simulation.explore(main, runs=1, environment="report")
    assert [line.partition(" at ")[0] for line in found.outside] == [
        "datetime.now()",
        "time.time()",
        "date.today()",
        "time.localtime()",
        "time.perf_counter_ns()",
        "random.gauss()",
        "random.getrandbits()",
        "random.Random()",
        "os.urandom()",
    ]


def test_the_environment_can_be_left_alone() -> None:
    async def main() -> None:
        assert time.time() != EPOCH

    simulation.run(main, environment="leave")


def test_names_and_numbers_of_tasks_are_those_of_the_run() -> None:
    async def main() -> str:
        task = runtime.create_task(runtime.sleep(0))
        await task
        return task.get_name()

    assert [simulation.run(main) for _ in range(3)] == ["Task-2"] * 3


class OtherTask(runtime.Task[object]):
    """A task whose class is the program's own."""


@pytest.mark.parametrize(
    "factory",
    [
        runtime.eager_task_factory,
        runtime.create_eager_task_factory(runtime.Task),
        runtime.create_eager_task_factory(OtherTask),
        lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options),
    ],
)
def test_tasks_of_a_factory_are_named_by_their_run(factory: Any) -> None:
    async def main() -> list[str]:
        runtime.get_running_loop().set_task_factory(factory)
        tasks = [runtime.create_task(runtime.sleep(0), name=name) for name in (None, "a", None)]
        await runtime.wait(tasks)
        return [task.get_name() for task in tasks]

    assert [simulation.run(main) for _ in range(2)] == [["Task-2", "a", "Task-4"]] * 2


def test_eager_tasks_have_the_same_order_in_sets_as_others() -> None:
    async def main() -> list[str]:
        runtime.get_running_loop().set_task_factory(runtime.eager_task_factory)
        begun: list[int] = []

        async def begin(number: int) -> None:
            begun.append(number)
            await runtime.sleep(1)

        tasks = {runtime.create_task(begin(number)) for number in range(9)}
        assert begun == list(range(9))
        runtime.create_task(begin(9), eager_start=False)
        assert begun == list(range(9))
        await runtime.sleep(0)
        assert begun == list(range(10))
        return [task.get_name() for task in tasks]

    # The hash of a task is its number.
    numbers = set(range(2, 11))
    assert simulation.run(main) == [f"Task-{number}" for number in numbers]


def test_a_call_in_an_executor_that_waits_for_a_task_is_refused() -> None:
    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        peer = socket.create_connection(listener.getsockname(), timeout=30)
        connection, _ = listener.accept()
        with listener, peer, connection:
            receiving = runtime.create_task(runtime.to_thread(peer.recv, 10))
            await runtime.sleep(1)
            connection.send(b"answer")
            await receiving

    with pytest.raises(simulation.OutsideError, match="calls in executors run in the thread"):
        simulation.run(main)


def test_a_run_within_a_run_and_beside_one_is_refused() -> None:
    refused: list[str] = []

    def second() -> None:
        try:
            simulation.run(environment)
        except RuntimeError as error:
            refused.append(str(error))

    async def main() -> float:
        second()
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        return time.time()

    assert simulation.run(main, outside="allow") == EPOCH
    assert len(refused) == 2
    assert all("another simulated run has not ended" in text for text in refused)
    assert simulation.run(environment)[1] == 2.5


@pytest.mark.parametrize("wait", ["Event().wait()", "Queue().get()", "Condition wait"])
def test_a_call_that_waits_for_another_thread_is_refused_with_advice(wait: str) -> None:
    def call() -> None:
        if wait == "Event().wait()":
            threading.Event().wait()
        elif wait == "Queue().get()":
            queue.Queue[int]().get()
        else:
            with (condition := threading.Condition()):
                condition.wait()

    async def main() -> None:
        with pytest.raises(simulation.OutsideError, match="a wait for another thread at .*asyncio"):
            await runtime.to_thread(call)

    simulation.run(main)


def test_a_timeout_of_a_blocking_wait_passes_on_the_clock_of_the_run() -> None:
    async def main() -> float:
        loop = runtime.get_running_loop()
        assert not await runtime.to_thread(threading.Event().wait, 3)
        with pytest.raises(queue.Empty):
            await runtime.to_thread(queue.Queue[int]().get, timeout=4)
        assert not threading.Event().wait(1)
        return loop.time()

    assert simulation.run(main) == 8


def test_a_wait_for_a_coroutine_in_a_call_is_refused_with_advice() -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()

        def call() -> None:
            runtime.run_coroutine_threadsafe(runtime.sleep(1), loop).result()

        with pytest.raises(simulation.OutsideError, match=r"asyncio\.wrap_future"):
            await runtime.to_thread(call)

    simulation.run(main)
