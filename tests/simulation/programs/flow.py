"""Faults of queues, pools, timeouts and shutdowns."""

from __future__ import annotations

import asyncio

from tests.simulation.programs.catalogue import fault, pause


@fault()
async def join_hangs_after_a_failed_job(correct: bool) -> None:
    """A worker that fails in a job does not call ``task_done``."""
    jobs: asyncio.Queue[int] = asyncio.Queue()
    stock = 1

    async def restock() -> None:
        nonlocal stock
        await pause(3)
        stock += 1

    async def work() -> None:
        nonlocal stock
        while True:
            needed = await jobs.get()
            try:
                await pause()
                if stock < needed:
                    raise LookupError("out of stock")
                stock -= needed
            except LookupError:
                if not correct:
                    return
            jobs.task_done()

    jobs.put_nowait(1)
    supply = asyncio.ensure_future(restock())
    worker = asyncio.ensure_future(work())
    await pause(5)
    jobs.put_nowait(1)
    await jobs.join()
    await supply
    worker.cancel()


@fault()
async def job_counts_as_done_too_early(correct: bool) -> None:
    """A worker calls ``task_done`` when it takes a job, so that ``join`` returns too early."""
    jobs: asyncio.Queue[int] = asyncio.Queue()
    done: list[int] = []

    async def work() -> None:
        while True:
            job = await jobs.get()
            if not correct:
                jobs.task_done()
            await pause()
            done.append(job)
            if correct:
                jobs.task_done()

    worker = asyncio.ensure_future(work())
    jobs.put_nowait(1)
    await jobs.join()
    await pause(2)
    worker.cancel()
    assert done == [1]


@fault()
async def pool_leaks_at_a_timeout(correct: bool) -> None:
    """A request that times out does not give its connection back."""
    pool: asyncio.Queue[str] = asyncio.Queue()
    pool.put_nowait("connection")

    async def request(seconds: float) -> None:
        connection = await pool.get()
        try:
            async with asyncio.timeout(1):
                await asyncio.sleep(seconds)
        except TimeoutError:
            if not correct:
                return
        pool.put_nowait(connection)

    await request(0.995)
    await request(0.5)


@fault()
async def item_is_lost_at_a_timeout(correct: bool) -> None:
    """A consumer is cancelled by its timeout after it has taken an item."""
    items = ["item"]
    taken: list[str] = []

    async def take() -> None:
        if correct:
            await asyncio.sleep(0.995)
            taken.append(items.pop())
            return
        item = items.pop()
        await asyncio.sleep(0.995)
        taken.append(item)

    try:
        async with asyncio.timeout(1):
            await take()
    except TimeoutError:
        pass
    assert items or taken


@fault()
async def shutdown_drops_work(correct: bool) -> None:
    """A shutdown cancels the worker as soon as the queue is empty, in the middle of a job."""
    jobs: asyncio.Queue[int] = asyncio.Queue()
    done: list[int] = []

    async def work() -> None:
        while True:
            job = await jobs.get()
            await pause()
            done.append(job)
            jobs.task_done()

    worker = asyncio.ensure_future(work())
    jobs.put_nowait(1)
    if correct:
        await jobs.join()
    else:
        await pause(3)
        while not jobs.empty():
            await pause()
    worker.cancel()
    assert done == [1]


@fault()
async def sentinel_stops_one_of_two_workers(correct: bool) -> None:
    """A sentinel overtakes a job that is put again after a failure."""
    jobs: asyncio.Queue[int | None] = asyncio.Queue()
    done: list[int] = []
    failed = False

    async def work() -> None:
        nonlocal failed
        while (job := await jobs.get()) is not None:
            if not failed:
                failed = True
                await pause()
                jobs.put_nowait(job)
            else:
                done.append(job)
            jobs.task_done()

    async def stop() -> None:
        if correct:
            await jobs.join()
        else:
            await pause(6)
        jobs.put_nowait(None)

    jobs.put_nowait(1)
    await asyncio.gather(work(), stop())
    assert done == [1]


@fault()
async def retry_executes_twice(correct: bool) -> None:
    """A client repeats a payment after a timeout, and the server has made the first one."""
    charged: list[str] = []

    async def charge(key: str) -> None:
        if correct and key in charged:
            return
        charged.append(key)
        await asyncio.sleep(0.995)

    for _ in range(2):
        try:
            async with asyncio.timeout(1):
                await charge("order 1")
        except TimeoutError:
            continue
        break
    assert charged == ["order 1"]


@fault()
async def subscription_misses_a_message(correct: bool) -> None:
    """A client reads the history, and subscribes afterwards."""
    history: list[int] = []
    subscribers: list[list[int]] = []

    async def publish() -> None:
        for number in range(2):
            await pause(3 * number + 1)
            history.append(number)
            for subscriber in subscribers:
                subscriber.append(number)

    async def follow() -> list[int]:
        await pause(2)
        received: list[int] = []
        if correct:
            subscribers.append(received)
            received += [number for number in history if number not in received]
            await pause()
        else:
            received += history
            await pause()
            subscribers.append(received)
        return received

    received = (await asyncio.gather(follow(), publish()))[0]
    assert sorted(received) == [0, 1]


@fault()
async def answers_are_matched_by_order(correct: bool) -> None:
    """A client with two requests on the way takes the first answer for that to its first."""
    answers: asyncio.Queue[tuple[int, int]] = asyncio.Queue()

    async def serve(number: int, delay: int) -> None:
        await pause(delay)
        answers.put_nowait((number, number * number))

    async def client() -> None:
        found = [await answers.get() for _ in range(2)]
        if correct:
            found.sort()
        assert [square for _, square in found] == [4, 9]

    await asyncio.gather(client(), serve(2, 1), serve(3, 4))


@fault()
async def failure_in_the_background(correct: bool) -> None:
    """A task that nothing awaits fails, and its exception is never retrieved."""
    ready = False

    async def refresh() -> None:
        await pause()
        if not ready and not correct:
            raise LookupError("not ready")

    task: asyncio.Task[None] | None = asyncio.ensure_future(refresh())
    ready = True
    await pause(2)
    if not correct:
        ready = False
        await pause()
    if correct and task is not None:
        await task
    task = None
    await pause()


@fault()
async def gather_leaves_a_writer_behind(correct: bool) -> None:
    """After one part has failed, ``gather`` returns while the other still writes."""
    is_open = True
    wrote_after_close = False

    async def fail() -> None:
        await pause(4)
        raise LookupError("failed")

    async def write() -> None:
        nonlocal wrote_after_close
        await pause(2)
        wrote_after_close = not is_open

    tasks = [asyncio.ensure_future(fail()), asyncio.ensure_future(write())]
    try:
        await asyncio.gather(*tasks)
    except LookupError:
        if correct:
            await asyncio.gather(*tasks, return_exceptions=True)
    is_open = False
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not wrote_after_close


@fault()
async def rate_limit_is_exceeded(correct: bool) -> None:
    """A token is taken only after the request was sent."""
    tokens = 1
    sent = 0

    async def request(delay: int) -> None:
        nonlocal tokens, sent
        await pause(delay)
        if tokens > 0:
            if correct:
                tokens -= 1
            await pause()
            sent += 1
            if not correct:
                tokens -= 1

    await asyncio.gather(request(0), request(4))
    assert sent == 1
