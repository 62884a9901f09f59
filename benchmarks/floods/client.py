"""A well-behaved client of one node, a process of its own: ``python -m benchmarks.floods.client JSON``.

It asks for small contents of the node, at a steady pace, on connections that it keeps, as containerd does;
for ``/livez`` on a new connection each time, as the kubelet does; and for contents that one peer has. Each
answer is a line: what, when, how many seconds it took, its status (0: none).
"""

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable

_LOCAL_THREADS = 4
_LOCAL_EVERY_S, _LIVEZ_EVERY_S, _PEER_EVERY_S = 0.04, 0.1, 0.25
_TIMEOUT_S = 20.0
_printing = threading.Lock()


def _tell(what: str, began_s: float, status: int) -> None:
    line = json.dumps([what, began_s, time.monotonic() - began_s, status])
    with _printing:
        print(line, flush=True)


def _pace(every_s: float, ask: Callable[[], None]) -> None:
    due_s = time.monotonic()
    while True:
        ask()
        due_s = max(due_s + every_s, time.monotonic() - every_s)
        time.sleep(max(0.0, due_s - time.monotonic()))


def _asker(what: str, address: str, port: int, path: Callable[[], str], *, keep: bool) -> Callable[[], None]:
    connection = http.client.HTTPConnection(address, port, timeout=_TIMEOUT_S)

    def ask() -> None:
        began_s, status = time.monotonic(), 0
        try:
            connection.request("GET", path(), headers={"User-Agent": "containerd/2.1"})
            reply = connection.getresponse()
            reply.read()
            status = reply.status
        except (OSError, http.client.HTTPException):
            connection.close()
        _tell(what, began_s, status)
        if not keep:
            connection.close()

    return ask


def main() -> None:
    """Ask until ended."""
    told = json.loads(sys.argv[1])
    address, local, at_peer = told["address"], told["local"], iter(told["at_peer"])
    tasks = [
        (_LOCAL_EVERY_S, _asker("local", address, told["hostport"], lambda: local, keep=True))
        for _ in range(_LOCAL_THREADS)
    ]
    tasks.append((_LIVEZ_EVERY_S, _asker("livez", address, told["admin"], lambda: "/livez", keep=False)))
    tasks.append((_PEER_EVERY_S, _asker("peer", address, told["hostport"], lambda: next(at_peer), keep=True)))
    threads = [threading.Thread(target=_pace, args=task, daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
