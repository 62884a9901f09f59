"""What all pages of the admin API share: the shape of an error, and the header that an action needs."""

from dataclasses import dataclass

ACTION_HEADER = "Shorthaul-Action"
"""A request that changes something must have it. A web page of another site can't make a browser send it."""

ACTION = "1"
"""The one value of that header. Another one, such as 0, is nobody's intention to change something."""

NO_SUCH_PAGE = "NOT_FOUND"
"""The code of a path that the agent does not know. An older agent gives it for a newer page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDocument:
    """An error: the answer of every status from 400 on, except that of ``/readyz``.

    ``code``: the kind of error, in capitals, for programs. ``message``: the error, for people. ``hint``: what
    the reader can do; may be empty.
    """

    code: str
    message: str
    hint: str = ""
