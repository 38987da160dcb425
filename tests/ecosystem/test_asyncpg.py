"""asyncpg against a real PostgreSQL."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from tests.ecosystem.runners import LoopRunner
from tests.ecosystem.servers import PostgreSQL
from tests.support.certificates import Certificates, client_context


def pool_of_ten(server: PostgreSQL, **options: Any) -> Any:
    return asyncpg.create_pool(
        host="127.0.0.1",
        port=server.port,
        user=server.user,
        database=server.database,
        ssl=False,
        min_size=10,
        max_size=10,
        **options,
    )


async def connect(server: PostgreSQL, **options: Any) -> Any:
    settings = {"host": "127.0.0.1", "ssl": False, **options}
    return await asyncpg.connect(
        port=server.port, user=server.user, database=server.database, **settings
    )


def test_a_pool_of_ten_serves_two_hundred_tasks(runner: LoopRunner, postgresql: PostgreSQL) -> None:
    async def main() -> tuple[list[int], int]:
        async with pool_of_ten(postgresql) as pool:
            queries = (pool.fetchval("SELECT $1::int * 2", number) for number in range(200))
            results = await asyncio.gather(*queries)
            return results, pool.get_size()

    assert runner(main) == ([number * 2 for number in range(200)], 10)


def test_commit_and_rollback(runner: LoopRunner, postgresql: PostgreSQL) -> None:
    async def main() -> list[int]:
        connection = await connect(postgresql)
        try:
            await connection.execute("CREATE TEMPORARY TABLE numbers (number int)")
            async with connection.transaction():
                await connection.execute("INSERT INTO numbers VALUES (1)")
                with pytest.raises(asyncpg.DivisionByZeroError):
                    async with connection.transaction():
                        await connection.execute("INSERT INTO numbers VALUES (2)")
                        await connection.fetchval("SELECT 1 / 0")
            with pytest.raises(LookupError):
                async with connection.transaction():
                    await connection.execute("INSERT INTO numbers VALUES (3)")
                    raise LookupError("the application's own")
            await connection.executemany("INSERT INTO numbers VALUES ($1)", [(4,), (5,)])
            rows = await connection.fetch("SELECT number FROM numbers ORDER BY number")
            return [row["number"] for row in rows]
        finally:
            await connection.close()

    assert runner(main) == [1, 4, 5]


def test_concurrent_transactions_lose_no_update(runner: LoopRunner, postgresql: PostgreSQL) -> None:
    table = f"account_{runner.name}"

    async def main() -> int:
        async with pool_of_ten(postgresql) as pool:
            await pool.execute(f"CREATE TABLE {table} (balance int)")
            try:
                await pool.execute(f"INSERT INTO {table} VALUES (0)")

                async def pay_in() -> None:
                    async with pool.acquire() as connection, connection.transaction():
                        select = f"SELECT balance FROM {table} FOR UPDATE"
                        balance = await connection.fetchval(select)
                        await connection.execute(f"UPDATE {table} SET balance = $1", balance + 1)

                await asyncio.gather(*(pay_in() for _ in range(50)))
                balance: int = await pool.fetchval(f"SELECT balance FROM {table}")
                return balance
            finally:
                await pool.execute(f"DROP TABLE {table}")

    assert runner(main) == 50


async def by_asyncpgs_timeout(connection: Any) -> None:
    await connection.execute("SELECT pg_sleep(600)", timeout=0.05)


async def by_asyncios_timeout(connection: Any) -> None:
    async with asyncio.timeout(0.05):
        await connection.execute("SELECT pg_sleep(600)")


async def by_wait_for(connection: Any) -> None:
    await asyncio.wait_for(connection.execute("SELECT pg_sleep(600)"), 0.05)


@pytest.mark.parametrize("give_up", [by_asyncpgs_timeout, by_asyncios_timeout, by_wait_for])
def test_a_query_that_takes_too_long_is_cancelled_on_the_server_too(
    runner: LoopRunner, postgresql: PostgreSQL, give_up: Callable[[Any], Any]
) -> None:
    async def main() -> tuple[int, int]:
        connection, observer = await asyncio.gather(connect(postgresql), connect(postgresql))
        try:
            with pytest.raises(TimeoutError):
                await give_up(connection)
            value = await connection.fetchval("SELECT 42")
            running = await observer.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE state = 'active' AND query LIKE '%pg_sleep(600)%'"
                " AND pid <> pg_backend_pid()"
            )
            return value, running
        finally:
            await connection.close()
            await observer.close()

    assert runner(main) == (42, 0)


def test_a_task_that_is_cancelled_gives_its_connection_back(
    runner: LoopRunner, postgresql: PostgreSQL
) -> None:
    async def main() -> tuple[int, list[int]]:
        async with pool_of_ten(postgresql) as pool:
            # Ten of the tasks hold a connection, the others wait for one.
            tasks = [asyncio.create_task(pool.execute("SELECT pg_sleep(600)")) for _ in range(30)]
            await asyncio.sleep(0.1)
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            cancelled = sum(isinstance(each, asyncio.CancelledError) for each in ended)
            queries = (pool.fetchval("SELECT $1::int", number) for number in range(20))
            return cancelled, await asyncio.gather(*queries)

    assert runner(main) == (30, list(range(20)))


def test_notifications_reach_the_listeners(runner: LoopRunner, postgresql: PostgreSQL) -> None:
    channel = f"channel_{runner.name}"

    async def main() -> list[str]:
        heard: asyncio.Queue[str] = asyncio.Queue()
        listener, speaker = await asyncio.gather(connect(postgresql), connect(postgresql))
        try:
            await listener.add_listener(channel, lambda *arguments: heard.put_nowait(arguments[3]))
            for number in range(100):
                await speaker.execute("SELECT pg_notify($1, $2)", channel, str(number))
            return [await heard.get() for _ in range(100)]
        finally:
            await listener.close()
            await speaker.close()

    assert runner(main) == [str(number) for number in range(100)]


@pytest.mark.parametrize("how", ["unix", "tls", "direct-tls-refused", "plain"])
def test_every_way_to_connect(
    runner: LoopRunner, postgresql: PostgreSQL, certificates: Certificates, how: str
) -> None:
    ways: dict[str, dict[str, Any]] = {
        "unix": {"host": postgresql.folder, "ssl": None},
        "tls": {"ssl": client_context(certificates), "host": "localhost"},
        "direct-tls-refused": {"ssl": ssl.create_default_context()},
        "plain": {"ssl": False},
    }

    async def main() -> tuple[bool, bool] | str:
        try:
            connection = await connect(postgresql, **ways[how])
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
        try:
            tls = await connection.fetchval(
                "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            )
            local = await connection.fetchval("SELECT inet_client_addr() IS NULL")
            return tls, local
        finally:
            await connection.close()

    assert (
        runner(main)
        == {
            "unix": (False, True),
            "tls": (True, False),
            "direct-tls-refused": "unable to get local issuer certificate",
            "plain": (False, False),
        }[how]
    )


def test_a_hundred_thousand_records_go_in_and_out(
    runner: LoopRunner, postgresql: PostgreSQL
) -> None:
    count = 100_000

    async def main() -> tuple[str, int, int, int]:
        connection = await connect(postgresql)
        try:
            await connection.execute("CREATE TEMPORARY TABLE records (number int, text text)")
            records = ((number, f"record {number}") for number in range(count))
            status = await connection.copy_records_to_table("records", records=records)
            rows = await connection.fetch("SELECT * FROM records")
            seen = 0
            async with connection.transaction():
                async for row in connection.cursor("SELECT * FROM records", prefetch=1000):
                    seen += row["number"]
            copied = 0

            async def take(data: bytes) -> None:
                nonlocal copied
                copied += data.count(b"\n")

            await connection.copy_from_query("SELECT * FROM records", output=take)
            return status, len(rows), seen, copied
        finally:
            await connection.close()

    assert runner(main) == (f"COPY {count}", count, count * (count - 1) // 2, count)


def test_a_pool_replaces_a_connection_that_the_server_ended(
    runner: LoopRunner, postgresql: PostgreSQL
) -> None:
    async def main() -> int:
        async with pool_of_ten(postgresql) as pool:
            async with pool.acquire() as victim:
                process = victim.get_server_pid()
                lost = asyncio.Event()
                victim.add_termination_listener(lambda _: lost.set())
                waiting = asyncio.create_task(victim.execute("SELECT pg_sleep(600)"))
                await pool.fetchval("SELECT pg_terminate_backend($1)", process)
                with pytest.raises(
                    (asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)
                ):
                    await waiting
                await lost.wait()
            queries = (pool.fetchval("SELECT 1") for _ in range(20))
            return sum(await asyncio.gather(*queries))

    assert runner(main) == 20


def test_closing_a_pool_waits_for_connections_in_use(
    runner: LoopRunner, postgresql: PostgreSQL
) -> None:
    async def main() -> list[str]:
        events = []
        pool = await pool_of_ten(postgresql)
        acquired = asyncio.Event()
        release = asyncio.Event()

        async def work() -> None:
            async with pool.acquire() as connection:
                acquired.set()
                await release.wait()
                events.append(await connection.fetchval("SELECT 'worked'"))

        worker = asyncio.create_task(work())
        await acquired.wait()
        closing = asyncio.create_task(pool.close())
        await asyncio.sleep(0)
        assert not closing.done()
        release.set()
        await closing
        events.append("closed")
        await worker
        with pytest.raises(asyncpg.InterfaceError, match="pool is closed"):
            await pool.fetchval("SELECT 1")
        return events

    assert runner(main) == ["worked", "closed"]


def test_terminating_a_pool_breaks_connections_in_use(
    runner: LoopRunner, postgresql: PostgreSQL
) -> None:
    async def main() -> str:
        pool = await pool_of_ten(postgresql)
        async with pool.acquire() as connection:
            query = asyncio.create_task(connection.execute("SELECT pg_sleep(600)"))
            await asyncio.sleep(0.05)
            pool.terminate()
            with pytest.raises(asyncpg.PostgresConnectionError) as raised:
                await query
        return type(raised.value).__name__

    assert runner(main) == "ConnectionDoesNotExistError"
