"""Why there is no TLS, in words."""

import ssl
from typing import Any

import pytest

from agent.peering.tlsfailure import TlsFailure, TlsReason, TlsRefused, failure_of, tls_error


def verification(code: int, message: str = "something new") -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "verify failed")
    error.verify_code, error.verify_message = code, message
    return error


def openssl(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] some text (_ssl.c:992)")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        (10, TlsReason.EXPIRED, "has expired"),
        (9, TlsReason.NOT_YET_VALID, "not valid yet"),
        (20, TlsReason.ISSUER, "of no CA"),
        (18, TlsReason.ISSUER, "of no CA"),
        (26, TlsReason.PURPOSE, "client auth"),
        (99, TlsReason.OTHER, "something new"),
    ],
)
def test_a_certificate_that_is_refused_here_is_the_other_s(code: int, reason: TlsReason, words: str) -> None:
    failure = failure_of(verification(code))
    assert (failure.reason, failure.told, failure.is_of_own_certificate) == (reason, False, False)
    assert words in failure.words


@pytest.mark.parametrize(
    ("alert", "reason", "own"),
    [
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", TlsReason.EXPIRED, True),
        ("TLSV1_ALERT_UNKNOWN_CA", TlsReason.ISSUER, True),
        ("SSLV3_ALERT_BAD_CERTIFICATE", TlsReason.BAD, True),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", TlsReason.MISSING, True),
        ("SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", TlsReason.PURPOSE, True),
        ("TLSV1_ALERT_PROTOCOL_VERSION", TlsReason.VERSION, False),
        ("TLSV1_ALERT_INTERNAL_ERROR", TlsReason.OTHER, False),
    ],
)
def test_an_alert_says_what_the_other_end_does_not_accept(alert: str, reason: TlsReason, own: bool) -> None:
    failure = failure_of(openssl(alert))
    assert (failure.reason, failure.told, failure.is_of_own_certificate) == (reason, True, own)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (openssl("WRONG_VERSION_NUMBER"), TlsReason.PLAIN),
        (openssl("HTTP_REQUEST"), TlsReason.PLAIN),
        (openssl("UNSUPPORTED_PROTOCOL"), TlsReason.VERSION),
        (openssl("PEER_DID_NOT_RETURN_A_CERTIFICATE"), TlsReason.MISSING),
        (openssl("DECRYPTION_FAILED"), TlsReason.OTHER),
        (ssl.SSLError(1, "no reason at all"), TlsReason.OTHER),
        (ssl.SSLEOFError(8, "EOF occurred"), TlsReason.CLOSED),
        (ConnectionResetError(), TlsReason.CLOSED),
        (TimeoutError(), TlsReason.SILENT),
    ],
)
def test_every_error_has_a_reason_and_plain_words(error: BaseException, reason: TlsReason) -> None:
    failure = failure_of(error)
    assert (failure.reason, failure.told) == (reason, False)
    assert "_ssl.c" not in failure.words


def test_an_error_that_was_translated_keeps_its_failure() -> None:
    failure = TlsFailure(reason=TlsReason.NAME, told=False, words="words")
    assert failure_of(TlsRefused(failure)) is failure
    assert str(TlsRefused(failure)) == "words"


def test_the_error_of_tls_is_found_behind_others() -> None:
    inner = openssl("WRONG_VERSION_NUMBER")
    outer: Any = OSError("wrapped")
    outer.os_error = inner
    assert tls_error(outer) is inner
    caused = RuntimeError()
    caused.__cause__ = outer
    assert tls_error(caused) is inner
    assert tls_error(OSError("another")) is None
