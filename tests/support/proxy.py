"""TCP proxy that disturbs connections as networks do, by the plans of ``tests/support/faults.py``.

It consists of plain sockets and a selector in a thread of its own, and does not use ``runtime``: it
can stand between any client and any server::

    with FaultProxy(server_address, Plan(to_client=(Reset(after=1000),))) as proxy:
        ...  # a client connects to proxy.address
        assert proxy.connections[0].outcome is Outcome.RESET

Each direction of a connection is a ``Lane``::

    source socket --> pipeline of faults --> outbox of steps --> sink socket

There is back-pressure: a lane reads only while few bytes are in its outbox.
"""

from __future__ import annotations

import enum
import fcntl
import random
import selectors
import socket
import struct
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType

from tests.support.faults import FAULTLESS, Mark, Pause, Pipeline, Plan, SlowReader, Step

Address = tuple[str, int]

PATIENCE = 30.0
"""Seconds that a test waits for an event; far more than any event takes."""

_CHUNK = 65536
_MOST_WAITING = 65536
_POLL = 0.001
_LINGER = 1.0
"""Seconds that a reset waits, at most, for sent bytes to reach the receiver's kernel."""


class Outcome(enum.Enum):
    """State or outcome of a connection."""

    OPEN = enum.auto()
    CLOSED = enum.auto()
    """Both directions reached their end."""
    TRUNCATED = enum.auto()
    """The plan ended it."""
    RESET = enum.auto()
    """The plan reset it."""
    LOST = enum.auto()
    """One of the ends reset it, so that the proxy reset the other end as well."""
    UNREACHABLE = enum.auto()
    """The server could not be reached, and the client was reset."""
    ABANDONED = enum.auto()
    """It was open when the proxy was closed."""


class Lane:
    """One direction of a connection. The numbers are bytes."""

    def __init__(
        self,
        source: socket.socket,
        sink: socket.socket,
        pipeline: Pipeline,
        slow: SlowReader | None,
    ) -> None:
        self.source = source
        self.sink = sink
        self.received = 0
        self.sent = 0
        self.dropped = 0
        """Bytes from the source after the plan ended this direction."""
        self.stalled = False
        self.source_ended = False
        self.ended = False
        """Whether the end was sent to the sink; nothing more is sent."""
        self.blocked = False
        """Whether the sink accepts no data now."""
        self.pipeline = pipeline
        self.outbox: deque[Step | memoryview] = deque()
        self.waiting = 0
        """Bytes in the outbox."""
        self.pause_until = 0.0
        self.reset_by: float | None = None
        self._slow = slow
        self._read_from = 0.0

    def read_at(self) -> float | None:
        """Return the time of the next read from the source, or None if it must wait."""
        if self.source_ended:
            return None
        if self.ended:
            return 0.0
        return self._read_from if self.waiting < _MOST_WAITING else None

    def receive(self, now: float) -> None:
        """Read once from the source. Raises OSError if the source was reset."""
        slow = None if self.ended else self._slow
        try:
            data = self.source.recv(slow.size if slow else _CHUNK)
        except BlockingIOError:
            return
        if slow:
            self._read_from = now + slow.seconds
        self.received += len(data)
        if not data:
            self.source_ended = True
        if self.ended:
            self.dropped += len(data)
        else:
            self.queue(self.pipeline.feed(data, now) if data else self.pipeline.end())

    def queue(self, steps: Sequence[Step]) -> None:
        """Append steps to the outbox."""
        self.outbox += steps
        self.waiting += sum(len(step) for step in steps if isinstance(step, bytes))

    def send(self, data: bytes | memoryview) -> None:
        """Send the bytes at the head of the outbox, as far as the sink accepts them."""
        try:
            sent = self.sink.send(data)
        except BlockingIOError:
            sent = 0
        self.sent += sent
        self.waiting -= sent
        if sent < len(data):
            self.outbox[0] = memoryview(data)[sent:]
            self.blocked = True
        else:
            self.outbox.popleft()

    def finish(self) -> None:
        """Send the end to the sink, and drop the outbox."""
        if self.ended:
            return
        self.ended = True
        self.dropped += self.waiting
        self.waiting = 0
        self.outbox.clear()
        self.sink.shutdown(socket.SHUT_WR)


