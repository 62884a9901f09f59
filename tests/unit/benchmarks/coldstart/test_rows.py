"""What the command line's words for rows mean."""

import pytest

from benchmarks.chunks.rows import Chunks
from benchmarks.coldstart.rows import Blow, Client, Trouble, Way


def test_client_is_a_version_and_perhaps_how_it_fetches() -> None:
    assert Client.parse("1.6") == Client(version="1.6")
    assert Client.parse("2.1/8x4") == Client(version="2.1", chunks=Chunks(at_once=8, size_mib=4))
    assert str(Client.parse("2.1/8x4")) == "2.1/8x4"
    for impossible in ("0.9", "1.6/8x4", "2.1/8"):
        with pytest.raises(ValueError):  # noqa: PT011 - argparse says what is wrong
            Client.parse(impossible)


def test_trouble_is_a_blow_and_when_it_falls() -> None:
    assert Trouble.parse("killed@10") == Trouble(blow=Blow.KILLED, at=0.1)
    assert str(Trouble.parse("frozen@50")) == "frozen at 50 %"
    assert Trouble.parse("none") is None
    with pytest.raises(ValueError, match="burnt"):
        Trouble.parse("burnt@50")


def test_only_ways_with_claims_switch_them_on() -> None:
    modes = {way: way.settings["mode"] for way in Way}
    assert {way for way, mode in modes.items() if mode == "claims"} == {Way.ZONE, Way.CLUSTER}
