"""Makes docs/attacks.md from the table: ``python -m tests.server.attacks.page > docs/attacks.md``."""

import textwrap
from collections.abc import Iterator

from .doors import Door
from .table import ELSEWHERE, HANDSHAKES, TABLE

_HEAD = (
    "# Attacks, door by door",
    "What each attack gets at each door of a node. Every cell is a test over real sockets "
    "(`tests/server/attacks/test_attacks.py`), and this page is made from the table that the tests "
    "read (`python -m tests.server.attacks.page > docs/attacks.md`; a test holds it). What each "
    "attacker can do with all that is in [threats.md](threats.md).",
    "“400, closed” is the status of the answer, and what becomes of the connection: behind “closed” "
    "nothing that was sent is taken for a request, behind “open” the next request is answered. A "
    "door without an entry is not attacked in that way. Each agent has a key and one neighbour; the "
    "requests are those of an honest client of that door (with its token or signature) but for what "
    "the row names. The HostPort's clients run as root; who is let in there otherwise is held by "
    "`tests/server/test_local_callers.py`, and the admin port from elsewhere than loopback by "
    "`tests/server/test_admin_access.py`.",
)

_GROUPS = {
    "a message whose end is in doubt": (
        "What two servers could understand in two ways (request smuggling), and what no honest "
        "client sends. Behind each attack comes an honest request, which is not answered."
    ),
    "what is asked for": ("Names outside of the grammar never become part of a file's name."),
    "proof of a peer": (
        "Who knows the key is told what is wrong (another node, no member, a clock that is off: "
        "“the clock of node-1 is 600 s behind”); who does not is told nothing. A member's name is "
        "believed from any address but another member's, because addresses are translated in some "
        "clusters. With TLS the certificate has to fit the name."
    ),
    "token": (
        "The NodePort's token (what containerd sends because of hosts.toml). No answer has a challenge."
    ),
    "a web page": ("What another site's page can make a browser on an operator's laptop or on a node ask."),
    "a standing connection": ("Frames on a WebSocket between agents, after a right handshake."),
}


def page() -> str:
    """The page."""
    return (
        "\n".join([*map(_filled, _HEAD), *_sections(), *_certificates(), *_elsewhere()]).replace(
            "\n\n\n", "\n\n"
        )
        + "\n"
    )


def _filled(text: str) -> str:
    return textwrap.fill(text, 130, break_long_words=False, break_on_hyphens=False) + "\n"


def _sections() -> Iterator[str]:
    for group in dict.fromkeys(attack.group for attack in TABLE):
        rows = [attack for attack in TABLE if attack.group == group]
        doors = [door for door in Door if any(door in row.expected for row in rows)]
        yield f"\n## {group[0].upper()}{group[1:]}\n\n{_filled(_GROUPS[group])}"
        yield f"| attack | {' | '.join(door.value for door in doors)} |"
        yield f"|---|{'---|' * len(doors)}"
        for row in rows:
            yield f"| {row.name} | {' | '.join(row.expected.get(door, '') for door in doors)} |"


def _certificates() -> Iterator[str]:
    yield "\n## A certificate\n"
    yield f"What a client shows at the door “{Door.PEER_TLS.value}”, with an honest, signed request.\n"
    yield "| certificate | gets |\n|---|---|"
    for handshake in HANDSHAKES:
        yield f"| {handshake.name} | {handshake.expected} |"


def _elsewhere() -> Iterator[str]:
    yield "\n## Elsewhere\n\nWhat takes time, users or several processes. Paths are from `tests/`.\n"
    yield "| attack | gets | test |\n|---|---|---|"
    for attack, expected, test in ELSEWHERE:
        yield f"| {attack} | {expected} | `{test}` |"


if __name__ == "__main__":
    print(page(), end="")
