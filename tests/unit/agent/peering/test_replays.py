"""Which signatures came before, and how many are remembered."""

from agent.peering.replays import Replays

NOW_MS = 1_700_000_000_000


def mac(number: int) -> str:
    return f"{number:016x}" + "0" * 48


def test_signature_is_known_for_as_long_as_it_is_valid() -> None:
    replays = Replays(window_ms=30_000)
    assert not replays.is_known(mac(1), NOW_MS)
    assert replays.add(mac(1), NOW_MS, "a", NOW_MS)
    assert replays.is_known(mac(1), NOW_MS)
    assert not replays.is_known(mac(2), NOW_MS)
    assert replays.add(mac(2), NOW_MS + 30_000, "a", NOW_MS + 30_000)
    assert replays.is_known(mac(1), NOW_MS)


def test_signature_from_the_future_is_known_until_it_is_old() -> None:
    replays = Replays(window_ms=30_000)
    assert replays.add(mac(1), NOW_MS + 30_000, "a", NOW_MS)
    assert replays.add(mac(2), NOW_MS + 59_999, "a", NOW_MS + 59_999)
    assert replays.is_known(mac(1), NOW_MS + 30_000)


def test_what_is_old_is_forgotten_and_makes_room() -> None:
    replays = Replays(window_ms=30_000, of_address_most=10)
    for number in range(10):
        assert replays.add(mac(number), NOW_MS, "a", NOW_MS)
    assert not replays.add(mac(10), NOW_MS, "a", NOW_MS)
    later_ms = NOW_MS + 50_000
    assert replays.add(mac(11), later_ms, "a", later_ms)
    assert len(replays) == 1


def test_one_address_can_not_take_the_room_of_the_others() -> None:
    replays = Replays(window_ms=30_000, of_address_most=10, most=25)
    taken = [replays.add(mac(number), NOW_MS, "thief", NOW_MS) for number in range(100)]
    assert sum(taken) == 10
    assert replays.add(mac(100), NOW_MS, "another", NOW_MS)
    for number in range(200, 300):
        replays.add(mac(number), NOW_MS, f"address {number}", NOW_MS)
    assert len(replays) == 25
