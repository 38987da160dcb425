"""Faults of locks, conditions, events and other synchronization."""

from __future__ import annotations

import asyncio

from tests.simulation.programs.catalogue import fault, pause


@fault()
async def wrong_lock_order(correct: bool) -> None:
    """Two tasks take the same two locks in opposite orders."""
    first, second = asyncio.Lock(), asyncio.Lock()

    async def forwards() -> None:
        async with first:
            await pause()
            async with second:
                pass

    async def backwards() -> None:
        await pause(4)
        outer, inner = (first, second) if correct else (second, first)
        async with outer:
            await pause()
            async with inner:
                pass

    await asyncio.gather(forwards(), backwards())


@fault()
async def dining_philosophers(correct: bool) -> None:
    """Each of three tasks holds one fork and waits for the next."""
    forks = [asyncio.Lock() for _ in range(3)]

    async def dine(place: int) -> None:
        await pause(3 * place)
        pair = [place, (place + 1) % 3]
        if correct:
            pair.sort()
        async with forks[pair[0]]:
            await pause()
            async with forks[pair[1]]:
                pass

    await asyncio.gather(*map(dine, range(3)))


@fault()
async def lost_wake_up_of_a_condition(correct: bool) -> None:
    """A consumer looks at the state without the lock; the notification comes before it waits."""
    condition = asyncio.Condition()
    ready = False

    async def consume() -> None:
        if correct:
            async with condition:
                await condition.wait_for(lambda: ready)
            return
        if not ready:
            await pause()
            async with condition:
                await condition.wait()

    async def produce() -> None:
        nonlocal ready
        await pause(4)
        async with condition:
            ready = True
            condition.notify_all()

    await asyncio.gather(consume(), produce())


@fault()
async def pulsed_event(correct: bool) -> None:
    """An event that is set and cleared at once wakes only those that wait already."""
    event = asyncio.Event()

    async def wait() -> None:
        await pause()
        await event.wait()

    async def pulse() -> None:
        await pause(4)
        event.set()
        if not correct:
            event.clear()

    await asyncio.gather(wait(), pulse())


@fault()
async def notification_for_one_of_two_kinds(correct: bool) -> None:
    """``notify`` wakes a producer although only a consumer could continue."""
    condition = asyncio.Condition()
    items: list[int] = []

    async def put(item: int) -> None:
        async with condition:
            await condition.wait_for(lambda: not items)
            items.append(item)
            condition.notify(2 if correct else 1)

    async def get(delay: int) -> int:
        await pause(delay)
        async with condition:
            await condition.wait_for(lambda: items)
            item = items.pop()
            condition.notify(2 if correct else 1)
            return item

    await asyncio.gather(put(1), get(1), put(2), put(3), get(2), get(2))


@fault()
async def wait_without_a_loop(correct: bool) -> None:
    """A consumer takes an item after a notification without looking whether it is still there."""
    condition = asyncio.Condition()
    items: list[int] = []

    async def get() -> None:
        async with condition:
            if correct:
                await condition.wait_for(lambda: items)
            elif not items:
                await condition.wait()
            items.pop()

    async def put(delay: int) -> None:
        await pause(delay)
        async with condition:
            items.append(1)
            condition.notify()

    async def late() -> None:
        await pause(5)
        await get()

    async def put_again() -> None:
        await asyncio.sleep(1)
        await put(0)

    await asyncio.gather(get(), put(4), late(), put_again())


@fault()
async def home_made_limit(correct: bool) -> None:
    """A limit that counts the running tasks only after a wait lets too many in."""
    running = most = 0
    semaphore = asyncio.Semaphore(1)

    async def work(delay: int) -> None:
        nonlocal running, most
        await pause(delay)
        if correct:
            await semaphore.acquire()
        else:
            while running >= 1:
                await asyncio.sleep(1)
            await pause()
        running += 1
        most = max(most, running)
        await asyncio.sleep(1)
        running -= 1
        if correct:
            semaphore.release()

    await asyncio.gather(work(0), work(6))
    assert most == 1


@fault()
async def barrier_that_resets_too_early(correct: bool) -> None:
    """The last task to arrive resets the count before the others have seen it."""
    arrived = 0
    event = asyncio.Event()
    arrivals = 0

    async def wait() -> None:
        nonlocal arrived, event
        mine = event
        arrived += 1
        if arrived == 2:
            arrived = 0
            if correct:
                event = asyncio.Event()
            mine.set()
            if not correct:
                await pause(3)
                event.clear()
        else:
            await mine.wait()

    async def party(delay: int) -> None:
        nonlocal arrivals
        for number in range(2):
            await pause(delay)
            arrivals += 1
            await wait()
            assert arrivals >= 2 * (number + 1)

    await asyncio.gather(party(5), party(9))


@fault()
async def writer_beside_readers(correct: bool) -> None:
    """A read-write lock whose writer checks the readers, and then waits before it sets its flag."""
    readers = 0
    writing = False
    changed = asyncio.Condition()

    async def read() -> None:
        nonlocal readers
        await pause()
        async with changed:
            await changed.wait_for(lambda: not writing)
            readers += 1
        await pause()
        assert not writing
        async with changed:
            readers -= 1
            changed.notify_all()

    async def write() -> None:
        nonlocal writing
        async with changed:
            await changed.wait_for(lambda: readers == 0)
            if correct:
                writing = True
        await pause()
        writing = True
        await pause()
        async with changed:
            writing = False
            changed.notify_all()

    await asyncio.gather(write(), read())


@fault()
async def result_is_set_twice(correct: bool) -> None:
    """Two answers for one request: both find the future pending, and wait before they set it."""
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def reply(text: str, delay: int) -> None:
        await pause(delay)
        if answer.done():
            return
        await pause()
        if not correct or not answer.done():
            answer.set_result(text)

    await asyncio.gather(reply("first", 0), reply("second", 4))
    assert answer.done()
