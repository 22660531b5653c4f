from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from gpunodes.bake.packer_output import PHASES, BuildOutput, Record, parse, readable
from gpunodes.operation.steps import Timing
from tests.gpunodes.fakes import FakeClock, RecordingProgress

NAMES = [phase.name for phase in PHASES]

# What a bake with Packer 1.6.6 said, shortened.
BAKE_1_6_6 = r"""1795331708,,ui,say,==> amazon-ebs.gpu: Prevalidating any provided VPC information
1795331708,,ui,say,==> amazon-ebs.gpu: Prevalidating AMI Name: gpunodes-1
1795331708,,ui,message,    amazon-ebs.gpu: Found Image ID: ami-ed213c812ad746606
1795331708,,ui,say,==> amazon-ebs.gpu: Using existing SSH private key
1795331708,,ui,say,==> amazon-ebs.gpu: Launching a source AWS instance...
1795331708,,ui,message,    amazon-ebs.gpu: Adding tag: "gpunodes": "true"
1795331708,,ui,message,    amazon-ebs.gpu: Instance ID: i-d1023226f45618329
1795331708,,ui,say,==> amazon-ebs.gpu: Waiting for instance (i-d1023226f45618329) to become ready...
1795331708,,ui,say,==> amazon-ebs.gpu: Using ssh communicator to connect: 198.51.100.4
1795331708,,ui,say,==> amazon-ebs.gpu: Waiting for SSH to become available...
1795331714,,ui,say,==> amazon-ebs.gpu: Connected to SSH!
1795331714,,ui,say,==> amazon-ebs.gpu: Provisioning with shell script: /tmp/packer-shell2406593078
1795331714,,ui,say,==> amazon-ebs.gpu: Uploading packer/rootfs/ => /dev/shm/gpunodes-bake/rootfs
1795331721,,ui,error,==> amazon-ebs.gpu: check.sh: the agent is installed%!(PACKER_COMMA) configured and enabled
1795331721,,ui,say,==> amazon-ebs.gpu: Provisioning with shell script: scripts/provision/cleanup.sh
1795331722,,ui,error,==> amazon-ebs.gpu: script_3517.sh: clean
1795331722,,ui,say,==> amazon-ebs.gpu: Stopping the source instance...
1795331722,,ui,message,    amazon-ebs.gpu: Stopping instance
1795331722,,ui,say,==> amazon-ebs.gpu: Waiting for the instance to stop...
1795331722,,ui,say,==> amazon-ebs.gpu: Creating AMI gpunodes-1 from instance i-d1023226f45618329
1795331722,,ui,message,    amazon-ebs.gpu: AMI: ami-14cb1527581cf4c98
1795331722,,ui,say,==> amazon-ebs.gpu: Waiting for AMI to become ready...
1795331722,,ui,say,==> amazon-ebs.gpu: Creating AMI tags
1795331722,,ui,say,==> amazon-ebs.gpu: Terminating the source AWS instance...
1795331722,,ui,say,==> amazon-ebs.gpu: Cleaning up any extra volumes...
1795331722,,ui,say,==> amazon-ebs.gpu: Running post-processor:  (type manifest)
1795331722,,ui,say,Build 'amazon-ebs.gpu' finished after 13 seconds 871 milliseconds.
1795331722,,ui,say,\n==> Wait completed after 13 seconds 871 milliseconds
1795331722,,ui,say,\n==> Builds finished. The artifacts of successful builds are:
1795331722,amazon-ebs.gpu,artifact-count,2
1795331722,amazon-ebs.gpu,artifact,0,builder-id,mitchellh.amazonebs
1795331722,amazon-ebs.gpu,artifact,0,id,us-east-1:ami-14cb1527581cf4c98
1795331722,amazon-ebs.gpu,artifact,0,string,AMIs were created:\nus-east-1: ami-14cb1527581cf4c98\n
1795331722,amazon-ebs.gpu,artifact,0,end
1795331722,,ui,say,--> amazon-ebs.gpu: AMIs were created:\nus-east-1: ami-14cb1527581cf4c98\n
""".splitlines()

