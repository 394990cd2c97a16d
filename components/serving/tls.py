"""TLS files in PEM: a server's certificate and key, and the authority for clients."""

from __future__ import annotations

import dataclasses
import ssl
from pathlib import Path
from typing import Any

import grpc

from core.errors import InputError


@dataclasses.dataclass(frozen=True)
class TlsFiles:
    """A server's files.

    Attributes:
        certificate: its own, followed by intermediate certificates.
        key: of the certificate, not encrypted.
        clients: certificates of authorities, one of which must have issued a client's certificate. None admits all.
    """

    certificate: Path
    key: Path
    clients: Path | None = None

    @classmethod
    def given(cls, certificate: Path | None, key: Path | None, clients: Path | None) -> TlsFiles | None:
        """The files that were given; None if none were.

        Raises:
            InputError: the certificate or its key is missing.
        """
        if certificate and key:
            return cls(certificate, key, clients)
        if certificate or key or clients:
            raise InputError("--certificate and --key belong together: name both")
        return None

    def check(self) -> None:
        """Reads the files, so that mistakes are reported before a server starts.

        Raises:
            InputError: a file cannot be read, or the key is not the certificate's.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for path in filter(None, (self.certificate, self.key, self.clients)):
            if not path.is_file():
                raise InputError(f"there is no file {path}")
        try:
            context.load_cert_chain(self.certificate, self.key, password="")
            if self.clients:
                context.load_verify_locations(self.clients)
        except (ssl.SSLError, OSError) as error:
            raise InputError(
                f"{self.certificate} and {self.key} are no certificate and its unencrypted key in PEM: {error}"
            ) from error

    def for_grpc(self) -> grpc.ServerCredentials:
        """Credentials for gRPC."""
        return grpc.ssl_server_credentials(
            [(self.key.read_bytes(), self.certificate.read_bytes())],
            self.clients.read_bytes() if self.clients else None,
            require_client_auth=self.clients is not None,
        )

    def for_uvicorn(self) -> dict[str, Any]:
        """Options for uvicorn."""
        files = {"ssl_certfile": str(self.certificate), "ssl_keyfile": str(self.key)}
        if self.clients is None:
            return files
        return files | {"ssl_ca_certs": str(self.clients), "ssl_cert_reqs": ssl.CERT_REQUIRED}
