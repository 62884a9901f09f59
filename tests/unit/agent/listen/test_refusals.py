"""What a client is answered that is turned away, and how often the log says so."""

import logging

import pytest

from agent.listen.refusals import Refusals, refusal_error, told_headers
from agent.observe.metrics import Metrics
from agent.observe.refusals import LISTENERS, Reason, Refusal
from tests.unit.exposition import total

CLOCK = Refusal(reason=Reason.CLOCK, message="the clock of b is 600 s ahead of that of a", hint="set it")


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_has_an_answer_that_containerd_and_agents_understand(reason: Reason) -> None:
    bare = refusal_error(Refusal(reason=reason))
    assert bare.status in (401, 403, 429, 503)
    assert "WWW-Authenticate" not in bare.headers
    assert bare.message == "not authorized"
    assert told_headers(Refusal(reason=reason), 0.0) == {}
    told = refusal_error(Refusal(reason=reason, message="why", hint="what to do"))
    assert (told.status, told.message, told.hint) == (bare.status, "why", "what to do")
    assert told_headers(Refusal(reason=reason, message="why"), 0.0)["Shorthaul-Refusal"] == reason.value


def test_each_refusal_is_counted_and_each_reason_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now_s, metrics = [0.0], Metrics()
    refusals = Refusals(metrics, clock=lambda: now_s[0])
    with caplog.at_level(logging.WARNING, "shorthaul"):
        for _ in range(1000):
            refusals.turned_away("peer", "192.0.2.2", CLOCK)
        assert [record.getMessage() for record in caplog.records] == [
            f"listen.peer turned a client away: {CLOCK.message}"
        ]
        now_s[0] = 60.0
        refusals.turned_away("peer", "192.0.2.2", CLOCK)
    assert caplog.records[1].fields["more_since"] == 999  # type: ignore[attr-defined]
    assert total(metrics.expose(), "refused_total", listener="peer", reason="clock") == 1001


def test_all_reasons_of_all_listeners_are_exposed_from_the_start() -> None:
    exposed = Metrics().expose().decode()
    for listener in LISTENERS:
        for reason in Reason:
            assert f'shorthaul_refused_total{{listener="{listener}",reason="{reason.value}"}} 0.0' in exposed
