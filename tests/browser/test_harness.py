"""The harness itself: a page's problems are seen, and nothing is left of a browser whose user was killed."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest

from benchmarks.lab.browser import View
from tests.browser.conftest import OpenPage
from tests.browser.played import POLICY
from tests.server.agents import fresh_address, wait_for

_PAGES = {
    "/well": "<p>well</p>",
    "/inline": "<script>window.ran = true</script>",
    "/styled": '<p style="color: red">red</p>',
    "/missing": '<script src="/no-such.js"></script>',
    "/elsewhere": '<img alt="x" src="http://127.0.0.1:9/x.png">',
    "/error": '<script src="/error.js"></script>',
    "/logged": '<script src="/logged.js"></script>',
    "/unnamed": "<button></button><input>",
    "/markup": '<div id="here"></div><script src="/markup.js"></script>',
}
_SCRIPTS = {
    "/error.js": "setTimeout(() => { throw new Error('on purpose'); })",
    "/logged.js": "console.error('something is wrong')",
    "/markup.js": "document.querySelector('#here').innerHTML = '<b>x</b>'",
}


class _Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        script, page = _SCRIPTS.get(self.path), _PAGES.get(self.path)
        kind = "text/javascript" if script else "text/html"
        title = (
            '<!doctype html><html lang="en"><title>x</title><link rel="icon" href="data:,"><main><h1>x</h1>'
        )
        body = (script or f"{title}{page}</main>").encode()
        self.send_response(200 if script or page else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Security-Policy", POLICY.replace("img-src 'self'", "img-src 'self' data:"))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the base class's name
        pass


@pytest.fixture(scope="module")
def pages() -> Iterator[str]:
    """The address of some pages, each with one fault."""
    server = ThreadingHTTPServer((fresh_address(), 0), _Pages)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    host, port = server.server_address[:2]
    yield f"http://{host!s}:{port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _problems(view: View) -> str:
    """What went wrong, once it did; the view has no problem afterwards."""

    def found() -> bool:
        view.page.evaluate("0")  # lets Playwright hear what the page told
        try:
            view.check()
        except AssertionError:
            return True
        return False

    wait_for(found, "a problem is noted")
    text = "\n".join(view.problems)
    view.allow("*")
    view.problems.clear()
    return text


def test_a_page_without_faults_has_no_problem(pages: str, open_page: OpenPage) -> None:
    view = open_page(f"{pages}/well")
    view.check()
    view.check_accessibility()


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/inline", "script-src-elem stopped inline"),
        ("/styled", "style-src-attr stopped inline"),
        ("/missing", "no-such.js: 404"),
        ("/elsewhere", "img-src stopped http://127.0.0.1:9"),
        ("/error", "uncaught error: on purpose"),
        ("/logged", "console error: something is wrong"),
        ("/markup", "require-trusted-types-for stopped"),
    ],
)
def test_a_fault_of_a_page_is_a_problem(pages: str, open_page: OpenPage, path: str, says: str) -> None:
    assert says in _problems(open_page(f"{pages}{path}"))


def test_what_nobody_can_use_without_eyes_is_found(pages: str, open_page: OpenPage) -> None:
    with pytest.raises(AssertionError, match="critical: Buttons must have discernible text"):
        open_page(f"{pages}/unnamed").check_accessibility()


_USER = """
import sys, time
from benchmarks.lab.browser import Chromium
with Chromium() as browser, browser.open("data:text/html,hello") as view:
    print(view.page.title(), flush=True)
    time.sleep(600)
"""


def test_a_browser_ends_with_the_process_that_uses_it_even_if_that_is_killed() -> None:
    user = subprocess.Popen([sys.executable, "-c", _USER], stdout=subprocess.PIPE)
    try:
        assert user.stdout is not None
        user.stdout.readline()  # the page is open
        started = psutil.Process(user.pid).children(recursive=True)
        folders = {
            Path(word.partition("=")[2])
            for each in started
            for word in each.cmdline()
            if word.startswith("--user-data-dir=")
        }
        assert len(started) > 1
        assert folders
    finally:
        user.send_signal(signal.SIGKILL)
        user.communicate()
    wait_for(lambda: not any(_runs(each) for each in started), "driver and browser end")
    wait_for(lambda: not any(folder.exists() for folder in folders), "the profile is removed")


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
