"""Do two agents reach each other, both ways? One asks the other, and the other dials back.

A network policy or a firewall often closes one direction only; then each of the two nodes sees half of it.
The peer dials the address that *it* has listed for the asker, never one that the question names, so a
question makes an agent connect to a member of its cluster only. The answer also says the time, by which
clocks are compared. It is asked for by people (`shorthaul doctor`), so nothing here costs anything otherwise.
"""

import asyncio
import json
import math
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from multidict import CIMultiDict

from agent.documents.reach import NO_TLS, OTHER, OWN, REFUSED, SILENT, ReachEntry
from agent.members.member import Peer
from agent.members.roster import Roster
from agent.peering.connections import PeerConnection
from agent.peering.credentials import Credentials
from agent.peering.dial import Dialer, NotAccepted, NotCertified, NoTls, OwnFault, Unreachable
from agent.peering.heads import Malformed
from agent.peering.refused import read_refusal
from agent.peering.tlsfailure import TlsRefused
from agent.peering.tlssocket import TlsSocket
from topology.labels import clean_value
from topology.measuring import MeasureLimits, choose_measured
from topology.placement import NodeName, ZoneKey

PATH = "/shorthaul/v1/reach"
_BACK_S, _ANSWER_S = 2.0, 3.0  # a SYN is repeated after one second; the answer comes after the dialling back
_ANSWER_MAX_BYTES = 4096
_BACK_MAX = 8  # dialled at once, for all who ask
_LIMITS = MeasureLimits(own_zone=8, other_zones=2, total=16)
_SUSPECTS_MAX = 4
_WORDS_MOST = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    kind: str
    words: str
    own: bool  # it is the trouble of this node


class ReachDesk:
    """Answers peers that ask whether this node reaches them."""

    def __init__(self, *, roster: Roster, dialer: Dialer, wall: Callable[[], float] = time.time) -> None:
        self._roster = roster
        self._dialer = dialer
        self._wall = wall
        self._dialling = 0

    async def answer(self, address: str, name: NodeName | None = None) -> bytes:
        """The answer to the peer at this address, as JSON. Takes a TCP connection's time at most.

        ``name``: who it proved to be, if it did.
        """
        name = name or self._roster.peer_at(address)
        peer = None if name is None else self._roster.peer(name)
        reaches, kind, why = None, "", f"it does not know an agent at {address}"
        if peer is not None and self._dialling >= _BACK_MAX:
            why = "it is asked too often now"
        elif peer is not None:
            failure = await self._dial(peer)
            reaches, kind, why = (
                failure is None,
                failure.kind if failure else "",
                failure.words if failure else "",
            )
            if failure is not None and failure.own:
                reaches = None
        own = self._dialer.credentials
        said = {"node": own.own, "instance": own.instance, "reaches": reaches, "kind": kind, "why": why}
        return json.dumps({**said, "time": self._wall()}).encode()

    async def _dial(self, peer: Peer) -> _Failure | None:
        self._dialling += 1
        try:
            return await _try(self._dialer, peer, _BACK_S)
        finally:
            self._dialling -= 1


