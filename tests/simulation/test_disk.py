"""Disk of a simulated host: what survives a crash, and what may."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from typing import Any

import pytest

from runtime import simulation
from runtime.simulation import Disk


def with_disk(body: Callable[[Disk], Any], seed: int | None = None) -> Any:
    """Call ``body`` with the disk of a host in a simulated run."""

    async def main() -> Any:
        return body(simulation.current_world().disk)

    return simulation.run(main, seed=seed)


def put(disk: Disk, name: str, data: bytes, *, sync: bool = True) -> None:
    with disk.open(name, "wb") as file:
        file.write(data)
        if sync:
            disk.fsync(file)


def outcomes(body: Callable[[Disk], Any], runs: int = 60) -> set[Any]:
    """Return the usual result of ``body`` and those of many seeds."""
    return {with_disk(body, seed) for seed in (None, *range(runs))}


def test_files_are_read_and_written() -> None:
    def body(disk: Disk) -> None:
        put(disk, "a", b"0123456789")
        with disk.open("a", "rb+") as file:
            assert file.read(3) == b"012"
            assert file.tell() == 3
            file.write(b"xy")
            assert file.seek(-1, io.SEEK_END) == 9
            assert file.read() == b"9"
            file.truncate(6)
        assert disk.read("a") == b"012xy5"
        with disk.open("a", "ab") as file:
            file.write(b"!")
        assert disk.read("a") == b"012xy5!"
        with io.TextIOWrapper(io.BufferedReader(disk.open("a")), "ascii") as text:
            assert text.read() == "012xy5!"
        with disk.open("a", "wb"):
            pass
        assert disk.read("a") == b""
        assert disk.exists("a")
        assert disk.names() == ["a"]
        disk.remove("a")
        assert not disk.exists("a")

    with_disk(body)


def test_wrong_uses_are_refused() -> None:
    def body(disk: Disk) -> None:
        with pytest.raises(FileNotFoundError):
            disk.open("a")
        with pytest.raises(FileNotFoundError):
            disk.rename("a", "b")
        with pytest.raises(ValueError, match="binary mode"):
            disk.open("a", "r")
        put(disk, "a", b"")
        with pytest.raises(FileExistsError):
            disk.open("a", "xb")
        with disk.open("a") as file, pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
        with pytest.raises(ValueError, match="closed"):
            disk.fsync(file)
        with disk.open("a", "wb") as written, pytest.raises(io.UnsupportedOperation):
            written.read()

    with_disk(body)


def test_what_was_synced_survives() -> None:
    def body(disk: Disk) -> bytes:
        put(disk, "a", b"synced")
        with disk.open("a", "ab") as file:
            file.write(b" more")
            disk.fsync(file)
        disk.crash()
        return disk.read("a")

    assert outcomes(body) == {b"synced more"}


def test_a_write_that_was_not_synced_is_lost_whole_or_torn() -> None:
    def body(disk: Disk) -> bytes:
        put(disk, "a", b"one")
        with disk.open("a", "ab") as file:
            file.write(b"two")
        assert disk.read("a") == b"onetwo"
        disk.crash()
        return disk.read("a")

    assert with_disk(body) == b"one"
    assert outcomes(body) == {b"one", b"onet", b"onetw", b"onetwo"}


def test_writes_reach_the_medium_in_any_order() -> None:
    def body(disk: Disk) -> bytes:
        put(disk, "a", b"")
        with disk.open("a", "ab") as file:
            file.write(b"1")
            file.write(b"2")
        disk.crash()
        return disk.read("a")

    assert {b"", b"1", b"12", b"\0002"} <= outcomes(body)


def test_a_rename_is_atomic_and_durable_with_the_directory() -> None:
    def body(disk: Disk) -> bytes:
        put(disk, "a", b"old")
        put(disk, "new", b"new")
        disk.rename("new", "a")
        disk.crash()
        return disk.read("a")

    assert with_disk(body) == b"old"
    assert outcomes(body) == {b"old", b"new"}

    def synced(disk: Disk) -> bytes:
        put(disk, "a", b"old")
        put(disk, "new", b"new")
        disk.rename("new", "a")
        disk.sync_directory()
        disk.crash()
        assert disk.names() == ["a"]
        return disk.read("a")

    assert outcomes(synced) == {b"new"}


def test_a_rename_without_a_sync_of_the_content_may_lose_the_content() -> None:
    def body(disk: Disk) -> bytes:
        put(disk, "a", b"old")
        put(disk, "new", b"new", sync=False)
        disk.rename("new", "a")
        disk.sync_directory()
        disk.crash()
        return disk.read("a")

    assert {b"", b"new"} <= outcomes(body)


def test_a_new_file_is_lost_unless_it_was_synced() -> None:
    def body(disk: Disk) -> bool:
        put(disk, "a", b"x", sync=False)
        disk.crash()
        return disk.exists("a")

    assert with_disk(body) is False
    assert outcomes(body) == {True, False}


def test_a_new_file_that_was_synced_survives_changes_of_its_name_before() -> None:
    def removed(disk: Disk) -> bytes:
        put(disk, "log", b"old")
        disk.sync_directory()
        disk.remove("log")
        put(disk, "log", b"new")
        disk.crash()
        return disk.read("log")

    assert outcomes(removed) == {b"new"}

    def renamed(disk: Disk) -> tuple[bool, bytes, bytes]:
        put(disk, "log", b"old")
        disk.sync_directory()
        disk.rename("log", "log.1")
        put(disk, "log", b"new")
        disk.crash()
        return disk.names() == ["log", "log.1"], disk.read("log"), disk.read("log.1")

    assert outcomes(renamed) == {(True, b"new", b"old")}

    def rotated(disk: Disk) -> tuple[bytes, ...]:
        put(disk, "log.1", b"oldest")
        put(disk, "log", b"old")
        disk.rename("log.1", "log.2")
        disk.rename("log", "log.1")
        put(disk, "log", b"new")
        disk.crash()
        return tuple(map(disk.read, disk.names()))

    assert outcomes(rotated) == {(b"new", b"old", b"oldest")}


def test_a_synced_file_is_not_replaced_by_an_earlier_one_of_its_name() -> None:
    def body(disk: Disk) -> bytes:
        put(disk, "new", b"first")
        disk.rename("new", "a")
        disk.remove("a")
        put(disk, "a", b"second")
        disk.crash()
        return disk.read("a")

    assert outcomes(body) == {b"second"}


def test_a_rename_of_one_file_does_not_remove_another_one() -> None:
    def body(disk: Disk) -> bool:
        put(disk, "a", b"kept")
        disk.sync_directory()
        disk.rename("a", "b")
        put(disk, "a", b"other", sync=False)
        disk.rename("a", "c")
        disk.crash()
        return any(disk.read(name) == b"kept" for name in disk.names())

    assert outcomes(body) == {True}


def test_a_file_that_was_open_at_a_crash_is_of_no_use() -> None:
    def body(disk: Disk) -> bytes:
        with disk.open("a", "wb+") as file:
            file.write(b"synced")
            disk.fsync(file)
            disk.crash()
            uses: list[Callable[[], object]] = [
                lambda: file.write(b"more"),
                lambda: file.truncate(0),
                lambda: file.seek(0),
                file.tell,
                file.read,
                lambda: disk.fsync(file),
            ]
            for use in uses:
                with pytest.raises(OSError, match="Bad file descriptor") as raised:
                    use()
                assert raised.value.errno == errno.EBADF
        return disk.read("a")

    assert with_disk(body) == b"synced"


def test_wrong_places_and_data_are_refused_as_by_a_real_file() -> None:
    def body(disk: Disk) -> bytes:
        disk.capacity = 10
        with disk.open("a", "wb+") as file:
            file.write(b"12345")
            with pytest.raises(OSError, match="Invalid argument"):
                file.truncate(-1)
            with pytest.raises(OSError, match="No space"):
                file.truncate(11)
            for whence in (-1, 3):
                with pytest.raises(ValueError, match="whence must be 0, 1 or 2"):
                    file.seek(0, whence)
            with pytest.raises(OSError, match="Invalid argument"):
                file.seek(-1)
            for data in (3, "text"):
                with pytest.raises(TypeError):
                    file.write(data)  # type: ignore[arg-type]
            assert file.truncate(6) == 6
        return disk.read("a")

    assert with_disk(body) == b"12345\0"


def test_the_disk_is_full() -> None:
    def body(disk: Disk) -> None:
        disk.capacity = 5
        put(disk, "a", b"12345")
        with disk.open("a", "ab") as file, pytest.raises(OSError, match="No space") as raised:
            file.write(b"6")
        assert raised.value.errno == errno.ENOSPC
        disk.remove("a")
        put(disk, "b", b"12345")

    with_disk(body)


def test_a_write_fails_by_chance() -> None:
    def body(disk: Disk) -> bool:
        disk.failures = 0.3
        try:
            put(disk, "a", b"x")
        except OSError as error:
            return error.errno != errno.EIO
        return True

    assert with_disk(body)
    assert outcomes(body) == {True, False}
