"""What the doctor found, in few words."""

from agent.documents.doctor import FindingEntry


def test_advice_without_room_for_its_lines_says_where_they_are() -> None:
    finding = FindingEntry(
        subject="config_path", status="bad", found="none", advice="write into FILE:", lines=("[a]", "b = 1")
    )
    assert finding.hint == "write into FILE what `shorthaul doctor` shows"


def test_advice_that_is_whole_stays_as_it_is() -> None:
    assert FindingEntry(subject="clock", status="warn", found="late", advice="set it").hint == "set it"
