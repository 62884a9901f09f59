"""What the settings leave open on this node, for a person to know. Pure.

Which registries are open, and what a stranger gets, is not decided here.
"""

from collections.abc import Iterator

from agent.config import Settings
from agent.oci.mirrors import is_loopback
from agent.preflight.check import Check, good, warn

PEERS, CALLERS, ADMIN = "open to peers", "callers of the HostPort", "the admin port"


def openings(settings: Settings) -> tuple[Check, ...]:
    """What the settings let in without proof."""
    return (*_peers(settings), _callers(settings), *_admin(settings))


def _peers(settings: Settings) -> Iterator[Check]:
    if settings.peering.open:
        detail = f"peering.open is true: whoever reaches {settings.listen.peer} reads any image of this node"
        yield warn(
            PEERS, detail, hint="set it to false: all agents need the cluster's key (peering.key) first"
        )


def _callers(settings: Settings) -> Check:
    who = settings.listen.local_callers
    if settings.node.pod_network:
        if settings.peering.key is None:
            return warn(
                CALLERS,
                "in a pod's network the kernel can't tell who asks, and without a key there is no token that "
                "containerd could show",
                hint="set peering.key, and run `shorthaul configure --pod-network --key-file FILE`",
            )
        return good(CALLERS, "in a pod's network the kernel can't tell who asks: containerd shows a token")
    if who == "any":
        detail = "listen.local_callers is any: every process of this node's network reads any image of it"
        return warn(CALLERS, detail, hint="set it to root, if containerd runs as root")
    return good(CALLERS, f"by the kernel's word: {who}")


def _admin(settings: Settings) -> Iterator[Check]:
    admin = settings.listen.admin
    if is_loopback(admin.host):
        return
    if settings.peering.key is None:
        yield warn(
            ADMIN,
            f"{admin}: without a key there is no token for it, so others get its health and metrics only",
            hint="set peering.key, or listen.admin to 127.0.0.1 if nobody else needs them",
        )
    else:
        yield good(ADMIN, f"{admin}: health and metrics for all, the rest for who has the admin token")
