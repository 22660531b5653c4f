from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from localaws import commands
from localaws.errors import CommandFailed

_ROOT = Path(__file__).parents[2]
_PARENT = """
import sys, time
from pathlib import Path
from localaws.commands import start
child = start(["sh", "-c", "echo $$; exec sleep 600"], log=Path(sys.argv[1]))
print(child.pid, flush=True)
time.sleep(600)
"""


def _has_ended(process_id: int, patience_seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
        stat = Path(f"/proc/{process_id}/stat")
        try:
            if stat.read_text().rpartition(") ")[2].startswith("Z"):
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
    return False


def test_output_is_returned_and_input_and_environment_are_passed_on(tmp_path: Path) -> None:
    script = 'cat; printf "%s|%s" "$ADDED" "$PWD"'

    assert commands.run(["sh", "-c", script], input="text|", env={"ADDED": "x"}, cwd=tmp_path) == f"text|x|{tmp_path}"


def test_without_input_a_program_reads_nothing() -> None:
    assert commands.run(["cat"], timeout_seconds=30) == ""


def test_output_that_is_no_text_is_readable_anyway() -> None:
    assert commands.run(["printf", r"\377a"]) == "\ufffda"


def test_missing_program_is_named() -> None:
    with pytest.raises(CommandFailed, match="no-such-program: No such file") as caught:
        commands.run(["no-such-program", "-x"])

    assert caught.value.returncode is None
    assert caught.value.argv == ["no-such-program", "-x"]
    assert "did not run to its end" in str(caught.value)


def test_file_that_is_not_executable_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")

    with pytest.raises(CommandFailed, match="Permission denied") as caught:
        commands.run([str(tmp_path / "text")])

    assert caught.value.returncode is None


def test_exit_status_and_last_line_of_standard_error_are_in_the_message() -> None:
    script = "echo out; echo first >&2; echo the reason >&2; exit 7"

    with pytest.raises(CommandFailed) as caught:
        commands.run(["sh", "-c", script])

    assert caught.value.returncode == 7
    assert str(caught.value) == f"`sh -c {script}` failed (exit status 7): the reason"
    assert caught.value.output == "out\nfirst\nthe reason\n"
    assert caught.value.exit_code == 3


def test_program_that_fails_in_silence_says_so() -> None:
    with pytest.raises(CommandFailed, match="it printed nothing"):
        commands.run(["false"])


def test_only_the_end_of_long_output_is_kept() -> None:
    with pytest.raises(CommandFailed) as caught:
        commands.run(["sh", "-c", "seq 10000; exit 1"])

    assert caught.value.output.endswith("9999\n10000\n")
    assert len(caught.value.output) == 4000


def test_program_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid; exec sleep 600"

    with pytest.raises(CommandFailed, match=r"no end after 0\.5 s") as caught:
        commands.run(["sh", "-c", script], timeout_seconds=0.5)

    assert caught.value.returncode is None
    assert _has_ended(int((tmp_path / "pid").read_text()))


def test_child_is_killed_when_its_parent_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(log)], cwd=_ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            deadline = time.monotonic() + 10
            while not log.read_text().strip():  # the child sets its fate before it prints
                assert time.monotonic() < deadline
            assert int(log.read_text()) == child
            assert not _has_ended(child, 0.05)
        finally:
            parent.send_signal(signal.SIGKILL)
        parent.wait()

        assert _has_ended(child)


def test_child_enters_its_groups_before_its_program_starts(tmp_path: Path) -> None:
    files = [tmp_path / "one", tmp_path / "two"]

    child = commands.start(["sh", "-c", 'echo "$$ ${CGROUP_FILES-unset}"'], log=tmp_path / "log", cgroup_files=files)

    assert child.wait(30) == 0
    assert (tmp_path / "log").read_text() == f"{child.pid} unset\n"
    assert [int(file.read_text()) for file in files] == [child.pid, child.pid]


def test_child_that_cannot_enter_its_group_runs_no_program(tmp_path: Path) -> None:
    absent = tmp_path / "absent" / "cgroup.procs"

    child = commands.start(["touch", str(tmp_path / "ran")], log=tmp_path / "log", cgroup_files=[absent])

    assert child.wait(30) != 0
    assert not (tmp_path / "ran").exists()
    assert "absent/cgroup.procs" in (tmp_path / "log").read_text()


def test_child_appends_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")

    assert commands.start(["sh", "-c", "echo out; echo err >&2"], log=log).wait(30) == 0

    assert log.read_text() == "before\nout\nerr\n"


def test_wait_says_whether_a_child_ended(tmp_path: Path) -> None:
    child = commands.start(["sleep", "600"], log=tmp_path / "log")

    assert not commands.wait(child, 0.01)
    child.kill()
    assert commands.wait(child, 30)


def test_daemon_inherits_the_descriptors_that_it_is_given_and_no_others(tmp_path: Path) -> None:
    kept, other = os.open(tmp_path, os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)
    script = f'for n in {kept} {other}; do test -e /proc/self/fd/$n && echo $n; done; echo "$ADDED $PWD"; echo end'
    try:
        commands.start_daemon(
            ["sh", "-c", script], log=tmp_path / "log", cwd=tmp_path, env={"ADDED": "x"}, kept_open=[kept]
        )
    finally:
        os.close(kept)
        os.close(other)

    deadline = time.monotonic() + 10
    while not (tmp_path / "log").read_text().endswith("end\n"):  # it is no child that could be waited for
        assert time.monotonic() < deadline
    assert (tmp_path / "log").read_text() == f"{kept}\nx {tmp_path}\nend\n"


def test_a_child_whose_starter_died_before_the_kernel_was_asked_to_kill_it_does_not_run(tmp_path: Path) -> None:
    setpriv = shutil.which("setpriv")
    slow = tmp_path / "bin" / "setpriv"
    slow.parent.mkdir()
    slow.write_text(f'#!/bin/sh\necho $$ >{tmp_path}/waiting\nread _ <{tmp_path}/starter-died\nexec {setpriv} "$@"\n')
    slow.chmod(0o755)
    os.mkfifo(tmp_path / "starter-died")
    environment = {**os.environ, "PATH": f"{slow.parent}:{os.environ['PATH']}"}
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path / "log")], cwd=_ROOT, env=environment, stdout=subprocess.PIPE
    ) as parent:
        while not (tmp_path / "waiting").exists():
            assert parent.poll() is None
        parent.kill()
    child = int((tmp_path / "waiting").read_text())
    (tmp_path / "starter-died").write_text("go\n")

    ended = _has_ended(child)
    if not ended:
        os.kill(child, signal.SIGKILL)
    assert ended
    assert (tmp_path / "log").read_text() == ""
