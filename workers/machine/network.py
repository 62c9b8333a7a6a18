"""The network interfaces of this machine."""

import fcntl
import socket
import struct
from contextlib import closing, suppress
from ipaddress import IPv6Address, ip_address
from pathlib import Path

_ADDRESS_OF = 0x8915  # SIOCGIFADDR
_IPV6 = Path("/proc/net/if_inet6")


def interface_with(address: str) -> str | None:
    """Return the name of the interface that has an address, or None where it is not known."""
    wanted = ip_address(address)
    if isinstance(wanted, IPv6Address):
        rows = _IPV6.read_text(encoding="ascii").split("\n") if _IPV6.exists() else []
        found = (row.split() for row in rows if row)
        return next((row[-1] for row in found if int(row[0], 16) == int(wanted)), None)
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asking:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has no IPv4 address
                answer = fcntl.ioctl(asking, _ADDRESS_OF, struct.pack("256s", name.encode()[:15]))
                if answer[20:24] == wanted.packed:
                    return name
    return None
