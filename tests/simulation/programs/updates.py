"""Faults of shared state that changes across an await."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from tests.simulation.programs.catalogue import fault, pause


def guard(lock: asyncio.Lock, correct: bool) -> AsyncExitStack | asyncio.Lock:
    """Return the lock in the corrected program, and nothing to hold in the other."""
    return lock if correct else AsyncExitStack()


@fault()
async def lost_update(correct: bool) -> None:
    """Two deposits read the balance, wait, and write it: one of them is lost."""
    balance = 100
    lock = asyncio.Lock()

    async def deposit(amount: int, delay: int) -> None:
        nonlocal balance
        await pause(delay)
        async with guard(lock, correct):
            before = balance
            await pause()
            balance = before + amount

    await asyncio.gather(deposit(10, 1), deposit(20, 4))
    assert balance == 130


@fault()
async def overdraft(correct: bool) -> None:
    """Two withdrawals check the balance, and then wait for a confirmation."""
    balance = 100
    lock = asyncio.Lock()

    async def withdraw(amount: int, delay: int) -> None:
        nonlocal balance
        await pause(delay)
        async with guard(lock, correct):
            if balance >= amount:
                await pause()
                balance -= amount

    await asyncio.gather(withdraw(80, 0), withdraw(80, 3))
    assert balance >= 0


@fault()
async def lazy_connection_is_opened_twice(correct: bool) -> None:
    """The first two users of a connection both find that there is none."""
    opened = 0
    connection: object = None
    lock = asyncio.Lock()

    async def use(delay: int) -> None:
        nonlocal opened, connection
        await pause(delay)
        async with guard(lock, correct):
            if connection is None:
                await pause(2)
                opened += 1
                connection = object()

    await asyncio.gather(use(0), use(5))
    assert opened == 1


@fault()
async def cache_stampede(correct: bool) -> None:
    """All that miss in the cache compute the value."""
    cache: dict[str, int] = {}
    loading: dict[str, asyncio.Future[int]] = {}
    loads = 0

    async def load(key: str) -> int:
        nonlocal loads
        loads += 1
        await pause(2)
        return len(key)

    async def get(key: str, delay: int) -> int:
        await pause(delay)
        if key in cache:
            return cache[key]
        if correct:
            if key not in loading:
                loading[key] = asyncio.ensure_future(load(key))
            cache[key] = await loading[key]
        else:
            cache[key] = await load(key)
        return cache[key]

    await asyncio.gather(get("a", 0), get("a", 5), get("a", 6))
    assert loads == 1


@fault()
async def double_close(correct: bool) -> None:
    """Two tasks close a connection, which checks a flag that it sets only after a wait."""
    is_open = True
    goodbyes = 0

    async def close(delay: int) -> None:
        nonlocal is_open, goodbyes
        await pause(delay)
        if not is_open:
            return
        if correct:
            is_open = False
        await pause()
        goodbyes += 1
        is_open = False

    await asyncio.gather(close(0), close(4))
    assert goodbyes == 1


@fault()
async def iteration_over_a_changing_dict(correct: bool) -> None:
    """A broadcast waits while it iterates over the clients, and a client connects meanwhile."""
    clients = {"a": 0, "b": 0}

    async def broadcast() -> None:
        for name in list(clients) if correct else clients:
            await pause()
            clients[name] += 1

    async def connect() -> None:
        await pause(5)
        clients["c"] = 0

    await asyncio.gather(broadcast(), connect())


@fault()
async def index_that_is_stale(correct: bool) -> None:
    """A task remembers an index across a wait, while another one shortens the list."""
    jobs = ["one", "two"]

    async def inspect_last() -> None:
        index = len(jobs) - 1
        await pause()
        if correct and index >= len(jobs):
            return
        assert jobs[index]

    async def take() -> None:
        await pause(3)
        jobs.pop()

    await asyncio.gather(inspect_last(), take())


@fault()
async def audit_during_a_transfer(correct: bool) -> None:
    """An audit adds up the accounts while a transfer is half-way."""
    accounts = {"a": 50, "b": 50}
    lock = asyncio.Lock()

    async def transfer() -> None:
        async with lock:
            accounts["a"] -= 10
            await pause()
            accounts["b"] += 10

    async def audit() -> None:
        await pause(4)
        async with guard(lock, correct):
            assert sum(accounts.values()) == 100

    await asyncio.gather(transfer(), audit())


@fault()
async def older_answer_overwrites_the_newer(correct: bool) -> None:
    """Search as you type: the answer to the first letters comes after that to all of them."""
    shown = ""
    latest = 0

    async def search(text: str, number: int, delay: int) -> None:
        nonlocal shown, latest
        await pause(delay)
        latest = max(latest, number)
        await pause()
        if not correct or number == latest:
            shown = text

    await asyncio.gather(search("py", 1, 0), search("python", 2, 4))
    assert shown == "python"


@fault()
async def buffer_is_dropped_by_its_flush(correct: bool) -> None:
    """A flush clears the buffer after the write, with what was added meanwhile."""
    buffer: list[int] = []
    stored: list[int] = []

    async def flush() -> None:
        nonlocal buffer
        taken = list(buffer)
        if correct:
            buffer = []
        await pause()
        stored.extend(taken)
        if not correct:
            buffer.clear()

    async def add() -> None:
        buffer.append(1)
        await pause(4)
        buffer.append(2)

    adding = asyncio.ensure_future(add())
    await pause()
    await flush()
    await adding
    await flush()
    assert stored == [1, 2]


@fault()
async def seats_are_sold_twice(correct: bool) -> None:
    """Two sales look for a free seat, wait for the payment, and take the seat."""
    owner: dict[int, str] = {}

    async def sell(customer: str, delay: int) -> int:
        await pause(delay)
        seat = min(set(range(3)) - owner.keys())
        if correct:
            owner[seat] = customer
        await pause()
        owner[seat] = customer
        return seat

    seats = await asyncio.gather(sell("a", 0), sell("b", 4))
    assert seats[0] != seats[1]
