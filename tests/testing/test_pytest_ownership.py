"""The pytest plugin: tasks and waits of a fixture belong to the fixture and not to the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.testing.inner_pytest import check

pytestmark = pytest.mark.slow

SCOPES = ["function", "class", "session"]

GROUPS = """
async def forget():
    await runtime.sleep(3600)

async def outer():
    async with runtime.TaskGroup() as group:
        group.create_task(forget())

async def gathered():
    await runtime.gather(forget(), forget())

def stop(name):
    for task in asyncio.all_tasks():
        if task.get_name() == name:
            task.cancel()

@pytest.fixture(scope="{scope}", params=[runtime.TaskGroup, asyncio.TaskGroup])
async def group(request):
    async with request.param() as group:
        yield group
        stop("worker")

@pytest.fixture(scope="{scope}")
async def nursery():
    async with runtime.TaskGroup() as group:
        async with asyncio.TaskGroup() as inner:
            yield inner
            stop("worker")

class TestGroups:
    @pytest.mark.parametrize("work", [forget, outer, gathered])
    async def test_it(self, group, work):
        group.create_task(work(), name="worker")
        await runtime.sleep(0.001)

    async def test_nested(self, nursery):
        nursery.create_task(forget(), name="worker")

    async def test_tasks_outside_the_group(self, group):
        runtime.create_task(forget(), name="forgotten")
        group.create_task(runtime.sleep(0))
"""


@pytest.mark.parametrize("scope", SCOPES)
def test_tasks_that_a_test_starts_in_the_group_of_a_fixture(scope: str, tmp_path: Path) -> None:
    output = check(tmp_path, GROUPS.format(scope=scope), {"passed": 7, "failed": 2})
    assert output.count("\ntask forgotten") == 2
    assert "task worker" not in output


SERVERS = """
import socket

@pytest.fixture(scope="session")
def folder():
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        yield folder

async def linger(reader, writer):
    helper = runtime.create_task(runtime.sleep(3600))
    try:
        async for line in reader:
            writer.write(line)
        await helper
    finally:
        helper.cancel()
        writer.close()

class Lingers(asyncio.Protocol):
    def connection_made(self, transport):
        self.task = asyncio.get_running_loop().create_task(asyncio.sleep(3600))
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def eof_received(self):
        return True

    def connection_lost(self, error):
        self.task.cancel()

class Datagrams(asyncio.DatagramProtocol):
    tasks = []

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.tasks.append(runtime.create_task(runtime.sleep(3600)))
        self.transport.sendto(data, address)

    def connection_lost(self, error):
        for task in self.tasks:
            task.cancel()

async def echo(reader, writer):
    writer.write(b"Hello\\n")
    assert await reader.readline() == b"Hello\\n"
    writer.close()
    await writer.wait_closed()

async def end(server):
    await server.shutdown(0)

@pytest.fixture(scope="{scope}", params=["127.0.0.1", "0.0.0.0"])
async def streams(request):
    server = await runtime.start_server(linger, request.param, 0)
    yield server.sockets[0].getsockname()[1]
    await end(server)

@pytest.fixture(scope="{scope}")
async def of_asyncio():
    released = asyncio.Event()

    async def handle(reader, writer):
        async for line in reader:
            writer.write(line)
        await released.wait()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    released.set()
    server.close()
    await server.wait_closed()
    await runtime.sleep(0)

@pytest.fixture(scope="{scope}")
async def protocols():
    loop = runtime.get_running_loop()
    server = await loop.create_server(Lingers, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    await end(server)

@pytest.fixture(scope="{scope}")
async def unix(folder):
    server = await runtime.start_unix_server(linger, folder + "/socket")
    yield folder + "/socket"
    await end(server)

@pytest.fixture(scope="{scope}")
async def datagrams():
    loop = runtime.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Datagrams, ("127.0.0.1", 0))
    yield transport.get_extra_info("sockname")
    transport.close()
    await runtime.sleep(0)

class TestServers:
    async def test_streams(self, streams):
        await echo(*await runtime.open_connection("127.0.0.1", streams))

    async def test_of_asyncio(self, of_asyncio):
        await echo(*await runtime.open_connection("127.0.0.1", of_asyncio))

    async def test_protocols(self, protocols):
        await echo(*await runtime.open_connection("127.0.0.1", protocols))

    async def test_unix(self, unix):
        await echo(*await runtime.open_unix_connection(unix))

    async def test_datagrams(self, datagrams):
        async with await runtime.open_datagram(remote_addr=datagrams) as endpoint:
            endpoint.send(b"Hello")
            assert (await endpoint.receive())[0] == b"Hello"

    async def test_a_client_that_is_left_open(self, protocols):
        client = socket.create_connection(("127.0.0.1", protocols))
        TestServers.client = client.detach()
        await runtime.sleep(0.01)

    async def test_a_server_of_the_test_s_own(self):
        server = await runtime.start_server(linger, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        await echo(*await runtime.open_connection("127.0.0.1", port))
        server.close()
"""


@pytest.mark.parametrize("scope", SCOPES)
def test_handlers_of_the_server_of_a_fixture(scope: str, tmp_path: Path) -> None:
    tests = SERVERS.replace("{scope}", scope)
    output = check(tmp_path, tests, {"passed": 6, "failed": 2})
    client, server = output.split("TestServers.test_a_", 3)[1:3]
    assert client.count("\ndescriptor ") == 1
    assert "\ntask " not in client
    # The handler and its helper task are reported, and so is the connection.
    assert server.count("\ntask ") == 2
    assert server.count("\ndescriptor ") == 1


def test_tasks_of_a_fixture_are_checked_at_the_end_of_the_fixture(tmp_path: Path) -> None:
    tests = """
async def forget():
    await runtime.sleep(3600)

async def work(jobs):
    while True:
        name = await jobs.get()
        runtime.create_task(forget(), name=name)

@pytest.fixture(scope="module")
async def jobs():
    jobs = runtime.Queue()
    worker = runtime.create_task(work(jobs))
    yield jobs
    worker.cancel()

@pytest.fixture(scope="class")
async def jobs_of_a_class(jobs):
    jobs = runtime.Queue()
    worker = runtime.create_task(work(jobs))
    yield jobs
    worker.cancel()

class TestInAClass:
    async def test_it(self, jobs, jobs_of_a_class):
        jobs.put_nowait("of the module")
        jobs_of_a_class.put_nowait("of the class")
        await runtime.sleep(0)

async def test_last(jobs):
    assert "of the module" in {task.get_name() for task in asyncio.all_tasks()}
    assert "of the class" not in {task.get_name() for task in asyncio.all_tasks()}
"""
    output = check(tmp_path, tests, {"passed": 2, "error": 2})
    assert "end of the class test_it.py::TestInAClass:\ntask of the class" in output
    assert "end of the module test_it.py:\ntask of the module" in output
    assert output.count("\ntask ") == 2
