"""The interface that has an address."""

from workers.machine.network import interface_with


def test_loopback_is_found_and_a_strange_address_is_not() -> None:
    assert interface_with("127.0.0.1") == "lo"
    assert interface_with("203.0.113.77") is None
    assert interface_with("2001:db8::77") is None
    assert interface_with("::1") in ("lo", None)  # None where IPv6 is off
