from __future__ import annotations

import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from gpunodes.connection.key_pair import KeyPair
from gpunodes.errors import AwsError, ToolError
from gpunodes.proof.remote import Remote
from tests.gpunodes import fakes
from tests.gpunodes.fakes import FakeClock


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "ssh_key"
    path.write_text("no key")
    return path


def closed_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class Silent(socketserver.BaseRequestHandler):
    """Hangs up at once, like a port forwarded to a machine that still boots."""


@pytest.fixture
def silent_port() -> Iterator[int]:
    with socketserver.TCPServer(("127.0.0.1", 0), Silent) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_refused_connection_is_tried_until_the_patience_ends(key: Path) -> None:
    clock = FakeClock()
    remote = Remote(f"127.0.0.1:{closed_port()}", "nobody", key)

    with pytest.raises(ToolError, match=r"did not let us in by SSH within 2 s \(.*\); look at its console output\."):
        remote.connect(2, clock, clock.wait)

    assert len(clock.waits) in {10, 11}


def test_no_patience_tries_once(key: Path) -> None:
    clock = FakeClock()
    # Time that passes while connecting counts, too.
    ticks = iter([0.0, 10.0])

    with pytest.raises(ToolError, match="within 5 s"):
        Remote(f"127.0.0.1:{closed_port()}", "nobody", key).connect(5, lambda: next(ticks), clock.wait)

    assert clock.waits == []


def test_failed_attempts_are_told_by_the_error_alone(
    key: Path, silent_port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    clock = FakeClock()

    with pytest.raises(ToolError, match="did not let us in by SSH"):
        Remote(f"127.0.0.1:{silent_port}", "nobody", key).connect(0.1, clock, clock.wait)

    assert capfd.readouterr() == ("", "")


ROOT = Path(__file__).parents[3]
_PROXIED = """
import sys
from pathlib import Path
from gpunodes.errors import ToolError
from gpunodes.proof.remote import Remote
seconds = iter(range(100))
try:
    Remote("i-1", "nobody", Path(sys.argv[1]), "false").connect(0.1, lambda: next(seconds), lambda _seconds: None)
except ToolError as error:
    print(error)
"""


def test_proxy_command_that_ends_is_no_connection(key: Path) -> None:
    # In a process of its own: paramiko leaves the pipes of such a command to the garbage collector, which complains
    # in whichever test runs by then.
    done = subprocess.run([sys.executable, "-c", _PROXIED, key], cwd=ROOT, capture_output=True, text=True, check=True)

    assert "did not let us in by SSH" in done.stdout


def test_command_without_a_connection_is_a_tool_error(key: Path) -> None:
    remote = Remote(f"127.0.0.1:{closed_port()}", "nobody", key)

    with pytest.raises(ToolError, match=r"The connection to the instance at .* broke \(.*\); try again\."):
        remote.run("true")


def test_file_cannot_be_written_without_a_connection(key: Path) -> None:
    remote = Remote(f"127.0.0.1:{closed_port()}", "nobody", key)

    with pytest.raises(ToolError, match=r"The connection to the instance at .* broke"):
        remote.write("/tmp/x", "content")


class Doorkeeper:
    """Lets nobody in until it was asked often enough, then says no more."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.asked = 0

    def __call__(self) -> Exception | None:
        self.asked += 1
        return AwsError("Too many requests.") if self.asked <= self.refusals else None


def test_every_attempt_to_connect_asks_to_be_let_in(key: Path) -> None:
    clock, doorkeeper = FakeClock(), Doorkeeper(0)
    remote = Remote(f"127.0.0.1:{closed_port()}", "nobody", key, admit=doorkeeper)

    with pytest.raises(ToolError, match="within 1 s"):
        remote.connect(1, clock, clock.wait)
    attempts = len(clock.waits) + 1
    assert doorkeeper.asked == attempts

    with pytest.raises(ToolError, match="broke"):
        remote.run("true")
    with pytest.raises(ToolError, match="broke"):
        remote.write("/tmp/x", "content")
    assert doorkeeper.asked == attempts + 2


def test_being_refused_for_now_is_tried_again_and_told_when_the_patience_ends(key: Path, silent_port: int) -> None:
    clock, doorkeeper = FakeClock(), Doorkeeper(1000)
    remote = Remote(f"127.0.0.1:{silent_port}", "nobody", key, admit=doorkeeper)

    with pytest.raises(ToolError, match=r"within 1 s \(Too many requests\.\); see whether it runs, and try again\."):
        remote.connect(1, clock, clock.wait)
    assert doorkeeper.asked > 1


class Stranger(paramiko.ServerInterface):  # type: ignore[misc]  # paramiko has no types
    """An SSH server that knows nobody's key."""

    def get_allowed_auths(self, _username: str) -> str:
        return "publickey"


class Strange(socketserver.BaseRequestHandler):
    """Serves it, until the other side hangs up."""

    def handle(self) -> None:
        with paramiko.Transport(self.request) as transport:
            transport.add_server_key(HOST_KEY)
            transport.start_server(server=Stranger())
            transport.join(20)
            self.server.hung_up.append(not transport.is_alive())  # type: ignore[attr-defined]


HOST_KEY = paramiko.ECDSAKey.generate()


@pytest.fixture
def strange_port() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Strange) as server:
        hung_up = server.hung_up = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()
    # An attempt that failed must not stay connected: sshd takes ten of them, and then nobody.
    assert hung_up == [True]


@pytest.mark.parametrize(
    ("admit", "advice"),
    [
        (Doorkeeper(0), "its image needs the package ec2-instance-connect, or set ssh_key in .* to key_pair"),
        (None, "look at its console output"),
    ],
)
def test_a_key_that_is_unknown_there_is_told_apart(
    tmp_path: Path, strange_port: int, admit: Doorkeeper | None, advice: str
) -> None:
    pair = KeyPair.of(fakes.run(tmp_path))
    pair.make()
    ticks = iter([0.0, 10.0])
    remote = Remote(f"127.0.0.1:{strange_port}", "nobody", pair.private_key, admit=admit)

    with pytest.raises(ToolError, match=rf"within 5 s \(Authentication failed\.\); {advice}\.$"):
        remote.connect(5, lambda: next(ticks))


def test_closing_what_was_never_open_is_fine(key: Path) -> None:
    Remote("127.0.0.1", "nobody", key).close()
