"""Certificates for agents, made by the openssl command: a CA, and what it signs.

They look as cert-manager's do: a folder with ``tls.crt``, ``tls.key`` and ``ca.crt``.
"""

import subprocess
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

_CONFIG = """
[ca]
default_ca = this
[this]
new_certs_dir = {folder}
database = {folder}/index.txt
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
email_in_dn = no
[any]
commonName = optional
[made]
basicConstraints = critical, CA:{is_ca}
keyUsage = critical, {usage}
{more}
"""

EC, RSA = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"), ("-newkey", "rsa:2048")
"""The kinds of keys that cert-manager makes most."""


class Authority:
    """A CA. ``folder``: keeps its files. ``signed_by``: another CA, if it is an intermediate one."""

    def __init__(self, folder: Path, name: str = "ca", *, signed_by: "Authority | None" = None) -> None:
        self._folder = folder / name
        self._folder.mkdir(parents=True)
        (self._folder / "index.txt").touch()
        self.chain: bytes = b"" if signed_by is None else signed_by.pem + signed_by.chain
        self._key, self._certificate = self._folder / "ca.key", self._folder / "ca.crt"
        signer = self if signed_by is None else signed_by
        request = _request(self._folder, self._key, f"/CN={name}", EC)
        signer._sign(
            request, self._certificate, is_ca=True, self_signed=signed_by is None, key=self._key, names=()
        )
        self.pem: bytes = self._certificate.read_bytes()

    def issue(
        self,
        folder: Path,
        *names: str,
        key: Sequence[str] = EC,
        valid: tuple[timedelta, timedelta] = (timedelta(hours=-1), timedelta(days=30)),
        usages: str = "serverAuth, clientAuth",
        more_authorities: Sequence["Authority"] = (),
    ) -> Path:
        """Write ``tls.crt`` with its chain, ``tls.key`` and ``ca.crt`` into a folder, which is returned.

        ``names``: as openssl writes them: ``DNS:node-1``, ``IP:127.0.0.1``, ``URI:spiffe://…``. ``valid``:
        from and until, counted from now. ``usages``: empty for none. ``more_authorities``: also in ca.crt.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            made = Path(scratch)
            request = _request(made, made / "key", "/CN=agent", key)
            self._sign(request, made / "crt", names=names, valid=valid, usages=usages)
            root = self.chain.split(b"-----BEGIN", 2)
            authority = self.pem if not self.chain else b"-----BEGIN" + root[-1]
            files = {
                "tls.crt": (made / "crt").read_bytes() + (self.pem if self.chain else b""),
                "tls.key": (made / "key").read_bytes(),
                "ca.crt": authority + b"".join(other.pem for other in more_authorities),
            }
        for name, content in files.items():
            new = folder / f"{name}.new"
            new.write_bytes(content)
            new.rename(folder / name)
        return folder

    def _sign(
        self,
        request: Path,
        certificate: Path,
        *,
        names: Sequence[str],
        valid: tuple[timedelta, timedelta] = (timedelta(hours=-1), timedelta(days=3650)),
        usages: str = "",
        is_ca: bool = False,
        self_signed: bool = False,
        key: Path | None = None,
    ) -> None:
        more = [f"subjectAltName = {', '.join(names)}"] if names else []
        more += [f"extendedKeyUsage = {usages}"] if usages else []
        config = request.with_suffix(".cnf")
        config.write_text(
            _CONFIG.format(
                folder=self._folder,
                is_ca="TRUE" if is_ca else "FALSE",
                usage="keyCertSign, cRLSign" if is_ca else "digitalSignature, keyEncipherment",
                more="\n".join(more),
            )
        )
        now = datetime.now(UTC)
        start, end = (f"{now + each:%Y%m%d%H%M%SZ}" for each in valid)
        signer = ["-selfsign", "-keyfile", str(key)] if self_signed else ["-keyfile", str(self._key)]
        _openssl(
            *("ca", "-batch", "-notext", "-config", str(config), "-extensions", "made", "-in", str(request)),
            *("-out", str(certificate), "-startdate", start, "-enddate", end, *signer),
            *([] if self_signed else ["-cert", str(self._certificate)]),
        )


def _request(folder: Path, key_path: Path, subject: str, key: Sequence[str]) -> Path:
    request = folder / "request.pem"
    _openssl(
        *("req", "-new", "-nodes", "-subj", subject, "-keyout", str(key_path), "-out", str(request), *key)
    )
    return request


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"openssl {arguments[0]}: {done.stderr[-500:]}")
