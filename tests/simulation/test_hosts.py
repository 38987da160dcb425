"""Hosts of a simulated world: tasks that belong to them, crashes, restarts, clocks."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

import runtime
from runtime import simulation
from runtime.simulation import Host, HostCrashedError, World


def world() -> World:
    return simulation.current_world()


def test_tasks_belong_to_the_host_that_created_them() -> None:
    async def where() -> str:
        return world().current_host().name

    async def main() -> None:
        assert await where() == "main"
        host = world().host("a")
        assert await host.create_task(where()) == "a"

        async def nested() -> str:
            return await asyncio.create_task(where())

        assert await host.create_task(nested()) == "a"
        with host.entered():
            assert await where() == "a"
        assert await where() == "main"
        assert [each.name for each in world().hosts()] == ["main", "a"]
        assert world().host("a") is host

    simulation.run(main)


def test_calls_in_executors_belong_to_the_host_of_the_caller() -> None:
    calls: list[str] = []

    def call() -> None:
        calls.append(world().current_host().name)

    async def caller() -> None:
        await asyncio.get_running_loop().run_in_executor(None, call)
        await asyncio.to_thread(call)

    async def main() -> None:
        host = world().host("a")
        await host.create_task(caller())
        await caller()

        async def last() -> None:
            await asyncio.get_running_loop().run_in_executor(None, calls.append, "never")

        host.create_task(last())
        await asyncio.sleep(0)
        host.crash()
        await asyncio.sleep(1)

    simulation.run(main)
    assert calls == ["a", "a", "main", "main"]


def test_handlers_of_a_server_belong_to_its_host() -> None:
    async def main() -> bytes:
        async def answer(_: Any, writer: Any) -> None:
            writer.write(world().current_host().name.encode())
            writer.close()

        async def serve() -> None:
            server = await runtime.start_server(answer, port=80)
            await server.serve_forever()

        world().host("a").start(serve)
        await asyncio.sleep(1)
        reader, writer = await runtime.open_connection("a", 80)
        data = await reader.read()
        writer.close()
        return data

    assert simulation.run(main) == b"a"


@pytest.mark.parametrize("group_class", [asyncio.TaskGroup, runtime.TaskGroup])
@pytest.mark.parametrize("how", ["crash", "kill"])
def test_tasks_vanish_without_cleaning_up(how: str, group_class: Any) -> None:
    log: list[str] = []

    async def worker(name: str) -> None:
        try:
            while True:
                log.append(name)
                await asyncio.sleep(1)
        finally:
            log.append(f"{name} cleans up")

    async def start() -> None:
        async with group_class() as group:
            group.create_task(worker("one"))
            group.create_task(worker("two"))
            asyncio.get_running_loop().call_later(5, log.append, "timer")

    async def main() -> list[str]:
        reports: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        host = world().host("a")
        task = host.start(start)
        await asyncio.sleep(2.5)
        getattr(host, how)()
        assert task.done()
        with pytest.raises(HostCrashedError, match="a has crashed"):
            await task
        await asyncio.sleep(10)
        assert reports == []
        return list(log)

    assert simulation.run(main) == ["one", "two"] * 3


def test_tasks_of_a_host_end_in_the_order_of_their_creation() -> None:
    ended: list[int] = []

    async def watch(number: int, task: runtime.Task[None]) -> None:
        with pytest.raises(HostCrashedError):
            await task
        ended.append(number)

    async def main() -> None:
        host = world().host("a")
        tasks = [host.create_task(asyncio.sleep(9)) for _ in range(30)]
        watchers = [asyncio.create_task(watch(*each)) for each in enumerate(tasks)]
        await asyncio.sleep(1)
        host.crash()
        await asyncio.wait(watchers)

    simulation.run(main)
    assert ended == list(range(30))


def test_ready_tasks_and_callbacks_vanish_too() -> None:
    log: list[str] = []

    async def busy() -> None:
        asyncio.get_running_loop().call_soon(log.append, "callback")
        log.append("task")

    async def main() -> None:
        host = world().host("a")
        host.create_task(busy())
        host.crash()
        await asyncio.sleep(1)

    simulation.run(main)
    assert log == []


def test_a_task_may_crash_its_own_host() -> None:
    log: list[str] = []

    async def suicidal() -> None:
        world().current_host().crash()
        log.append("before the next turn")
        await asyncio.sleep(1)
        log.append("never")

    async def main() -> None:
        host = world().host("a")
        task = host.create_task(suicidal())
        with pytest.raises(HostCrashedError):
            await task
        assert not host.is_up
        with pytest.raises(RuntimeError, match="is down"):
            host.create_task(asyncio.sleep(0))
        await asyncio.sleep(5)

    simulation.run(main)
    assert log == ["before the next turn"]


async def serve_and_count() -> None:
    """Answer each connection with the number that is on the disk, and count on."""
    disk = world().disk

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            count = int(disk.read("count")) if disk.exists("count") else 0
            with disk.open("new", "wb") as file:
                file.write(b"%d" % (count + 1))
                disk.fsync(file)
            disk.rename("new", "count")
            disk.sync_directory()
            writer.write(b"%d\n" % (count + 1))
        writer.close()

    server = await asyncio.start_server(answer, port=80)
    await server.serve_forever()


async def asked(streams: Any = None) -> tuple[int, Any]:
    """Return the answer of the counter, and the connection, which is closed if that fails."""
    reader, writer = streams or await asyncio.open_connection("counter", 80)
    try:
        writer.write(b"?\n")
        line = await reader.readline()
        if not line:
            raise EOFError
    except BaseException:
        writer.close()
        raise
    return int(line), (reader, writer)


def test_a_restarted_host_goes_on_from_its_disk() -> None:
    async def main() -> None:
        host = world().host("counter")
        host.start(serve_and_count)
        await asyncio.sleep(1)
        count, streams = await asked()
        assert count == 1
        assert (await asked(streams))[0] == 2
        host.crash()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(
                asyncio.shield(silent := asyncio.ensure_future(asked(streams))), 9
            )
        host.restart()
        with pytest.raises(ConnectionResetError):
            await silent
        await asyncio.sleep(1)
        count, streams = await asked()
        assert count == 3
        streams[1].close()

    for seed in (None, 1, 2, 3):
        simulation.run(main, seed=seed)


def test_the_peers_of_a_killed_host_are_told() -> None:
    async def main() -> None:
        host = world().host("counter")
        host.start(serve_and_count)
        await asyncio.sleep(1)
        _, streams = await asked()
        host.kill()
        with pytest.raises((EOFError, ConnectionError)):
            await asked(streams)
        with pytest.raises(ConnectionRefusedError):
            await asked()
        assert host.disk.read("count") == b"1"
        host.restart()
        await asyncio.sleep(1)
        count, streams = await asked()
        assert count == 2
        streams[1].close()

    simulation.run(main)


def test_a_host_that_is_down_does_not_answer() -> None:
    async def main() -> None:
        host = world().host("counter")
        host.start(serve_and_count)
        await asyncio.sleep(1)
        host.crash()
        with pytest.raises(TimeoutError):
            await asked()
        world().after(10, host.restart)
        count, streams = await asked()
        assert count == 1
        streams[1].close()

    simulation.run(main)


def test_a_host_that_runs_is_not_restarted() -> None:
    async def main() -> None:
        host = world().host("counter")
        host.restart()
        host.start(serve_and_count)
        with pytest.raises(RuntimeError, match="runs: crash"):
            host.restart()
        host.crash()
        host.crash()
        host.restart()
        assert host.is_up

    simulation.run(main)


def test_every_program_of_a_host_runs_again_after_a_restart() -> None:
    begun: list[str] = []

    async def program(name: str) -> None:
        begun.append(name)
        await asyncio.sleep(3600)

    async def main() -> None:
        host = world().host("a")
        for name in ("server", "agent"):
            host.start(program, name)
        await asyncio.sleep(1)
        for end in (host.crash, host.kill):
            begun.clear()
            end()
            host.restart()
            await asyncio.sleep(1)
            assert begun == ["server", "agent"]
        with pytest.raises(RuntimeError, match="runs: crash"):
            host.restart()

    simulation.run(main)


def test_a_program_takes_the_place_of_those_that_were_killed() -> None:
    begun: list[str] = []

    async def program(name: str) -> None:
        begun.append(name)
        await asyncio.sleep(3600)

    async def main() -> None:
        host = world().host("a")
        host.start(program, "version 1")
        await asyncio.sleep(1)
        host.kill()
        host.start(program, "version 2")
        host.start(program, "agent")
        await asyncio.sleep(1)
        begun.clear()
        host.crash()
        host.restart()
        await asyncio.sleep(1)
        assert begun == ["version 2", "agent"]

    simulation.run(main)


def test_the_host_of_the_simulated_program_does_not_end() -> None:
    async def main() -> None:
        first = world().current_host()
        for end in (first.crash, first.kill):
            with pytest.raises(RuntimeError, match="'main' up> runs the program that is simulated"):
                end()
        assert first.is_up

    simulation.run(main)


def test_wall_clocks_are_wrong_and_jump() -> None:
    async def read() -> float:
        return time.time()

    async def main() -> None:
        host = world().host("a")
        right = time.time()
        host.clock_offset = 30.0
        assert await host.create_task(read()) == right + 30
        assert time.time() == right
        host.clock_offset = -5.0
        assert await host.create_task(read()) == right - 5
        monotonic = time.monotonic()
        with host.entered():
            assert time.monotonic() == monotonic

    simulation.run(main)


def test_the_world_is_of_the_run() -> None:
    with pytest.raises(RuntimeError, match="no simulated world"):
        simulation.current_world()

    async def main() -> tuple[World, Host]:
        assert world().time() == 0.0
        with pytest.raises(ValueError, match="name of a host"):
            world().host("")
        with pytest.raises(RuntimeError, match="simulate one at a time"):
            simulation.run(main)
        return world(), world().host("main")

    first = simulation.run(main)
    second = simulation.run(main)
    assert first[0] is not second[0]
    assert first[1] is not second[1]


def test_events_of_the_world_happen_on_a_host() -> None:
    async def main() -> list[str]:
        log: list[str] = []

        def note() -> None:
            log.append(f"{world().current_host().name} {world().time()}")

        with world().host("a").entered():
            world().after(2.0, note)
        world().after(1.0, note)
        await asyncio.sleep(3)
        return log

    assert simulation.run(main) == ["main 1.0", "a 2.0"]
