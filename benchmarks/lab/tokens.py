"""A token server, as Docker Hub and GHCR have one: it trades a user's password for a token of one repository.

A client that gets a 401 with ``Bearer realm=…`` from the registry asks here, by GET with Basic authentication
or by POST as OAuth 2 has it. Nobody's token allows nothing; a wrong password gets a 401. An account reads
below its own prefix, and pushes there. Source: distribution's "Token Authentication Specification" and
"Oauth2 Token Authentication".
"""

import base64
import json
import secrets
import threading
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from benchmarks.lab.accounts import Account
from benchmarks.lab.network import inside
from benchmarks.lab.process import run

SERVICE = "the lab's registry"
ISSUER = "the lab's token server"
_LIFE_S = 3600


class TokenServer:
    """One token server in a namespace. ``certificate``: what the registry trusts."""

    def __init__(
        self, folder: Path, *, address: str, port: int, netns: str | None, accounts: Sequence[Account]
    ) -> None:
        folder.mkdir(parents=True)
        self.realm = f"http://{address}:{port}/token"
        self.certificate = folder / "certificate.pem"
        self._key = folder / "key.pem"
        make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=lab"]
        run([*make, "-keyout", str(self._key), "-out", str(self.certificate)])
        self._accounts = {account.user: account for account in accounts}
        self._tokens: dict[tuple[str, str], tuple[str, float]] = {}
        self._lock = threading.Lock()
        asked = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                user, _, password = _basic(self.headers.get("Authorization", "")).partition(":")
                query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                self._answer("token", user, password, " ".join(query.get("scope", [])))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
                form = {key: values[0] for key, values in urllib.parse.parse_qs(body).items()}
                user, password = form.get("username", ""), form.get("password", "")
                self._answer("access_token", user, password, form.get("scope", ""))

            def _answer(self, field: str, user: str, password: str, scope: str) -> None:
                account = asked.account(user, password)
                allowed = account is not None or not user
                said = {field: asked.token(account, scope), "expires_in": _LIFE_S} if allowed else {}
                content = json.dumps(said).encode()
                self.send_response(200 if allowed else 401)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Nothing: what is asked here has secrets in it."""

        self._server = inside(netns, lambda: ThreadingHTTPServer((address, port), Handler))
        threading.Thread(target=self._server.serve_forever, name="token server", daemon=True).start()

    def stop(self) -> None:
        """Stop it, and close its socket."""
        self._server.shutdown()
        self._server.server_close()

    def account(self, user: str, password: str) -> Account | None:
        """The account with this name and password."""
        account = self._accounts.get(user)
        return account if account is not None and account.password == password else None

    def token(self, account: Account | None, scope: str) -> str:
        """A token for those repositories of the scope that the account may use."""
        user = "" if account is None else account.user
        with self._lock:
            token, until_s = self._tokens.get((user, scope), ("", 0.0))
            if time.monotonic() > until_s:
                token = self._sign(_claims(account, scope))
                self._tokens[user, scope] = token, time.monotonic() + _LIFE_S / 2
            return token

    def _sign(self, claims: Mapping[str, object]) -> str:
        lines = self.certificate.read_text().splitlines()
        chain = ["".join(line for line in lines if not line.startswith("-"))]
        head = {"typ": "JWT", "alg": "RS256", "x5c": chain}
        text = f"{_plain(json.dumps(head).encode())}.{_plain(json.dumps(claims).encode())}"
        sign = ["openssl", "dgst", "-sha256", "-sign", str(self._key), "-hex", "-r"]
        signature = bytes.fromhex(run(sign, text=text).split()[0])
        return f"{text}.{_plain(signature)}"


def _claims(account: Account | None, scope: str) -> dict[str, object]:
    access = []
    for each in scope.split():
        kind, _, rest = each.partition(":")
        name, _, actions = rest.rpartition(":")
        if account is not None and kind == "repository" and name.startswith(account.repositories):
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
    now_s = int(time.time())
    return {
        "iss": ISSUER,
        "sub": "" if account is None else account.user,
        "aud": SERVICE,
        "exp": now_s + _LIFE_S,
        "nbf": now_s - 10,
        "iat": now_s,
        "jti": secrets.token_hex(8),
        "access": access,
    }


def _basic(header: str) -> str:
    kind, _, value = header.partition(" ")
    return base64.b64decode(value).decode() if kind.lower() == "basic" else ""


def _plain(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
