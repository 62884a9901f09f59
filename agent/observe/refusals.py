"""Why a client is turned away before anything is done for it. The values are labels of metrics."""

from enum import Enum


class Reason(Enum):
    """Why a client is turned away. To add one: say here what it means; `Metrics.turned_away` counts it."""

    NO_PROOF = "no_proof"  # nothing that proves who asks: no signature, no token
    MALFORMED = "malformed"  # what should prove it is none: not one header, or not of its form
    WRONG_PROOF = "wrong_proof"  # a signature or token that does not fit
    USER = "user"  # the maker of the client's socket is another user than those who are answered
    CGROUP = "cgroup"  # its maker is not in containerd's cgroup
    CLOSED = "closed"  # nobody has the client's socket any more, so nobody can say who made it
    CERTIFICATE = "certificate"  # the certificate that it showed is of no member, or not of who asks
    UNKNOWN = "unknown"  # the kernel does not tell who made it
