"""Jobs that run side by side, each after the jobs that it needs."""

from __future__ import annotations

import threading

import pytest

from tests.support.jobs import Job, run_jobs

pytestmark = pytest.mark.once


def noting(order: list[str], name: str, *needs: str) -> Job:
    """Return a job that appends its name to ``order``."""

    def work() -> bool:
        order.append(name)
        return True

    return Job(name, work, needs)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_job_begins_after_the_jobs_that_it_needs(workers: int) -> None:
    order: list[str] = []
    jobs = [
        noting(order, "last", "first", "second"),
        noting(order, "second", "first"),
        noting(order, "first"),
    ]
    assert run_jobs(jobs, workers) == []
    assert order == ["first", "second", "last"]


def test_jobs_run_side_by_side() -> None:
    barrier = threading.Barrier(3)

    def meet() -> bool:
        return barrier.wait(60) >= 0

    assert run_jobs([Job(str(number), meet) for number in range(3)], 3) == []


def test_jobs_begin_in_the_order_of_the_list() -> None:
    order: list[str] = []
    run_jobs([noting(order, name) for name in "abcde"], 1)
    assert order == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("workers", [1, 3])
def test_after_a_job_that_fails_no_further_job_begins(workers: int) -> None:
    begun: list[str] = []

    def fail() -> bool:
        begun.append("fails")
        return False

    jobs = [Job("fails", fail), Job("next", lambda: True, ("fails",)), Job("last", bool, ("next",))]
    assert run_jobs(jobs, workers) == ["next", "last"]
    assert begun == ["fails"]


def test_an_exception_of_a_job_is_raised_when_the_running_jobs_have_ended() -> None:
    begun, ended = threading.Event(), threading.Event()

    def fail() -> bool:
        begun.wait(60)
        raise LookupError("of the job")

    def go_on() -> bool:
        begun.set()
        ended.set()
        return True

    with pytest.raises(LookupError, match="of the job"):
        run_jobs([Job("fails", fail), Job("goes on", go_on), Job("next", bool, ("fails",))], 2)
    assert ended.is_set()
