"""Jobs that run side by side, each of them after the jobs whose results it needs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """Work of a thread."""

    name: str
    work: Callable[[], bool]
    """Do the work; return whether further jobs may begin."""

    needs: tuple[str, ...] = ()
    """Names of the jobs that must have ended before this one begins."""


def run_jobs(jobs: Sequence[Job], workers: int) -> list[str]:
    """Run ``jobs``, up to ``workers`` at once; return the names of those that were not begun.

    A free worker begins the first job in the list whose needs are fulfilled. When a job returns
    False or raises an exception, no further job begins; the exception is raised again.
    """
    waiting, ended = list(jobs), set[str]()
    changed = threading.Condition()

    def next_job() -> Job | None:
        with changed:
            while waiting:
                for job in waiting:
                    if ended.issuperset(job.needs):
                        waiting.remove(job)
                        return job
                changed.wait()
        return None

    left: list[str] = []

    def stop() -> None:
        with changed:
            left.extend(job.name for job in waiting)
            waiting.clear()
            changed.notify_all()

    def work() -> None:
        while job := next_job():
            go_on = False
            try:
                go_on = job.work()
            finally:
                if not go_on:
                    stop()
                with changed:
                    ended.add(job.name)
                    changed.notify_all()

    with ThreadPoolExecutor(workers) as pool:
        try:
            for worker in [pool.submit(work) for _ in range(workers)]:
                worker.result()
        finally:
            stop()
    return left
