"""Does the API server answer, against its double."""

from pathlib import Path

from agent.config.settings import KubernetesSettings
from agent.preflight.apiserver import ApiFacts, api_server, look_at_api_server
from agent.preflight.check import Status
from agent.preflight.gather import Unknown
from benchmarks.lab.apiserver import ThreadedApiServer


def settings(url: str, tmp_path: Path) -> KubernetesSettings:
    token = tmp_path / "token"
    token.write_text("secret")
    return KubernetesSettings(api=url, token_file=token)


def test_an_api_server_that_answers_says_its_time(tmp_path: Path) -> None:
    with ThreadedApiServer() as server:
        facts = look_at_api_server(settings(server.url, tmp_path))
    assert facts.problem == ""
    assert facts.ahead_s is not None
    assert abs(facts.ahead_s) < 30
    (check,) = api_server(facts, "shorthaul-peers")
    assert check.status is Status.WARN  # it has no slice
    assert "no EndpointSlice of shorthaul-peers" in check.detail


def test_an_api_server_that_is_away_is_a_warning(tmp_path: Path) -> None:
    facts = look_at_api_server(settings("http://127.0.0.1:1", tmp_path))
    (check,) = api_server(facts, "shorthaul-peers")
    assert check.status is Status.WARN
    assert "the peers known before stay in use" in check.detail
    assert check.hint


def test_without_kubernetes_there_is_no_line() -> None:
    assert api_server(None, "") == ()
    assert api_server(ApiFacts(url="https://x", slices=1), "s")[0].status is Status.GOOD
    assert api_server(Unknown(why="x"), "s")[0].status is Status.UNKNOWN
