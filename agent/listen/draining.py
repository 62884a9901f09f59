"""Which requests an agent that stops still answers, when no other agent of its node serves in its place.

containerd goes to its next host after a 503 (docs/decisions/0003). So the HostPort says so at once, and does
not let containerd begin what may not end. But a body that is under way is not given up: containerd resumes it
with a range, and may fetch it in ranges. After the first of these a 503 fails the whole pull. Pure.
"""

from agent.listen.caller import Caller
from agent.observe.requests import RequestPath
from agent.oci.errors import OciError, Unavailable

_BETWEEN_S = 0.5  # from one range of a layer to the request for the next one


class Draining:
    """Whether this agent stops. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._began = False
        self._continued_s = float("-inf")

    def begin(self) -> None:
        """The agent stops, and nobody serves in its place."""
        self._began = True

    def refusal(self, caller: Caller, range_header: str | None, now_s: float) -> OciError | None:
        """The answer to a request that this agent does not begin any more. None: it is answered."""
        if not self._began or caller.listener is not RequestPath.HOSTPORT:
            return None
        if range_header is not None and not range_header.replace(" ", "").startswith("bytes=0-"):
            self._continued_s = now_s
            return None
        return Unavailable("this node's agent stops", hint="it is restarted or removed; try the next host")

    def is_between(self, now_s: float) -> bool:
        """Whether a client may be about to ask for the next range of a body."""
        return now_s - self._continued_s < _BETWEEN_S
