"""Limiters of threads, as ``to_thread`` knows them: see ``runtime.sync.limiter``."""

from __future__ import annotations


class Limiter:
    """A limit of the number of calls at the same time."""

    __slots__ = ()

    @property
    def total(self) -> float:
        """The maximum number of calls, or infinity."""
        raise NotImplementedError

    async def acquire(self, borrower: object = None) -> None:
        """Wait until ``borrower`` may begin its call."""
        raise NotImplementedError

    def release(self, borrower: object = None) -> None:
        """Note that the call of ``borrower`` has ended."""
        raise NotImplementedError