class Reacher:
    """Asks peers whether they and this node reach each other. ``dialer``: dials from this node's own address.

    ``suspects``: the peers that did not answer lately, which are asked first.
    """

    def __init__(
        self,
        *,
        roster: Roster,
        dialer: Dialer,
        suspects: Callable[[], Iterable[NodeName]],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._roster = roster
        self._dialer = dialer
        self._suspects = suspects
        self._wall = wall
        self._asking: asyncio.Task[tuple[ReachEntry, ...]] | None = None

    async def ask(self) -> tuple[ReachEntry, ...]:
        """Ask some peers of every zone. Takes six seconds at most. Questions at one time share the answer."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="reach")
        return await asyncio.shield(self._asking)

    async def _ask(self) -> tuple[ReachEntry, ...]:
        peers = [peer for name in self._chosen() if (peer := self._roster.peer(name)) is not None]
        return tuple(await asyncio.gather(*(self._of(peer) for peer in peers)))

    def _chosen(self) -> list[NodeName]:
        snapshot = self._roster.snapshot
        zones: dict[ZoneKey | None, list[NodeName]] = {}
        for name in self._roster.peers:
            zones.setdefault(snapshot.zone_of(name), []).append(name)
        own = self._roster.own
        measured = choose_measured(
            zones, own=own, own_zone=snapshot.zone_of(own), limits=_LIMITS, turn=int(self._wall() // 30)
        )
        suspects = sorted(self._suspects())[:_SUSPECTS_MAX]
        return list(dict.fromkeys([*suspects, *measured]))

    async def _of(self, peer: Peer) -> ReachEntry:
        try:
            async with asyncio.timeout(_BACK_S):
                own = await self._dialer.connect(peer)
        except (Unreachable, OwnFault, TimeoutError) as error:
            return _unreached(peer, _failure(error, _BACK_S))
        connection = PeerConnection(own, peer=peer, dialer=self._dialer)
        try:
            async with asyncio.timeout(_BACK_S + _ANSWER_S):
                said = await _question(connection)
        except TlsRefused as error:
            failure = _failure(self._dialer.tls_failure(peer, error.failure), _BACK_S)
            return _unreached(peer, failure)
        except NotAccepted as error:
            return ReachEntry(
                node=peer.name,
                address=peer.authority,
                reached=True,
                returned=str(error)[:_WORDS_MOST],
                called=None if error.who is None else error.who.name,
                own=error.who is not None and error.who.instance == self._dialer.credentials.instance,
                ahead_s=error.ahead_s,
            )
        except (OSError, TimeoutError, Malformed, ValueError) as error:
            words = str(error) or f"no answer within {_BACK_S + _ANSWER_S:g} s"
            return ReachEntry(
                node=peer.name, address=peer.authority, reached=True, returned=words[:_WORDS_MOST]
            )
        finally:
            connection.close()
        return _entry(peer, said, self._wall(), self._dialer.credentials.instance)


async def _try(dialer: Dialer, peer: Peer, at_most_s: float) -> _Failure | None:
    """Open a connection and close it. None: it was opened."""
    try:
        async with asyncio.timeout(at_most_s):
            own = await dialer.connect(peer)
            try:
                await _confirm(dialer, peer, own)
            finally:
                own.close()
    except (Unreachable, OwnFault, TimeoutError) as error:
        return _failure(error, at_most_s)
    return None


async def _confirm(dialer: Dialer, peer: Peer, own: socket.socket) -> None:
    """Wait for an answer if there is TLS: it is the first sign that the peer took this node's certificate.

    What the answer says is of no interest. Raises as `Dialer.connect` does.
    """
    if not isinstance(own, TlsSocket):
        return
    try:
        await PeerConnection(own, peer=peer, dialer=dialer).request("GET", "/v2/", {})
    except TlsRefused as error:
        raise dialer.tls_failure(peer, error.failure) from error
    except (OSError, Malformed) as error:
        raise Unreachable(str(error) or "it closed the connection without an answer") from error


def _failure(error: Exception, at_most_s: float) -> _Failure:
    if isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError):
        kind, words = SILENT, f"no answer within {at_most_s:g} s"
    elif isinstance(error, NoTls | NotCertified):
        kind, words = NO_TLS, str(error)
    elif isinstance(error, OwnFault):
        kind, words = OWN, str(error)
    else:
        kind = REFUSED if isinstance(error.__cause__, ConnectionRefusedError) else OTHER
        words = str(error)
    return _Failure(kind=kind, words=words[:_WORDS_MOST], own=isinstance(error, OwnFault))


async def _question(connection: PeerConnection) -> dict[str, Any]:
    """The peer's answer. Raises OSError, `Malformed`, `NotAccepted`, and ValueError for one that is none."""
    head = await connection.request("GET", PATH, {})
    told = read_refusal(head.status, head.headers, 0.0)
    if told is not None:
        raise NotAccepted(f"it {told.words}", who=Credentials.introduced(CIMultiDict(head.headers)))
    if head.status != 200:
        raise ValueError(f"it does not know the question (status {head.status}): is its release older?")
    body = bytearray(head.first)
    length = head.headers.get("content-length", "0")
    wanted = min(int(length) if length.isdigit() else 0, _ANSWER_MAX_BYTES)
    while len(body) < wanted and (part := await connection.read()):
        body += part
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise Malformed("what answers there is no shorthaul agent")
    return said


def _unreached(peer: Peer, failure: _Failure) -> ReachEntry:
    return ReachEntry(
        node=peer.name, address=peer.authority, reached=False, kind=failure.kind, how=failure.words
    )


def _entry(peer: Peer, said: dict[str, Any], now_s: float, instance: str) -> ReachEntry:
    reaches = said.get("reaches")
    return ReachEntry(
        node=peer.name,
        address=peer.authority,
        reached=True,
        returns=reaches if isinstance(reaches, bool) else None,
        returned_kind=_text(said.get("kind")),
        returned=_text(said.get("why")),
        called=_text(said.get("node")) or None,
        own=said.get("instance") == instance,
        ahead_s=_ahead_s(said.get("time"), now_s),
    )


def _ahead_s(at_s: object, now_s: float) -> float | None:
    """How far a clock that shows this is ahead. None if it is no time, or one that no float holds."""
    if isinstance(at_s, bool) or not isinstance(at_s, int | float):
        return None
    try:
        ahead_s = at_s - now_s
    except OverflowError:
        return None
    return round(ahead_s, 3) if math.isfinite(ahead_s) else None


def _text(value: object) -> str:
    return clean_value(value)[:_WORDS_MOST] if isinstance(value, str) else ""
