"""What is said seldom."""

from agent.observe.seldom import Seldom


def test_each_thing_is_told_at_once_and_then_with_how_often_it_happened_since() -> None:
    now_s = [1000.0]
    seldom = Seldom(every_s=60, clock=lambda: now_s[0])
    assert [seldom.happened("this") for _ in range(4)] == [1, 0, 0, 0]
    assert seldom.happened("that") == 1
    now_s[0] += 59.9
    assert seldom.happened("this") == 0
    now_s[0] += 0.2
    assert seldom.happened("this") == 5
    assert seldom.happened("that") == 1
