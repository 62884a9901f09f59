"""Debian's Chromium without a window, driven by Playwright, and what goes wrong in its pages.

A page is held against more than what a test asks: errors in its console, what its content security policy
stopped, and requests that failed are problems of its own. Playwright's own browsers are never used.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Self

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Playwright,
    Request,
    Response,
    sync_playwright,
)

CHROMIUM = "/usr/bin/chromium"

PATIENCE_MS = 20_000.0
"""How long something may take to appear: far longer than it does on a loaded machine."""

_ARGUMENTS = (
    "--no-sandbox",  # root may not have one, and the lab is root's
    "--disable-dev-shm-usage",  # /dev/shm is small in containers
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--no-proxy-server",
)

# The page closes its stream itself, when it is hidden and when it ends.
_ENDED_BY_THE_PAGE = "net::ERR_ABORTED"

# Told by the page itself, and not by the console alone: a violation that is only reported is one as well.
_TELL_VIOLATIONS = """
window.__violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.__violations.push(`${event.effectiveDirective} stopped ${event.blockedURI || "something inline"}`);
});
"""

Scheme = Literal["light", "dark"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How the page is looked at. ``width`` and ``height``: of the window, in CSS pixels."""

    scheme: Scheme = "light"
    width: int = 1440
    height: int = 900
    scale: float = 1.0
    is_touched: bool = False


PHONE = Look(width=360, height=780, scale=2.0, is_touched=True)
WALL = Look(width=2560, height=1440)


@dataclass(kw_only=True)  # no slots: Playwright keeps its wrappers of methods on the object that has them
class View:
    """One tab. ``problems``: what went wrong in it so far, in words, except for what is `allowed`."""

    page: Page
    problems: list[str] = field(default_factory=list)
    _allowed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self._note(f"uncaught error: {error}"))
        self.page.on("requestfailed", self._failed)
        self.page.on("response", self._answered)

    def allow(self, *patterns: str) -> None:
        """From now on, problems like these are meant by the test. Patterns are as in a shell."""
        self._allowed += patterns

    def check(self) -> None:
        """Raises `AssertionError` if something went wrong in the page."""
        if not self.page.is_closed():
            for each in self.page.evaluate("window.__violations ?? []"):
                self._note(f"content security policy: {each}")
        assert not self.problems, "the page had problems:\n" + "\n".join(self.problems)

    def check_accessibility(self, *parts: str) -> None:
        """Raises `AssertionError` for what axe-core calls serious or critical. ``parts``: only there."""
        context = {"include": [[part] for part in parts]} if parts else None
        found = Axe().run(self.page, context=context).response["violations"]
        grave = [each for each in found if each["impact"] in ("serious", "critical")]
        assert not grave, "\n".join(_in_words(each) for each in grave)

    def shoot(self, path: Path, *, whole: bool = True) -> None:
        """A picture of the page as a PNG file. ``whole``: of all of it, not only of what the window shows."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, full_page=whole, animations="disabled")

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._note(f"console {message.type}: {message.text} ({message.location.get('url', '')})")

    def _failed(self, request: Request) -> None:
        if request.failure != _ENDED_BY_THE_PAGE:
            self._note(f"request failed: {request.method} {request.url}: {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self._note(f"request failed: {response.request.method} {response.url}: {response.status}")

    def _note(self, problem: str) -> None:
        if not any(fnmatchcase(problem, f"*{pattern}*") for pattern in self._allowed):
            self.problems.append(problem)


def _in_words(violation: Mapping[str, Any]) -> str:
    """What axe-core found, and where."""
    places = "\n".join(
        f"  {' '.join(map(str, node['target']))}: {node['failureSummary']}" for node in violation["nodes"][:5]
    )
    return f"{violation['impact']}: {violation['help']} ({violation['id']})\n{places}"


class Chromium:
    """One browser. Use as a context manager; it ends with the process that uses it, however that ends."""

    def __init__(self) -> None:
        self._driver: Playwright | None = None
        self._browser: Browser | None = None

    def __enter__(self) -> Self:
        self._driver = sync_playwright().start()
        try:
            self._browser = self._driver.chromium.launch(executable_path=CHROMIUM, args=[*_ARGUMENTS])
        except BaseException:
            self._driver.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._browser is not None:
            self._browser.close()
        if self._driver is not None:
            self._driver.stop()

    @contextmanager
    def context(self, look: Look | None = None, *, script: str = "") -> Iterator[BrowserContext]:
        """A browser without cookies and storage, for any number of tabs.

        ``script``: runs in each page before anything of its own.
        """
        assert self._browser is not None, "not started"
        look = look or Look()
        context = self._browser.new_context(
            color_scheme=look.scheme,
            viewport={"width": look.width, "height": look.height},
            device_scale_factor=look.scale,
            has_touch=look.is_touched,
            locale="en-GB",
            timezone_id="UTC",
            service_workers="block",
        )
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(_TELL_VIOLATIONS)
        if script:
            context.add_init_script(script)
        try:
            yield context
        finally:
            context.close()

    @contextmanager
    def open(self, url: str, look: Look | None = None, *, script: str = "") -> Iterator[View]:
        """The page in a tab of its own. Its problems are its user's to check."""
        with self.context(look, script=script) as context:
            view = View(page=context.new_page())
            view.page.goto(url, wait_until="domcontentloaded")
            yield view
