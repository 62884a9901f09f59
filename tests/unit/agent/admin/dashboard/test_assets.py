"""The files of the page: what they may weigh, whose they are, and how they are told apart."""

import gzip
import hashlib
import re
import tomllib
from pathlib import Path

import pytest

from agent.admin.dashboard.assets import asset_paths, is_current, read_asset, takes_gzip
from tests.unit.twins import REPOSITORY_ROOT

STATIC = REPOSITORY_ROOT / "agent/admin/dashboard/static"
FILES = [file for file in STATIC.rglob("*") if file.is_file()]
OWN_SCRIPTS = sorted(STATIC.glob("*.js"))
MOST_BYTES = 300_000


def test_all_files_of_the_page_together_have_at_most_300_kb() -> None:
    assert sum(file.stat().st_size for file in FILES) <= MOST_BYTES


def test_the_page_is_at_the_root_and_every_other_file_below_static() -> None:
    paths = dict(asset_paths())
    assert paths["/"] == STATIC / "index.html"
    assert "/static/app.js" in paths
    assert "/static/vendor/LICENSES.txt" in paths
    assert {file for file in FILES if file.suffix} == set(paths.values())


def test_what_is_installed_has_every_file_of_the_page() -> None:
    settings = tomllib.loads((REPOSITORY_ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["agent"]
    packed = {file for pattern in patterns for file in (REPOSITORY_ROOT / "agent").glob(pattern)}
    assert set(FILES) <= packed


def test_a_vendored_file_is_the_one_whose_checksum_is_noted() -> None:
    noted: dict[str, str] = {}
    for line in (STATIC / "vendor/checksums.txt").read_text().splitlines():
        if not line.startswith("#"):
            checksum, name = line.split()
            noted[name] = checksum
    found = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in (STATIC / "vendor").iterdir()
        if file.suffix != ".txt"
    }
    assert found == noted


def test_every_vendored_file_has_its_version_and_licence_named() -> None:
    vendor = STATIC / "vendor"
    licences, checksums = (vendor / "LICENSES.txt").read_text(), (vendor / "checksums.txt").read_text()
    for file in vendor.iterdir():
        if file.suffix != ".txt":
            assert file.name in licences
    for package in re.findall(r"^# (\S+)@(\S+) dist/", checksums, re.M):
        assert " ".join(package).lower() in licences.lower()


def test_nothing_in_the_page_names_another_host() -> None:
    for file in FILES:
        if file.parent.name == "vendor":
            continue  # comments and licences name where they are from
        hosts = re.findall(r"https?://([^/\"'\s]+)", file.read_text())
        assert set(hosts) <= {"www.w3.org"}, file.name  # the name of SVG, which nobody asks for


@pytest.mark.parametrize("script", OWN_SCRIPTS, ids=lambda file: file.name)
def test_no_script_of_the_page_makes_elements_from_text(script: Path) -> None:
    text = script.read_text()
    ways = (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "DOMParser",
    )
    assert [way for way in ways if way in text] == []


def test_the_page_has_no_script_and_no_style_of_its_own_in_it() -> None:
    page = (STATIC / "index.html").read_text()
    assert re.search(r"<script(?![^>]*\bsrc=)", page) is None
    assert "<style" not in page
    assert re.search(r"\s(style|on[a-z]+)=", page) is None


def test_every_file_that_the_page_names_is_there() -> None:
    paths = dict(asset_paths())
    page = (STATIC / "index.html").read_text()
    named = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', page))
    for script in OWN_SCRIPTS:
        imported = re.findall(r'(?:from|import)\s*\(?"\./([^"]+)"', script.read_text())
        named |= {f"/static/{name}" for name in imported}
    assert named <= set(paths)


def test_a_file_is_compressed_once_and_is_the_same_then() -> None:
    asset = read_asset(STATIC / "app.css")
    assert gzip.decompress(asset.gzipped) == asset.body == (STATIC / "app.css").read_bytes()
    assert read_asset(STATIC / "app.css") is asset


def test_the_etag_is_strong_and_is_that_of_the_content() -> None:
    assets = [read_asset(file) for _, file in asset_paths()]
    assert len({asset.etag for asset in assets}) == len({asset.body for asset in assets})
    assert all(re.fullmatch(r'"[0-9a-f]{32}"', asset.etag) for asset in assets)


@pytest.mark.parametrize(
    ("header", "current"),
    [
        (None, False),
        ("", False),
        ('"a"', True),
        ('W/"a"', True),
        ('"b", "a"', True),
        ("*", True),
        ('"b"', False),
    ],
)
def test_who_has_the_version_is_told_so(header: str | None, current: bool) -> None:
    assert is_current(header, '"a"') is current


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        (None, False),
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("br", False),
        ("xgzip", False),
    ],
)
def test_only_who_takes_gzip_gets_it(header: str | None, taken: bool) -> None:
    assert takes_gzip(header) is taken
