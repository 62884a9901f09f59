"""Why two agents have no TLS connection, in words, and whose trouble that is. Pure.

OpenSSL tells this end why it refused the other's certificate. The other end gets an alert with less in it:
"bad certificate" is also one that is not valid yet. Sources: RFC 8446, section 6.2; OpenSSL's verify(1).
"""

import ssl
from dataclasses import dataclass
from enum import Enum


class TlsReason(Enum):
    """Why there is no connection. The values are a label of metrics."""

    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    ISSUER = "issuer"  # of no CA that is known
    NAME = "name"  # of another node, or of none
    PURPOSE = "purpose"  # not for servers, or not for clients
    MISSING = "no_certificate"
    BAD = "bad_certificate"  # the other end's word for what is wrong with this node's certificate
    PLAIN = "no_tls"  # one of both ends does not speak TLS
    VERSION = "version"
    SILENT = "silent"  # no handshake in time
    CLOSED = "closed"  # during the handshake
    MANY = "too_many"  # handshakes at once
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFailure:
    """``told``: the other end refused what this end has. Else this end refused the other's. ``words``: a
    sentence whose subject is the other end.
    """

    reason: TlsReason
    told: bool
    words: str

    @property
    def is_of_own_certificate(self) -> bool:
        """Whether the other end does not accept this node's certificate."""
        return self.told and self.reason in _OF_CERTIFICATES


class TlsRefused(ConnectionError):
    """TLS ended a connection. ``failure``: why."""

    def __init__(self, failure: TlsFailure) -> None:
        super().__init__(failure.words)
        self.failure = failure


_OF_CERTIFICATES = {
    TlsReason.EXPIRED,
    TlsReason.NOT_YET_VALID,
    TlsReason.ISSUER,
    TlsReason.NAME,
    TlsReason.PURPOSE,
    TlsReason.MISSING,
    TlsReason.BAD,
}

_VERIFIED = {  # X509_V_ERR_*, from openssl/x509_vfy.h
    10: TlsReason.EXPIRED,
    9: TlsReason.NOT_YET_VALID,
    2: TlsReason.ISSUER,
    7: TlsReason.ISSUER,  # a signature of another key: a CA of the same name
    18: TlsReason.ISSUER,
    19: TlsReason.ISSUER,
    20: TlsReason.ISSUER,
    21: TlsReason.ISSUER,
    24: TlsReason.ISSUER,  # signed with a certificate that is no CA's
    26: TlsReason.PURPOSE,
    79: TlsReason.ISSUER,
}

_WORDS = {
    TlsReason.EXPIRED: "its certificate has expired, by this node's clock",
    TlsReason.NOT_YET_VALID: "its certificate is not valid yet, by this node's clock",
    TlsReason.ISSUER: "its certificate is of no CA in this node's peering.tls.ca",
    TlsReason.PURPOSE: "its certificate is not for this: its usages need server auth and client auth",
    TlsReason.MISSING: "it has no certificate",
}

_ALERTS = {
    "CERTIFICATE_EXPIRED": (TlsReason.EXPIRED, "it says that this node's certificate has expired"),
    "UNKNOWN_CA": (TlsReason.ISSUER, "it does not know the CA of this node's certificate"),
    "UNSUPPORTED_CERTIFICATE": (
        TlsReason.PURPOSE,
        "it says that this node's certificate is not for this: its usages need server auth and client auth",
    ),
    "CERTIFICATE_REQUIRED": (TlsReason.MISSING, "it got no certificate from this node"),
    "BAD_CERTIFICATE": (
        TlsReason.BAD,
        "it does not accept this node's certificate, which perhaps is not valid yet by its clock",
    ),
    "CERTIFICATE_UNKNOWN": (TlsReason.BAD, "it does not accept this node's certificate"),
    "CERTIFICATE_REVOKED": (TlsReason.BAD, "it does not accept this node's certificate: it was revoked"),
    "PROTOCOL_VERSION": (TlsReason.VERSION, "it speaks no version of TLS that this node accepts"),
}

_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
_OLD_TLS = ("UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW", "INAPPROPRIATE_FALLBACK")
_NO_CERTIFICATE = "PEER_DID_NOT_RETURN_A_CERTIFICATE"
_OTHER_MOST = 80

SPEAKS_NO_TLS = "it does not speak TLS: peering.tls is set on this node, and not there"
ASKS_FOR_TLS = "it speaks TLS only: peering.tls is set there, and not on this node"


def failure_of(error: BaseException) -> TlsFailure:
    """What it means that a TLS connection ended with this error. It may be any."""
    if isinstance(error, TlsRefused):
        return error.failure
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = _VERIFIED.get(error.verify_code, TlsReason.OTHER)
        words = _WORDS.get(reason, f"its certificate: {error.verify_message}")
        return TlsFailure(reason=reason, told=False, words=words)
    if isinstance(error, TimeoutError):
        words = "it did not finish the TLS handshake in time"
        return TlsFailure(reason=TlsReason.SILENT, told=False, words=words)
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return _of_openssl((getattr(error, "reason", None) or str(error)).upper().replace(" ", "_"))
    words = "it closed the connection during the TLS handshake"
    return TlsFailure(reason=TlsReason.CLOSED, told=False, words=words)


def tls_error(error: BaseException | None) -> BaseException | None:
    """The error of TLS behind an error of aiohttp's. None: there is none."""
    while error is not None:
        # aiohttp's own first: it wraps a failed verification in an error that only claims to be one.
        for found in (getattr(error, "certificate_error", None), getattr(error, "os_error", None), error):
            if isinstance(found, ssl.SSLError | TlsRefused):
                return found
        error = error.__cause__ or error.__context__
    return None


def _of_openssl(text: str) -> TlsFailure:
    for alert, (reason, words) in _ALERTS.items():
        if "ALERT" in text and alert in text:
            return TlsFailure(reason=reason, told=True, words=words)
    if _NO_CERTIFICATE in text:
        return TlsFailure(reason=TlsReason.MISSING, told=False, words=_WORDS[TlsReason.MISSING])
    if any(word in text for word in _OLD_TLS):
        words = "it speaks no TLS of version 1.2 or later"
        return TlsFailure(reason=TlsReason.VERSION, told=False, words=words)
    if any(word in text for word in _NOT_TLS):
        return TlsFailure(reason=TlsReason.PLAIN, told=False, words=SPEAKS_NO_TLS)
    words = f"TLS: {text.lower().replace('_', ' ')[:_OTHER_MOST]}"
    return TlsFailure(reason=TlsReason.OTHER, told="ALERT" in text, words=words)
