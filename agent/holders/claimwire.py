"""How questions about claims travel: a part of the questions between agents (`agent.holders.wire`). Pure.

An agent that knows no claims ignores this part, and leaves it out of its reply.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from agent.config.values import InvalidValue, parse_name
from agent.holders.claims import (
    Ask,
    ClaimKey,
    Completed,
    Free,
    GivenUp,
    Granted,
    Held,
    News,
    Renewed,
    Verdict,
)
from agent.oci.digest import parse_digest
from agent.oci.errors import RequestInvalid
from topology.placement import NodeName

NEWS_MAX = 64
WAIT_MAX_S = 10.0
SOURCES_MAX = 16
_REALM_MAX = 64
_BYTES_MAX = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimCall:
    """What a node says to an arbiter.

    ``node``: who it is. ``ask``: its question. ``wait_s``: how long the reply may take, if there is nothing
    to say before. ``news``: what became of its claims. A call without news is about the question alone.
    """

    node: NodeName
    ask: Ask | None = None
    wait_s: float = 0.0
    news: tuple[News, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimReply:
    """The reply. ``kept``: of the claims in the news, which are.

    ``verdict``: None: there is none yet. ``holder``: who has the claim then. ``queued``: its containerd is
    busy with other contents of the zone.
    """

    verdict: Verdict | None = None
    holder: NodeName | None = None
    queued: bool = False
    kept: tuple[bool, ...] = ()


def encode_call(call: ClaimCall) -> dict[str, Any]:
    """The call as a part of a JSON document."""
    document: dict[str, Any] = {"node": call.node}
    if call.ask is not None:
        ask = call.ask
        document["ask"] = [_key(ask.key), ask.beyond_bytes, ask.takes, ask.despite, ask.hearsay]
        document["wait_ms"] = round(1000 * call.wait_s)
    if call.news:
        document["news"] = [_encode_news(news) for news in call.news]
    return document


def decode_call(document: Any) -> ClaimCall:
    """The call in a part of a JSON document. Raises `OciError`."""
    try:
        node = NodeName(parse_name(document["node"]))
        news = document.get("news", [])
        if not isinstance(news, list) or len(news) > NEWS_MAX:
            raise RequestInvalid("too many news of claims")
        return ClaimCall(
            node=node,
            ask=None if document.get("ask") is None else _ask(node, *document["ask"]),
            wait_s=min(_number(document.get("wait_ms", 0)) / 1000, WAIT_MAX_S),
            news=tuple(_decode_news(*one) for one in news),
        )
    except (ValueError, TypeError, KeyError, AttributeError, InvalidValue) as error:
        raise RequestInvalid(f"no question about claims: {error}") from error


def encode_reply(reply: ClaimReply) -> dict[str, Any]:
    """The reply as a part of a JSON document."""
    document: dict[str, Any] = {"verdict": _encode_verdict(reply.verdict), "kept": [*reply.kept]}
    if reply.holder is not None:
        document["holder"] = reply.holder
    if reply.queued:
        document["queued"] = True
    return document


def decode_reply(document: Any) -> ClaimReply:
    """The reply in a part of a JSON document. Raises ValueError, TypeError, KeyError or `InvalidValue`."""
    kept: Sequence[Any] = document["kept"]
    if not isinstance(kept, list) or not all(isinstance(one, bool) for one in kept):
        raise ValueError("it does not say which claims are kept")
    return ClaimReply(
        verdict=_decode_verdict(document["verdict"]),
        holder=_name(document.get("holder")),
        queued=document.get("queued") is True,
        kept=tuple(kept),
    )


def _key(key: ClaimKey) -> list[Any]:
    return [key.digest, key.realm, key.cluster]


def _read_key(digest: Any, realm: Any, cluster: Any) -> ClaimKey:
    if not isinstance(realm, str) or len(realm) > _REALM_MAX or not isinstance(cluster, bool):
        raise RequestInvalid("a malformed claim")
    return ClaimKey(parse_digest(digest), realm, cluster)


def _ask(node: NodeName, key: Any, beyond: Any, takes: Any, despite: Any, hearsay: Any) -> Ask:
    return Ask(
        key=_read_key(*key),
        node=node,
        beyond_bytes=_number(beyond),
        takes=takes is True,
        despite=_name(despite),
        hearsay=_name(hearsay),
    )


def _encode_news(news: News) -> list[Any]:
    match news:
        case Renewed():
            return ["renewed", _key(news.key), news.available_bytes, news.queued]
        case Completed():
            return ["completed", _key(news.key), 0]
        case GivenUp():
            return ["given up", _key(news.key), int(news.failed)]
        case _:
            assert_never(news)


def _decode_news(kind: Any, key: Any, number: Any, queued: Any = False) -> News:
    match kind:
        case "renewed":
            return Renewed(_read_key(*key), _number(number), queued is True)
        case "completed":
            return Completed(_read_key(*key))
        case "given up":
            return GivenUp(_read_key(*key), number == 1)
        case _:
            raise RequestInvalid("news of a kind that is not known")


def _encode_verdict(verdict: Verdict | None) -> list[Any] | None:
    match verdict:
        case None:
            return None
        case Granted():
            return ["granted"]
        case Free():
            return ["free"]
        case Held():
            return ["held", [*verdict.sources[:SOURCES_MAX]], verdict.available_bytes, verdict.complete]
        case _:
            assert_never(verdict)


def _decode_verdict(document: Any) -> Verdict | None:
    match document:
        case None:
            return None
        case ["granted"]:
            return Granted()
        case ["free"]:
            return Free()
        case ["held", [_, *_] as sources, available, complete] if len(sources) <= SOURCES_MAX:
            names = tuple(NodeName(parse_name(source)) for source in sources)
            return Held(names, _number(available), complete is True)
        case _:
            raise ValueError("a verdict of a kind that is not known")


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _BYTES_MAX:
        raise ValueError(f"{value!r} is no number of bytes")
    return value


def _name(value: Any) -> NodeName | None:
    return None if value is None else NodeName(parse_name(value))
