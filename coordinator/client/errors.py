"""What a call of a service may end with, and how a proxy on the way is named."""

import ipaddress
import os

import grpc

from dfa_core.errors import JobError, TrainingFailed

_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")  # as gRPC looks for them
_REFUSALS = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DATA_LOSS,
)


class ServiceRefused(JobError):
    """The service refuses a request; `status` is that of gRPC, the text that of the service."""

    def __init__(self, status: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.status = status


class ServiceUnreachable(TrainingFailed):
    """The service does not answer, or cannot do so now."""


def without_proxy(address: str) -> list[tuple[str, int]]:
    """Return gRPC's option that goes around a proxy, for a service on this machine."""
    host = address.rpartition(":")[0].rpartition("/")[2]
    host = host.removeprefix("ipv4:").removeprefix("ipv6:").strip("[]")
    try:
        here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = False
    return [("grpc.enable_http_proxy", 0)] if here else []


def proxy_of(address: str) -> str:
    """Return what to know about a proxy when a service does not answer; empty without one."""
    named = next((name for name in _PROXIES if os.environ.get(name)), None)
    if named is None or without_proxy(address):
        return ""
    host = address.rpartition(":")[0]
    return f"; it was asked through the proxy in {named}: set no_proxy={host} to go without"


def explained(error: grpc.RpcError, address: str) -> Exception:
    """Return the exception that says what a call ended with."""
    code, text = error.code(), error.details() or ""
    if code in _REFUSALS:
        return ServiceRefused(code, text)
    if code is grpc.StatusCode.UNAVAILABLE and not text.partition(":")[0].isupper():
        return ServiceUnreachable(
            f"no service answers at {address} (start it with: errorcast serve; set another address "
            f"with --address or ERRORCAST_ADDRESS; for TLS add --tls-ca){proxy_of(address)}"
        )
    return ServiceUnreachable(f"{address}: {text}")
