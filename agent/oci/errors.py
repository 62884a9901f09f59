"""Errors that a registry client sees.

Source: OCI distribution spec 1.1, "Error Codes". The status of each error tells the *client* what to do. A
404 sends containerd to its next host at once. A 429 or 408 makes containerd repeat the request six times
without a pause, so this node's containerd never gets one of these two.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

WAIT_HEADER = "Shorthaul-Wait-Ms"
"""Milliseconds until there is capacity. Retry-After can only say whole seconds."""

_SHARED_WAIT_S = 0.05  # if the nodes that are named do not help, the asker may come back at once

WITHHELD_HEADER = "Shorthaul-Withheld"
"""In a 404 for another agent: the content is here, and given under other names only."""


class OciError(Exception):
    """An error with an HTTP status, an OCI code, a message, and a hint for the person who reads it."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "UNKNOWN"
    reason: ClassVar[str | None] = None  # the words behind the status; None: the usual ones
    left_to_registry: bool = False
    """Whether the settings ask for this 404."""
    fault: bool = False
    """Whether this 404 is a fault of this node or of its peers: one of them may have the content."""

    def __init__(self, message: str, *, hint: str = "", detail: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail or {}

    def as_left_to_registry(self) -> Self:
        """The same error, which the settings ask for."""
        self.left_to_registry = True
        return self

    def as_fault(self, fault: bool) -> Self:
        """The same error. ``fault``: whether a node may have the content."""
        self.fault = fault
        return self

    @property
    def headers(self) -> dict[str, str]:
        """Extra response headers that this error needs."""
        return {}

    def body(self) -> bytes:
        """The error as the spec's JSON, UTF-8."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        detail = {**self.detail, **({"hint": self.hint} if self.hint else {})}
        if detail:
            error["detail"] = detail
        return json.dumps({"errors": [error]}).encode()


class NameInvalid(OciError):
    """The repository or registry name does not match the spec's grammar."""

    status, code = 400, "NAME_INVALID"


class DigestInvalid(OciError):
    """The digest does not match the spec's grammar, or uses an unregistered algorithm."""

    status, code = 400, "DIGEST_INVALID"


class RequestInvalid(OciError):
    """The HTTP request itself cannot be understood (head too large, bad syntax)."""

    status, code = 400, "UNSUPPORTED"


class Unauthorized(OciError):
    """This client did not prove that it belongs to the cluster. containerd goes to its next host.

    There is no WWW-Authenticate: containerd would answer it with the credentials that a pod has for the
    registry, and try again.
    """

    status, code = 401, "UNAUTHORIZED"


class LeftToRegistry(OciError):
    """The registry decides who may have this image. containerd goes to its next host.

    Its users see neither the body of an answer to a HEAD nor which host said 404. From 2.1 on its log has the
    words behind the status.
    """

    status, code = 404, "MANIFEST_UNKNOWN"
    reason = "Not Found, the registry decides"


class Denied(OciError):
    """This client gets nothing here. containerd goes to its next host."""

    status, code = 403, "DENIED"


class NameUnknown(OciError):
    """No endpoint of the distribution API has this path."""

    status, code = 404, "NAME_UNKNOWN"


class ManifestUnknown(OciError):
    """The manifest is not available here. The client should go to its next host."""

    status, code = 404, "MANIFEST_UNKNOWN"


class Withheld(OciError):
    """For another agent: this node gives the content under other names only. Nobody is to blame."""

    status, code = 404, "MANIFEST_UNKNOWN"

    @property
    def headers(self) -> dict[str, str]:
        return {WITHHELD_HEADER: "name"}


class BlobUnknown(OciError):
    """The blob is not available here. The client should go to its next host."""

    status, code = 404, "BLOB_UNKNOWN"


class Unsupported(OciError):
    """A read-only mirror does not have this method."""

    status, code = 405, "UNSUPPORTED"

    @property
    def headers(self) -> dict[str, str]:
        return {"Allow": "GET, HEAD"}


class RangeInvalid(OciError):
    """The range is malformed, or starts after the end of the content (RFC 9110, 14.2)."""

    status, code = 416, "RANGE_INVALID"

    def __init__(self, message: str, *, size_bytes: int | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.size_bytes = size_bytes

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.size_bytes is None else {"Content-Range": f"bytes */{self.size_bytes}"}


class _RetryLater(OciError):
    """``wait_s``: the expected time until there is capacity, from recent observations."""

    def __init__(self, message: str, *, wait_s: float, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.wait_s = wait_s

    @property
    def headers(self) -> dict[str, str]:
        return {
            "Retry-After": str(max(1, math.ceil(self.wait_s))),
            WAIT_HEADER: str(round(self.wait_s * 1000)),
        }


class TooManyRequests(_RetryLater):
    """No capacity for another agent. The agent can go to other peers."""

    status, code = 429, "TOOMANYREQUESTS"


class SharedWithOthers(TooManyRequests):
    """Other nodes are given the content now. ``told``: the headers that say which."""

    def __init__(self, message: str, *, told: Mapping[str, str]) -> None:
        super().__init__(message, wait_s=_SHARED_WAIT_S)
        self.told = told

    @property
    def headers(self) -> dict[str, str]:
        return {**super().headers, **self.told}


class Overloaded(_RetryLater):
    """No capacity for a client that would repeat a 429 at once. It should go to its next host."""

    status, code = 503, "UNAVAILABLE"


class Unavailable(OciError):
    """This agent can't answer now, because its store is gone. The client should go to its next host."""

    status, code = 503, "UNAVAILABLE"


class Internal(OciError):
    """A bug in this agent. The log has the traceback."""

    status, code = 500, "UNKNOWN"
