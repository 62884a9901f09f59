"""The bounds on a listener's clients."""

from agent.bounds.accounts import Accounts, Excess, Limits
from agent.listen.bounded import ClientBounds

ADDRESS = "192.0.2.7"


def refuse_a_thousand(*, proven: bool) -> tuple[int, tuple[str, ...]]:
    """Refuse a client a thousand times at once. Returns how many are counted, and who is banned."""
    counted: list[Excess] = []
    bounds = ClientBounds(
        name="peer",
        accounts=Accounts(Limits(), member_at=lambda _: None, now_s=0.0),
        connections_max=1,
        counted=counted.append,
    )
    for _ in range(1000):
        bounds.refused(Excess.CONNECTIONS, ADDRESS, proven=proven)
    return len(counted), bounds.bans.banned


def test_a_client_that_is_refused_again_and_again_is_banned() -> None:
    assert refuse_a_thousand(proven=False) == (1000, (ADDRESS,))


def test_agents_behind_one_address_that_are_too_many_are_counted_and_never_banned() -> None:
    assert refuse_a_thousand(proven=True) == (1000, ())
