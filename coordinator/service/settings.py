"""What an operator sets for a service, checked before anything listens."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from dfa_core.errors import JobError


@dataclass(frozen=True)
class Limits:
    """Bounds on what clients may ask for."""

    message_bytes: int = 4 << 20
    spec_bytes: int = 64 << 10
    queued_jobs: int = 1000
    streams_per_client: int = 300
    blocks: int = 4096


@dataclass(frozen=True)
class ServiceSettings:
    """How a service runs.

    state: folder of jobs, logs and checkpoints.
    listen, web: host:port; web is the page and the metrics, None has neither.
    ray_address: of a cluster, or auto; empty runs a Ray of our own with so many `cpus`.
    token: shared secret of all clients, None asks for none.
    certificate, key: PEM files; client_ca: PEM file, then clients must show a certificate of it.
    code: folders whose task files jobs may name; data: folders that a job's data_dir may lie in.
    insecure: listen beyond loopback without TLS and a token.
    """

    state: Path
    listen: str = "127.0.0.1:7070"
    web: str | None = None
    ray_address: str = ""
    cpus: int = 1
    token: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    code: tuple[Path, ...] = ()
    data: tuple[Path, ...] = ()
    insecure: bool = False
    limits: Limits = field(default_factory=Limits)

    def check(self) -> None:
        """Raise JobError for settings that do not go together."""
        if (self.certificate is None) != (self.key is None):
            raise JobError("--tls-cert and --tls-key go together")
        if self.client_ca is not None and self.certificate is None:
            raise JobError("--tls-client-ca needs --tls-cert and --tls-key")
        for name, address in {"--listen": self.listen, "--web": self.web}.items():
            if address is None or is_loopback(name, address) or self.insecure:
                continue
            if self.token is None:
                raise JobError(
                    f"{name} {address}: beyond loopback the service asks for --token-file; "
                    f"--insecure goes without"
                )
            if self.certificate is None:
                raise JobError(
                    f"{name} {address}: beyond loopback the service asks for --tls-cert and "
                    f"--tls-key; --insecure goes without"
                )


def split_address(name: str, address: str) -> tuple[str, int]:
    """Return host and port of `host:port`. Raises JobError."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise JobError(f"{name} {address}: must look like 127.0.0.1:7070 or [::1]:7070")
    return host.strip("[]"), int(port)


def is_loopback(name: str, address: str) -> bool:
    """Return whether only this machine reaches an address. Raises JobError when it is none."""
    host, _ = split_address(name, address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise JobError(f"{name} {address}: '{host}' is no IP address") from error


def read_secret(name: str, path: Path) -> str:
    """Return the token in a file. Raises JobError when there is none, or one easily guessed."""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"{name} {path}: cannot be read: {error}") from error
    if len(secret) < 16 or not secret.isascii() or not secret.isprintable():
        raise JobError(f"{name} {path}: a token has at least 16 visible ASCII characters")
    return secret
