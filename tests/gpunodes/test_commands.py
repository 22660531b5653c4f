from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from gpunodes import commands
from gpunodes.errors import ToolError
from tests.gpunodes.fakes import executable

CLEANS_UP = """
import signal, sys, time
def clean_up(number, frame):
    print("cleaned up", flush=True)
    sys.exit(0)
signal.signal(signal.SIGINT, clean_up)
print("ready", flush=True)
time.sleep(60)
"""
IGNORES = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(60)
"""
CRASHES = """
import os, signal, subprocess, sys
sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
child = subprocess.Popen(sleep, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(os.getpid(), child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def is_running(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ends(process_id: int) -> bool:
    """Whether a killed process that is not our child is gone; the kernel takes a moment."""
    deadline = time.monotonic() + 10
    while is_running(process_id) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not is_running(process_id)


def test_run_returns_standard_output_alone() -> None:
    code = "import os, sys; print(os.environ['GREETING']); print('noise', file=sys.stderr)"

    assert commands.run(python(code), env={"GREETING": "hello"}) == "hello\n"


def test_run_gives_no_input_and_uses_the_working_directory(tmp_path: Path) -> None:
    code = "import os, sys; print(os.getcwd(), repr(sys.stdin.read()))"

    assert commands.run(python(code), cwd=tmp_path) == f"{tmp_path} ''\n"


def test_run_says_that_a_tool_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"`/.*/nothing` is not installed; run scripts/bootstrap\."):
        commands.run([str(tmp_path / "nothing")])


def test_run_says_that_a_file_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no program")

    with pytest.raises(ToolError, match="cannot be started"):
        commands.run([str(tmp_path / "data")])


def test_run_ends_its_message_with_the_last_line(tmp_path: Path) -> None:
    tool = executable(tmp_path, "tool", "echo out; echo first >&2; echo the reason >&2; echo >&2; exit 4")

    with pytest.raises(ToolError, match=r"tool` failed: the reason$"):
        commands.run([str(tool)])


def test_run_says_that_a_failing_tool_printed_nothing() -> None:
    with pytest.raises(ToolError, match=r"failed: it printed nothing$"):
        commands.run(python("raise SystemExit(1)"))


def test_follow_writes_lines_to_log_and_callback_and_returns_the_status(tmp_path: Path) -> None:
    log, lines = tmp_path / "log", list[str]()
    log.write_text("before\n")
    code = "import os, sys; print(os.environ['X'], flush=True); print('err', file=sys.stderr); sys.exit(7)"

    status = commands.follow(python(code), log=log, env={"X": "out"}, on_line=lines.append)

    assert status == 7
    assert lines == ["out", "err"]
    assert log.read_text() == "before\nout\nerr\n"


def test_follow_survives_output_that_is_no_text(tmp_path: Path) -> None:
    lines: list[str] = []

    commands.follow(
        python(r"import sys; sys.stdout.buffer.write(b'\xff\n')"), log=tmp_path / "log", env={}, on_line=lines.append
    )

    assert lines == ["�"]


def test_follow_says_that_a_tool_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="is not installed"):
        commands.follow([str(tmp_path / "nothing")], log=tmp_path / "log", env={})


def test_interrupt_reaches_the_program_which_cleans_up(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def interrupt(_line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        commands.follow(python(CLEANS_UP), log=log, env={}, on_line=interrupt)

    assert log.read_text() == "ready\ncleaned up\n"


def test_ctrl_c_while_waiting_reaches_the_program(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def interrupt(_line: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        commands.follow(python(CLEANS_UP), log=log, env={}, on_line=interrupt)

    assert log.read_text().endswith("cleaned up\n")


def test_program_that_ignores_the_interrupt_is_killed_with_its_children(tmp_path: Path) -> None:
    process_ids: list[int] = []

    def interrupt(line: str) -> None:
        process_ids.extend(map(int, line.split()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        commands.follow(python(IGNORES), log=tmp_path / "log", env={}, on_line=interrupt, grace_seconds=0.1)

    assert len(process_ids) == 2
    assert all(ends(process_id) for process_id in process_ids)


@pytest.mark.parametrize(("code", "said"), [(CLEANS_UP, "cleaned up\n"), (IGNORES, "")], ids=["heeds", "ignores"])
def test_program_that_takes_too_long_is_interrupted_and_then_killed(tmp_path: Path, code: str, said: str) -> None:
    lines: list[str] = []

    with pytest.raises(ToolError, match=r"python\S*` was interrupted, for it did not end within 1 s"):
        commands.follow(
            python(code), log=tmp_path / "log", env={}, on_line=lines.append, limit_seconds=1, grace_seconds=1
        )

    assert (tmp_path / "log").read_text().endswith(said)
    assert code == CLEANS_UP or all(ends(int(process_id)) for process_id in lines[0].split())


def test_program_that_is_killed_takes_what_it_started_with_it(tmp_path: Path) -> None:
    lines: list[str] = []

    status = commands.follow(python(CRASHES), log=tmp_path / "log", env={}, on_line=lines.append)

    assert status == -signal.SIGKILL
    assert all(ends(int(process_id)) for process_id in lines[0].split())


def test_log_gets_what_a_person_reads(tmp_path: Path) -> None:
    lines: list[str] = []

    commands.follow(
        python("print('one'); print('two')"), log=tmp_path / "log", env={}, on_line=lines.append, as_logged=str.upper
    )

    assert lines == ["one", "two"]
    assert (tmp_path / "log").read_text() == "ONE\nTWO\n"


def test_callback_that_fails_ends_the_program(tmp_path: Path) -> None:
    def fail(_line: str) -> None:
        raise ValueError("no such line")

    with pytest.raises(ValueError, match="no such line"):
        commands.follow(python(CLEANS_UP), log=tmp_path / "log", env={}, on_line=fail)

    assert (tmp_path / "log").read_text().endswith("cleaned up\n")


IS_ASKED_TO_END = """
import signal, sys, time
def clean_up(number, frame):
    print("cleaned up", file=sys.stderr)
    sys.exit(130)
signal.signal(signal.SIGTERM, clean_up)
print("verdict", flush=True)
print("ready", file=sys.stderr)
time.sleep(60)
"""


def started(tmp_path: Path, code: str, **env: str) -> commands.Background:
    return commands.start(python(code), output=tmp_path / "out", log=tmp_path / "log", env=env, cwd=tmp_path)


def hear(background: commands.Background, words: str) -> list[str]:
    """Its lines, up to one with the words."""
    lines: list[str] = []
    deadline = time.monotonic() + 10
    while not any(words in line for line in lines) and time.monotonic() < deadline:
        lines += background.new_lines()
        time.sleep(0.01)
    return lines


def end_of(background: commands.Background) -> int | None:
    deadline = time.monotonic() + 10
    while background.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return background.poll()


def test_started_program_has_its_output_and_its_lines_apart(tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ['X'], os.getcwd()); sys.stderr.write('one\\ntwo'); sys.exit(3)"

    background = started(tmp_path, code, X="out")

    assert end_of(background) == 3
    assert background.output() == f"out {tmp_path}\n"
    assert background.new_lines() == ["one", "two"]
    assert background.new_lines() == []


def test_line_is_told_once_it_is_whole(tmp_path: Path) -> None:
    code = "import sys, time; sys.stderr.write('half'); sys.stderr.flush(); time.sleep(60)"
    background = started(tmp_path, code)
    while (tmp_path / "log").read_text() != "half":
        time.sleep(0.01)

    assert background.new_lines() == []
    with (tmp_path / "log").open("a") as log:
        log.write(" and half\nmore")
    assert background.new_lines() == ["half and half"]

    background.kill()
    assert background.poll() == -signal.SIGKILL
    assert background.new_lines() == ["more"]


def test_started_program_that_is_asked_to_end_cleans_up(tmp_path: Path) -> None:
    background = started(tmp_path, IS_ASKED_TO_END)
    assert hear(background, "ready") == ["ready"]
    assert background.poll() is None

    background.terminate()

    assert end_of(background) == 130
    assert background.new_lines() == ["cleaned up"]
    assert background.output() == "verdict\n"


def test_started_program_does_not_hear_the_terminal(tmp_path: Path) -> None:
    background = started(tmp_path, "import os, sys; print(os.getsid(0) == os.getpid(), file=sys.stderr)")

    assert end_of(background) == 0
    assert background.new_lines() == ["True"]


def test_killed_program_takes_its_children_with_it(tmp_path: Path) -> None:
    background = started(tmp_path, IGNORES.replace("flush=True", "flush=True, file=sys.stderr"))
    [line] = hear(background, " ")

    background.kill()

    assert background.poll() == -signal.SIGKILL
    assert all(ends(int(process_id)) for process_id in line.split())


def test_start_says_that_a_tool_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="is not installed"):
        commands.start(
            [str(tmp_path / "nothing")], output=tmp_path / "out", log=tmp_path / "log", env={}, cwd=tmp_path
        )  # fmt: skip
