"""Serves the probe's metrics without the probe: for the fuzz run, which needs neither root nor a kernel."""

import sys
import threading

from agent.observe.probe_metrics import ProbeMetrics
from agent.observe.scraping import MetricsServer
from agent.oci.browser import BrowserGuard


def main() -> None:
    """Serve at the address and port of the command line, for ever."""
    server = MetricsServer(sys.argv[1], int(sys.argv[2]), ProbeMetrics().exposed, BrowserGuard(()))
    server.start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
