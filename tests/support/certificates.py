"""Certificates of authorities that nobody knows, and where Docker looks for them."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from tests.support.checkout import Checkout
from tests.support.components import lack


@dataclass(frozen=True)
class Papers:
    """The files of one certificate: its authority's, its own, and its key."""

    authority: Path
    certificate: Path
    key: Path

    @property
    def settings(self) -> dict[str, str]:
        """What docker-registry's `http.tls` wants."""
        return {"certificate": str(self.certificate), "key": str(self.key)}


def papers(folder: Path, *names: str, authority: trustme.CA | None = None, expired: bool = False) -> Papers:
    """A certificate for these names, by an authority of its own unless one is given."""
    folder.mkdir(parents=True)
    signer = authority or trustme.CA()
    now = datetime.now(UTC)
    since, until = (now - timedelta(days=9), now - timedelta(days=2)) if expired else (None, None)
    issued = signer.issue_cert(*names, not_before=since, not_after=until)
    made = Papers(folder / "ca.pem", folder / "certificate.pem", folder / "key.pem")
    signer.cert_pem.write_to_path(made.authority)
    issued.cert_chain_pems[0].write_to_path(made.certificate)
    issued.private_key_pem.write_to_path(made.key)
    return made


def certs_d(checkout: Checkout, host: str) -> Path:
    """The folder for what a user's Docker shall know of a host's certificates."""
    folder = checkout.side / ".config" / "docker" / "certs.d" / host
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def own_address() -> str:
    """An address of this machine that is not the loopback interface's. Nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            lack("no network: this machine has no address but its loopback interface's")
        address: str = probe.getsockname()[0]
    return lack("no network: the only address is a loopback one") if address.startswith("127.") else address
