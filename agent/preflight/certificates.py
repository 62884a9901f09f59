"""This node's certificate for peers: is it good now, and for how long. No part of its key is shown."""

from dataclasses import dataclass

from agent.config.settings import TlsSettings
from agent.peering.certificate import Certificate, day
from agent.peering.tlsfiles import TlsFilesInvalid, make_contexts, read_contents
from agent.preflight.check import Check, bad, good, shown, unknown, warn
from agent.preflight.gather import Unknown

CERTIFICATE = "the certificate"
_SOON_S = 3 * 86400.0  # cert-manager renews when a third of the time is left: then something keeps it from it
_RENEW = "renew it, and see what should have (with cert-manager: kubectl describe certificate)"
_NAME = (
    "give it this node's name or address as a subject alternative name, or set peering.tls.name to the name "
    "that all agents' certificates have"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """The certificate; None: its files are no use. ``problem``: why, or why peers will not take it."""

    certificate: Certificate | None = None
    problem: str = ""
    hint: str = ""


def look_at_certificate(
    settings: TlsSettings, *, own: str | None = None, address: str | None = None
) -> CertificateFacts:
    """Read the files, and see what a peer with the same CAs would say.

    ``own``, ``address``: this node's. None: not known, so names are not looked at.
    """
    try:
        contexts = make_contexts(read_contents(settings))
    except TlsFilesInvalid as error:
        return CertificateFacts(problem=str(error), hint=error.hint)
    failure, found = contexts.failure, contexts.certificate
    if failure is None and own is not None and not found.fits(own, address, settings.name):
        return CertificateFacts(certificate=found, problem=f"it is {found}, not for {own}", hint=_NAME)
    return CertificateFacts(certificate=found, problem="" if failure is None else failure.words, hint=_RENEW)


def certificate(facts: CertificateFacts | Unknown | None, now_s: float) -> tuple[Check, ...]:
    """What it means. None: there is no TLS. ``now_s``: since 1970."""
    if facts is None:
        return ()
    if isinstance(facts, Unknown):
        return (unknown(CERTIFICATE, facts.why),)
    found = facts.certificate
    late = None if found is None else found.time_problem(now_s)
    if found is None or late or facts.problem:
        why = late or facts.problem
        return (bad(CERTIFICATE, f"no peer will take it: {shown(why, 300)}", hint=shown(facts.hint, 300)),)
    until = day(found.not_after_s)
    if found.not_after_s - now_s < _SOON_S:
        return (warn(CERTIFICATE, f"{found} is good until {until} only: nobody renewed it yet", hint=_RENEW),)
    return (good(CERTIFICATE, f"{found}, until {until}"),)
