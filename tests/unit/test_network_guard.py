"""A test that is not marked for the network cannot use it."""

from __future__ import annotations

import socket

import pytest
from pytest_socket import SocketConnectBlockedError

DOCUMENTATION_ADDRESS = "192.0.2.1"  # reserved for examples: nothing answers there


@pytest.mark.filterwarnings("ignore:A test tried to use")
def test_other_machines_are_out_of_reach() -> None:
    with pytest.raises(SocketConnectBlockedError), socket.socket() as connection:
        connection.connect((DOCUMENTATION_ADDRESS, 80))


def test_this_machine_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as connection:
        connection.connect(server.getsockname())
