"""The bucket: a tree of files with the paths that AWS uses, signed with a key of our own, served over HTTP."""

import logging
import shutil
import socket
import tempfile
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from localaws.downloads.agent import VERSION
from localaws.downloads.package import build_package, inputs_digest
from localaws.downloads.signing import SigningKey

log = logging.getLogger(__name__)

_FAMILIES = ("debian", "ubuntu")
_PACKAGE = "amazon-cloudwatch-agent.deb"


@dataclass(frozen=True)
class Downloads:
    """Where the stand-in bucket is, and whom its packages are signed by.

    Attributes:
        base_url: without a slash at its end; takes the place of https://amazoncloudwatch-agent.s3.amazonaws.com.
        key_fingerprint: 40 hexadecimal digits.
    """

    base_url: str
    key_fingerprint: str


def build_tree(directory: Path) -> str:
    """Make package, signature and key below `directory`, unless they are there and up to date.

    Returns:
        The fingerprint of the key; the key itself is made once and kept.

    Raises:
        CommandFailed: gpg or dpkg-deb is missing or failed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    key = SigningKey(directory / "gnupg")
    fingerprint = key.ensure()
    info = _published(directory) / "info/latest"
    info.mkdir(parents=True, exist_ok=True)
    (info / "CWAGENT_VERSION").write_text(f"{VERSION}\n")
    stamp = directory / "inputs.sha256"
    wanted = f"{inputs_digest()} {fingerprint}\n"
    if stamp.is_file() and stamp.read_text() == wanted:
        return fingerprint
    with tempfile.TemporaryDirectory(dir=directory) as work:
        package = Path(work, _PACKAGE)
        build_package(package, Path(work))
        signature = key.sign(package)
        for family in _FAMILIES:
            latest = _published(directory) / family / "amd64/latest"
            latest.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(package, latest / package.name)
            shutil.copyfile(signature, latest / signature.name)
    assets = _published(directory) / "assets"
    assets.mkdir(exist_ok=True)
    (assets / "amazon-cloudwatch-agent.gpg").write_text(key.export())
    stamp.write_text(wanted)
    return fingerprint


def prepare(directory: Path, sock: socket.socket) -> Downloads:
    """Build the tree and say what a server on `sock` will offer."""
    host, port = sock.getsockname()[:2]
    return Downloads(f"http://{host}:{port}", build_tree(directory))


def serve(directory: Path, sock: socket.socket) -> ThreadingHTTPServer:
    """A server of the tree below `directory` on a socket that listens already.

    The caller runs `serve_forever` in a thread, and `shutdown` and `server_close` in the end.
    """
    handler = partial(_Handler, directory=str(_published(directory)))
    server = _Server(sock.getsockname()[:2], handler, bind_and_activate=False)
    server.socket.close()  # the one that it made itself
    server.socket = sock
    return server


def _published(directory: Path) -> Path:
    """What is served: the private key lies beside it, not in it."""
    return directory / "www"


class _Server(ThreadingHTTPServer):
    daemon_threads = True


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        log.debug(format, *args)
