"""redis-py's asyncio client against a real Redis or Valkey."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis import asyncio as redis

from tests.ecosystem.runners import LoopRunner
from tests.ecosystem.servers import Redis


async def flushed(server: Redis, **options: Any) -> Any:
    client = redis.Redis(host="127.0.0.1", port=server.port, **options)
    await client.flushall()
    return client


def test_many_tasks_on_one_client(runner: LoopRunner, redis_server: Redis) -> None:
    async def main() -> tuple[int, list[bytes]]:
        async with await flushed(redis_server) as client:
            # More than a hundred tasks at once would need more connections than a client opens.
            for _ in range(4):
                await asyncio.gather(*(client.incr("counter") for _ in range(50)))
            await asyncio.gather(*(client.set(f"key{n}", n) for n in range(50)))
            values = await client.mget([f"key{n}" for n in range(50)])
            return int(await client.get("counter")), values

    assert runner(main) == (200, [b"%d" % number for number in range(50)])


def test_pipelines(runner: LoopRunner, redis_server: Redis) -> None:
    async def main() -> tuple[list[Any], list[Any]]:
        async with await flushed(redis_server) as client:
            async with client.pipeline(transaction=True) as pipe:
                for number in range(1000):
                    pipe.rpush("list", number)
                lengths = await pipe.execute()
            async with client.pipeline(transaction=False) as pipe:
                pipe.set("text", "no number").incr("text").get("text")
                mixed = await pipe.execute(raise_on_error=False)
            return lengths, [type(each).__name__ for each in mixed]

    assert runner(main) == (list(range(1, 1001)), ["bool", "ResponseError", "bytes"])


def test_watched_keys_lose_no_update(runner: LoopRunner, redis_server: Redis) -> None:
    async def main() -> int:
        async with await flushed(redis_server) as client:

            async def increment() -> None:
                async with client.pipeline() as pipe:
                    while True:
                        try:
                            await pipe.watch("watched")
                            value = int(await pipe.get("watched") or 0)
                            pipe.multi()
                            pipe.set("watched", value + 1)
                            await pipe.execute()
                        except redis.WatchError:
                            continue
                        return

            await asyncio.gather(*(increment() for _ in range(20)))
            return int(await client.get("watched"))

    assert runner(main) == 20


def test_publishing_and_subscribing(runner: LoopRunner, redis_server: Redis) -> None:
    async def main() -> list[list[bytes]]:
        async with await flushed(redis_server) as client:

            async def listen(ready: asyncio.Event) -> list[bytes]:
                heard: list[bytes] = []
                async with client.pubsub() as pubsub:
                    await pubsub.subscribe("news")
                    async for message in pubsub.listen():
                        if message["type"] == "subscribe":
                            ready.set()
                        elif message["data"] == b"end":
                            return heard
                        else:
                            heard.append(message["data"])
                raise AssertionError("listening ended by itself")

            events = [asyncio.Event() for _ in range(5)]
            listeners = [asyncio.create_task(listen(event)) for event in events]
            for event in events:
                await event.wait()
            for number in range(50):
                await client.publish("news", number)
            await client.publish("news", "end")
            return await asyncio.gather(*listeners)

    assert runner(main) == [[b"%d" % number for number in range(50)]] * 5


def test_a_subscriber_that_hears_nothing_for_a_while(
    runner: LoopRunner, redis_server: Redis
) -> None:
    async def main() -> tuple[None, bytes]:
        async with await flushed(redis_server) as client, client.pubsub() as pubsub:
            await pubsub.subscribe("quiet")
            assert (await pubsub.get_message(timeout=10))["type"] == "subscribe"
            nothing = await pubsub.get_message(timeout=0.05)
            await client.publish("quiet", "at last")
            return nothing, (await pubsub.get_message(timeout=10))["data"]

    assert runner(main) == (None, b"at last")


def test_a_blocking_pop(runner: LoopRunner, redis_server: Redis) -> None:
    async def main() -> tuple[None, tuple[bytes, bytes]]:
        async with await flushed(redis_server) as client:
            nothing = await client.blpop("queue", timeout=0.05)
            waiting = asyncio.create_task(client.blpop("queue", timeout=30))
            await asyncio.sleep(0.01)
            await client.rpush("queue", "work")
            return nothing, await waiting

    assert runner(main) == (None, (b"queue", b"work"))


def test_workers_on_a_queue_that_are_cancelled_at_the_end(
    runner: LoopRunner, redis_server: Redis
) -> None:
    async def main() -> tuple[list[int], list[str], int]:
        # With a timeout of its own, redis-py sometimes mistakes a cancellation for that timeout.
        async with await flushed(redis_server, socket_timeout=None) as client:
            done: list[int] = []
            all_done = asyncio.Event()

            async def work() -> None:
                while True:
                    _, item = await client.blpop("jobs", timeout=0)
                    done.append(int(item))
                    if len(done) == 100:
                        all_done.set()

            workers = [asyncio.create_task(work()) for _ in range(5)]
            await client.rpush("jobs", *range(100))
            await all_done.wait()
            for worker in workers:
                worker.cancel()
            ended = await asyncio.gather(*workers, return_exceptions=True)
            # Connections of cancelled commands must not deliver those answers to other commands.
            await client.rpush("jobs", "next")
            answers = await asyncio.gather(*(client.echo(f"echo {n}") for n in range(10)))
            assert answers == [b"echo %d" % n for n in range(10)]
            return sorted(done), [type(each).__name__ for each in ended], len(answers)

    assert runner(main) == (list(range(100)), ["CancelledError"] * 5, 10)


def test_a_command_that_times_out(runner: LoopRunner, redis_server: Redis) -> None:
    async def main() -> tuple[str, bytes]:
        async with await flushed(redis_server, socket_timeout=0.1, retry=None) as client:
            with pytest.raises(redis.TimeoutError) as raised:
                await client.blpop("nothing", timeout=20)
            return type(raised.value).__name__, await client.echo("alive")

    assert runner(main) == ("TimeoutError", b"alive")


def test_a_pool_that_makes_callers_wait(runner: LoopRunner, redis_server: Redis) -> None:
    async def main() -> tuple[int, str]:
        await (await flushed(redis_server)).aclose()
        pool = redis.BlockingConnectionPool(
            host="127.0.0.1", port=redis_server.port, max_connections=3, timeout=30
        )
        async with redis.Redis.from_pool(pool) as client:
            await asyncio.gather(*(client.incr("waited") for _ in range(100)))
            total = int(await client.get("waited"))
        narrow = redis.BlockingConnectionPool(
            host="127.0.0.1", port=redis_server.port, max_connections=1, timeout=0.05
        )
        async with redis.Redis.from_pool(narrow) as client:
            holder = asyncio.create_task(client.blpop("nothing", timeout=20))
            await asyncio.sleep(0.01)
            with pytest.raises(redis.ConnectionError, match="No connection available"):
                await client.get("waited")
            holder.cancel()
            ended = await asyncio.gather(holder, return_exceptions=True)
        return total, type(ended[0]).__name__

    assert runner(main) == (100, "CancelledError")


def test_a_connection_that_the_server_ends(runner: LoopRunner, redis_server: Redis) -> None:
    async def main() -> tuple[str, bytes]:
        async with (
            await flushed(redis_server) as admin,
            redis.Redis(
                host="127.0.0.1", port=redis_server.port, single_connection_client=True, retry=None
            ) as client,
        ):
            victim = await client.client_id()
            waiting = asyncio.create_task(client.blpop("nothing", timeout=30))
            while b"blpop" not in await _command_of(admin, victim):
                await asyncio.sleep(0)
            await admin.client_kill_filter(_id=victim)
            with pytest.raises(redis.ConnectionError) as raised:
                await waiting
            return type(raised.value).__name__, await client.echo("again")

    assert runner(main) == ("ConnectionError", b"again")


async def _command_of(admin: Any, client_id: int) -> bytes:
    clients = await admin.client_list(client_id=[client_id])
    return str(clients[0]["cmd"]).encode()


@pytest.mark.parametrize("size", [0, 1, 100_000, 8_000_000])
def test_a_value_of_any_size_over_a_unix_socket(
    runner: LoopRunner, redis_server: Redis, size: int
) -> None:
    value = bytes(range(256)) * (size // 256) + bytes(size % 256)

    async def main() -> bool:
        path = str(redis_server.unix_socket)
        async with redis.Redis(unix_socket_path=path) as client:
            await client.set("large", value)
            values = await asyncio.gather(*(client.get("large") for _ in range(3)))
            await client.delete("large")
            return values == [value] * 3

    assert runner(main)


def test_a_server_that_is_not_there(runner: LoopRunner) -> None:
    async def main() -> bool:
        async with redis.Redis(host="127.0.0.1", port=1, retry=None) as client:
            with pytest.raises(redis.ConnectionError) as raised:
                await client.ping()
            return "Connect call failed" in str(raised.value)

    assert runner(main)