class Proxied:
    """One connection through the proxy."""

    def __init__(self, number: int, plan: Plan, seed: int) -> None:
        self.number = number
        self.outcome = Outcome.OPEN
        self.lanes: tuple[Lane, ...] = ()
        self._plan = plan
        self._seed = seed

    def connect(self, client: socket.socket, server: socket.socket) -> None:
        """Begin to forward between the two sockets, which the connection owns from now on."""
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.to_server = self._lane("to server", client, server)
        self.to_client = self._lane("to client", server, client)
        self.lanes = (self.to_server, self.to_client)
        for lane in self.lanes:
            lane.queue(lane.pipeline.begin())

    def _lane(self, direction: str, source: socket.socket, sink: socket.socket) -> Lane:
        faults = self._plan.to_server if direction == "to server" else self._plan.to_client
        chance = random.Random(f"{self._seed} {self.number} {direction}")
        slow = next((fault for fault in faults if isinstance(fault, SlowReader)), None)
        return Lane(source, sink, Pipeline(faults, chance), slow)

    @property
    def stalled(self) -> bool:
        """Whether a direction waits for resume()."""
        return any(lane.stalled for lane in self.lanes)

    def work(self, now: float) -> None:
        """Take the steps that are possible now."""
        try:
            for lane in self.lanes:
                if not self.lanes:
                    return  # the other direction had a reset in its plan
                if (deadline := lane.pipeline.deadline()) is not None and deadline <= now:
                    lane.queue(lane.pipeline.expire(now))
                self._carry_out(lane, now)
        except OSError:
            self.close(Outcome.LOST, reset=True)
        if self.lanes and all(lane.ended and lane.source_ended for lane in self.lanes):
            self.close(Outcome.CLOSED)

    def _carry_out(self, lane: Lane, now: float) -> None:
        while lane.outbox and not (lane.stalled or lane.blocked or lane.pause_until > now):
            step = lane.outbox[0]
            if isinstance(step, bytes | memoryview):
                lane.send(step)
                continue
            if step is Mark.RESET:
                if lane.reset_by is None:
                    lane.reset_by = now + _LINGER
                if now < lane.reset_by and _unacknowledged(lane.sink):
                    lane.pause_until = now + _POLL
                else:
                    self.close(Outcome.RESET, reset=True)
                return
            lane.outbox.popleft()
            if isinstance(step, Pause):
                lane.pause_until = now + step.seconds
            elif step is Mark.STALL:
                lane.stalled = True
            elif step is Mark.FIN:
                lane.finish()
            else:
                self.outcome = Outcome.TRUNCATED
                for each in self.lanes:
                    each.finish()

    def close(self, outcome: Outcome, *, reset: bool = False) -> None:
        """Close both sockets; an outcome that is already set is kept."""
        if self.outcome is Outcome.OPEN:
            self.outcome = outcome
        for lane in self.lanes:
            if reset:
                reset_at_close(lane.source)
            lane.source.close()
        self.lanes = ()

    def next_time(self, now: float) -> float | None:
        """Return the time of the next step that needs no event, or None."""
        times: list[float] = []
        for lane in self.lanes:
            if (deadline := lane.pipeline.deadline()) is not None:
                times.append(deadline)
            if lane.outbox and not lane.stalled and not lane.blocked:
                times.append(lane.pause_until)
            if (read_at := lane.read_at()) is not None and read_at > now:
                times.append(read_at)
        return min(times, default=None)


