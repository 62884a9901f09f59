"""A case is what its number says, for ever."""

from benchmarks.fuzz.grammar import Corpus, make_case, make_lines

_CORPUS = Corpus(targets=("/v2/", "/v2/a/manifests/v1"), channels=("/shorthaul/v1/holders",))


def test_the_same_number_is_the_same_case() -> None:
    for number in range(200):
        assert make_case(number, _CORPUS) == make_case(number, _CORPUS)
        assert make_lines(number, "node") == make_lines(number, "node")


def test_cases_differ() -> None:
    assert len({make_case(number, _CORPUS).stream for number in range(200)}) > 150


def test_requests_are_admitted_by_what_proves_them() -> None:
    shown = b"Authorization: Bearer let-me-in"
    corpus = Corpus(targets=("/v2/",), prove=lambda *_: [(b"Authorization", b"Bearer let-me-in")])
    assert sum(shown in make_case(number, corpus).stream for number in range(200)) > 100
