"""The metrics of pulls from peers: look-ups, attempts, and what peers gave."""

from agent.observe.exemplars import CURRENT
from agent.observe.families import Families

_LOOKUP_BUCKETS_S = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1)


class PullMetrics:
    """Counts facts about pulls from peers."""

    def __init__(self, families: Families) -> None:
        self._lookup = families.linked(
            "lookup_seconds",
            "Seconds to find out which peers hold a digest. Answers from the cache are included.",
            buckets=_LOOKUP_BUCKETS_S,
        )
        self._questions = families.counter(
            "lookup_questions_total",
            "Questions to peers about digests and tags, by result (answered, silent).",
            "result",
        )
        for result in ("answered", "silent"):  # Prometheus sees no rate in a series that begins at 1
            self._questions.labels(result)
        self._attempts = families.counter(
            "peer_attempts_total",
            "Fetches from a peer that ended, by result. ok: the body was delivered to its end. abandoned: it"
            " was not needed any more. Any other result is the reason of the failure.",
            "result",
        )
        self._hedges = families.counter(
            "hedges_total",
            "Fetches from a second peer, begun because the first peer's first byte took longer than usual.",
        )
        self._resumes = families.counter(
            "resumes_total",
            "Times that a body broke off and another peer had to continue it, by the reason of the failure.",
            "reason",
        )
        self._striped = families.counter(
            "striped_bodies_total", "Bodies that were fetched from several peers at once."
        )
        self._suspects = families.counter(
            "suspect_sources_total",
            "Times that a peer became suspect, because containerd did not commit a blob that the peer gave "
            "although its store was well. The peer is asked for that blob last, and checked.",
        )
        self._checks = families.counter(
            "suspect_checks_total",
            "Blobs that this agent fetched again from a suspect and hashed, by result. wrong: the peer gives "
            "wrong bytes, which is an alarm. failed: the peer did not give the blob.",
            "result",
        )
        for result in ("right", "wrong", "failed"):  # Prometheus sees no rate in a series that begins at 1
            self._checks.labels(result)

    def lookup(self, seconds: float) -> None:
        """A look-up of a digest's holders ended."""
        self._lookup.observe(seconds, CURRENT.get())

    def question(self, result: str) -> None:
        """A question to a peer was ``answered``, or the peer was ``silent``."""
        self._questions.labels(result).inc()

    def attempt(self, result: str) -> None:
        """A fetch ended: ``ok`` (delivered to its end), ``abandoned``, or the value of a `Failure`."""
        self._attempts.labels(result).inc()

    def hedge(self) -> None:
        """A second peer was asked because the first took longer than usual."""
        self._hedges.inc()

    def broke(self, reason: str) -> None:
        """A body broke off, and another peer has to go on."""
        self._resumes.labels(reason).inc()

    def striped(self) -> None:
        """Striping began: a body is fetched from several peers."""
        self._striped.inc()

    def suspects(self, number: int) -> None:
        """This number of sources of a blob became suspect."""
        self._suspects.inc(number)

    def check(self, result: str) -> None:
        """A suspect's content was hashed: right, wrong, or failed if it could not be."""
        self._checks.labels(result).inc()
