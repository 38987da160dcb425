"""Disk of a simulated host: files whose content survives a crash only if it was synced.

Each file has two states: the one that programs see, and the one that is on the medium. Writes and
truncations change the first; ``fsync`` of the file brings them to the second. The directory is the
same: creating, renaming and removing change what programs see, and are on the medium after
``sync_directory``, or after ``fsync`` of the file for its creation, as on ext4. The earlier changes
of its name are on the medium with the creation: if ``log`` was renamed or removed before a new
``log`` was made, a directory that has the new one no longer has the old one there.

When the host loses its power, what was not synced is lost; or, by choice, some of it has reached
the medium nevertheless: each write whole, torn, or not at all, in any combination, as on real
disks.
"""

from __future__ import annotations

import errno
import io
import os
from typing import Final

from runtime.simulation.checks import Checked, check_limit, check_probability
from runtime.simulation.choices import Choices

_WRITTEN: Final = 1
_TORN: Final = 2


class _Content:
    """The content of one file, and the changes to it that are not on the medium."""

    __slots__ = ("durable", "pending", "seen")

    def __init__(self) -> None:
        self.seen = bytearray()
        self.durable = b""
        # Writes are (offset, data), and truncations (size, None).
        self.pending: list[tuple[int, bytes | None]] = []

    def change(self, offset: int, data: bytes | None) -> None:
        _apply(self.seen, offset, data)
        self.pending.append((offset, data))

    def sync(self) -> None:
        self.durable = bytes(self.seen)
        self.pending.clear()

    def crash(self, choices: Choices) -> None:
        """Lose the changes that are not on the medium, or some of them."""
        left = bytearray(self.durable)
        for offset, data in self.pending:
            fate = choices.integer(3 if data else 2, "unsynced write")
            if fate == _WRITTEN:
                _apply(left, offset, data)
            elif fate == _TORN and data is not None:
                _apply(left, offset, data[: choices.integer(len(data), "torn write")])
        self.seen = left
        self.sync()


_Change = tuple[str | None, str | None, _Content]
"""A change of a directory: the old name, None for a new file; the new one, None for its removal."""


class Disk:
    r"""The files of one host, in one flat directory; names are any text.

    ``capacity`` is the most bytes that all files may have together, or None: a write beyond it
    raises OSError with ENOSPC. ``failures`` is the probability that a write or a sync fails with
    EIO; the content is then as after a crash of that file.

    >>> from runtime import simulation
    >>> async def main():
    ...     disk = simulation.current_world().disk
    ...     with disk.open("journal", "wb") as file:
    ...         file.write(b"one\\n")
    ...         disk.fsync(file)
    ...         file.write(b"two\\n")
    ...     disk.crash()
    ...     return disk.read("journal")
    >>> simulation.run(main)
    b'one\\n'
    """

    capacity = Checked[int | None](None, check_limit)
    failures = Checked(0.0, check_probability)

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self._files: dict[str, _Content] = {}
        self._durable: dict[str, _Content] = {}
        # The changes of the directory that are not on the medium.
        self._pending: list[_Change] = []
        # The number of crashes: files that were opened before the last one are of no use.
        self.crashes = 0

    # -- Files -------------------------------------------------------------------------------------

    def open(self, name: str, mode: str = "rb") -> DiskFile:
        """Open a file in a binary mode: ``rb``, ``wb``, ``ab``, ``xb``, or one of them with ``+``.

        Raises FileNotFoundError, FileExistsError, ValueError for another mode, and TypeError unless
        both arguments are texts.
        """
        if not isinstance(name, str):
            raise TypeError(f"name must be a text, got {name!r}")
        if not isinstance(mode, str):
            raise TypeError(f"mode must be a text, got {mode!r}")
        plain = mode.replace("+", "").replace("b", "")
        if plain not in ("r", "w", "a", "x") or "b" not in mode:
            raise ValueError(f"mode must be a binary mode, such as 'rb' or 'ab+', got {mode!r}")
        content = self._files.get(name)
        if content is None:
            if plain == "r":
                raise _error(errno.ENOENT, name)
            content = self._files[name] = _Content()
            self._pending.append((None, name, content))
        elif plain == "x":
            raise _error(errno.EEXIST, name)
        elif plain == "w":
            content.change(0, None)
        return DiskFile(self, name, content, mode)

    def read(self, name: str) -> bytes:
        """Return the content of a file. Raises FileNotFoundError."""
        return bytes(self._content(name).seen)

    def exists(self, name: str) -> bool:
        """Return whether there is a file of this name."""
        return name in self._files

    def names(self) -> list[str]:
        """Return the names of all files, in order."""
        return sorted(self._files)

    def rename(self, old: str, new: str) -> None:
        """Rename a file, replacing another atomically. It is durable after ``sync_directory``."""
        content = self._content(old)
        del self._files[old]
        self._files[new] = content
        self._pending.append((old, new, content))

    replace = rename

    def remove(self, name: str) -> None:
        """Remove a file. It is durable after ``sync_directory``."""
        content = self._content(name)
        del self._files[name]
        self._pending.append((name, None, content))

    def _content(self, name: str) -> _Content:
        content = self._files.get(name)
        if content is None:
            raise _error(errno.ENOENT, name)
        return content

    # -- Durability --------------------------------------------------------------------------------

    def fsync(self, file: DiskFile) -> None:
        """Bring the content of a file to the medium, and the file itself if it is new.

        Raises OSError with EIO by chance, see ``failures``.
        """
        file.check_open()
        self._fail_by_chance(file.content)
        file.content.sync()
        for index, (old, _, content) in enumerate(self._pending):
            if content is file.content and old is None:
                self._sync_change(index)
                break

    def _sync_change(self, index: int) -> None:
        """Bring one change of the directory to the medium, and those that led to it."""
        places = self._with_causes(index)
        for place in places:
            _change_names(self._durable, self._pending[place])
        self._pending = [
            change for place, change in enumerate(self._pending) if place not in places
        ]

    def _with_causes(self, index: int) -> list[int]:
        """Return the place of a pending change, after those of the changes that led to it.

        These are the earlier changes of the same names, the changes that led to these, and so on.
        """
        places = [index]
        names = {name for name in self._pending[index][:2] if name is not None}
        for place in range(index - 1, -1, -1):
            of_change = {name for name in self._pending[place][:2] if name is not None}
            if names & of_change:
                names |= of_change
                places.insert(0, place)
        return places

    def sync_directory(self) -> None:
        """Bring created, renamed and removed names to the medium."""
        self._durable = dict(self._files)
        self._pending.clear()

    def crash(self) -> None:
        """Lose what is not on the medium, except what has reached it by choice.

        ``Host.crash`` calls this. Files that are open become useless: all that they do, except to
        close, raises OSError with EBADF.
        """
        left = dict(self._durable)
        written = {
            place
            for index in range(len(self._pending))
            if self._choices.integer(2, "unsynced name") == _WRITTEN
            for place in self._with_causes(index)
        }
        for place in sorted(written):
            _change_names(left, self._pending[place])
        for content in dict.fromkeys(left.values()):
            content.crash(self._choices)
        self._files = left
        self.sync_directory()
        self.crashes += 1

    def used(self) -> int:
        """Return the number of bytes in all files together."""
        return sum(len(content.seen) for content in self._files.values())

    def check_space(self, more: int) -> None:
        """Raise OSError with ENOSPC if there is no space for so many bytes more."""
        if self.capacity is not None and self.used() + more > self.capacity:
            raise _error(errno.ENOSPC, None)

    def before_write(self, content: _Content) -> None:
        """Raise OSError with EIO by chance."""
        self._fail_by_chance(content)

    def _fail_by_chance(self, content: _Content) -> None:
        if self._choices.chance(self.failures, "disk failure"):
            content.crash(self._choices)
            raise _error(errno.EIO, None)


