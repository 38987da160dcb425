"""A loop whose futures count their comparisons: a search among them compares each."""

from __future__ import annotations

from typing import Any

import runtime


class CountedFuture(runtime.Future[Any]):
    """A future that counts how often one of its class is compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        CountedFuture.compared += 1
        return self is other

    __hash__ = object.__hash__


class CountingLoop(runtime.Loop):
    """A loop whose futures count their comparisons."""

    def create_future(self) -> runtime.Future[Any]:  # type: ignore[override]
        return CountedFuture(loop=self)
