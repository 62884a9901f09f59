"""A certificate authority of a test's own, made by openssl."""

import ssl
import subprocess
from pathlib import Path


class Authority:
    """An issuer, and a server's certificate from it, for this IP address."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        folder.mkdir()
        self._folder = folder
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        issuer = ["-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca", "-days", "2"]
        self._openssl("req", "-x509", *key, *issuer, "-addext", "keyUsage=critical,keyCertSign")
        self._openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server")
        # As older clusters have them, without the identifier of the issuer's key.
        identifiers = "authorityKeyIdentifier=none\nsubjectKeyIdentifier=none\n"
        (folder / "names").write_text(f"subjectAltName=IP:{address}\n{identifiers}")
        by = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
        self._openssl("x509", "-req", "-in", "server.csr", "-out", "server.crt", *by)

    @property
    def certificate(self) -> bytes:
        """The issuer's, which clients have to know."""
        return (self._folder / "ca.crt").read_bytes()

    def server_context(self) -> ssl.SSLContext:
        """What a server listens with."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._folder / "server.crt", self._folder / "server.key")
        return context

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self._folder, check=True, capture_output=True)
