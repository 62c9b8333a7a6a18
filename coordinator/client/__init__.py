"""A Python client of the service: `Client().submit(task="digits")`."""

from coordinator.client.client import Client
from coordinator.client.errors import ServiceRefused, ServiceUnreachable

__all__ = ["Client", "ServiceRefused", "ServiceUnreachable"]
