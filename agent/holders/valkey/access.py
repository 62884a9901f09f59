"""What the server is shown: user and password, and this node's certificate; and what it has to show.

The files are read anew at each connection, in a thread: a password or a CA that was replaced is used by the
next one, and a connection that is refused is tried again.
"""

import asyncio
import hashlib
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import certifi

from agent.config import IndexUrl, ValkeySettings
from agent.files import read_regular
from agent.holders.valkey.trouble import IndexDown
from agent.observe.index_metrics import IndexTrouble

_FILE_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What one connection uses. ``login``: nothing, or user and password. ``tls``: None: no TLS."""

    login: tuple[str | bytes, ...] = field(repr=False)
    tls: ssl.SSLContext | None
    server_name: str | None

    def name_of(self, host: str) -> str:
        """The name that the certificate of a server at this host has to have."""
        return self.server_name or host.removesuffix(".")


class Access:
    """Reads what the settings name."""

    def __init__(self, url: IndexUrl, settings: ValkeySettings) -> None:
        self._url = url
        self._settings = settings
        self._context: tuple[bytes, ssl.SSLContext] | None = None

    async def read(self) -> Shown:
        """What to use now. Raises `IndexDown` if a file can't be used."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> Shown:
        return Shown(
            login=self._login(),
            tls=self._tls() if self._url.tls else None,
            server_name=self._settings.server_name,
        )

    def _login(self) -> tuple[str | bytes, ...]:
        user = self._settings.username or self._url.username
        password: str | bytes | None = self._url.password
        if (path := self._settings.password_file) is not None:
            password = _read_file("password_file", path).partition(b"\n")[0].removesuffix(b"\r")
            if not password:
                raise IndexDown(
                    IndexTrouble.DENIED,
                    f"valkey.password_file: {path}: its first line is empty",
                    "write the password there, or leave the key out",
                )
        if password is None and user is None:
            return ()
        return user or "default", password or ""

    def _tls(self) -> ssl.SSLContext:
        """The context is kept while the files are the same: reading the system's CAs takes 20 ms."""
        settings = self._settings
        named = {"ca_file": settings.ca_file, "certificate_file": settings.certificate_file}
        named["key_file"] = settings.key_file
        contents = [_read_file(key, path) for key, path in named.items() if path is not None]
        print_ = hashlib.sha256(b"".join(hashlib.sha256(each).digest() for each in contents)).digest()
        if self._context is None or self._context[0] != print_:
            self._context = print_, _context(settings)
        return self._context[1]


def _context(settings: ValkeySettings) -> ssl.SSLContext:
    key = "ca_file"
    try:
        paths = ssl.get_default_verify_paths()
        cas = public_cas(paths.cafile, paths.capath) if settings.ca_file is None else str(settings.ca_file)
        context = ssl.create_default_context(cafile=cas)
        key = "certificate_file"
        if settings.certificate_file is not None:
            context.load_cert_chain(settings.certificate_file, settings.key_file, password=_no_password)
    except (OSError, ValueError) as error:  # OpenSSL's errors are OSErrors, without the key in them
        said = getattr(error, "reason", None) or error
        raise IndexDown(
            IndexTrouble.TLS,
            f"valkey.{key}: {getattr(settings, key)}: {said}",
            "name files in PEM, the key without a password, and both of one certificate",
        ) from None
    return context


def public_cas(cafile: str | None, capath: str | None) -> str | None:
    """A file of the CAs that everybody trusts, where the system has none. The image has no package of them.

    ``cafile``, ``capath``: where the system keeps them, if that exists. Returns None where it has some.
    """
    has_some = cafile is not None or (capath is not None and bool([*Path(capath).iterdir()]))
    return None if has_some else certifi.where()


def _no_password() -> str:
    raise ValueError("the key has a password")


def _read_file(key: str, path: Path) -> bytes:
    try:
        return read_regular(path, most_bytes=_FILE_MOST_BYTES)
    except OSError as error:
        kind = IndexTrouble.DENIED if key == "password_file" else IndexTrouble.TLS
        raise IndexDown(
            kind, f"valkey.{key}: {path}: {error.strerror or error}", "let the agent read it, and nobody else"
        ) from None
