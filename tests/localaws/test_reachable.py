from __future__ import annotations

import socket
import threading

from localaws.reachable import private_addresses, wait_for_ssh

_ANSWER = b"""<RunInstancesResponse><instancesSet>
<item><privateIpAddress>198.51.100.7</privateIpAddress><networkInterfaceSet><item>
<privateIpAddress>198.51.100.7</privateIpAddress></item></networkInterfaceSet></item>
<item><privateIpAddress>198.51.100.8</privateIpAddress></item>
<item><privateIpAddress>10.0.0.5</privateIpAddress></item>
</instancesSet></RunInstancesResponse>"""


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_only_addresses_that_have_machines_here_are_waited_for() -> None:
    assert private_addresses(_ANSWER) == ["198.51.100.7", "198.51.100.8"]
    assert private_addresses(b"<Error/>") == []


def test_one_that_listens_is_reachable_and_one_that_does_not_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert wait_for_ssh(["127.0.0.1"], patience_seconds=5, port=server.getsockname()[1])
    assert not wait_for_ssh(["127.0.0.1"], patience_seconds=0.1, port=unused_port())
    assert wait_for_ssh([], patience_seconds=0)


def test_one_that_listens_later_is_waited_for() -> None:
    port = unused_port()
    result: list[bool] = []
    waiting = threading.Thread(
        target=lambda: result.append(wait_for_ssh(["127.0.0.1"], patience_seconds=20, port=port))
    )
    waiting.start()
    with socket.create_server(("127.0.0.1", port)):
        waiting.join(20)
    assert result == [True]
