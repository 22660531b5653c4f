from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from gpumon.signals import Requests

PROGRAM = """
import signal, sys
from gpumon.signals import Requests, watch_signals

# Whatever the tests themselves were started with, as under nohup.
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[1] == "nohup" else signal.SIG_DFL)
requests = Requests()
watch_signals(requests)
print("ready", flush=True)
while not requests.is_stopping():
    requests.wake.wait()
    requests.wake.clear()
    if requests.take_reload():
        print("reloading", flush=True)
print("stopped", flush=True)
"""


def run(how: str, *signals: signal.Signals) -> tuple[int, str]:
    with subprocess.Popen([sys.executable, "-c", PROGRAM, how], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        said = ""
        for number in signals:
            process.send_signal(number)
            if number == signal.SIGHUP and how == "plain":
                said += process.stdout.readline()
        try:
            said += process.communicate(timeout=2)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            said += process.communicate()[0]
    return process.returncode, said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_without_killing_even_if_it_comes_twice(number: signal.Signals) -> None:
    assert run("plain", number, number) == (0, "stopped\n")


def test_sighup_reloads_as_often_as_it_comes_and_does_not_stop() -> None:
    assert run("plain", signal.SIGHUP, signal.SIGHUP, signal.SIGTERM) == (0, "reloading\nreloading\nstopped\n")


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    assert run("nohup", signal.SIGHUP) == (-signal.SIGKILL, "")


def test_a_reload_is_taken_once() -> None:
    requests = Requests()
    requests.reload()

    assert requests.wake.is_set()
    assert [requests.take_reload(), requests.take_reload()] == [True, False]
