from __future__ import annotations

import logging
import os
import socket
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumon.jobs import MOST_FILE_BYTES, MOST_JOBS, JobFiles
from gpumon.samples import Gpu, MigInstance

GPU = Gpu("GPU-aaaa", 2, "H100")
OTHER_GPU = Gpu("GPU-bbbb", 12, "H100")
INSTANCE = Gpu("GPU-aaaa", 2, "H100", mig=MigInstance(7, "1g.5gb", "MIG-a"))
OTHER_INSTANCE = Gpu("GPU-aaaa", 2, "H100", mig=MigInstance(8, "1g.5gb", "MIG-b"))
NOBODY = 65534


def jobs_in(directory: Path, gpu: Gpu = GPU) -> tuple[str, ...]:
    return JobFiles(directory).jobs_of([gpu]).get(gpu, ())


def test_each_line_is_a_job_of_the_gpu_that_the_file_is_named_after(tmp_path: Path) -> None:
    (tmp_path / "2").write_text("1001\n\n  1002.master \n\t\n1003[4]\r\n1001\nlast")
    (tmp_path / "12").write_text("7\n")

    found = JobFiles(tmp_path).jobs_of([GPU, OTHER_GPU])

    assert found == {GPU: ("1001", "1002.master", "1003[4]", "last"), OTHER_GPU: ("7",)}


def test_gpu_without_a_file_or_with_an_empty_one_has_no_jobs(tmp_path: Path) -> None:
    (tmp_path / "2").touch()

    assert JobFiles(tmp_path).jobs_of([GPU, OTHER_GPU]) == {}


def test_instance_has_the_jobs_of_its_own_file_or_else_those_of_its_gpu(tmp_path: Path) -> None:
    (tmp_path / "2").write_text("of the gpu\n")
    (tmp_path / "2.7").write_text("of the instance\n")

    found = JobFiles(tmp_path).jobs_of([GPU, INSTANCE, OTHER_INSTANCE])

    assert found == {GPU: ("of the gpu",), INSTANCE: ("of the instance",), OTHER_INSTANCE: ("of the gpu",)}


def test_instance_whose_file_is_empty_has_no_jobs(tmp_path: Path) -> None:
    (tmp_path / "2").write_text("of the gpu\n")
    (tmp_path / "2.7").touch()

    assert jobs_in(tmp_path, INSTANCE) == ()


@pytest.mark.parametrize("name", ["02", "2.7.1", "2.", ".2", "2-7", "gpu2", "2 ", "\u0662", "+2", "2.swp", "2.07"])
def test_other_names_are_ignored(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("1001\n")

    assert JobFiles(tmp_path).jobs_of([GPU, INSTANCE, OTHER_GPU]) == {}


def test_files_are_read_anew_at_each_question(tmp_path: Path) -> None:
    files = JobFiles(tmp_path)
    seen = []
    for job in ("1001", "1002"):  # of the same length and within one tick of the file system's clock
        (tmp_path / "2").write_text(job)
        seen.append(files.jobs_of([GPU]))
    (tmp_path / "2").unlink()

    assert seen == [{GPU: ("1001",)}, {GPU: ("1002",)}]
    assert files.jobs_of([GPU]) == {}


def test_missing_directory_is_said_once_and_its_coming_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    files = JobFiles(tmp_path / "jobs")
    assert files.jobs_of([GPU]) == files.jobs_of([GPU]) == {}

    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "2").write_text("1001")

    assert files.jobs_of([GPU]) == {GPU: ("1001",)}
    assert [(record.levelname, record.getMessage().split(str(tmp_path))[1]) for record in caplog.records] == [
        ("INFO", "/jobs is missing"),
        ("INFO", "/jobs is there now"),
    ]


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_loop(path: Path) -> None:
    path.symlink_to(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def link_to_endless_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("spoil", [make_fifo, make_loop, make_socket, Path.mkdir, link_to_endless_device])
def test_what_is_no_file_costs_itself_only(tmp_path: Path, spoil: object, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "12").write_text("7\n")
    assert callable(spoil)
    spoil(tmp_path / "2")
    found: list[object] = []
    asking = threading.Thread(target=lambda: found.append(JobFiles(tmp_path).jobs_of([GPU, OTHER_GPU])), daemon=True)
    asking.start()

    asking.join(10)

    assert found == [{OTHER_GPU: ("7",)}]
    assert [record.getMessage().startswith(f"Repair {tmp_path / '2'}, ") for record in caplog.records] == [True]


def test_what_is_no_file_is_not_even_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "2")
    writer = threading.Thread(target=lambda: (tmp_path / "2").open("wb").close(), daemon=True)
    writer.start()  # waits until somebody opens the other end

    jobs_in(tmp_path)

    writer.join(0.2)
    assert writer.is_alive()
    (tmp_path / "2").open("rb").close()
    writer.join(10)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_file_that_may_not_be_read_costs_itself_only(caplog: pytest.LogCaptureFixture) -> None:
    with tempfile.TemporaryDirectory() as name:  # not tmp_path, which is closed to the other user
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "2").write_text("1001\n")
        (directory / "2").chmod(0)
        (directory / "12").write_text("7\n")
        os.seteuid(NOBODY)
        try:
            found = JobFiles(directory).jobs_of([GPU, OTHER_GPU])
        finally:
            os.seteuid(0)

    assert found == {OTHER_GPU: ("7",)}
    assert caplog.records[0].getMessage().endswith("its jobs are left out: Permission denied.")


def test_link_to_a_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("1001\n")
    (tmp_path / "2").symlink_to("elsewhere")

    assert jobs_in(tmp_path) == ("1001",)


def test_huge_file_is_read_in_part(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (tmp_path / "2").open("wb") as file:
        file.write(b"1001\n" + b" " * (MOST_FILE_BYTES - 8) + b"\n1002\n")
        file.truncate(1 << 40)

    assert jobs_in(tmp_path) == ("1001",)
    assert "has more than 65536 bytes" in caplog.text


def test_number_of_jobs_is_bounded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "2").write_text("".join(f"{job}\n" for job in range(1000)))

    assert jobs_in(tmp_path) == tuple(f"{job}" for job in range(MOST_JOBS))
    assert "has more than 64 jobs" in caplog.text


def test_thousands_of_other_files_cost_nothing(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"{number}.{number}").touch()
    (tmp_path / "2").write_text("1001\n")

    assert jobs_in(tmp_path) == ("1001",)


@pytest.mark.parametrize("line", [b"\x00\x01", b"\xff\xfe", b"a\x1b[31m", b"x" * 257, b"a\x0bb", b"\xe2\x80\xa8"])
def test_line_that_is_no_job_id_is_left_out(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "2").write_bytes(b"1001\n" + line + b"\n1002\n")

    assert jobs_in(tmp_path) == ("1001", "1002")


@given(content=st.binary(max_size=2000) | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_content_raises_and_every_job_is_one_printable_line(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "2").write_bytes(content)

        jobs = jobs_in(Path(name))

    assert len(jobs) == len(set(jobs)) <= MOST_JOBS
    for job in jobs:
        assert job
        assert job.isprintable()
        assert job == job.strip()
        assert job.encode() in content
