"""Keeps a table of the kernel, of limited size, in step with the node's addresses."""

import logging
from collections.abc import Callable, Sequence

from bpf.errors import BpfError

_log = logging.getLogger(__name__)


class AddressTable:
    """The addresses in the table. ``add`` raises `BpfError`. ``at_most``: how many the table can hold."""

    def __init__(
        self, add: Callable[[bytes], None], remove: Callable[[bytes], None], *, at_most: int
    ) -> None:
        self._add = add
        self._remove = remove
        self._at_most = at_most
        self._there: set[bytes] = set()
        self._missing = 0

    def use(self, ips: Sequence[bytes]) -> None:
        """Have these in the table, and no others. If there are too many, the last ones are left out.

        What could not be added is tried again the next time.
        """
        wanted = ips[: self._at_most]
        for ip in self._there.difference(wanted):
            self._remove(ip)
        self._there.intersection_update(wanted)
        reason = f"the table holds {self._at_most}"
        try:
            for ip in wanted:
                if ip not in self._there:
                    self._add(ip)
                    self._there.add(ip)
        except BpfError as error:
            reason = str(error)
        self._tell(len(ips) - len(self._there), reason)

    def _tell(self, missing: int, reason: str) -> None:
        if missing and missing != self._missing:
            _log.warning("connections to %s of this node's addresses are not judged: %s", missing, reason)
        self._missing = missing
