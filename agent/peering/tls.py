"""This node's certificate: the contexts of new connections, read again on renewal, and what is wrong with it.

A renewal that can't be used, such as a certificate that was written before its key, changes nothing: the
last good files stay in use. Running connections go on with what they began with.
"""

import math
import os
import ssl
import time
from collections.abc import Callable

from agent.config.settings import TlsSettings
from agent.members.member import Peer
from agent.observe.reloads import Reloads
from agent.peering.certificate import Certificate, day
from agent.peering.tlsfailure import TlsFailure, TlsReason
from agent.peering.tlsfiles import Contexts, TlsContents, TlsFilesInvalid, make_contexts, read_contents
from topology.placement import NodeName

LOOK_S = 3.0
"""How often to look whether the files changed. A look costs three stats."""

DIALLED, ACCEPTED = "dialled", "accepted"
"""Which end of a connection this node is. A label of metrics."""

Count = Callable[[str, str], None]
"""Count a failure of TLS: which end this node is, and the reason."""

_REFUSED_MOST = 10_000
_OWN_FROM = 2  # so many peers that refuse this node's certificate, and nobody who took it since

_HINTS = {
    TlsReason.EXPIRED: "renew it (cert-manager: `kubectl describe certificate`), or set this node's clock",
    TlsReason.NOT_YET_VALID: "is this node's clock right? see `timedatectl`",
    TlsReason.ISSUER: "let peering.tls.ca have the CA of the certificate; all agents need one CA in common",
    TlsReason.PURPOSE: "let its usages have server auth and client auth, or none",
    TlsReason.NAME: "give it this node's name or address as a subject alternative name, or set "
    "peering.tls.name to the name that all agents' certificates have",
}
_REFUSED_HINT = "compare peering.tls.ca here and there, and both clocks; `openssl x509 -noout -text -in FILE`"


