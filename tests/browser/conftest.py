"""A browser for each module, pages that report every problem of theirs, and agents behind them.

A test that opens a page by `open_page` fails if the page had an error in its console, broke its content
security policy or had a request fail, unless it says by `View.allow` that it means to cause that.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import expect

from benchmarks.lab.browser import PATIENCE_MS, Chromium, Look, View
from tests.browser.played import PlayedAgent
from tests.unit.twins import REPOSITORY_ROOT

SCREENSHOTS = REPOSITORY_ROOT / "dist/screenshots"
"""Where pictures are kept after a run, those of failed tests among them."""

OpenPage = Callable[..., View]


def pytest_configure() -> None:
    """What a test expects of a page may take its time on a loaded machine."""
    expect.set_options(timeout=PATIENCE_MS)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: "pytest.CallInfo[None]") -> Iterator[None]:
    """Keep a picture of every page of a failed test."""
    report = yield
    if call.excinfo is not None and call.when == "call":
        for number, view in enumerate(getattr(item, "_views", ())):
            if not view.page.is_closed():
                view.shoot(SCREENSHOTS / "failed" / f"{_file_name(item.name)}-{number}.png", whole=False)
    return report


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """One browser for all tests of a module. Each page has cookies and storage of its own."""
    with Chromium() as browser:
        yield browser


@pytest.fixture
def played() -> Iterator[PlayedAgent]:
    """An agent that says what the samples say, until the test has it say something else."""
    with PlayedAgent() as agent:
        yield agent


@pytest.fixture
def open_page(chromium: Chromium, request: pytest.FixtureRequest, played: PlayedAgent) -> Iterator[OpenPage]:
    """Opens a page: ``open_page(url, look, script=…)``. All of them are checked when the test ends.

    ``played``: is there for longer than the pages, which else would lose it before they are checked.
    """
    views: list[View] = []
    request.node._views = views
    with ExitStack() as opened:

        def open_one(url: str, look: Look | None = None, *, script: str = "") -> View:
            view = opened.enter_context(chromium.open(url, look, script=script))
            views.append(view)
            return view

        yield open_one
        for view in views:
            view.check()


@pytest.fixture
def screenshots() -> Path:
    """The folder for pictures that CI keeps."""
    return SCREENSHOTS


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)[:120]
