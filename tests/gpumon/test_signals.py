from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import signal, sys, threading
from gpumon.signals import stop_on_signals

if sys.argv[1] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
stop = threading.Event()
stop_on_signals(stop)
print("ready", flush=True)
stop.wait()
print("stopped", flush=True)
"""


def run(how: str, *signals: signal.Signals) -> tuple[int, str]:
    with subprocess.Popen([sys.executable, "-c", PROGRAM, how], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for number in signals:
            process.send_signal(number)
        try:
            rest = process.communicate(timeout=2)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            rest = process.communicate()[0]
    return process.returncode, rest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_without_killing_even_if_it_comes_twice(number: signal.Signals) -> None:
    assert run("plain", number, number) == (0, "stopped\n")


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    assert run("nohup", signal.SIGHUP) == (-signal.SIGKILL, "")
