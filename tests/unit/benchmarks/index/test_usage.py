"""What a server did, from samples of its counters."""

import pytest

from benchmarks.index.usage import Sample, Usage


def _sample(at_s: float, requests: int, *, cpu_s: float = 0.0, clients: int = 0) -> Sample:
    return Sample(
        at_s=at_s, cpu_s=cpu_s, requests=requests, commands=0, changes=0, memory_bytes=0, clients=clients
    )


def test_what_was_counted_before_the_first_sample_does_not_count() -> None:
    usage = Usage([[_sample(0, 100, cpu_s=1.0), _sample(2, 130, cpu_s=2.0)]])
    assert usage.total(lambda sample: sample.requests) == 30
    assert usage.cpu_percent == 50


def test_what_a_restarted_server_counted_is_added_from_its_start() -> None:
    usage = Usage([[_sample(0, 100), _sample(1, 110)], [_sample(2, 7), _sample(3, 9)]])
    assert usage.total(lambda sample: sample.requests) == 19
    assert usage.seconds == 3


def test_peak_is_the_busiest_second_and_not_the_average_or_an_instant() -> None:
    counted = [0, 0, 0, 0, 1000, 1010, 1020, 1030, 1040, 1050]
    usage = Usage([[_sample(at / 4, requests) for at, requests in enumerate(counted)]])
    assert usage.peak_per_s(lambda sample: sample.requests) == pytest.approx(1030)


def test_most_is_the_largest_value_of_all_runs() -> None:
    usage = Usage([[_sample(0, 0, clients=5)], [_sample(1, 0, clients=3)]])
    assert usage.most(lambda sample: sample.clients) == 5
