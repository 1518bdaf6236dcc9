from __future__ import annotations

import asyncio
import errno
import socket

import pytest
import uvloop

from turnwire.errors import AddressUnavailable
from turnwire.server.listening import listening_on, shared_listeners

HOST = "127.0.0.1"


def somebody() -> socket.socket:
    """Somebody who listens already, and would share."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((HOST, 0))
    listener.listen()
    return listener


def test_the_listeners_share_a_port() -> None:
    """There are as many as were asked for, all on one port."""
    listeners = shared_listeners(HOST, 0, 3)
    try:
        assert 3 == len(listeners)
        assert 1 == len({one.getsockname() for one in listeners})
    finally:
        for one in listeners:
            one.close()


def test_a_port_is_not_shared_with_others() -> None:
    """Another server on the port is an error, though both would let the system share it."""
    with somebody() as other:
        port = other.getsockname()[1]
        with pytest.raises(AddressUnavailable) as caught:
            shared_listeners(HOST, port, 2)
    expected = (
        f"Cannot listen on {HOST}:{port}: Address already in use. "
        "Stop what listens there, or choose another port with --port."
    )
    assert expected == str(caught.value)


def test_an_event_loop_says_it_no_differently() -> None:
    """The words of the loop, which repeat the address, are left out."""

    async def listen(port: int) -> None:
        with listening_on(HOST, port):
            await asyncio.get_running_loop().create_server(asyncio.Protocol, HOST, port)

    with (
        somebody() as other,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        pytest.raises(AddressUnavailable, match=r":\d+: Address already in use\. Stop"),
    ):
        runner.run(listen(other.getsockname()[1]))


@pytest.mark.parametrize(
    ("host", "error", "said"),
    [
        (HOST, OSError(errno.EACCES, "x"), f"{HOST}:80: Permission denied. This user may not;"),
        ("10.0.0.1", OSError(errno.EADDRNOTAVAIL, "x"), "Is it an address of this machine?"),
        ("::1", OSError(errno.EADDRINUSE, "x"), "Cannot listen on [::1]:80: Address already"),
        ("nowhere", socket.gaierror(-2, "Name or service not known"), "nowhere:80: Name or"),
    ],
)
def test_what_to_do_is_said(host: str, error: OSError, said: str) -> None:
    """The message has the address, the reason and the mend."""
    with pytest.raises(AddressUnavailable) as caught, listening_on(host, 80):
        raise error
    assert said in str(caught.value)
