"""Reads a certificate, its key and the CAs, and makes the contexts for both ends of a connection from them.

Each file is read once, whole, and given to OpenSSL from memory: Kubernetes replaces all three at one moment,
which OpenSSL's own reading could straddle. Then this node connects to itself in memory. So what a peer would
say of the certificate is known before a peer says it.
"""

import hashlib
import os
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from agent.config.settings import TlsSettings
from agent.files import read_regular
from agent.peering.certificate import Certificate, certificate_of
from agent.peering.tlsfailure import TlsFailure, failure_of
from agent.peering.tlssocket import TellingTls, TlsSocket

_FILE_MOST_BYTES = 1 << 20
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; all of TLS 1.3 are as good
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, openssl/x509_vfy.h; the ssl module does not name it
_ROUNDS = 8  # more messages than a handshake has
_RENEW = "name the files of one certificate, as cert-manager writes them: tls.crt, tls.key and ca.crt"


class TlsFilesInvalid(Exception):
    """The files can't be used. ``hint``: what to do. Neither has any part of the key."""

    def __init__(self, message: str, *, hint: str = _RENEW) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsContents:
    """The bytes of the three files."""

    certificate: bytes
    key: bytes
    ca: bytes

    def __repr__(self) -> str:
        """Without the key."""
        return "TlsContents(…)"

    @property
    def fingerprint(self) -> bytes:
        """Is another one if one of the files is. It does not reveal the key, so it may be kept."""
        parts = (self.certificate, self.key, self.ca)
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Contexts:
    """What both ends of a connection need.

    ``certificate``: this node's own. ``failure``: what a peer with the same CAs would say of it now. None: it
    is good.
    """

    client: ssl.SSLContext
    server: ssl.SSLContext
    certificate: Certificate
    failure: TlsFailure | None


def read_contents(settings: TlsSettings) -> TlsContents:
    """The three files as they are now. Raises `TlsFilesInvalid`."""

    def read(key: str, path: Path) -> bytes:
        try:
            return read_regular(path, most_bytes=_FILE_MOST_BYTES)
        except OSError as error:
            raise TlsFilesInvalid(
                f"peering.tls.{key}: {path}: {error.strerror or error}",
                hint="let the agent read it, and nobody else"
                if isinstance(error, PermissionError)
                else _RENEW,
            ) from error

    return TlsContents(
        certificate=read("certificate", settings.certificate),
        key=read("key", settings.key),
        ca=read("ca", settings.ca),
    )


def make_contexts(contents: TlsContents) -> Contexts:
    """The contexts of these files. Takes some milliseconds. Raises `TlsFilesInvalid`."""
    client, server = (_context(role, contents) for role in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER))
    server.num_tickets = 0  # a resumed connection would go on with a certificate that has expired since
    client.sslsocket_class = TlsSocket
    client.sslobject_class = server.sslobject_class = TellingTls
    with _whatever_the_time(client), _whatever_the_time(server):
        try:
            certificate = _own_certificate(client, server)
        except ssl.SSLError as error:
            # Of no CA that this node knows, or not for both ends: it is loaded, and has no facts to show.
            return Contexts(client=client, server=server, certificate=_NOBODY, failure=failure_of(error))
    failure = None
    try:
        _own_certificate(client, server)
    except ssl.SSLError as error:
        failure = failure_of(error)
    return Contexts(client=client, server=server, certificate=certificate, failure=failure)


_NOBODY = Certificate(
    names=frozenset(), addresses=frozenset(), not_before_s=float("-inf"), not_after_s=float("inf")
)


def _context(role: int, contents: TlsContents) -> ssl.SSLContext:
    context = ssl.SSLContext(role)
    context.check_hostname = False  # the name is that of a node: see `Certificate.fits`
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # ca.crt may have an intermediate CA alone
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    with ExitStack() as files:
        certificate, key, ca = (
            files.enter_context(_in_memory(content))
            for content in (contents.certificate, contents.key, contents.ca)
        )
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            raise TlsFilesInvalid(*_load_problem(error)) from None
        try:
            context.load_verify_locations(ca)
        except ssl.SSLError as error:
            raise TlsFilesInvalid(
                f"peering.tls.ca: there is no certificate in it ({_reason(error)})",
                hint="one or more PEM blocks BEGIN CERTIFICATE; cert-manager's file is ca.crt",
            ) from None
    return context


class _Encrypted(ValueError):
    pass


def _no_password() -> str:
    raise _Encrypted  # OpenSSL would ask whoever sits at the terminal


def _load_problem(error: Exception) -> tuple[str]:
    if isinstance(error, _Encrypted):
        return ("peering.tls.key: it is encrypted with a password, which no agent can type",)
    assert isinstance(error, ssl.SSLError | ValueError)
    reason = _reason(error)
    if "key values mismatch" in reason or "key type mismatch" in reason:
        return ("peering.tls: the certificate and the key do not belong together",)
    if "too small" in reason or "too weak" in reason:
        return (f"peering.tls.certificate: {reason}",)
    return (f"peering.tls: no PEM certificate and key ({reason})",)


def _reason(error: Exception) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    return (reason or type(error).__name__).lower().replace("_", " ")


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A path of these bytes, for OpenSSL, which takes no bytes. They never touch a disk."""
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


@contextmanager
def _whatever_the_time(context: ssl.SSLContext) -> Iterator[None]:
    flags = context.verify_flags
    context.verify_flags = ssl.VerifyFlags(flags | _NO_CHECK_TIME)
    try:
        yield
    finally:
        context.verify_flags = flags


def _own_certificate(client_context: ssl.SSLContext, server_context: ssl.SSLContext) -> Certificate:
    """What a client with this context sees of the server. Raises SSLError as either end would."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_ROUNDS):
        for end in (client, server):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    decoded = client.getpeercert()
    assert decoded, "a handshake has an end"
    return certificate_of(decoded)
