"""The cluster's keys: what each agent proves that it knows, and the tokens that are derived from them.

One file is the only secret. It has one key a line: the first one signs, and all are accepted, so a new key
can come before the old one goes. Everything else is derived with HMAC-SHA256 and a purpose: who has a token
can't get the key or another token. A `Key` keeps what is derived, and not the line itself.
Source: RFC 2104; NIST SP 800-108 for one key per purpose.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from agent.files import read_regular

KEYS_MOST = 4
"""How many keys are valid at once. A rotation needs two."""

_SHORTEST = 32  # characters: 128 bits, even if each is a hexadecimal digit
_DIFFERENT_LEAST = 8  # of them; a random key has more, and "changeme" four times has fewer
_FILE_MOST_BYTES = 64 * 1024
_LOOK_S = 5.0

_PEERS, _REDIRECTS = b"shorthaul peers v1", b"shorthaul redirects v1"
_SERVICE, _ADMIN, _ID = b"shorthaul service token v1", b"shorthaul admin token v1", b"shorthaul key id v1"

MAKE_ONE = "make one with `shorthaul key new FILE`"


class KeysInvalid(Exception):
    """There are no usable keys. ``hint``: what to do. Neither has any part of a key."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of the cluster, as what is derived from it. Its text form shows the ``id`` alone.

    ``id``: eight characters that name the key and do not reveal it. ``peers``: what agents sign with.
    ``redirects``: what they sign the addresses with that they send a containerd to. ``service_token``: for
    other nodes' containerds. ``admin_token``: for the admin port.
    """

    id: str
    peers: bytes = field(repr=False)
    redirects: bytes = field(repr=False)
    service_token: str = field(repr=False)
    admin_token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRing:
    """The keys that are valid now. The first one signs, and all are accepted."""

    keys: tuple[Key, ...]

    @property
    def signs(self) -> Key:
        """The key that signs."""
        return self.keys[0]

    @property
    def ids(self) -> tuple[str, ...]:
        """The names of the keys, that of the one which signs first."""
        return tuple(key.id for key in self.keys)

    def by_id(self, key_id: str) -> Key | None:
        """The key of this name. None: there is none."""
        return next((key for key in self.keys if key.id == key_id), None)

    @property
    def service_tokens(self) -> tuple[str, ...]:
        """The tokens of other nodes' containerds. The first is the one to use, and all are accepted."""
        return tuple(key.service_token for key in self.keys)

    @property
    def admin_tokens(self) -> tuple[str, ...]:
        """The tokens of the admin port. The first is the one to use, and all are accepted."""
        return tuple(key.admin_token for key in self.keys)


def new_key() -> str:
    """A new random key: 256 bits as 43 characters."""
    return secrets.token_urlsafe(32)


def parse_keys(text: str) -> KeyRing:
    """The keys in the text of a key file: one a line; blank lines and those with ``#`` are ignored.

    Raises `KeysInvalid`.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    texts = [_checked(number, line) for number, line in lines if line and not line.startswith("#")]
    keys = {key.id: key for key in map(_derived, dict.fromkeys(texts))}
    if not keys:
        raise KeysInvalid("there is no key in it", hint=MAKE_ONE)
    if len(keys) > KEYS_MOST:
        raise KeysInvalid(
            f"there are {len(keys)} keys in it, and {KEYS_MOST} are the most",
            hint="remove those that no agent signs with any more: the last ones",
        )
    return KeyRing(keys=tuple(keys.values()))


def read_keys(path: Path) -> KeyRing:
    """The keys in a file. Raises `KeysInvalid`."""
    try:
        text = read_regular(path, most_bytes=_FILE_MOST_BYTES).decode("ascii")
    except OSError as error:
        raise KeysInvalid(error.strerror or str(error), hint=_file_hint(error)) from error
    except UnicodeDecodeError:  # its text has a part of the file
        hint = f"save it without a byte order mark, in ASCII or UTF-8: one key a line; or {MAKE_ONE}"
        raise KeysInvalid("it is not in ASCII", hint=hint) from None
    return parse_keys(text)


class KeyFile:
    """The keys in a file, read again when the file changes. Raises `KeysInvalid` if it is no use at first.

    Later it keeps the last good keys: an agent without any could only refuse everyone. ``problem``: why the
    file is no use now, if so.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem: KeysInvalid | None = None
        self._looked_s: float | None = None
        self._seen: tuple[int, ...] | None = None  # the file as it was when reading it brought nothing new
        self.ring = read_keys(path)

    def reread(self, now_s: float, *, at_once: bool = False) -> bool:
        """Look at the file again, if that is due. Returns whether the keys or the problem are other ones.

        It may be called often: a look every `_LOOK_S` costs a stat. ``at_once``: read it in any case.
        """
        if not at_once and self._looked_s is not None and now_s - self._looked_s < _LOOK_S:
            return False
        self._looked_s = now_s
        status = _status(self.path)
        if not at_once and status is not None and status == self._seen:
            return False
        before = self.ring, str(self.problem)
        try:
            self.ring, self.problem = read_keys(self.path), None
        except KeysInvalid as error:
            self.problem = error
        changed = (self.ring, str(self.problem)) != before
        # After a change it is read once more: two writes can be too close together for the file's times.
        self._seen = None if changed else status
        return changed


def _checked(number: int, line: str) -> str:
    """The line, if it may be a key. Errors say where, and never what."""
    if not (line.isascii() and line.isprintable()) or " " in line:
        raise KeysInvalid(f"line {number} is no key: it has a space or worse in it", hint=MAKE_ONE)
    if len(line) < _SHORTEST:
        raise KeysInvalid(f"line {number} has {len(line)} characters, and a key {_SHORTEST}", hint=MAKE_ONE)
    if len(set(line)) < _DIFFERENT_LEAST:
        raise KeysInvalid(f"line {number} can be guessed: it repeats few characters", hint=MAKE_ONE)
    return line


def _derived(text: str) -> Key:
    def of(purpose: bytes) -> bytes:
        return hmac.digest(text.encode(), purpose, hashlib.sha256)

    def token(purpose: bytes) -> str:
        return base64.urlsafe_b64encode(of(purpose)).decode().rstrip("=")

    return Key(
        id=of(_ID).hex()[:8],
        peers=of(_PEERS),
        redirects=of(_REDIRECTS),
        service_token=token(_SERVICE),
        admin_token=token(_ADMIN),
    )


def _status(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()  # of the file behind a link: Kubernetes replaces a link to change a Secret
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def _file_hint(error: OSError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"name a file that exists, or {MAKE_ONE}"
    if isinstance(error, PermissionError):
        return "let the agent's user read it, and nobody else"
    return f"one key a line in a regular file; {MAKE_ONE}"
