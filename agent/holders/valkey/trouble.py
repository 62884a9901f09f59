"""What can be wrong with the index's server, in words. Pure.

An error that a server answers begins with a word in capitals, which has been the same in all versions of
Valkey and Redis. What follows is for people. Sources: valkey.io, "RESP protocol" and "ACL"; server.c.
"""

import errno
import os
import socket
import ssl

from agent.observe.index_metrics import IndexTrouble
from agent.peering.tlsfailure import TlsReason, failure_of


class IndexDown(Exception):
    """The server did not do what it was asked. The only error of this package.

    ``kind``: what is wrong. ``words``: that in a sentence. ``hint``: what a person can do. Neither has a
    password, a key of the index, or more than a few words that came from the server. ``passes``: it is about
    this one question, at this moment.
    """

    def __init__(self, kind: IndexTrouble, words: str, hint: str, *, passes: bool = False) -> None:
        super().__init__(words)
        self.kind = kind
        self.words = words
        self.hint = hint
        self.passes = passes

    def again(self) -> "IndexDown":
        """The same for another caller: an exception belongs to whom it is raised for."""
        return IndexDown(self.kind, self.words, self.hint, passes=self.passes)

    @property
    def leaves_reads(self) -> bool:
        """Whether what was read before is right, and further reads are answered."""
        return self.kind is IndexTrouble.FULL


class Refused(Exception):
    """One command was answered with an error that is about this command alone. It is returned, not raised.

    ``words``: the error, as the server said it, at most a line of it.
    """

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.words = words

    @property
    def code(self) -> str:
        """The first word, such as ``WRONGTYPE`` or ``NOSCRIPT``."""
        return self.words.partition(" ")[0]


_WORDS_MOST = 160
_RIGHTS = "see docs/large-clusters.md for the rules (ACL) that its user needs"
_LOGIN = "check valkey.username and valkey.password_file against the server's users (ACL LIST)"
_KEEP_CALM = "it is looked at again by itself; peers are asked meanwhile"

_REACH = "see whether the server runs, and whether a NetworkPolicy or firewall lets this node reach it"

SILENT_HINT = (
    "see whether the server runs, is overloaded (SLOWLOG, LATENCY DOCTOR) or far away; "
    "a server that is far away needs a larger valkey.timeout_s"
)

_KINDS: dict[str, tuple[IndexTrouble, str, str]] = {
    "OOM": (
        IndexTrouble.FULL,
        "the server is full: maxmemory is reached, and it evicts nothing",
        "raise maxmemory: docs/large-clusters.md has the memory by the size of the cluster",
    ),
    "MISCONF": (
        IndexTrouble.FULL,
        "the server takes no writes, because it can't save to its disk",
        'the index needs no disk: set `save ""` and `appendonly no`, or mend the server\'s disk',
    ),
    "NOREPLICAS": (
        IndexTrouble.FULL,
        "the server takes no writes, because it has too few replicas (min-replicas-to-write)",
        "bring its replicas back, or set min-replicas-to-write 0: the index may be lost at any time",
    ),
    "READONLY": (
        IndexTrouble.READ_ONLY,
        "the server is a read-only replica",
        "name the primary, or the Sentinels (valkey+sentinel://…), which know it; after a failover this ends "
        "by itself",
    ),
    "LOADING": (IndexTrouble.NOT_READY, "the server is loading its data", _KEEP_CALM),
    "BUSY": (
        IndexTrouble.NOT_READY,
        "the server is busy with a script or a module of somebody",
        "see SLOWLOG: a script that does not end is ended by SCRIPT KILL",
    ),
    "MASTERDOWN": (
        IndexTrouble.NOT_READY,
        "the server is a replica that has lost its primary",
        "name the primary, or the Sentinels (valkey+sentinel://…)",
    ),
    "CLUSTERDOWN": (IndexTrouble.NOT_READY, "the Cluster does not serve all slots", "see CLUSTER INFO there"),
    "TRYAGAIN": (IndexTrouble.NOT_READY, "the Cluster is moving slots", _KEEP_CALM),
    "MOVED": (IndexTrouble.NOT_READY, "the Cluster has moved slots", _KEEP_CALM),
    "ASK": (IndexTrouble.NOT_READY, "the Cluster is moving slots", _KEEP_CALM),
    "CROSSSLOT": (
        IndexTrouble.OTHER,
        "the server is a Cluster, and the URL says that it is none",
        "write valkey+cluster://HOST,HOST",
    ),
    "NOPERM": (IndexTrouble.DENIED, "the server's user lacks a right", _RIGHTS),
    "WRONGPASS": (IndexTrouble.DENIED, "the server knows no such user with this password", _LOGIN),
    "NOAUTH": (IndexTrouble.DENIED, "the server asks for a password", "set valkey.password_file"),
    "DENIED": (
        IndexTrouble.DENIED,
        "the server is in protected mode: without a password it answers its own machine only",
        "give it a password or ACL users, and set valkey.password_file here",
    ),
    "NOPROTO": (
        IndexTrouble.OTHER,
        "the server speaks no RESP3",
        "use Valkey, or Redis 6.0 or later, and no proxy in front of it that knows less",
    ),
}

_PASSING = ("MOVED", "ASK", "TRYAGAIN")

