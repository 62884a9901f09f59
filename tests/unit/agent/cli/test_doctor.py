"""The command's options, its table and its exit status. Real nodes: tests/e2e/test_doctor.py."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from agent.cli.doctor import default_root, serves
from agent.documents.codec import decode
from agent.documents.doctor import DoctorDocument
from agent.preflight.check import Check, Status, bad, good, unknown, warn

OPTIONS = ["--set", "listen.hostport=127.0.0.1:1", "--set", "listen.admin=127.0.0.1:2"]


def test_json_is_a_document_and_a_fault_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--json", "--root", str(tmp_path), *OPTIONS]) == 1
    said: Any = json.loads(capsys.readouterr().out)
    document = decode(DoctorDocument, said)
    assert not document.serves
    assert {"the agent", "the HostPort", "hosts.toml"} <= {
        each.subject for each in document.findings if each.status == "bad"
    }
    assert document.seconds < 60


def test_the_table_says_what_to_do_and_ends_with_a_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--root", str(tmp_path), *OPTIONS]) == 1
    said = capsys.readouterr().out
    assert "→ start it" in said
    assert "that may keep pulls from being served" in said
    assert max(len(line) for line in said.splitlines()) <= 100


def test_a_root_that_is_not_there_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--root", str(tmp_path / "none")]) == 2
    assert "hint: mount the node's files there" in capsys.readouterr().err


def test_settings_with_mistakes_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--set", "listen.nothing=1"]) == 2
    assert "unknown key" in capsys.readouterr().err


def test_in_a_pod_the_node_is_below_its_mount(tmp_path: Path) -> None:
    assert default_root({}, tmp_path) == Path("/")
    assert default_root({"SHORTHAUL_CONFIG": "/c"}, tmp_path) == tmp_path
    assert default_root({"SHORTHAUL_CONFIG": "/c"}, tmp_path / "none") == Path("/")
    assert default_root({"SHORTHAUL_ROOT": "/node"}, tmp_path) == Path("/node")


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        ((good("a", "b"), warn("a", "b", hint="c"), unknown("a", "b")), True),
        ((good("a", "b"), bad("a", "b", hint="c")), False),
    ],
)
def test_only_a_fault_keeps_pulls_from_being_served(checks: tuple[Check, ...], expected: bool) -> None:
    assert serves(checks) is expected
    assert unknown("a", "b").status is Status.UNKNOWN
