"""The settings of a service, checked before it listens."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from dfa_core.errors import JobError


@dataclass(frozen=True)
class Limits:
    """Limits on what clients may request."""

    message_bytes: int = 4 << 20
    spec_bytes: int = 64 << 10
    input_bytes: int = 64 << 20
    queued_jobs: int = 1000
    streams_per_client: int = 300
    blocks: int = 4096
    data_workers: int = 64
    unused_uploads: int = 32


@dataclass(frozen=True)
class ServiceSettings:
    """How a service runs.

    state: folder of jobs, logs and checkpoints.
    listen: host:port of gRPC.
    web: host:port of the page and the metrics; None serves neither.
    ray_address: of a cluster, or "auto"; empty runs a Ray of the service's own with `cpus` CPUs.
    token: secret of an admin, or of all clients; None without `users` requires no token.
    users: file of the other users.
    certificate, key: PEM files of the service.
    client_ca: PEM file; clients must then show a certificate that this authority signed.
    code: folders whose task files jobs may name.
    data: folders in which a job's data_dir may be.
    uploads: take code that users upload. requirements: install what its requirements.txt asks for.
    insecure: listen on other addresses than loopback without TLS and a token.
    """

    state: Path
    listen: str = "127.0.0.1:7070"
    web: str | None = None
    ray_address: str = ""
    cpus: int = 1
    token: str | None = None
    users: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    code: tuple[Path, ...] = ()
    data: tuple[Path, ...] = ()
    uploads: bool = False
    requirements: bool = False
    insecure: bool = False
    limits: Limits = field(default_factory=Limits)

    def check(self) -> None:
        """Raise JobError for settings that contradict each other."""
        if (self.certificate is None) != (self.key is None):
            raise JobError("--tls-cert and --tls-key: give both or neither")
        if self.client_ca is not None and self.certificate is None:
            raise JobError("--tls-client-ca needs --tls-cert and --tls-key")
        if self.requirements and not self.uploads:
            raise JobError("--allow-requirements needs --allow-uploads")
        for name, address in {"--listen": self.listen, "--web": self.web}.items():
            if address is None or is_loopback(name, address) or self.insecure:
                continue
            if self.token is None and self.users is None:
                raise JobError(
                    f"{name} {address}: an address beyond loopback needs --token-file or --users, "
                    f"or --insecure to go without"
                )
            if self.certificate is None:
                raise JobError(
                    f"{name} {address}: an address beyond loopback needs --tls-cert and --tls-key, "
                    f"or --insecure to go without"
                )


def split_address(name: str, address: str) -> tuple[str, int]:
    """Return host and port of `host:port`. Raises JobError."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise JobError(f"{name} {address}: must look like 127.0.0.1:7070 or [::1]:7070")
    return host.strip("[]"), int(port)


def is_loopback(name: str, address: str) -> bool:
    """Return whether only this machine can reach an address. Raises JobError if it is invalid."""
    host, _ = split_address(name, address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise JobError(f"{name} {address}: '{host}' is not an IP address") from error


def others_can_read(path: Path | None) -> bool:
    """Return whether a file is there and everybody on this machine can read it."""
    try:
        return path is not None and bool(path.stat().st_mode & 0o004)
    except OSError:
        return False


def read_secret(name: str, path: Path) -> str:
    """Return the token in a file. Raises JobError when it is missing or too easy to guess."""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"{name} {path}: cannot be read: {error}") from error
    if len(secret) < 16 or not secret.isascii() or not secret.isprintable():
        raise JobError(f"{name} {path}: a token must have at least 16 visible ASCII characters")
    return secret