_PHRASES: tuple[tuple[str, str], ...] = (
    ("OOM command not allowed", "OOM"),
    ("invalid password", "WRONGPASS"),
    ("Client sent AUTH, but no password", "WRONGPASS"),
    ("unknown command 'HELLO'", "NOPROTO"),
    ("unknown command `HELLO`", "NOPROTO"),
    ("Protocol version is not an integer", "NOPROTO"),
    ("cluster support disabled", "NOCLUSTER"),
)
"""What older servers, and scripts, say behind ``ERR`` or another word."""


def of_reply(text: str, command: str = "") -> IndexDown | None:
    """What an error reply says of the server as a whole. None: it is about the one command alone.

    ``command``: the name of the command, for the words.
    """
    code = next((code for phrase, code in _PHRASES if phrase in text), text.partition(" ")[0])
    if code == "ERR" and "max number of clients reached" in text:
        return IndexDown(
            IndexTrouble.NOT_READY,
            "the server has no connection left (maxclients)",
            "raise maxclients: each agent needs one connection, and two while it is upgraded",
        )
    if code == "NOCLUSTER":
        return IndexDown(
            IndexTrouble.OTHER,
            "the server is no Cluster, and the URL says that it is one",
            "write valkey://HOST",
        )
    if code == "ERR" and "DB index is out of range" in text:
        return IndexDown(
            IndexTrouble.OTHER,
            "the server has no database of that number",
            "take another one: the last part of `index`",
        )
    if code not in _KINDS:
        return None
    kind, words, hint = _KINDS[code]
    if code == "NOPERM" and command:
        words = f"the server's user may not run {command} on the keys of the index"
    return IndexDown(kind, words, hint, passes=code in _PASSING)


_MODES = {
    "cluster": ("a Cluster", "write valkey+cluster://HOST,HOST (valkeys+cluster:// with TLS)"),
    "sentinel": ("a Sentinel", "write valkey+sentinel://HOST:26379,HOST/NAME (valkeys+sentinel:// with TLS)"),
    "standalone": ("a server of its own", "write valkey://HOST:6379 (valkeys:// with TLS)"),
}


def of_mode(place: str, mode: str) -> IndexDown:
    """There is something else than the URL says: ``mode``, as HELLO tells it."""
    what, hint = _MODES.get(mode, (f"something else ({clipped(mode)})", "check `index`"))
    return IndexDown(IndexTrouble.OTHER, f"{place} is {what}, and the URL says otherwise", hint)


def of_garbage(what: str) -> IndexDown:
    """It answers something that no server of the index does."""
    return IndexDown(
        IndexTrouble.GARBAGE,
        f"this is no Valkey or Redis, or it is broken: {clipped(what)}",
        "check host and port of `index`; for a server with TLS write valkeys://",
    )


def of_silence(timeout_s: float) -> IndexDown:
    """It did not answer in time."""
    words = f"the server did not answer within {timeout_s * 1000:.0f} ms"
    return IndexDown(IndexTrouble.SLOW, words, SILENT_HINT)


def of_connecting(error: BaseException, place: str) -> IndexDown:
    """There is no connection to ``place`` (a host with its port), because of this error."""
    if isinstance(error, IndexDown):
        return error
    if isinstance(error, ssl.SSLError):
        return _of_tls(error, place)
    if isinstance(error, socket.gaierror):
        return IndexDown(
            IndexTrouble.UNREACHABLE,
            f"the name in {place} can't be looked up: {error.strerror}",
            "check the name, and this node's DNS (in a pod on the host's network: dnsPolicy)",
        )
    if isinstance(error, TimeoutError):
        return IndexDown(IndexTrouble.UNREACHABLE, f"no connection to {place} in time", _REACH)
    if isinstance(error, ConnectionAbortedError) and "handshake" in str(error):
        return IndexDown(
            IndexTrouble.SLOW,  # a frozen one accepts connections, too
            f"no TLS with {place}: it did not answer the handshake in time",
            "the server is frozen or overloaded, or speaks no TLS: then write valkey:// without the s",
        )
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return IndexDown(
            IndexTrouble.UNREACHABLE,
            f"this node can't open a connection: {error.strerror}",
            "see the limit of open files of the agent: the server is not to blame",
        )
    if isinstance(error, OSError):
        said = os.strerror(error.errno) if error.errno else str(error) or "the connection was closed"
        return IndexDown(
            IndexTrouble.UNREACHABLE,
            f"no connection to {place}: {clipped(said)}",
            _REACH,
        )
    return of_garbage(str(error))


def lost(place: str) -> IndexDown:
    """The connection ended."""
    return IndexDown(
        IndexTrouble.UNREACHABLE,
        f"the connection to {place} was closed",
        "see whether the server runs: it is connected to again by itself",
    )


def _of_tls(error: ssl.SSLError, place: str) -> IndexDown:
    failure = failure_of(error)
    if failure.told:
        words, hint = failure.words, "check valkey.certificate_file and valkey.key_file"
    elif failure.reason is TlsReason.PLAIN:
        words, hint = "it does not speak TLS", "write valkey:// without the s, or switch TLS on there"
    elif failure.reason is TlsReason.ISSUER:
        words, hint = "its certificate is of no CA that is known here", "check valkey.ca_file"
    elif failure.reason is TlsReason.CLOSED:
        words, hint = failure.words, "does it ask for a certificate? Then set valkey.certificate_file"
    else:
        words, hint = failure.words, "check valkey.server_name, and the names in its certificate"
    return IndexDown(IndexTrouble.TLS, f"no TLS with {place}: {words}", hint)


def clipped(text: str) -> str:
    """The beginning of a text of somebody else, in one line and printable."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= _WORDS_MOST else line[:_WORDS_MOST] + "…"
