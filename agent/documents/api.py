"""What all pages of the admin API share: the shape of an error, and the header that an action needs."""

from dataclasses import dataclass, field

from agent.documents.codec import json_key

ACTION_HEADER = "Shorthaul-Action"
"""A request that changes something must have it. A web page of another site can't make a browser send it."""

NO_SUCH_PAGE = "no such page"
"""The error of a path that the agent does not know. An older agent gives it for a newer page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDocument:
    """An error. ``hint``: what the reader can do; may be empty."""

    message: str = field(metadata=json_key("error"))
    hint: str = ""