# What the amazon plugin 1.8 says with a spot instance behind a tunnel; `message` is `say` there.
BAKE_PLUGIN_1_8 = r"""1,,ui,say,==> amazon-ebs.gpu: Prevalidating AMI Name: gpunodes-1
1,,ui,say,==> amazon-ebs.gpu: Launching a spot AWS instance...
1,,ui,say,==> amazon-ebs.gpu: Created Spot Fleet launch template: lt-0abc
2,,ui,say,==> amazon-ebs.gpu: Instance ID: i-0abc
2,,ui,say,==> amazon-ebs.gpu: Waiting 10s before establishing the SSM session...
3,,ui,say,==> amazon-ebs.gpu: Starting portForwarding session "gpunodes-0abc".
3,,ui,say,==> amazon-ebs.gpu: Using SSH communicator to connect: localhost
4,,ui,say,==> amazon-ebs.gpu: Connected to SSH!
4,,ui,say,==> amazon-ebs.gpu: Something that nobody here has heard of
5,,ui,say,==> amazon-ebs.gpu: Creating AMI gpunodes-1 from instance i-0abc
5,,ui,say,==> amazon-ebs.gpu: Attaching run tags to AMI...
5,,ui,say,==> amazon-ebs.gpu: AMI: ami-0abc
6,,ui,say,==> amazon-ebs.gpu: Copying/Encrypting AMI (ami-0abc) to other regions...
7,,ui,say,==> amazon-ebs.gpu: Skipping Enable AMI deprecation...
8,,ui,say,==> amazon-ebs.gpu: Terminating the source AWS instance...
9,,ui,say,\n==> Wait completed after 8 seconds
9,amazon-ebs.gpu,artifact,0,id,eu-west-1:ami-0def%!(PACKER_COMMA)us-east-1:ami-0abc
""".splitlines()


