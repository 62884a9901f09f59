"""What no case may bring about, judged by what one connection sent and received. Pure."""

from benchmarks.fuzz.client import Outcome
from benchmarks.fuzz.grammar import Case
from benchmarks.fuzz.replies import ResponseInvalid, responses
from benchmarks.fuzz.strict import messages

_MAY = (501, 503, 505)  # not implemented, not ready, not that version: each is an answer, and no crash


def judge_http(case: Case, outcome: Outcome) -> list[str]:
    """What is wrong with the answers to a case. Nothing, if all is well."""
    wrong = ["the connection hangs"] if outcome.hung else []
    asked = messages(case.stream)
    try:
        found = responses(outcome.received, [one.method for one in asked])
    except ResponseInvalid as error:
        return [*wrong, f"not HTTP: {error}"]
    if len(found) > len(asked):
        wrong.append(f"{len(found)} responses to {len(asked)} requests")
    for response in found:
        if response.status >= 500 and response.status not in _MAY:
            wrong.append(f"a {response.status}: {response.body[:200]!r}")
        if b"Traceback" in response.body or b'File "/' in response.body:
            wrong.append(f"an answer with a traceback: {response.body[:200]!r}")
        if not response.whole and not outcome.hung and response is not found[-1]:
            wrong.append("a body that is cut, and a response behind it")
    return wrong


def judge_silent(case: Case, outcome: Outcome) -> list[str]:
    """The same for a socket that speaks no HTTP: its connections end."""
    return ["the connection hangs"] if outcome.hung else []
