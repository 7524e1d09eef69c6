"""Trusted certificates, from the system and from the folders `certs.d`.

The folders are Docker's: the one named HOST[:PORT] holds `*.crt` (certificate authorities) and pairs of `*.cert` and
`*.key` (client certificates).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from build.errors import PublishError
from build.stores.http.access import Access

if TYPE_CHECKING:
    from ssl import SSLContext


def tls_context(access: Access, host: str) -> SSLContext:
    """The TLS settings for HOST[:PORT]: what the system trusts, and the certificates of its `certs.d` folders."""
    import ssl

    context = _trusting_system()
    # As in Docker: whatever is trusted ends a chain, an intermediate authority and a server's own certificate too.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if access.is_insecure(host):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for folder in (base / host for base in access.certificates):
        for path in sorted(folder.glob("*.crt")):
            _load(path, partial(context.load_verify_locations, path))
        for path in sorted(folder.glob("*.cert")):
            key = path.with_suffix(".key")
            if not key.is_file():
                raise PublishError(f"{path}: found no {key.name} beside it, expected the certificate's key")
            _load(path, partial(context.load_cert_chain, path, key, password=""))  # never prompt
    return context


def _trusting_system() -> SSLContext:
    """A context that trusts what the system trusts, and SSL_CERT_FILE and SSL_CERT_DIR."""
    import ssl
    import sys

    found = ssl.get_default_verify_paths()
    if sys.platform == "linux" and (found.cafile or any(Path(found.capath or "/dev/null").glob("*.0"))):
        return ssl.create_default_context()
    # The stores of macOS and Windows, or where Linux distributions have theirs if Python's OpenSSL looks elsewhere.
    import truststore

    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_default_verify_paths()
    return context


def _load(path: Path, load: Callable[[], None]) -> None:
    import ssl

    try:
        load()
    except ssl.SSLError as error:
        raise PublishError(f"{path}: expected a matching certificate and key in PEM: {error.reason}") from None
    except OSError as error:
        raise PublishError(f"{path}: can't be read: {error.strerror}") from None
