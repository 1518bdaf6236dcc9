"""The address that a server listens on, and what to do when it cannot."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from turnwire.errors import AddressUnavailable

__all__ = ["listening_on", "reason_of", "shared_listeners"]

MENDS: Final[Mapping[int, str]] = {
    errno.EADDRINUSE: "Stop what listens there, or choose another port with --port.",
    errno.EACCES: "This user may not; choose a port above 1023 with --port.",
}
ELSEWHERE: Final = "Is it an address of this machine?"


@contextmanager
def listening_on(host: str, port: int) -> Iterator[None]:
    """Tell what to do about an address that cannot be bound inside the `with` block.

    Raises:
        AddressUnavailable: instead of OSError.
    """
    try:
        yield
    except OSError as error:
        mend = MENDS.get(error.errno or 0, ELSEWHERE)
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise AddressUnavailable(f"Cannot listen on {place}: {reason_of(error)}. {mend}") from error


def shared_listeners(host: str, port: int, count: int) -> list[socket.socket]:
    """Bind sockets that share one port, among which the system spreads connections.

    They do not share it with anybody else: another server there, though it would share too,
    would be given some of the clients of this one.

    Args:
        host: Address to listen on.
        port: TCP port; 0 for any free one.
        count: How many, at least one.

    Raises:
        AddressUnavailable: somebody else has it, or it is none of this machine.
    """
    with listening_on(host, port):
        if port:
            _bound(host, port, shared=False).close()
        listeners = [_bound(host, port, shared=True)]
        port = listeners[0].getsockname()[1]
        listeners += [_bound(host, port, shared=True) for _ in range(count - 1)]
    return listeners


def _bound(host: str, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def reason_of(error: OSError) -> str:
    """What the system says is wrong, without what libraries write around it."""
    # Names that cannot be looked up have numbers of their own.
    if isinstance(error, socket.gaierror) or not error.errno or error.errno < 0:
        return error.strerror or str(error) or type(error).__name__
    return os.strerror(error.errno)