class Heard:
    """A build's output with everything that it tells."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.progress = RecordingProgress()
        self.details: list[str] = []
        self.made: list[tuple[str, str]] = []
        self.output = BuildOutput(
            self.clock,
            on_detail=self.details.append,
            on_made=lambda kind, name: self.made.append((kind, name)),
            listeners=[self.progress],
        )

    def read(self, lines: Sequence[str]) -> Heard:
        self.output.begin()
        for line in lines:
            self.clock.wait(1)
            self.output.read(line)
        return self

    @property
    def phases(self) -> list[str]:
        return [timing.name for timing in self.output.phases]


def said(text: str, level: str = "say") -> str:
    return f"1795331708,,ui,{level},==> amazon-ebs.gpu: {text}"


def error(text: str) -> str:
    return said(text, "error")


@pytest.mark.parametrize(
    ("line", "record"),
    [
        ("12,,ui,say,==> a: b", Record(12, "", "ui", ("say", "==> a: b"))),
        (r"12,x.y,artifact,0,id,a%!(PACKER_COMMA)b\nc\rd", Record(12, "x.y", "artifact", ("0", "id", "a,b\nc\rd"))),
        ("12,,version,1.6.6\n", Record(12, "", "version", ("1.6.6",))),
        ("12,,error-count,", Record(12, "", "error-count", ("",))),
        ("12,,nil", Record(12, "", "nil", ())),
        ("panic: runtime error, 12", None),
        ("", None),
        ("Installed plugin github.com/hashicorp/amazon v1.8.2", None),
    ],
)
def test_line_is_parsed_and_unescaped(line: str, record: Record | None) -> None:
    assert parse(line) == record


def test_people_read_each_line_with_its_time_and_nothing_twice() -> None:
    lines = [text for line in BAKE_1_6_6 for text in readable(parse(line))]  # type: ignore[arg-type]

    assert lines[0] == "2026-11-22T07:15:08Z ==> amazon-ebs.gpu: Prevalidating any provided VPC information"
    assert "2026-11-22T07:15:21Z ==> amazon-ebs.gpu: check.sh: the agent is installed, configured and enabled" in lines
    assert lines[-2:] == [
        "2026-11-22T07:15:22Z --> amazon-ebs.gpu: AMIs were created:",
        "2026-11-22T07:15:22Z us-east-1: ami-14cb1527581cf4c98",
    ]
    assert not any("PACKER_COMMA" in line or r"\n" in line or "artifact-count" in line for line in lines)


def test_phases_of_packer_1_6_6_are_recognised_and_timed() -> None:
    heard = Heard().read(BAKE_1_6_6)
    heard.output.close(is_well=True)

    assert heard.phases == [name for name in NAMES if name != "copy the image"]
    assert heard.output.phases[0] == Timing("check the inputs", 5)
    assert sum(timing.seconds for timing in heard.output.phases) == len(BAKE_1_6_6)
    assert heard.progress.events[:3] == [
        "phase check the inputs",
        "phase end check the inputs 5 done",
        "phase launch the instance",
    ]
    assert not any("failed" in event for event in heard.progress.events)


def test_phases_of_the_current_plugin_are_recognised_and_a_spot_instance_is_not_stopped() -> None:
    heard = Heard().read(BAKE_PLUGIN_1_8)
    heard.output.close(is_well=True)

    assert heard.phases == [name for name in NAMES if name != "stop the instance"]
    assert heard.made == [("launch template", "lt-0abc"), ("instance", "i-0abc"), ("image", "ami-0abc")]


def test_what_packer_makes_is_told_as_soon_as_it_is_named() -> None:
    assert Heard().read(BAKE_1_6_6).made == [("instance", "i-d1023226f45618329"), ("image", "ami-14cb1527581cf4c98")]


def test_image_of_each_region_is_known() -> None:
    assert Heard().read(BAKE_1_6_6).output.artifacts == {"us-east-1": "ami-14cb1527581cf4c98"}
    assert Heard().read(BAKE_PLUGIN_1_8).output.artifacts == {"eu-west-1": "ami-0def", "us-east-1": "ami-0abc"}


def test_unknown_lines_are_details() -> None:
    heard = Heard().read([said("Something new"), "1,,brand-new,x,y", "1,,ui", "1,a,artifact", "no record"])

    assert heard.details == ["Something new"]
    assert heard.output.reason == ""


def test_detail_names_the_script_that_runs_and_not_the_file_that_packer_made_of_it() -> None:
    heard = Heard().read([
        said("Provisioning with shell script: /tmp/packer-shell2406593078"),
        error("install-gpumon.sh: installed"),
        said("Provisioning with shell script: scripts/provision/cleanup.sh"),
        error("script_3517.sh: clean"),
    ])  # fmt: skip

    assert heard.details == ["inline script", "install-gpumon.sh: installed", "cleanup.sh", "cleanup.sh: clean"]


def test_script_that_prints_what_packer_says_does_not_turn_the_phases_back() -> None:
    heard = Heard().read([
        said("Connected to SSH!"),
        said("Launching a source AWS instance..."),
        said("Terminating the source AWS instance...", "message"),
    ])  # fmt: skip

    assert heard.progress.events[-1] == "phase install on the instance"


@pytest.mark.parametrize(
    ("lines", "failed"),
    [
        (["Launching a source AWS instance..."], "launch the instance"),
        (["Launching a source AWS instance...", "Connected to SSH!"], "install on the instance"),
        (["Connected to SSH!", "Stopping the source instance..."], "stop the instance"),
    ],
)
def test_phase_that_was_cut_short_by_the_removal_has_failed(lines: list[str], failed: str) -> None:
    heard = Heard().read([*map(said, lines), said("Terminating the source AWS instance...")])
    heard.read([r"9,,ui,say,\n==> Wait completed after 9 seconds"]).output.close(is_well=False)

    marked = [event for event in heard.progress.events if event.endswith("failed")]
    assert [event.split(" ", 2)[2].rsplit(" ", 2)[0] for event in marked] == [failed]
    assert heard.progress.events[-1].startswith("phase end remove the instance")


def test_image_that_was_refused_has_failed() -> None:
    heard = Heard().read([
        said("Creating AMI x from instance i-1"),
        error("Error creating AMI: refused"),
        said("Terminating the source AWS instance..."),
    ])  # fmt: skip

    assert "phase end make the image 2 failed" in heard.progress.events
    assert heard.output.reason == "Error creating AMI: refused"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([error("a.sh: error: no GPU"), error("a.sh: error: second")], "a.sh: error: no GPU"),
        (
            [
                said("Provisioning with shell script: a.sh"),
                error("warning: cache refused, an error of no matter"),
                said("Provisioning with shell script: b.sh"),
                error("script_1.sh: checksum mismatch"),
            ],
            "b.sh: checksum mismatch",
        ),
        (
            [error("curl: (22) The requested URL returned error: 404"), error("a.sh: error: it cannot be downloaded")],
            "a.sh: error: it cannot be downloaded",
        ),
        ([r"1,,ui,error,Error: Unset variable\n\nA used variable must be set"], "Error: Unset variable"),
        (
            [r"1,,ui,error,Error: 1 error(s) occurred:\n\n* spot_tags should not be set\n\n  on a.pkr.hcl line 14:"],
            "spot_tags should not be set",
        ),
        (["1,x,error,Script exited with status 1"], "Script exited with status 1"),
        (["1,,ui,error,Build 'x' errored after 4 s: no.", "1,x,error,no"], "no"),
        (
            [r"1,,ui,say,\n==> Wait", "1,,ui,say,Cleanly cancelled builds after being interrupted."],
            "it was interrupted",
        ),
        ([said("Setting up libgpg-error (1.46) and libxml-error-perl", "message")], ""),
        ([error("gpg: Warning: using insecure memory!")], ""),
    ],
    ids=[
        "first",
        "not of an earlier script",
        "the script's own sentence",
        "template",
        "list",
        "record",
        "last word",
        "interrupted",
        "stdout",
        "harmless",
    ],
)
def test_reason_is_what_was_said_first_by_what_failed(lines: list[str], reason: str) -> None:
    assert Heard().read(lines).output.reason == reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("panic: runtime error: index out of range", "panic: runtime error: index out of range"),
        ("!!!!!!!! PACKER CRASH !!!!!!!", "!!!!!!!! PACKER CRASH !!!!!!!"),
        ("1,amazon-ebs.gpu,error,unexpected EOF", "its plugin is gone (unexpected EOF)"),
        ("1,amazon-ebs.gpu,error,connection is shut down", "its plugin is gone (connection is shut down)"),
    ],
)
def test_crash_of_packer_or_of_its_plugin_is_recognised(line: str, reason: str) -> None:
    heard = Heard().read([error("a harmless error"), line] if "gpu" in line else [line])

    assert heard.output.crashed
    assert heard.output.reason == reason


def test_failed_script_is_no_crash() -> None:
    assert not Heard().read([error("panic: of a script"), "1,x,error,Script exited: 1"]).output.crashed


def test_end_is_heard() -> None:
    assert not Heard().read(BAKE_1_6_6[:20]).output.ended
    assert Heard().read(BAKE_1_6_6).output.ended


def test_hundred_thousand_lines_take_less_than_a_second() -> None:
    lines = (BAKE_1_6_6 * (20_000 // len(BAKE_1_6_6) + 1))[:20_000]
    heard = Heard()

    begin = time.process_time()
    heard.read(lines)

    assert time.process_time() - begin < 0.2 * 2  # twice the time that is asked for: machines differ
