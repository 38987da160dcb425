"""Fragments in the documentation, run inside a program that supplies their context.

A block marked ``py`` is not a complete program. Each has a context here, in which ``<fragment>``
stands for it, or a test that writes it into the file whose name is in its first line.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.programs import ROOT, TIMEOUT, run_program

pytestmark = pytest.mark.once

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FRAGMENT = re.compile(r"^```py\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = {
    "# conftest.py": "tests/ecosystem/test_test_tools.py",
    "# gunicorn.conf.py": "tests/ecosystem/test_multi_core.py",
}
"""First lines of fragments that are files; their tests run if the needed tool is installed."""

CERTIFICATES = """
import pathlib, runtime, ssl, trustme
authority = trustme.CA()
authority.cert_pem.write_to_path("authority.pem")
issued = authority.issue_cert("localhost", "www.example.org")
issued.private_key_pem.write_to_path("key.pem")
for pem in issued.cert_chain_pems:
    pem.write_to_path("chain.pem", append=True)
"""
# A server that ends its connections with a close_notify of TLS, or without one.
SERVER = (
    CERTIFICATES
    + """
import contextlib, os, socket, threading
os.environ["SSL_CERT_FILE"] = "authority.pem"  # what the system trusts
for_server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
for_server.load_cert_chain("chain.pem", "key.pem")
listener = socket.create_server(("127.0.0.1", 0))
host, port = "localhost", listener.getsockname()[1]

real_getaddrinfo = socket.getaddrinfo
def getaddrinfo(name, number, *rest, **options):  # www.example.org:443 is here
    return real_getaddrinfo("127.0.0.1", port, *rest, **options)
socket.getaddrinfo = getaddrinfo

def serve(with_goodbye):
    client, _ = listener.accept()
    with contextlib.suppress(OSError), for_server.wrap_socket(client, server_side=True) as tls:
        tls.sendall(b"hello")
        if with_goodbye:
            tls.unwrap()
"""
)
CONNECTED = (
    SERVER
    + """
thread = threading.Thread(target=serve, args=[True])
thread.start()
async def main():
    <fragment>
    assert await reader.read() == b"hello"
    writer.close()
runtime.run(main())
thread.join()
"""
)
AROUND = {
    "await asyncio.to_thread(runtime.run, main())": """
import asyncio, runtime
async def main():
    print("in a thread")
async def cell():
    <fragment>
asyncio.run(cell())
""",
    'reader, writer = await runtime.open_connection("127.0.0.1", 8080)': """
import runtime, socket
listener = socket.create_server(("127.0.0.1", 0))
real_create_connection = runtime.open_connection
async def open_connection(host, port):
    return await real_create_connection(host, listener.getsockname()[1])
runtime.open_connection = open_connection
async def cell():
    <fragment>
    writer.close()
runtime.run(cell())
""",
    "context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)": CERTIFICATES
    + """
<fragment>
listening = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
assert context.get_ca_certs() == []
""",
    'context = ssl.create_default_context(cafile="authority.pem")': CERTIFICATES
    + """
<fragment>
assert len(context.get_ca_certs()) == 1
""",
    'reader, writer = await runtime.open_connection("www.example.org", 443, ssl=True)': CONNECTED,
    "try:\n    data = await reader.read(65536)": SERVER
    + """
thread = threading.Thread(target=serve, args=[False])
thread.start()
async def main():
    reader, writer = await runtime.open_connection(host, port, ssl=True)
    assert await reader.readexactly(5) == b"hello"
    <fragment>
    assert data == b""
    writer.close()
runtime.run(main())
thread.join()
""",
    "async with runtime.timeout(10):\n    reader, writer": CONNECTED,
    "def show_tasks() -> None:": """
import os, runtime, signal
async def main():
    <fragment>
    os.kill(os.getpid(), signal.SIGUSR1)
    await runtime.sleep(0.05)
runtime.run(main())
""",
    "faulthandler.register(signal.SIGUSR1)": """
import faulthandler, os, signal
<fragment>
os.kill(os.getpid(), signal.SIGUSR1)
""",
    "recording = loop.record()": """
import os, runtime, signal, tempfile
folder = tempfile.mkdtemp()
real_save_recordings = runtime.observe.save_recordings
def save_recordings(recording, where, **options):
    assert where == "/var/tmp/traces"
    real_save_recordings(recording, folder, **options)
runtime.observe.save_recordings = save_recordings
async def main():
    loop = runtime.get_running_loop()
    <fragment>
    os.kill(os.getpid(), signal.SIGUSR2)
    while not os.listdir(folder):
        await runtime.sleep(0.01)
    recording.stop()
runtime.run(main())
""",
    "before = tracemalloc.take_snapshot()": """
import runtime, tracemalloc
async def serve_for_a_while():
    await runtime.sleep(0)
