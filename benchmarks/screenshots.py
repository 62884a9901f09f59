"""The dashboard's pictures in README.md and docs: ``python -m benchmarks.screenshots``, as root.

A real browser looks at real agents: at a lab of containerds that pull, and at an agent of a cluster of 5,000.
"""

import argparse
import contextlib
import itertools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image as Picture
from playwright.sync_api import Page, expect

from benchmarks.arguments import parse
from benchmarks.footprint.members import make_members
from benchmarks.footprint.stage import raised
from benchmarks.lab.browser import PATIENCE_MS, PHONE, Chromium, Look, View
from benchmarks.lab.cluster import ADMIN_PORT, Cluster, Place
from benchmarks.lab.forward import Forward
from benchmarks.lab.image import build_image

PICTURES = Path(__file__).parents[1] / "docs/pictures"
MOST_BYTES = 300_000

_PLACES = [
    *(
        Place(name=f"a{number}", region="eu-west", zone="eu-west-1a", rack=f"r{number % 2 + 1}")
        for number in (1, 2, 3)
    ),
    *(Place(name=f"b{number}", region="eu-west", zone="eu-west-1b") for number in (1, 2)),
    Place(name="c1", region="eu-north", zone="eu-north-1a"),
]
_ROUND_TRIPS = {"inside_us": 300.0, "zones_us": 900.0, "regions_us": 12_000.0}
_SETTINGS = {"scrub": {"bytes_per_s": 0}, "doctor": {"interval_s": 0}}
_LAYERS = {
    "shop/checkout": (9_000_000, 4_000_000, 1_000_000),
    "shop/search": (14_000_000, 6_000_000),
    "base/python": (12_000_000, 3_000_000, 2_000_000, 500_000),
    "ml/inference": (30_000_000, 12_000_000),
}
_HELD = {"shop/checkout": "a3", "shop/search": "a2", "base/python": "b1", "ml/inference": "c1"}
"""Who has each image from the start: as seen from a1, its rack, its zone, its region, and another region."""
_OFTEN = ("shop/checkout", "shop/checkout", "shop/search", "base/python", "shop/checkout", "ml/inference")
"""What a1 pulls, in turn: most of it is near."""
_NEW_BYTES = (5_000_000, 2_000_000)
_NEW_EACH, _PAUSE_S = 9, 2.0
_MEMBERS, _ZONES = 5_000, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One picture. ``whole``: of the whole page; else of what the window shows."""

    name: str
    look: Look
    whole: bool = False


_OF_THE_LAB = (
    Shot(name="dashboard-light", look=Look(width=1440, height=1360)),
    Shot(name="dashboard-dark", look=Look(width=1440, height=1360, scheme="dark")),
    Shot(name="dashboard-phone", look=PHONE),
)


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.screenshots", description=__doc__)
    parser.add_argument("--out", type=Path, default=PICTURES, metavar="FOLDER", help="default: docs/pictures")
    parser.add_argument(
        "--only", choices=("lab", "5000"), help="only the pictures of one of the two clusters"
    )
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="how long the lab pulls before; default: 60"
    )
    arguments = parse(parser, root_for="namespaces and containerds")
    expect.set_options(timeout=3 * PATIENCE_MS)
    if arguments.only != "5000":
        _look_at_lab(arguments.out, arguments.seconds)
    if arguments.only != "lab":
        _look_at_5000(arguments.out)


def _look_at_lab(out: Path, seconds: float) -> None:
    """A lab whose nodes pull one image after the other while the pictures are taken."""
    with Cluster(_PLACES, versions=("2.1",), delays=True, settings=_SETTINGS) as cluster:
        cluster.spread_zones(**_ROUND_TRIPS)
        print("starting the agents …", flush=True)
        cluster.start_agents()
        cluster.node("a1").start_probe()
        with _pulling(cluster), Forward(cluster.node("a1").netns, ADMIN_PORT) as way, Chromium() as browser:
            print(f"pulling for {seconds:g} s …", flush=True)
            time.sleep(seconds)
            for shot in _OF_THE_LAB:
                with browser.open(way.url, shot.look) as view:
                    _wait_until_filled(view.page, ("now", "pulls", "bytes", "map", "heat", "proof"))
                    _first_paint(view, shot.name)
                    _unfold_newest_pull(view.page)
                    _save(view, out / f"{shot.name}.png", shot)


@contextlib.contextmanager
def _pulling(cluster: Cluster) -> Iterator[None]:
    """Meanwhile a1 pulls what others have, again and again, and now and then something that is new to all."""
    references = {
        name: _push(cluster, name, layers, seed) for seed, (name, layers) in enumerate(_LAYERS.items())
    }
    with ThreadPoolExecutor(2) as pool:
        for name, holder in _HELD.items():  # in a thread: the browser's loop may have this one
            pool.submit(cluster.node(holder).pull, references[name]).result()
        ended = threading.Event()
        pulls = pool.submit(_pull_in_turn, cluster, references, ended)
        try:
            yield
        finally:
            ended.set()
            pulls.result()


def _pull_in_turn(cluster: Cluster, references: Mapping[str, str], ended: threading.Event) -> None:
    node = cluster.node("a1")
    assert node.containerd is not None
    for turn in itertools.count(1):
        reference = references[_OFTEN[turn % len(_OFTEN)]]
        if turn % _NEW_EACH == 0:
            reference = _push(cluster, f"shop/release-{turn}", _NEW_BYTES, 100 + turn)
            cluster.node("a2").pull(reference)
        node.pull(reference)
        if ended.wait(_PAUSE_S):
            return
        node.containerd.remove(reference)


def _push(cluster: Cluster, name: str, layers: Sequence[int], seed: int) -> str:
    image = build_image(
        cluster.folder / name.replace("/", "-"), layer_bytes=layers, seed=seed, compression=("none",)
    )
    return cluster.registry.push(image, name, "v2.4.1")


def _look_at_5000(out: Path) -> None:
    """An agent that has 5,000 members."""
    members = make_members(range(_MEMBERS - 1), _ZONES)
    print(f"starting {_MEMBERS:,} members …", flush=True)
    with raised(members, everybody=members, blobs=200, kubernetes=False) as stage, Chromium() as browser:
        look = Look(width=1440, height=620)
        with browser.open(f"{stage.url}/", look) as view:
            _wait_until_filled(view.page, ("now", "map", "heat"))
            _first_paint(view, "5,000 nodes")
            view.page.locator("#panel-map").evaluate("panel => panel.scrollIntoView({block: 'start'})")
            view.page.wait_for_timeout(4000)  # it measures, and the map shows it
            _save(view, out / "dashboard-5000-nodes.png", Shot(name="5000", look=look))


def _wait_until_filled(page: Page, panels: Sequence[str]) -> None:
    for name in panels:
        expect(page.locator(f"#panel-{name}")).to_have_attribute("data-look", "live")
    page.wait_for_timeout(2500)  # charts are drawn, the first answers of peers are there


def _first_paint(view: View, what: str) -> None:
    """Print when the browser painted first. It is measured, and nothing fails by it."""
    paints = dict(
        view.page.evaluate("performance.getEntriesByType('paint').map(each => [each.name, each.startTime])")
    )
    print(
        f"{what}: first contentful paint after {paints.get('first-contentful-paint', 0):.0f} ms", flush=True
    )


def _unfold_newest_pull(page: Page) -> None:
    """Show the waterfall of the newest pull that is done."""
    done = page.locator("#panel-pulls .p-pull").filter(has_text="done").first
    if done.count() > 0:
        done.locator("> details > summary").click()


def _save(view: View, path: Path, shot: Shot) -> None:
    """As a small PNG. Says its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    view.page.evaluate("document.activeElement?.blur()")
    view.page.mouse.move(0, 0)
    taken = view.page.screenshot(full_page=shot.whole, animations="disabled")
    Picture.open(BytesIO(taken)).convert("RGB").save(path, optimize=True)
    size = path.stat().st_size
    print(
        f"{path}: {size / 1000:.0f} kB{' – more than it may have' if size > MOST_BYTES else ''}", flush=True
    )


if __name__ == "__main__":
    main()
