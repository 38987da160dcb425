"""The order of steps: the usual one without choices, and only possible ones with them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

import runtime
import runtime.testing
from runtime import simulation
from runtime.simulation.current import Order

Main = Callable[[], Awaitable[object]]


async def tasks_that_pause() -> list[str]:
    log: list[str] = []

    async def work(name: str, steps: int) -> None:
        for number in range(steps):
            log.append(f"{name}{number}")
            await runtime.sleep(0)

    async with runtime.TaskGroup() as group:
        for name in "abc":
            group.create_task(work(name, 3))
    return log


async def timers_and_callbacks() -> list[str]:
    log: list[str] = []
    loop = asyncio.get_running_loop()
    for number in range(3):
        loop.call_soon(log.append, f"soon{number}")
        loop.call_later(0.1, log.append, f"later{number}")

    async def sleeper(name: str) -> None:
        await asyncio.sleep(0.1)
        log.append(name)

    await asyncio.gather(sleeper("x"), sleeper("y"))
    await asyncio.sleep(1)
    return log


async def locks_and_queues() -> list[str]:
    log: list[str] = []
    lock = runtime.Lock()
    queue: runtime.Queue[int] = runtime.Queue(1)

    async def produce(start: int) -> None:
        for item in range(start, start + 3):
            await queue.put(item)

    async def consume(name: str) -> None:
        for _ in range(3):
            item = await queue.get()
            await runtime.sleep(0)
            async with lock:
                log.append(f"{name}{item}")

    await runtime.gather(produce(0), produce(10), consume("a"), consume("b"))
    return log


MAINS = [tasks_that_pause, timers_and_callbacks, locks_and_queues]


@pytest.mark.parametrize("main", MAINS)
def test_without_choices_the_order_is_that_of_the_production_loop(main: Main) -> None:
    assert simulation.run(main) == runtime.testing.run(main())


@pytest.mark.parametrize("main", MAINS)
@pytest.mark.parametrize("strategy", ["random", "delays", "pct", "portfolio"])
def test_a_seed_repeats_its_order_and_seeds_differ(main: Main, strategy: str) -> None:
    if main is timers_and_callbacks:
        pytest.skip("only callbacks, whose order is kept, and two sleeps")

    def orders() -> list[object]:
        return [
            simulation.run(main, seed=seed, strategy=strategy, order="tasks") for seed in range(30)
        ]

    found = orders()
    assert found == orders()
    assert len({str(order) for order in found}) > 3


def test_entries_of_one_source_stay_in_order() -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def start(name: str) -> None:
            log.append(name)

        async def create(prefix: str) -> None:
            for number in range(3):
                runtime.create_task(start(f"{prefix}{number}"))
                await runtime.sleep(0)

        await runtime.gather(create("a"), create("b"))
        await runtime.sleep(1)
        return log

    for seed in range(50):
        log = simulation.run(main, seed=seed)
        for prefix in "ab":
            assert [name for name in log if name[0] == prefix] == [
                f"{prefix}{number}" for number in range(3)
            ]


def test_callbacks_run_in_the_order_in_which_they_were_registered() -> None:
    async def main() -> None:
        called: list[int] = []
        registered = 0
        loop = asyncio.get_running_loop()

        async def register() -> None:
            nonlocal registered
            for _ in range(4):
                loop.call_soon(called.append, registered)
                registered += 1
                await runtime.sleep(0)

        await runtime.gather(register(), register(), register())
        await runtime.sleep(1)
        assert called == sorted(called)
        assert len(called) == 12

    simulation.explore(main, runs=100, strategy="random")


@pytest.mark.parametrize("order", ["tasks", "events"])
def test_timers_that_were_set_in_one_turn_run_in_order(order: Order) -> None:
    async def main() -> None:
        called: list[str] = []
        loop = asyncio.get_running_loop()
        loop.call_at(loop.time() + 1, called.append, "first")
        await runtime.sleep(1)
        await runtime.sleep(0)
        assert called == ["first"]

    strategy = simulation.exhaustive(2)
    assert simulation.explore(main, runs=5000, strategy=strategy, order=order).complete


def test_with_order_events_sleeps_that_begin_in_order_end_in_order() -> None:
    async def main() -> None:
        woken: list[int] = []

        async def sleeper(number: int) -> None:
            await runtime.sleep(1)
            woken.append(number)

        await runtime.gather(sleeper(0), sleeper(1), sleeper(2))
        assert woken == [0, 1, 2]

    strategy = simulation.exhaustive(2)
    assert simulation.explore(main, runs=5000, strategy=strategy, order="events").complete


def test_waiters_of_an_event_are_woken_in_order() -> None:
    async def main() -> None:
        event = runtime.Event()
        woken: list[int] = []

        async def wait(number: int) -> None:
            await event.wait()
            woken.append(number)

        async def noise() -> None:
            for _ in range(5):
                await runtime.sleep(0)

        async with runtime.TaskGroup() as group:
            for number in range(3):
                group.create_task(wait(number))
                group.create_task(noise())
            await runtime.sleep(1)
            event.set()
        assert woken == [0, 1, 2]

    simulation.explore(main, runs=100, strategy="random")


def test_with_order_events_tasks_alone_keep_the_usual_order() -> None:
    usual = simulation.run(tasks_that_pause)
    for seed in range(20):
        assert simulation.run(tasks_that_pause, seed=seed, order="events") == usual


def test_with_order_events_two_timers_can_wake_their_tasks_in_either_order() -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def wake(name: str, *naps: float) -> None:
            for seconds in naps:
                await runtime.sleep(seconds)
            log.append(name)

        await runtime.gather(wake("a", 0.25, 0.25), wake("b", 0.5))
        return log

    found = {tuple(simulation.run(main, seed=seed, order="events")) for seed in range(40)}
    assert found == {("a", "b"), ("b", "a")}


def test_timers_are_late_within_the_limit_only() -> None:
    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()

        async def wake(seconds: float) -> float:
            await runtime.sleep(seconds)
            return loop.time()

        first, second = await runtime.gather(wake(1), wake(1.005))
        return first, second

    found = {simulation.run(main, seed=seed) for seed in range(100)}
    assert found == {(1.0, 1.005), (1.005, 1.005)}
    found = {simulation.run(main, seed=seed, lateness=0.001) for seed in range(100)}
    assert found == {(1.0, 1.005)}


def test_a_call_in_an_executor_ends_at_different_moments() -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def call(name: str) -> None:
            log.append(await runtime.to_thread(lambda: name))

        await runtime.gather(call("a"), call("b"))
        return log

    assert simulation.run(main) == ["a", "b"]
    found = {tuple(simulation.run(main, seed=seed)) for seed in range(40)}
    assert found == {("a", "b"), ("b", "a")}


def test_a_task_that_spins_does_not_keep_a_held_one_from_running() -> None:
    async def main() -> None:
        done = False

        async def finish() -> None:
            nonlocal done
            await runtime.sleep(0)
            await runtime.sleep(0)
            done = True

        task = runtime.create_task(finish())
        while not done:
            await runtime.sleep(0)
        await task

    simulation.explore(main, runs=200)


def test_wait_all_tasks_blocked_waits_for_tasks_that_are_held() -> None:
    async def main() -> None:
        log: list[int] = []

        async def work() -> None:
            for number in range(3):
                await runtime.sleep(0)
                log.append(number)

        task = runtime.create_task(work())
        other = runtime.create_task(work())
        await runtime.testing.wait_all_tasks_blocked()
        assert len(log) == 6
        await task
        await other

    simulation.explore(main, runs=200)


def test_tasks_that_run_for_ever_are_a_livelock() -> None:
    async def main() -> None:
        while True:
            await runtime.sleep(0)

    with pytest.raises(simulation.LivelockError, match="without a moment of time"):
        simulation.run(main)


def test_a_run_without_an_end_exhausts_its_budget() -> None:
    async def main() -> None:
        while True:
            await runtime.sleep(1)

    with pytest.raises(simulation.LivelockError, match="has taken 500 steps"):
        simulation.run(main, steps=500)


def test_a_small_budget_may_be_used_without_a_moment_of_time() -> None:
    async def main(pauses: int) -> None:
        for _ in range(pauses):
            await runtime.sleep(0)

    simulation.run(lambda: main(80), steps=100)
    with pytest.raises(
        simulation.LivelockError, match="has taken 100 steps, and its tasks have not ended"
    ):
        simulation.run(lambda: main(200), steps=100)


def test_the_production_loop_pays_nothing() -> None:
    async def main() -> object:
        return runtime.get_running_loop()._turn_runner

    assert runtime.run(main()) is None


def orders_of(main: Callable[[], Awaitable[list[str]]], runs: int = 60) -> set[tuple[str, ...]]:
    """Return the results of runs with different seeds, with the default order."""
    return {tuple(simulation.run(main, seed=seed)) for seed in range(runs)}


def test_tasks_without_timers_and_calls_have_one_order_only() -> None:
    found = simulation.explore(
        locks_and_queues, runs=500, strategy=simulation.exhaustive(3), order="events"
    )
    assert found.complete
    assert found.runs == 1


def test_a_call_in_an_executor_lasts_beyond_timers_within_a_second() -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def call() -> None:
            await runtime.to_thread(int)
            log.append("call")

        async def sleep(seconds: float) -> None:
            await runtime.sleep(seconds)
            log.append(str(seconds))

        await runtime.gather(call(), sleep(0.5), sleep(2))
        return log

    assert orders_of(main) == {("call", "0.5", "2"), ("0.5", "call", "2")}


def test_a_call_in_an_executor_does_not_overtake_tasks_that_are_ready() -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def call() -> None:
            await runtime.to_thread(log.append, "call")

        async def work() -> None:
            await runtime.sleep(0)
            log.append("work")

        async def late() -> None:
            await runtime.sleep(0)
            await runtime.sleep(0)
            log.append("late")

        await runtime.gather(work(), call(), late())
        return log

    assert orders_of(main) == {("work", "call", "late"), ("work", "late", "call")}


def test_a_blocked_wait_ends_only_after_calls_that_are_held_back() -> None:
    async def main() -> None:
        log: list[int] = []
        calls = [runtime.create_task(runtime.to_thread(log.append, each)) for each in range(3)]
        timer = runtime.create_task(runtime.sleep(0.5))
        await runtime.testing.wait_all_tasks_blocked()
        assert len(log) == 3
        await runtime.gather(timer, *calls)

    simulation.explore(main, runs=200)


def test_hosts_run_side_by_side() -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def work(name: str) -> None:
            for number in range(2):
                log.append(f"{name}{number}")
                await runtime.sleep(0)

        async def two(name: str) -> None:
            await runtime.gather(work(name), work(name.upper()))

        world = simulation.current_world()
        tasks = [world.host(name).start(two, name) for name in "ab"]
        await runtime.gather(*tasks)
        return log

    found = orders_of(main)
    assert len(found) > 3
    for log in found:
        for name in "ab":
            own = [each for each in log if each[0].lower() == name]
            assert own == [f"{name}0", f"{name.upper()}0", f"{name}1", f"{name.upper()}1"]


def test_the_report_says_why_hosts_have_no_order() -> None:
    async def main() -> None:
        log: list[str] = []

        async def work(name: str) -> None:
            await runtime.sleep(0)
            log.append(name)

        world = simulation.current_world()
        await runtime.gather(*[world.host(name).start(work, name) for name in "ab"])
        assert log == ["a", "b"]

    found = simulation.explore(main, check=False)
    assert found.failure is not None
    assert "hosts are different processes" in str(found.failure.report)


async def bytes_for_a_busy_loop(near: socket.socket, far: socket.socket) -> list[str]:
    """Send a byte to a task while another one runs on and on."""
    log: list[str] = []
    near.setblocking(False)
    far.setblocking(False)

    async def receive() -> None:
        await asyncio.get_running_loop().sock_recv(near, 1)
        log.append("received")

    async def work() -> None:
        for _ in range(3):
            await runtime.sleep(0)
        log.append("worked")

    reading = runtime.create_task(receive())
    await runtime.sleep(1)
    far.send(b"x")
    await work()
    await reading
    near.close()
    far.close()
    return log


def test_an_event_of_the_network_may_be_late() -> None:
    async def main() -> list[str]:
        listening = socket.create_server(("127.0.0.1", 0))
        near = socket.create_connection(listening.getsockname())
        far, _ = listening.accept()
        listening.close()
        return await bytes_for_a_busy_loop(near, far)

    assert simulation.run(main) == ["received", "worked"]
    assert orders_of(main) == {("received", "worked"), ("worked", "received")}


def test_what_a_unix_socket_sends_is_there_at_once() -> None:
    async def main() -> list[str]:
        return await bytes_for_a_busy_loop(*socket.socketpair())

    assert orders_of(main) == {("received", "worked")}


async def flood(others: int) -> None:
    """Have a task wait for its turn behind others, again and again."""

    async def work() -> None:
        for _ in range(5):
            await runtime.sleep(0)

    async with runtime.TaskGroup() as group:
        for _ in range(others):
            group.create_task(work())


@pytest.mark.parametrize("order", ["tasks", "events"])
def test_a_task_that_waits_for_too_many_others_is_starved(order: Order) -> None:
    with pytest.raises(
        simulation.StarvationError, match=r"was ready for \d+ steps .*starvation=30"
    ):
        simulation.run(lambda: flood(50), starvation=30, order=order)
    simulation.run(lambda: flood(50), starvation=60, order=order)


@pytest.mark.parametrize("order", ["tasks", "events"])
@pytest.mark.parametrize("strategy", ["random", "delays", "pct", "portfolio"])
def test_a_schedule_alone_starves_nothing(order: Order, strategy: str) -> None:
    async def main() -> None:
        await runtime.gather(flood(4), runtime.to_thread(int), flood(3), runtime.to_thread(int))

    simulation.explore(main, runs=100, order=order, strategy=strategy, starvation=60)


def test_a_starved_task_is_in_the_report() -> None:
    found = simulation.explore(lambda: flood(50), starvation=30, check=False)
    assert found.failure is not None
    assert isinstance(found.failure.error, simulation.StarvationError)
    with pytest.raises(simulation.StarvationError):
        simulation.replay(lambda: flood(50), found.failure.token, starvation=30)
    assert "StarvationError: <" in str(found.failure.report)


def test_a_call_that_is_held_back_ends_although_an_event_of_the_network_wakes_no_task() -> None:
    async def main() -> None:
        network = simulation.current_world().network
        network.set(simulation.Conditions(), within=simulation.Conditions(latency=0.1))
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        listening = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(listening.getsockname())
        client.send(b"nothing reads this")
        await runtime.to_thread(int)
        for each in (near, far, listening, client):
            each.close()

    found = simulation.explore(main, runs=200, strategy=simulation.exhaustive(1))
    assert found.complete
    assert found.runs > 1