class FaultProxy:
    """Listens on loopback, forwards to ``target``, and applies the faults of ``plan``.

    With several plans, each connection has its own, in the order of acceptance; the last plan is
    used for all further connections. ``seed`` determines the random choices.
    """

    def __init__(
        self, target: Address, plan: Plan | Sequence[Plan] = FAULTLESS, seed: int = 0
    ) -> None:
        self.connections: list[Proxied] = []
        self._target = target
        self._plans = [plan] if isinstance(plan, Plan) else list(plan)
        self._seed = seed
        self._closing = False
        self._to_resume: deque[Lane] = deque()
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._selector = selectors.DefaultSelector()
        self._alarm, self._bell = socket.socketpair()
        self._listener = socket.socket()
        _shrink(self._listener, [fault for plan in self._plans for fault in plan.to_server])
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(128)
        self._listener.setblocking(False)
        self.address: Address = self._listener.getsockname()
        self._thread = threading.Thread(target=self._run, name="FaultProxy", daemon=True)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and stop the thread; raise its errors. May be called again."""
        if self._closing:
            return
        self._closing = True
        self._ring()
        self._thread.join()
        for sock in (self._alarm, self._bell):
            sock.close()
        self._selector.close()
        if self._failure is not None:
            raise self._failure

    def resume(self) -> None:
        """Let everything that is stalled now continue; does nothing once the proxy is closed."""
        if self._closing:
            return
        self._to_resume.extend(
            lane for each in self.connections for lane in each.lanes if lane.stalled
        )
        self._ring()

    @property
    def stalled(self) -> bool:
        """Whether some direction waits for resume()."""
        return any(each.stalled for each in self.connections)

    def wait_until(self, condition: Callable[[], object], patience: float = PATIENCE) -> None:
        """Wait until ``condition``, about the connections, holds. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(condition, patience):
                states = [(each.outcome.name, each.stalled) for each in self.connections]
                raise TimeoutError(f"The condition did not become true: {states}.")

    def _ring(self) -> None:
        self._bell.send(b"!")

    # -- In the proxy's thread ---------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closing:
                self._turn()
        except BaseException as error:
            self._failure = error
        finally:
            self._listener.close()
            for each in self.connections:
                each.close(Outcome.ABANDONED)

    def _turn(self) -> None:
        """Wait for an event, and let each connection take its possible steps."""
        busy = [each for each in self.connections if each.lanes]
        now = time.monotonic()
        interests = {self._alarm: selectors.EVENT_READ, self._listener: selectors.EVENT_READ}
        times: list[float] = []
        for each in busy:
            for lane in each.lanes:
                read_at = lane.read_at()
                if read_at is not None and read_at <= now:
                    interests[lane.source] = interests.get(lane.source, 0) | selectors.EVENT_READ
                if lane.blocked:
                    interests[lane.sink] = interests.get(lane.sink, 0) | selectors.EVENT_WRITE
            if (next_time := each.next_time(now)) is not None:
                times.append(next_time)
        ready = self._wait(interests, min(times, default=None))
        now = time.monotonic()
        if self._alarm in ready:
            self._alarm.recv(4096)
            while self._to_resume:
                self._to_resume.popleft().stalled = False
        if self._listener in ready:
            self._accept()
        for each in self.connections:
            _handle(each, ready, now)
            each.work(now)
        with self._changed:
            self._changed.notify_all()

    def _wait(
        self, interests: dict[socket.socket, int], until: float | None
    ) -> dict[socket.socket, int]:
        """Return the events of those sockets, or none at the given time."""
        for sock, events in interests.items():
            self._selector.register(sock, events)
        timeout = None if until is None else max(until - time.monotonic(), 0)
        try:
            return {
                key.fileobj: events
                for key, events in self._selector.select(timeout)
                if isinstance(key.fileobj, socket.socket)
            }
        finally:
            for sock in interests:
                self._selector.unregister(sock)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        number = len(self.connections)
        plan = self._plans[min(number, len(self._plans) - 1)]
        each = Proxied(number, plan, self._seed)
        server = socket.socket()
        try:
            _shrink(server, plan.to_client)
            server.settimeout(PATIENCE)
            server.connect(self._target)
            each.connect(client, server)
        except BaseException as error:
            server.close()
            reset_at_close(client)
            client.close()
            if not isinstance(error, OSError):
                raise
            each.outcome = Outcome.UNREACHABLE
        self.connections.append(each)


def _handle(each: Proxied, ready: dict[socket.socket, int], now: float) -> None:
    for lane in each.lanes:
        if ready.get(lane.sink, 0) & selectors.EVENT_WRITE:
            lane.blocked = False
        if ready.get(lane.source, 0) & selectors.EVENT_READ:
            try:
                lane.receive(now)
            except OSError:
                each.close(Outcome.LOST, reset=True)
                return


def _shrink(sock: socket.socket, faults: Sequence[object]) -> None:
    """Give a socket that is not connected yet the small buffer of a slow reader."""
    for fault in faults:
        if isinstance(fault, SlowReader):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, fault.kernel_buffer)


def reset_at_close(sock: socket.socket) -> None:
    """Make ``close()`` send a reset, and drop unsent bytes."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _unacknowledged(sock: socket.socket) -> int:
    """Return the number of bytes that have not reached the receiver's kernel; 0 if unknown."""
    try:
        answer = fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    size: int = struct.unpack("i", answer)[0]
    return size