async def main():
    tracemalloc.start()
    <fragment>
runtime.run(main())
""",
    "# serve.py": """
import os, signal
import runtime
start_server = runtime.start_server
async def start_and_be_told_to_stop(answer, host, port, **options):
    assert (host, port) == ("0.0.0.0", 8000)
    server = await start_server(answer, "127.0.0.1", 0, **options)
    runtime.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
    return server
runtime.start_server = start_and_be_told_to_stop
<fragment>
print("stopped in good order")
""",
    "class TestOnRuntime(unittest.IsolatedAsyncioTestCase):": """
import asyncio, sys, unittest
import runtime
<fragment>
    async def test_it_runs(self):
        if sys.version_info >= (3, 13):
            assert isinstance(asyncio.get_running_loop(), runtime.Loop)
unittest.main()
""",
}
PYTEST_FILES = {
    "import pytest\n\n\n@pytest.mark.simulation(runs=200)": """
async def main():
    pass

<fragment>
""",
    'import pytest\n\n\n@pytest.mark.simulation(runs=500, strategy="pct")': """
import pytest
import runtime

class Bank:
    balances = {"alice": 60, "bob": 40}

    async def transfer(self, sender, receiver, amount):
        await runtime.sleep(1)

@pytest.fixture
async def bank():
    return Bank()

<fragment>
""",
    "import pytest\nimport runtime\n\n\n@pytest.fixture\nasync def server():": """
<fragment>

async def handle(reader, writer):
    await runtime.sleep(3600)
    writer.write(b"Goodbye.\\n")
    writer.close()
""",
    'import pytest\nimport runtime\n\n\n@pytest.fixture(scope="module")': """
import pytest
pytestmark = pytest.mark.runtime
<fragment>

async def handle(reader, writer):
    writer.write(b"Hello " + await reader.readline())
    writer.close()
""",
}
"""Fragments that are tests for pytest and its plugin."""


def fragments() -> list[str]:
    """Return every fragment of every page."""
    return [found for page in PAGES for found in FRAGMENT.findall(page.read_text())]


def fragment(beginning: str) -> str:
    """Return the fragment with this beginning."""
    (found,) = [found for found in fragments() if found.startswith(beginning)]
    return str(found)


def filled(around: str, found: str) -> str:
    """Insert a fragment into its context, indented as the context requires."""
    line = re.search(r"^( *)<fragment>$", around, re.MULTILINE)
    assert line is not None
    return around.replace(line[0], textwrap.indent(found.rstrip(), line[1]))


@pytest.mark.parametrize("beginning", AROUND, ids=range(len(AROUND)))
def test_a_fragment_runs(beginning: str, tmp_path: Path) -> None:
    around = AROUND[beginning]
    if "trustme" in around:
        pytest.importorskip("trustme", reason="no certificates without trustme")
    program = f"import os; os.chdir({str(tmp_path)!r})\n{filled(around, fragment(beginning))}"
    done = run_program("-c", program)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("beginning", PYTEST_FILES, ids=range(len(PYTEST_FILES)))
def test_a_test_passes(beginning: str, tmp_path: Path) -> None:
    test = tmp_path / "test_of_the_page.py"
    test.write_text(filled(PYTEST_FILES[beginning], fragment(beginning)))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    ours = ("runtime.testing.pytest_plugin", "runtime.simulation.pytest_plugin")
    plugins = ("no:runtime", "no:runtime_simulation", *ours, "no:asyncio", "no:anyio")
    options = [word for plugin in (*plugins, "no:cacheprovider") for word in ("-p", plugin)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-c", str(tmp_path / "pytest.ini"), str(test)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b[1-9]\d* passed", done.stdout)


def test_every_fragment_is_run_somewhere() -> None:
    known = (*FILES, *AROUND, *PYTEST_FILES)
    assert [found for found in fragments() if not found.startswith(known)] == []
    for first_line, test in FILES.items():
        assert re.escape(first_line.removeprefix("# ")) in (ROOT / test).read_text()


def test_every_block_names_its_language() -> None:
    kinds = {
        kind
        for page in PAGES
        for kind in re.findall(r"^```(.*)\n(?:.*\n)*?```$", page.read_text(), re.MULTILINE)
    }
    assert kinds == {
        *("python", "output", "py", "sh", "text", "trace"),
        *("{eval-rst}", "{toctree}"),
    }


def test_shell_commands_exist() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    pages = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "bench" / "README.md"]
    lines = [
        line.partition("#")[0].split()
        for page in pages
        for block in re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    assert lines
    for words in lines:
        if words and words[0] == "make":
            assert words[1] in targets
        for word in words:
            if re.fullmatch(r"(src|tests|docs|bench)/[\w/.-]+", word):
                assert (ROOT / word).exists(), word
