"""Measurements of an idle soak, and the growth that is allowed for each until its end."""

from __future__ import annotations

import asyncio
import collections
import gc
import os
import sys
import threading
from dataclasses import dataclass, field

from tests.support.leaks import describe_descriptor, open_descriptors

_MOST_OBJECTS = 300
_MOST_BLOCKS = 2000
_MOST_MEMORY = 16 << 20
"""Bytes allowed for caches, free lists and fragmentation, however long the soak is."""

_SHOWN = 12


def resident_memory() -> int:
    """Return the resident memory of the process in bytes, or 0 if the system does not report it."""
    try:
        with open("/proc/self/statm") as statistics:
            return int(statistics.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _types() -> collections.Counter[str]:
    return collections.Counter(
        f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects()
    )


@dataclass(frozen=True)
class Measures:
    """Measurements at one moment."""

    tasks: tuple[str, ...]
    threads: tuple[str, ...]
    descriptors: dict[int, str]
    objects: int
    """Number of objects tracked by the collector."""
    blocks: int
    """Number of blocks of the interpreter's allocator, which also holds untracked objects."""
    memory: int
    """Resident memory in bytes."""
    types: collections.Counter[str] = field(repr=False)

    @classmethod
    def now(cls) -> Measures:
        """Measure, in a task of the loop that is not counted."""
        me = asyncio.current_task()
        tasks = tuple(repr(task) for task in asyncio.all_tasks() if task is not me)
        threads = tuple(thread.name for thread in threading.enumerate())
        descriptors = {fd: describe_descriptor(fd) for fd in open_descriptors()}
        for _ in range(3):
            gc.collect()  # a finalizer may leave objects to be collected
        types = _types()
        return cls(
            tasks,
            threads,
            descriptors,
            types.total(),
            sys.getallocatedblocks(),
            resident_memory(),
            types,
        )

    def more_than(self, before: Measures) -> list[str]:
        """Return a line for each kind of object of which there is more than before."""
        found = []
        if len(self.tasks) > len(before.tasks):
            found.append(f"tasks: {'; '.join(self.tasks)}")
        if len(self.threads) > len(before.threads):
            found.append(f"threads: {'; '.join(self.threads)}")
        if len(self.descriptors) > len(before.descriptors):
            new = [text for fd, text in self.descriptors.items() if fd not in before.descriptors]
            found.append(f"descriptors: {'; '.join(new)}")
        if self.objects > before.objects + _MOST_OBJECTS:
            grown = (self.types - before.types).most_common(_SHOWN)
            names = ", ".join(f"{count} {name}" for name, count in grown)
            found.append(f"objects: {self.objects - before.objects} more: {names}")
        if self.blocks > before.blocks + _MOST_BLOCKS:
            found.append(f"blocks of memory: {self.blocks - before.blocks} more")
        if self.memory > before.memory + _MOST_MEMORY:
            found.append(f"memory: {(self.memory - before.memory) / (1 << 20):.1f} MiB more")
        return found

    def __str__(self) -> str:
        return (
            f"{len(self.tasks)} tasks, {len(self.threads)} threads, "
            f"{len(self.descriptors)} descriptors, {self.objects} objects, {self.blocks} blocks, "
            f"{self.memory / (1 << 20):.1f} MiB"
        )
