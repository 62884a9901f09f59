"""Certificates for agents and impostors of a test.

With ``SHORTHAUL_TEST_TLS=1`` in the environment every agent and impostor of tests/server speaks TLS, so that
all faults of transfers can be tried with it. The tests that run always have some of them.
"""

import atexit
import functools
import os
import shutil
import ssl
from pathlib import Path
from typing import Any

from benchmarks.lab.certificates import Authority
from benchmarks.lab.folders import make_folder

EVERYWHERE = bool(os.environ.get("SHORTHAUL_TEST_TLS"))
NAME = "agents.test"
"""The name that all certificates of `shared_settings` have."""


def tls_settings(folder: Path, name: str | None = None) -> dict[str, Any]:
    """``peering.tls`` with the files of a folder."""
    files = {
        "certificate": str(folder / "tls.crt"),
        "key": str(folder / "tls.key"),
        "ca": str(folder / "ca.crt"),
    }
    return files if name is None else {**files, "name": name}


@functools.cache
def shared_folder() -> Path:
    """One certificate for all agents of this run of the tests."""
    folder = make_folder("shlab", "secured-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Authority(folder).issue(folder / "agents", f"DNS:{NAME}")


def shared_settings() -> dict[str, Any]:
    """``peering.tls`` of an agent that has the one certificate."""
    return tls_settings(shared_folder(), NAME)


def server_context() -> ssl.SSLContext:
    """What an impostor needs to answer agents that have `shared_settings`."""
    folder = shared_folder()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    context.load_verify_locations(folder / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0
    return context


def client_context() -> ssl.SSLContext:
    """What a client needs to ask agents that have `shared_settings` at their peer listeners."""
    folder = shared_folder()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    context.load_verify_locations(folder / "ca.crt")
    return context
