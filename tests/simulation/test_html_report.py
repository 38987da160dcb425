"""The page of a failed run, in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

import runtime
from runtime import simulation
from runtime.simulation.exploring import Failure

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


async def race() -> None:
    log: list[str] = []

    async def work(name: str, count: int) -> None:
        for _ in range(count):
            await runtime.sleep(0)
        log.append(name)

    await runtime.gather(work("<a>", 2), work("&b", 3))
    assert log == ["<a>", "&b"]


@pytest.fixture
def failure() -> Failure:
    found = simulation.explore(race, order="tasks", runs=100, check=False)
    assert found.failure is not None
    return found.failure


class Elements(HTMLParser):
    """Counts the elements of a page, and checks that they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.counts: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_has_a_circle_and_a_row_for_each_step(failure: Failure) -> None:
    page = failure.report.html()
    elements = Elements()
    elements.feed(page)
    elements.close()
    assert elements.open == []
    number = len(failure.report.steps)
    assert elements.counts["circle"] == number
    assert elements.counts["tr"] == number + 1
    assert "http" not in page


@pytest.mark.once
@pytest.mark.skipif(BROWSER is None, reason="no chromium")
def test_a_browser_shows_the_page(failure: Failure, tmp_path: Path) -> None:
    assert BROWSER is not None
    path, _ = failure.report.write(tmp_path)
    command = (
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1200,900",
    )
    picture = tmp_path / "page.png"
    shown = subprocess.run(
        [*command, f"--screenshot={picture}", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert len(re.findall("<circle", shown.stdout)) == len(failure.report.steps)
    assert failure.token in shown.stdout
    assert picture.stat().st_size > 10_000
