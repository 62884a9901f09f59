"""Why a client is turned away before anything is done for it. A closed set: these are labels of a metric."""

from enum import Enum


class Refusal(Enum):
    """The value is the label ``reason`` of ``shorthaul_refused_total``."""

    USER = "user"  # the client's socket is another user's
    CGROUP = "cgroup"  # the client's socket is of another cgroup than containerd's
    GONE = "gone"  # nobody has the client's socket any more, so nobody can say whose it was
    UNKNOWN = "unknown"  # the kernel does not tell whose the client's socket is
    TOKEN_MISSING = "token_missing"
    TOKEN_WRONG = "token_wrong"
