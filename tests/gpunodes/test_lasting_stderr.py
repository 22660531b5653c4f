from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gpunodes.lasting_stderr import LastingStream, lasting_stderr

LOSES_ITS_READER = """
import os, sys
from gpunodes.errors import InterruptedRunError
from gpunodes.exit_codes import errors_as_exit_codes
from gpunodes.operation.progress import TerminalProgress
with errors_as_exit_codes():
    progress = TerminalProgress()
    progress.begin("a step")
    print("ready", flush=True)
    sys.stdin.read()
    progress.say("nobody reads this")
    progress.end("a step", 1.0, "done")
    raise InterruptedRunError("Stopped as asked.")
"""


def test_what_nobody_reads_changes_no_exit_code() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LOSES_ITS_READER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.stderr.close()
        process.stdin.close()

        assert process.wait(20) == 130


def test_what_somebody_reads_arrives() -> None:
    reader, writer = os.pipe()
    with open(writer, "w") as stream:  # noqa: PTH123 - a descriptor, not a path
        lasting = LastingStream(stream)
        assert lasting.write("one\n") == 4
        lasting.flush()
        assert lasting.fileno() == writer
        assert not lasting.isatty()
    assert os.read(reader, 100) == b"one\n"
    os.close(reader)


def test_it_is_standard_error_only_for_a_while(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stderr
    with lasting_stderr():
        sys.stderr.write("within")
    assert sys.stderr is before
    assert capsys.readouterr().err == "within"
