"""Tokens of the cluster in the head of a request: ``Authorization: Bearer TOKEN`` (RFC 6750, 2.1). Pure.

A token counts nowhere else: not in a query, which proxies and logs keep.
"""

import hmac
from collections.abc import Iterable, Mapping

from agent.observe.refusals import Reason

_SCHEME = "bearer"
_LONGEST = 256  # characters; a token of the cluster has 43


def token_refusal(headers: Mapping[str, str], tokens: Iterable[str]) -> Reason | None:
    """Why the token of this request does not admit it. None: it is one of ``tokens``.

    ``headers``: of any case. A second Authorization makes both count for nothing.
    """
    values = [value for name, value in headers.items() if name.lower() == "authorization"]
    if not values:
        return Reason.NO_PROOF
    scheme, _, token = values[0].partition(" ")
    token = token.strip(" ")
    if len(values) > 1 or scheme.lower() != _SCHEME or not token or len(token) > _LONGEST:
        return Reason.MALFORMED
    return None if _is_one_of(token, tokens) else Reason.WRONG_PROOF


def _is_one_of(token: str, tokens: Iterable[str]) -> bool:
    """Whether it is one of them. The time that it takes tells nothing of them."""
    given, found = token.encode("utf-8", "surrogateescape"), False
    for one in tokens:
        found |= hmac.compare_digest(given, one.encode())
    return found
