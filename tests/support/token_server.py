"""A server of tokens for docker-registry, as distribution's token specification has it, and certificates for it."""

from __future__ import annotations

import json
import secrets
import ssl
import subprocess
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from urllib.parse import parse_qs, urlsplit

from tests.support.registries import serving

SERVICE = "tests"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A key, and a certificate for localhost that it signed itself."""
    folder.mkdir(parents=True, exist_ok=True)
    key, pem = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, *names, "-keyout", key, "-out", pem], check=True, capture_output=True)
    return key, pem


@dataclass
class TokenServer:
    """Lets one user push; anyone may pull. `requests` are the paths that came, `given` the tokens that went.

    Answers to requests for several scopes are held back until as many have come as `mounts` waits for. `names` are
    those that a token goes by in the answer to a GET. The first requests are answered with the statuses of `failing`,
    and those for a mount's source with the right to nothing if `mountable` is not set.
    """

    user: str
    password: str
    key: Path
    certificate: Path
    identity: str = field(default_factory=lambda: secrets.token_hex(16))
    requests: list[str] = field(default_factory=list)
    realm: str = ""
    mounts: Barrier = field(default_factory=lambda: Barrier(1))
    given: list[str] = field(default_factory=list)
    names: tuple[str, ...] = ("token",)
    failing: list[int] = field(default_factory=list)
    mountable: bool = True

    def knows(self, authorization: str) -> bool:
        return authorization == "Basic " + b64encode(f"{self.user}:{self.password}".encode()).decode()

    def token(self, scopes: list[str], actions: set[str], age: int = 0) -> str:
        """A token for what is asked and allowed, made `age` seconds ago; it lives for five minutes."""
        now = int(time.time()) - age
        access = []
        for scope in scopes:
            kind, name, wanted = scope.split(":")
            is_source = wanted == "pull" and len(scopes) > 1
            allowed = set() if is_source and not self.mountable else actions
            granted = [action for action in wanted.split(",") if action in allowed]
            access.append({"type": kind, "name": name, "actions": granted})
        claims = {"iss": SERVICE, "aud": SERVICE, "sub": "", "nbf": now - 60, "iat": now, "exp": now + 300}
        claims |= {"jti": secrets.token_hex(8), "access": access}
        chain = b64encode(ssl.PEM_cert_to_DER_cert(self.certificate.read_text())).decode()
        parts = [
            _encoded(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "RS256", "x5c": [chain]}, claims)
        ]
        command = ["openssl", "dgst", "-sha256", "-sign", str(self.key)]
        signed = subprocess.run(command, input=".".join(parts).encode(), check=True, stdout=subprocess.PIPE)
        self.given.append(".".join([*parts, _encoded(signed.stdout)]))
        return self.given[-1]


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


@contextmanager
def token_server(folder: Path, user: str, password: str) -> Iterator[TokenServer]:
    """A server of tokens; its `realm` is where to ask."""
    server = TokenServer(user, password, *certificate(folder))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.requests.append(self.path)
            if server.failing:
                self.answer(server.failing.pop(0), {})
                return
            authorization = self.headers.get("Authorization", "")
            if authorization and not server.knows(authorization):
                self.answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "not you"}]})
                return
            asked = parse_qs(urlsplit(self.path).query)
            actions = {"pull", "push"} if authorization else {"pull"}
            self.grant(asked, actions)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            server.requests.append(self.path)
            asked = parse_qs(body)
            if (asked.get("grant_type"), asked.get("refresh_token")) != (["refresh_token"], [server.identity]):
                self.answer(401, {})
                return
            self.grant(asked, {"pull", "push"})

        def grant(self, asked: dict[str, list[str]], actions: set[str]) -> None:
            assert asked["service"] == [SERVICE]
            scopes = [scope for each in asked.get("scope", ()) for scope in each.split()]
            token = server.token(scopes, actions)
            if len(scopes) > 1:
                with suppress(BrokenBarrierError):  # fewer came
                    server.mounts.wait(timeout=5)
            self.answer(200, dict.fromkeys(("access_token",) if self.command == "POST" else server.names, token))

        def answer(self, status: int, document: dict[str, object]) -> None:
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with serving(Handler) as host:
        server.realm = f"http://{host}/token"
        yield server