class DiskFile(io.RawIOBase):
    """An open file of a ``Disk``: a raw, unbuffered binary file, whose writes are never short."""

    def __init__(self, disk: Disk, name: str, content: _Content, mode: str) -> None:
        self._disk = disk
        self.name = name
        self.mode = mode
        self.content = content
        self._crashes = disk.crashes
        self._position = 0
        if "a" in mode:
            self._position = len(content.seen)

    def check_open(self) -> None:
        """Raise ValueError if the file is closed, and OSError if its disk has crashed since."""
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if self._crashes != self._disk.crashes:
            raise _error(errno.EBADF, self.name)

    def readable(self) -> bool:
        """Return whether the file was opened for reading."""
        return "r" in self.mode or "+" in self.mode

    def writable(self) -> bool:
        """Return whether the file was opened for writing."""
        return self.mode.replace("b", "") != "r"

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read into ``buffer``; return the number of bytes, 0 at the end."""
        self.check_open()
        if not self.readable():
            raise io.UnsupportedOperation("not readable")
        with memoryview(buffer) as view, view.cast("B") as flat:
            part = bytes(self.content.seen[self._position : self._position + len(flat)])
            flat[: len(part)] = part
        self._position += len(part)
        return len(part)

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        """Write all of ``data``; return its size. Raises OSError with ENOSPC or EIO."""
        self.check_open()
        if not self.writable():
            raise io.UnsupportedOperation("not writable")
        written = bytes(memoryview(data))  # bytes() would take a number for a size.
        if "a" in self.mode:
            self._position = len(self.content.seen)
        end = self._position + len(written)
        self._disk.check_space(max(0, end - len(self.content.seen)))
        self._disk.before_write(self.content)
        self.content.change(self._position, written)
        self._position = end
        return len(written)

    def truncate(self, size: int | None = None) -> int:
        """Cut the file to ``size`` bytes, by default up to the position; return the size.

        Zeros are added to a file that is shorter. Raises OSError with EINVAL for a negative size,
        and with ENOSPC.
        """
        self.check_open()
        if not self.writable():
            raise io.UnsupportedOperation("not writable")
        size = self._position if size is None else size
        if size < 0:
            raise _error(errno.EINVAL, None)
        self._disk.check_space(max(0, size - len(self.content.seen)))
        self.content.change(size, None)
        return size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position; return it. Raises OSError with EINVAL for one before the beginning."""
        self.check_open()
        if whence not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
            raise ValueError(f"whence must be 0, 1 or 2, got {whence!r}")
        start = (0, self._position, len(self.content.seen))[whence]
        if start + offset < 0:
            raise _error(errno.EINVAL, None)
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        self.check_open()
        return self._position


def _change_names(names: dict[str, _Content], change: _Change) -> None:
    """Make one change of a directory: a file is created, renamed or removed."""
    old, new, content = change
    if old is not None:
        names.pop(old, None)
    if new is not None:
        names[new] = content


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    """Write ``data`` at ``offset``, or truncate to ``offset`` bytes; zeros fill a gap."""
    if len(content) < offset:
        content += bytes(offset - len(content))
    if data is None:
        del content[offset:]
    else:
        content[offset : offset + len(data)] = data


def _error(number: int, name: str | None) -> OSError:
    return OSError(number, os.strerror(number), name)
