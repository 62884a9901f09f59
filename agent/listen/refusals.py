"""What a client is answered that is turned away, and what the log says of it.

A client that knows the cluster's key is told why, in words and in two headers that its agent reads. Nobody
else is told anything. Each reason is logged once a minute at most.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import assert_never

from agent.observe.metrics import Metrics
from agent.observe.refusals import Reason, Refusal
from agent.observe.seldom import Seldom
from agent.oci.errors import Denied, OciError, TooManyRequests, Unauthorized
from agent.peering.refused import refusal_headers

_log = logging.getLogger("shorthaul")

_WAIT_S = 1.0


def refusal_error(refusal: Refusal) -> OciError:
    """The refusal as an answer."""
    message = refusal.message or "not authorized"
    match refusal.reason:
        case Reason.NO_PROOF | Reason.MALFORMED | Reason.UNKNOWN_KEY | Reason.WRONG_PROOF:
            return Unauthorized(message, hint=refusal.hint)
        case Reason.CLOCK | Reason.REPLAYED:
            return Unauthorized(message, hint=refusal.hint)
        case Reason.USER | Reason.CGROUP | Reason.CLOSED | Reason.UNKNOWN | Reason.CERTIFICATE:
            return Denied(message, hint=refusal.hint)
        case Reason.OTHER_NODE | Reason.NOT_A_MEMBER | Reason.OTHER_ADDRESS:
            return Denied(message, hint=refusal.hint)
        case Reason.TOO_MANY | Reason.CONNECTIONS | Reason.CPU | Reason.UNFINISHED | Reason.FRAMES:
            return TooManyRequests(message, wait_s=_WAIT_S, hint=refusal.hint)
        case _:
            assert_never(refusal.reason)


def told_headers(refusal: Refusal, now_s: float) -> Mapping[str, str]:
    """The headers that tell another agent why. Empty for a client that does not know the key."""
    return refusal_headers(refusal.reason, now_s) if refusal.knows_key else {}


class Refusals:
    """Counts the clients that are turned away, and logs them."""

    def __init__(self, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._seldom = Seldom(clock=clock)

    def turned_away(self, listener: str, address: str, refusal: Refusal) -> None:
        """This client of a listener was turned away. ``address``: its IP address."""
        self._metrics.turned_away(listener, refusal.reason)
        times = self._seldom.happened((listener, refusal.reason))
        if not times:
            return
        more = {"more_since": times - 1} if times > 1 else {}
        _log.warning(
            "listen.%s turned a client away: %s",
            listener,
            refusal.message or refusal.reason.value,
            extra={
                "fields": {
                    "reason": refusal.reason.value,
                    "remote": address,
                    **({"node": refusal.node} if refusal.node is not None else {}),
                    **({"hint": refusal.hint} if refusal.hint else {}),
                    **more,
                }
            },
        )
