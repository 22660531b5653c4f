from __future__ import annotations

import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpunodes.errors import ToolError
from gpunodes.proof.remote import Remote
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

    with pytest.raises(ToolError, match="Writing /tmp/x on the instance failed"):
        remote.write("/tmp/x", "content")


def test_closing_what_was_never_open_is_fine(key: Path) -> None:
    Remote("127.0.0.1", "nobody", key).close()
