"""What two agents of one node say to each other when the newer one takes over. Pure.

One JSON text per line. The newer agent (the *heir*) connects and says `Take`. The older one answers `Offer`,
with its listening sockets beside it (SCM_RIGHTS), or `Refusal`. The heir gets ready, and may ask for `Claims`
meanwhile. When it accepts connections it says `Serving`. The older one then stops accepting and answers
`Yielded`. The connection stays: whoever stops or dies first, the other one knows.

The two may be of different releases. So no message and no key ever changes its meaning. An end ignores what
it does not know, and every key may be missing.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

LINE_MAX = 16 << 20  # 10,000 ages of tags take 3 MB, 16,384 cookies 0.4 MB
SOCKETS_MAX = 16


class MessageInvalid(ValueError):
    """These bytes are not a message."""


def _key(parse: Callable[[Any], object], default: object) -> Any:
    return field(metadata={"parse": parse}, default=default)


def _text(value: Any) -> str:
    return str(value)[:500]


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(int(one) for one in value)


def _places(value: Any) -> tuple[tuple[str, int], ...]:
    return tuple((str(host), int(port)) for host, port in value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """From the heir: I am an agent of this node and want to serve. ``agent``: the release."""

    node: str = _key(_text, "")
    agent: str = _key(_text, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """To the heir, with the listening sockets. ``proved``: this agent's path is proved to be direct.

    ``programs``: the ids of the eBPF programs of this agent's probe.
    """

    agent: str = _key(_text, "")
    proved: bool = _key(bool, False)
    programs: tuple[int, ...] = _key(_numbers, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """To the heir: it gets no sockets. ``again``: it may ask again in a moment."""

    reason: str = _key(_text, "")
    again: bool = _key(bool, False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """From the heir: which connections did you accept?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """To the heir: the cookies (SO_COOKIE) of what this agent accepted. ``every``: these are all."""

    cookies: tuple[int, ...] = _key(_numbers, ())
    every: bool = _key(bool, False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """From the heir: it accepts connections at these addresses."""

    places: tuple[tuple[str, int], ...] = _key(_places, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Yielded:
    """To the heir: this agent accepts nothing there any more. ``cookies``, ``every``: as in `Claims`.

    ``ages``: what this agent knows of the ages of mirrored tags.
    """

    cookies: tuple[int, ...] = _key(_numbers, ())
    every: bool = _key(bool, False)
    ages: Mapping[str, Any] | None = _key(dict, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """From either end: this agent stops. The other one has to serve now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """To an heir that leaves: this agent accepts connections again."""


Message = Take | Offer | Refusal | Claim | Claims | Serving | Yielded | Leaving | Resumed

_NAMES: Mapping[str, type[Message]] = {
    kind.__name__.lower(): kind
    for kind in (Take, Offer, Refusal, Claim, Claims, Serving, Yielded, Leaving, Resumed)
}


def encode(message: Message) -> bytes:
    """A message as one line, with the newline."""
    document = {"say": type(message).__name__.lower(), **asdict(message)}
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message | None:
    """The message in a line. None for one that this release does not know. Raises `MessageInvalid`."""
    try:
        document = json.loads(line)
        kind = _NAMES.get(document["say"])
        if kind is None:
            return None
        given = {
            one.name: one.metadata["parse"] for one in fields(kind) if document.get(one.name) is not None
        }
        return kind(**{name: parse(document[name]) for name, parse in given.items()})
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise MessageInvalid(f"not a message of an agent: {error!r}") from error
