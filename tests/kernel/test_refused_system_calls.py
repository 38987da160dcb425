"""Waits and servers in a sandbox whose filter refuses ``epoll_pwait2`` or ``accept4``.

Every container runtime has had versions whose filter did not know the call, and refused it with an
error of its own choice.
"""

from __future__ import annotations

import errno
import platform
import sys

import pytest

from tests.support.programs import run_code

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="system call filters need Linux"
)

CODE = """
import ctypes, struct, runtime

class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

def refuse(number, error):
    # seccomp(2): compare the number of the system call; return an error, or allow it.
    steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50000 | error),
             (0x06, 0, 0, 0x7FFF0000)]
    program = Program(len(steps), b"".join(struct.pack("HBBI", *step) for step in steps))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(program), 0, 0):
        raise SystemExit("no filters here")

async def handle(reader, writer):
    writer.write(await reader.read())
    writer.close()

async def main():
    loop = runtime.get_running_loop()
    for _ in range(3):
        before = loop.time()
        await runtime.sleep(0.002)
        assert loop.time() - before >= 0.002
    print("slept")
    async with await runtime.start_server(handle, "127.0.0.1", 0) as server:
        reader, writer = await runtime.open_connection(*server.sockets[0].getsockname())
        writer.write(b"answered")
        writer.write_eof()
        print((await reader.read()).decode())
        writer.close()

refuse({number}, {error})
runtime.run(main())
"""


def run_without(number: int, name: str) -> None:
    code = CODE.replace("{number}", str(number)).replace("{error}", str(getattr(errno, name)))
    ended = run_code(code)
    if "no filters here" in ended.stderr:
        pytest.skip("this system has no filters of system calls")
    assert (ended.stdout, ended.stderr, ended.returncode) == ("slept\nanswered\n", "", 0)


@pytest.mark.parametrize("name", ["ENOSYS", "EPERM", "EACCES", "EINVAL", "EFAULT"])
def test_waits_without_epoll_pwait2(name: str) -> None:
    run_without(441, name)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="uses the number of the call on x86_64")
def test_a_server_without_accept4() -> None:
    run_without(288, "ENOSYS")


def test_a_wrong_descriptor_is_no_refusal() -> None:
    """The error of a closed descriptor is raised, and finer timeouts stay in use elsewhere."""
    code = """
import os, select
from runtime.kernel.native import accelerator
with select.epoll() as epoll, select.epoll() as closed:
    wait, wrong = accelerator.epoll_wait(epoll.fileno()), accelerator.epoll_wait(closed.fileno())
    accelerator.release(wrong)
    if accelerator.has_accelerator:
        closed.close()
    try:
        wrong(0.001)
    except (OSError, ValueError) as error:
        print(type(error).__name__)
    print(wait(0.001))
    accelerator.release(wait)
"""
    ended = run_code(code)
    assert ended.stderr == ""
    assert ended.stdout.split("\n")[0] in ("OSError", "ValueError")
    assert ended.stdout.endswith("[]\n")
