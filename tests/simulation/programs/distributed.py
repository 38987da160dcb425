"""Faults of programs whose parts agree with one another by messages and deadlines."""

from __future__ import annotations

import asyncio

from tests.simulation.programs.catalogue import fault, pause


@fault()
async def lease_expires_during_a_write(correct: bool) -> None:
    """A leader checks its lease, waits, and writes when another leader is elected already."""
    term = 1
    written: list[int] = []

    async def store(by_term: int) -> None:
        if correct and by_term < term:
            return
        written.append(by_term)

    async def lead() -> None:
        await asyncio.sleep(0.995)
        mine = term
        if mine == 1:
            await pause(2)
            await store(mine)

    async def elect() -> None:
        nonlocal term
        await asyncio.sleep(1)
        term = 2
        await store(term)

    await asyncio.gather(lead(), elect())
    assert written == sorted(written)


@fault()
async def two_leaders(correct: bool) -> None:
    """Each of two nodes reads that there is no leader, and claims the place."""
    leader: str | None = None
    leaders: list[str] = []

    async def campaign(name: str, delay: int) -> None:
        nonlocal leader
        await pause(delay)
        found = leader
        if not correct:
            await pause()
        if found is None:
            leader = name
            leaders.append(name)

    await asyncio.gather(campaign("a", 0), campaign("b", 3))
    assert len(leaders) == 1


@fault()
async def late_heartbeat(correct: bool) -> None:
    """A monitor declares a node dead that sends its heartbeat in time, but is heard too late."""
    last = 0.0
    dead = False
    loop = asyncio.get_running_loop()

    async def beat() -> None:
        nonlocal last
        for _ in range(2):
            await asyncio.sleep(1)
            await pause()
            last = loop.time()

    async def watch() -> None:
        nonlocal dead
        await asyncio.sleep(1.005)
        if correct:
            await asyncio.sleep(2)
        dead = last == 0.0

    await asyncio.gather(beat(), watch())
    assert not dead


@fault()
async def stale_replica(correct: bool) -> None:
    """A client reads its own write from a replica that has not received it."""
    primary = {"x": 0}
    replica = {"x": 0}

    async def replicate() -> None:
        await pause()
        replica.update(primary)

    async def client() -> None:
        primary["x"] = 1
        copying = asyncio.ensure_future(replicate())
        if correct:
            await copying
        else:
            await pause(4)
        assert replica["x"] == 1
        await copying

    await client()


@fault()
async def messages_applied_out_of_order(correct: bool) -> None:
    """Two updates are delivered by tasks of their own, and the later one may come first."""
    state = (0, "")

    async def deliver(number: int, value: str, delay: int) -> None:
        nonlocal state
        await pause(delay)
        if not correct or number > state[0]:
            state = (number, value)

    await asyncio.gather(deliver(1, "old", 1), deliver(2, "new", 4))
    assert state[1] == "new"
