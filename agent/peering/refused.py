"""How one agent tells another one why it turned it away: headers of the answer, for who knows the key. Pure.

What they say is not proved: a refusal is believed as such, and its words are for people.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.observe.refusals import Reason

_REASON_HEADER, _TIME_HEADER = "Shorthaul-Refusal", "Shorthaul-Time"
_STATUSES = (401, 403)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a peer said when it turned this node away.

    ``reason``: None if it did not say: then it takes the signature for a stranger's. ``ahead_s``: how far the
    peer's clock is ahead of this node's, if it said its time.
    """

    reason: Reason | None = None
    ahead_s: float | None = None

    @property
    def words(self) -> str:
        """What it means, as the rest of a sentence about the peer."""
        match self.reason:
            case Reason.CLOCK if self.ahead_s is not None:
                way = "ahead of" if self.ahead_s > 0 else "behind"
                return (
                    f"refuses this node's signature: its clock is {abs(self.ahead_s):.0f} s {way} this node's"
                )
            case Reason.NOT_A_MEMBER:
                return "has no node of this name in its list of peers"
            case Reason.OTHER_NODE:
                return "is another node than the list of peers says"
            case Reason.CERTIFICATE:
                return "refuses this node: its certificate is another node's"
            case Reason.OTHER_ADDRESS:
                return "refuses this node: it comes from an address that is another node's"
            case None:
                return "refuses this node's signature: their keys differ"
            case _:
                return f"refuses this node's signature ({self.reason.value})"

    @property
    def hint(self) -> str:
        """What to do if it is this node that differs from its peers."""
        match self.reason:
            case Reason.CLOCK | Reason.REPLAYED:
                return "set this node's clock by NTP (chronyc tracking, timedatectl)"
            case Reason.NOT_A_MEMBER | Reason.OTHER_NODE:
                return "do the peers list this node, with the name in node.name?"
            case Reason.CERTIFICATE:
                return "let this node's certificate have its name, or set peering.tls.name on all nodes"
            case Reason.OTHER_ADDRESS:
                return "does this node send from another node's address, or do two have one node.name?"
            case _:
                return (
                    "give this node the key of the others (peering.key): `shorthaul key show FILE` names it"
                )


def refusal_headers(reason: Reason, now_s: float) -> Mapping[str, str]:
    """The headers that say why, and what this node's clock shows. ``now_s``: seconds since 1970."""
    return {_REASON_HEADER: reason.value, _TIME_HEADER: str(int(now_s * 1000))}


def read_refusal(status: int, headers: Mapping[str, str], now_s: float) -> Told | None:
    """What an answer says, if it turns this node away. ``headers``: of any case, or in lower case."""
    reason_text = headers.get(_REASON_HEADER) or headers.get(_REASON_HEADER.lower())
    if status not in _STATUSES:
        return None
    if reason_text is None:
        return Told() if status == 401 else None
    known = {reason.value: reason for reason in Reason}
    time_text = headers.get(_TIME_HEADER) or headers.get(_TIME_HEADER.lower()) or ""
    shows = time_text.isascii() and time_text.isdecimal() and len(time_text) < 16
    return Told(
        reason=known.get(reason_text), ahead_s=round(int(time_text) / 1000 - now_s, 3) if shows else None
    )
