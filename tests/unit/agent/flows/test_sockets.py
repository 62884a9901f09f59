"""Which sockets the agent claims before a probe that came later."""

from agent.flows.sockets import AcceptedSockets


def test_open_and_recently_closed_connections_are_claimed() -> None:
    sockets = AcceptedSockets()
    for cookie in (1, 2, 3):
        sockets.accepted(cookie)
    sockets.closed(2)
    assert sockets.cookies() == ((2, 1, 3), True)


def test_claims_are_bounded_and_say_when_they_are_not_all() -> None:
    sockets = AcceptedSockets()
    for cookie in range(20_000):
        sockets.accepted(cookie)
    cookies, every = sockets.cookies()
    assert (len(cookies), cookies[-1], every) == (16_384, 19_999, False)
    for cookie in range(20_000):
        sockets.closed(cookie)
    cookies, every = sockets.cookies()
    assert (len(cookies), every) == (1024, True)


def test_what_an_older_agent_accepted_on_the_same_listeners_is_claimed_too() -> None:
    sockets = AcceptedSockets()
    sockets.accepted(3)
    sockets.inherit([1, 2], every=True)
    assert sockets.cookies() == ((1, 2, 3), True)
    sockets.inherit([2], every=True)  # the newest word counts
    assert sockets.cookies() == ((2, 3), True)


def test_an_older_agent_that_does_not_say_all_leaves_a_doubt() -> None:
    sockets = AcceptedSockets()
    sockets.inherit([1], every=False)
    assert sockets.cookies() == ((1,), False)