class PeerTls:
    """The TLS of one agent. Raises `TlsFilesInvalid` if its files are of no use at first.

    ``client``, ``server``: the contexts for new connections. ``own``, ``address``: this node's.
    """

    def __init__(
        self,
        settings: TlsSettings,
        *,
        own: NodeName,
        address: str | None,
        reloads: Reloads | None = None,
        count: Count = lambda _end, _reason: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.shared = settings.name
        self.count = count
        self._settings = settings
        self._own = own
        self._address = address
        self._reloads = reloads or Reloads()
        self._wall = wall
        self._refused_by: set[NodeName] = set()
        self._broken: TlsFilesInvalid | None = None
        self._seen: tuple[object, ...] | None = None  # the files as they were when reading them was no news
        contents = read_contents(settings)
        self._use(contents, make_contexts(contents))

    def _use(self, contents: TlsContents, contexts: Contexts) -> None:
        self._fingerprint, self._contexts = contents.fingerprint, contexts
        self.client: ssl.SSLContext = contexts.client
        self.server: ssl.SSLContext = contexts.server
        self._refused_by.clear()

    @property
    def certificate(self) -> Certificate:
        """This node's own, as it is used for new connections."""
        return self._contexts.certificate

    def fits(self, certificate: Certificate, node: str, address: str | None) -> bool:
        """Whether this is the certificate of that node."""
        return certificate.fits(node, address, self.shared)

    def misnamed(self, certificate: Certificate | None, peer: Peer) -> TlsFailure | None:
        """Why this is not the certificate of that peer. None: it is."""
        if certificate is None:
            words = "it closed the connection after the TLS handshake"
            return TlsFailure(reason=TlsReason.CLOSED, told=False, words=words)
        if self.fits(certificate, peer.name, peer.address):
            return None
        words = f"its certificate is {certificate}, not for {peer.name} or {peer.address}"
        return TlsFailure(reason=TlsReason.NAME, told=False, words=words)

    def reread(self, *, at_once: bool = False) -> bool:
        """Read the files again if they changed. Returns whether other ones are used now.

        Call it every `LOOK_S`. ``at_once``: read them in any case.
        """
        seen = self._status()
        if not at_once and seen is not None and seen == self._seen:
            return False
        try:
            contents = read_contents(self._settings)
            changed = contents.fingerprint != self._fingerprint
            if changed:
                self._use(contents, make_contexts(contents))
        except TlsFilesInvalid as error:
            self._fails(error)
            return False
        self._broken = None
        # After a change they are read once more: two writes can be too close together for the files' times.
        self._seen = None if changed else seen
        if changed:
            self._reloads.changed("certificate", {"certificate": self.state})
        elif at_once:
            self._reloads.unchanged("certificate")
        return changed

    def _fails(self, error: TlsFilesInvalid) -> None:
        if str(error) != str(self._broken):
            self._reloads.failed("certificate", [str(error)], error.hint)
        self._broken, self._seen = error, None

    def accepted(self) -> None:
        """A peer took this node's certificate."""
        if self._refused_by:
            self._refused_by.clear()

    def is_own_trouble(self, node: NodeName, failure: TlsFailure) -> bool:
        """Whether it is this node's own trouble that TLS ended a connection to this peer. Counts it.

        If the peer refused this node's certificate, it is if this node sees what is wrong with it, or if more
        than one peer refuses it and nobody took it since. If a peer's certificate is out of its time and this
        node's own is too, it is rather this node's clock.
        """
        self.count(DIALLED, failure.reason.value)
        if failure.is_of_own_certificate:
            if len(self._refused_by) < _REFUSED_MOST:
                self._refused_by.add(node)
            return self._own_problem() is not None or len(self._refused_by) >= _OWN_FROM
        is_about_time = failure.reason in (TlsReason.EXPIRED, TlsReason.NOT_YET_VALID)
        return is_about_time and self.certificate.time_problem(self._wall()) is not None

    @property
    def problem(self) -> str | None:
        """What is wrong with this node's certificate or its files. None: nothing."""
        if self._broken is not None:
            return f"{self._broken}; the last good files stay in use"
        found = self._own_problem()
        if found is not None:
            return found[0]
        if len(self._refused_by) >= _OWN_FROM:
            return f"{len(self._refused_by)} peers refuse this node's certificate, which is {self.state}"
        return None

    @property
    def hint(self) -> str:
        """What to do about `problem`."""
        if self._broken is not None:
            return self._broken.hint
        found = self._own_problem()
        return _REFUSED_HINT if found is None else _HINTS.get(found[1], _REFUSED_HINT)

    @property
    def state(self) -> str:
        """A few words about the certificate."""
        until_s = self.certificate.not_after_s
        return f"{self.certificate}, valid until {day(until_s)}" if math.isfinite(until_s) else "of no use"

    def _own_problem(self) -> tuple[str, TlsReason] | None:
        """What every peer with the same CAs would say of this node's certificate now, and why."""
        certificate, failure = self.certificate, self._contexts.failure
        words = certificate.time_problem(self._wall())
        if words is not None:
            is_early = self._wall() < certificate.not_before_s
            reason = TlsReason.NOT_YET_VALID if is_early else TlsReason.EXPIRED
            return f"this node's certificate can't be used: {words}", reason
        if failure is not None and failure.reason not in (TlsReason.EXPIRED, TlsReason.NOT_YET_VALID):
            return failure.words.replace("its", "this node's", 1), failure.reason
        if not self.fits(certificate, self._own, self._address):
            wanted = "" if self.shared is None else f", and has not the name {self.shared}"
            return f"this node's certificate is {certificate}, not for {self._own}{wanted}", TlsReason.NAME
        return None

    def _status(self) -> tuple[object, ...] | None:
        try:
            return tuple(
                _of(path.stat())
                for path in (self._settings.certificate, self._settings.key, self._settings.ca)
            )
        except OSError:
            return None


def _of(found: os.stat_result) -> tuple[object, ...]:
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
