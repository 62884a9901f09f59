"""What hosts.toml tells containerd, and what to write where it does not name the agent."""

from pathlib import Path

import pytest

from agent.preflight.check import PreflightTarget, Status
from agent.preflight.mirrors import ToldMirrors, mirrors

FOLDER = Path("/etc/containerd/certs.d")


def test_agents_own_address_in_any_file_is_enough() -> None:
    check = mirrors(PreflightTarget(), ToldMirrors(folder=FOLDER, files=1, own=["127.0.0.1:30020"]))
    assert (check.status, "127.0.0.1:30020" in check.detail) == (Status.GOOD, True)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (ToldMirrors(folder=FOLDER), "uses no mirror"),
        (ToldMirrors(folder=FOLDER, files=2), "told to use no mirror"),
        (ToldMirrors(folder=FOLDER, files=1, others=["http://127.0.0.1:8000"]), "only http://127.0.0.1:8000"),
    ],
)
def test_without_it_the_hint_says_what_to_write(told: ToldMirrors, words: str) -> None:
    check = mirrors(PreflightTarget(), told)
    assert (check.status, words in check.detail) == (Status.BAD, True)
    assert '[host."http://127.0.0.1:30020"]' in check.hint
    assert "[::1]:30020" in mirrors(PreflightTarget(host_address="::1"), told).hint


def test_operators_word_counts_instead_of_the_files() -> None:
    told = ToldMirrors(folder=FOLDER, by_settings=["127.0.0.1:30020"])
    check = mirrors(PreflightTarget(), told)
    assert (check.status, "probe.endpoints" in check.detail) == (Status.GOOD, True)
