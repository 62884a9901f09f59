"""Who may come in by the peer listener: agents that prove that they know the cluster's key.

The checks are in the order of their cost, so that a flood of bad signatures costs little. Only after the
HMAC fits is anything said: a wrong clock, a wrong name. The key proves that a node belongs to the cluster.
It does not prove which node it is, because all have the same key. So a name counts only if a member has it,
and not from the address of another member.
"""

import time
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass

from multidict import MultiMapping

from agent.keyring import KeyRing
from agent.members.roster import Roster
from agent.observe.refusals import Reason, Refusal
from agent.peering.redirects import redirect_proof
from agent.peering.replays import Replays
from agent.peering.signature import HEADER, WINDOW_MS, Signature, parse_signature
from topology.placement import NodeName

USER_AGENT = "shorthaul"

_LEFT_S = 120.0
"""A node that left the members may go on for so long: it stops, and finishes its clients' pulls."""

_CLOCK_HINT = "set the clocks of both nodes by NTP (chronyc tracking, timedatectl)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A client that may come in.

    ``node``: the name that it proved. None: it proved none. ``is_agent``: it is an agent. ``is_redirected``:
    it is a client that an agent has sent here.
    """

    node: NodeName | None = None
    is_agent: bool = False
    is_redirected: bool = False


class Gate:
    """Checks the requests on the peer listener.

    ``ring``: the keys of now; None: there are none. ``is_open``: nothing has to be proved (``peering.open``).
    ``wall``: seconds since 1970, which signatures are about. ``clock``: for everything else.
    """

    def __init__(
        self,
        *,
        own: NodeName,
        ring: Callable[[], KeyRing | None],
        is_open: bool,
        roster: Roster,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own = own
        self._ring = ring
        self._is_open = is_open
        self._roster = roster
        self._wall = wall
        self._clock = clock
        self._replays = Replays(window_ms=WINDOW_MS)
        self._members: Set[NodeName] = roster.listed.keys()
        self._left_s: dict[NodeName, float] = {}  # until when those that left may come in
        roster.on_change(self._members_changed)

    def check(self, method: str, target: str, headers: MultiMapping[str], address: str) -> Admitted | Refusal:
        """Whether this request may come in. ``address``: where it comes from."""
        ring, proofs = self._ring(), headers.getall(HEADER, ())
        checked: Admitted | Refusal
        if ring is None or not (proofs or redirect_proof(target)):
            checked = Refusal(reason=Reason.NO_PROOF)
        elif proofs:
            checked = self._signed(ring, method, target, headers, proofs, address)
        else:
            checked = self._redirected(ring, method, target)
        if isinstance(checked, Refusal) and self._is_open:
            return Admitted(is_agent=headers.get("User-Agent") == USER_AGENT)
        return checked

    def _signed(
        self,
        ring: KeyRing,
        method: str,
        target: str,
        headers: MultiMapping[str],
        proofs: Iterable[str],
        address: str,
    ) -> Admitted | Refusal:
        header, *others = proofs
        ranges = headers.getall("Range", ())
        signature = None if others or len(ranges) > 1 else parse_signature(header)
        if signature is None:
            return Refusal(reason=Reason.MALFORMED)
        key = ring.by_id(signature.key_id)
        if key is None:
            return Refusal(reason=Reason.UNKNOWN_KEY)
        if not signature.fits(key, method, target, ranges[0] if ranges else ""):
            return Refusal(reason=Reason.WRONG_PROOF)
        now_ms = int(self._wall() * 1000)
        refusal = self._time(signature, now_ms) or self._names(signature, address)
        return (
            refusal
            or self._once(signature, address, now_ms)
            or Admitted(node=signature.sender, is_agent=True)
        )

    def _redirected(self, ring: KeyRing, method: str, target: str) -> Admitted | Refusal:
        proof = redirect_proof(target)
        if proof is None or method not in ("GET", "HEAD"):
            return Refusal(reason=Reason.MALFORMED)
        key = ring.by_id(proof.key_id)
        if key is None:
            return Refusal(reason=Reason.UNKNOWN_KEY)
        if not proof.fits(key, self._own):
            return Refusal(reason=Reason.WRONG_PROOF)
        if abs(int(self._wall() * 1000) - proof.time_ms) > WINDOW_MS:
            return Refusal(
                reason=Reason.CLOCK,
                message=f"this redirect was good for {WINDOW_MS // 1000} s",
                hint=f"ask the agent again that sent it; if it is new, {_CLOCK_HINT}",
            )
        return Admitted(is_redirected=True)

    def _time(self, signature: Signature, now_ms: int) -> Refusal | None:
        ahead_ms = signature.time_ms - now_ms
        if abs(ahead_ms) <= WINDOW_MS:
            return None
        differs = f"{abs(ahead_ms) / 1000:.0f} s {'ahead of' if ahead_ms > 0 else 'behind'}"
        return Refusal(
            reason=Reason.CLOCK,
            message=f"the clock of {signature.sender} is {differs} that of {self._own}",
            hint=_CLOCK_HINT,
            node=signature.sender,
        )

    def _names(self, signature: Signature, address: str) -> Refusal | None:
        sender, receiver = signature.sender, signature.receiver
        if receiver != self._own:
            return Refusal(
                reason=Reason.OTHER_NODE,
                message=f"this is {self._own}, and the request of {sender} is for {receiver}",
                hint=f"correct the address of {receiver} in the list of peers, or one of the two node.name",
                node=sender,
            )
        if not self._is_member(sender):
            return Refusal(
                reason=Reason.NOT_A_MEMBER,
                message=f"{self._own} has no peer {sender} in its list",
                hint="a node that joined just now is listed soon; else correct the list, or its node.name",
                node=sender,
            )
        there, listed = self._roster.peer_at(address), self._roster.listed.get(sender)
        if there not in (None, sender) and (listed is None or listed.address != address):
            return Refusal(
                reason=Reason.OTHER_ADDRESS,
                message=f"it calls itself {sender}, and comes from {address}, which is {there}'s address",
                hint="does that node translate addresses, or have two nodes one node.name? If neither, the "
                "key is in wrong hands: replace it (docs/operations.md)",
                node=sender,
            )
        return None

    def _once(self, signature: Signature, address: str, now_ms: int) -> Refusal | None:
        if self._replays.is_known(signature.mac, signature.time_ms):
            return Refusal(
                reason=Reason.REPLAYED,
                message=f"this request of {signature.sender} came before",
                hint="somebody between the two nodes repeats requests: see peering.tls",
                node=signature.sender,
            )
        if not self._replays.add(signature.mac, signature.time_ms, address, now_ms):
            return Refusal(
                reason=Reason.TOO_MANY,
                message=f"too many requests from {address}",
                hint="ask again in a moment",
                node=signature.sender,
            )
        return None

    def _is_member(self, name: NodeName) -> bool:
        if name in self._roster.listed:
            return True
        until_s = self._left_s.get(name)
        return until_s is not None and self._clock() < until_s

    def _members_changed(self, _: object) -> None:
        now_s, members = self._clock(), self._roster.listed.keys()
        self._left_s = {name: until_s for name, until_s in self._left_s.items() if now_s < until_s}
        self._left_s |= dict.fromkeys(self._members - members, now_s + _LEFT_S)
        self._members = members
