from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import pytest
import tomllib
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gpumon import settings as settings_module
from gpumon.errors import SettingsError
from gpumon.settings import DEFAULT_FILE, Settings, load_settings
from gpumon.settings_values import LOG_LEVELS, checked

KEYS = [field.name for field in dataclasses.fields(Settings)]


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "gpumon.toml"
    file.write_text(text)
    return file


def test_defaults_hold_where_nothing_is_set() -> None:
    settings = load_settings({}).settings

    assert (settings.namespace, settings.sample_seconds, settings.publish_seconds) == ("GPU", 1.0, 60)
    assert settings.metadata_endpoint == "http://169.254.169.254"
    assert (settings.slow_seconds, settings.wedged_seconds, settings.spool_megabytes) == (60.0, 30.0, 64)
    assert (settings.cloudwatch, settings.prometheus, settings.json_lines) == (True, True, False)
    assert settings.cloudwatch_tiers == settings.json_lines_tiers == ("core", "health")
    assert settings.prometheus_tiers == ("core", "health", "extended")
    assert (settings.prometheus_listen, settings.job_labels, settings.kernel_log) == (":9400", "info", "/dev/kmsg")
    assert (settings.state_directory, settings.runtime_directory, settings.process_memory) == ("", "", False)


def test_every_setting_has_a_default_and_nothing_else_does() -> None:
    assert sorted(tomllib.loads(DEFAULT_FILE.read_text())) == sorted(KEYS)


def test_the_environment_wins_over_the_file_which_wins_over_the_defaults(tmp_path: Path) -> None:
    file = write(tmp_path, 'namespace = "File"\nsample_seconds = 2\n')

    loaded = load_settings({"GPUMON_NAMESPACE": "Env"}, file)

    assert (loaded.settings.namespace, loaded.settings.sample_seconds) == ("Env", 2.0)
    assert loaded.origins["namespace"] == "environment GPUMON_NAMESPACE"
    assert loaded.origins["sample_seconds"] == f"{file}, line 2"
    assert loaded.origins["publish_seconds"] == "default"


def test_region_and_metadata_endpoint_fall_back_to_the_variables_of_the_aws_clients() -> None:
    environment = {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"}

    loaded = load_settings(environment)

    assert (loaded.settings.region, loaded.settings.metadata_endpoint) == ("eu-west-1", "http://127.0.0.1:1")
    assert loaded.origins["region"] == "environment AWS_DEFAULT_REGION"
    assert load_settings({**environment, "GPUMON_REGION": "us-east-1"}).settings.region == "us-east-1"


def test_directories_fall_back_to_those_that_systemd_makes() -> None:
    environment = {"STATE_DIRECTORY": "/var/lib/gpumon:/var/lib/other", "RUNTIME_DIRECTORY": "/run/gpumon"}

    settings = load_settings(environment).settings

    assert (settings.state_directory, settings.runtime_directory) == ("/var/lib/gpumon", "/run/gpumon")
    assert load_settings({**environment, "GPUMON_STATE_DIRECTORY": "/x"}).settings.state_directory == "/x"
    empty = load_settings({**environment, "GPUMON_STATE_DIRECTORY": ""}).settings
    assert empty.state_directory == "/var/lib/gpumon"


def test_the_environment_gives_flags_lists_and_numbers() -> None:
    environment = {
        "GPUMON_PROMETHEUS": "false",
        "GPUMON_JSON_LINES": "true",
        "GPUMON_CLOUDWATCH_TIERS": "core, legacy,core",
        "GPUMON_SLOW_SECONDS": "5",
        "GPUMON_SPOOL_MEGABYTES": "8",
        "GPUMON_KERNEL_LOG": "",
    }

    settings = load_settings(environment).settings

    assert (settings.prometheus, settings.json_lines, settings.kernel_log) == (False, True, "")
    assert (settings.cloudwatch_tiers, settings.slow_seconds, settings.spool_megabytes) == (("core", "legacy"), 5.0, 8)


def test_boto3_is_told_of_the_metadata_endpoint() -> None:
    settings = load_settings({"GPUMON_METADATA_ENDPOINT": "http://198.51.100.1"}).settings

    assert settings.aws_environment() == {
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://198.51.100.1",
        "AWS_EC2_METADATA_V1_DISABLED": "true",
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sample_second = 1\n", "'sample_second' .* nearest one is 'sample_seconds'"),
        ("# x\n[sampling]\nseconds = 1\n", r"line 2 without the section \[sampling\]: every setting is a plain key"),
        ('[cloudwatch]\ntiers = ["core"]\n', r"\[cloudwatch\]: write cloudwatch_tiers = ... instead"),
        ("[[cloudwatch]]\nnamespace = 1\n", r"line 1 without the section \[cloudwatch\]"),
        ("cloudwatch.tiers = 1\n", r"line 1 without the section \[cloudwatch\]: write cloudwatch_tiers"),
        ("queue_periods = 3\n", "Replace queue_periods in .*, line 1 by spool_megabytes"),
        ('cloudwatch = "yes"\n', "cloudwatch .*, line 1 true or false: 'yes' is of type str"),
        ('cloudwatch_tiers = "core"\n', "cloudwatch_tiers .* a list of texts: 'core' is of type str"),
        ('cloudwatch_tiers = ["core", "all"]\n', "cloudwatch_tiers .* from core, health, extended, legacy: 'all'"),
        ('prometheus_tiers = ["legacy"]\n', "prometheus_tiers .* from core, health, extended: 'legacy'"),
        ("prometheus_tiers = []\n", "at least one tier for prometheus_tiers .* prometheus = false"),
        ('prometheus_listen = "9400"\n', "prometheus_listen in .*, line 1 to :9400"),
        ('prometheus_listen = ":70000"\n', "prometheus_listen in .*, line 1 to :9400.*: it is ':70000'"),
        ('job_labels = "both"\n', "job_labels .* one of info, label: it is 'both'"),
        ('state_directory = "spool"\n', "state_directory .* a path that begins with /"),
        ('xid_table = "/x\\u0000"\n', "Remove what cannot be printed from xid_table"),
        ('region = "mars base"\n', "region .* the name of a Region"),
        ("spool_megabytes = 0\n", "spool_megabytes .* between 1 and 1024: it is 0"),
        ("slow_seconds = 0.5\n", "slow_seconds .* between 1 and 3600"),
        ("wedged_seconds = 4\n", "wedged_seconds .* between 5 and 600"),
        ("namespace = 0x" + "f" * 1900 + "\n", "namespace .*type str.*huge is of type int"),
        ("namespace = [0x" + "f" * 1900 + "]\n", "namespace .* of type list"),
        ("a." * 1500 + "b = 1\n", "line 1 has more than 2000 characters"),
        ("# x\n" * 20000, "larger than 64 KiB"),
        ("publish_seconds = 1.5\n", "publish_seconds .* type int: 1.5 is of type float"),
        ("publish_seconds = true\n", "publish_seconds .* of type bool"),
        ("sample_seconds = 0\n", "sample_seconds .* between 0.1 and 60: it is 0"),
        ("sample_seconds = nan\n", "sample_seconds .* between 0.1 and 60"),
        (f"sample_seconds = {10**400}\n", "sample_seconds .* between 0.1 and 60"),
        (f"publish_seconds = {10**1900}\n", "publish_seconds .* between 1 and 3600: it is huge"),
        ("region = " + "[" * 1900 + "\n", "Repair the settings file"),
        ('namespace = "AWS/GPU"\n', "namespace .* one of your own"),
        ('namespace = "AWS GPU"\n', "namespace .* 1 to 255 letters"),
        ('log_level = "loud"\n', "log_level .* one of debug"),
        ('metadata_endpoint = "file:///etc"\n', "metadata_endpoint .* http://"),
        ("\nsample_seconds = \n", r"Repair the settings file .*line 2, column"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_the_key(tmp_path: Path, text: str, words: str) -> None:
    file = write(tmp_path, text)

    with pytest.raises(SettingsError, match=words) as caught:
        load_settings({}, file)

    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("GPUMON_SAMPLE_SECOND", "1", "nearest one is 'sample_seconds'"),
        ("GPUMON_PUBLISH_SECONDS", "often", "Set GPUMON_PUBLISH_SECONDS to a value of type int: 'often'"),
        ("GPUMON_SAMPLE_SECONDS", "1000", "sample_seconds in GPUMON_SAMPLE_SECONDS between"),
        ("GPUMON_CLOUDWATCH", "yes", "Set GPUMON_CLOUDWATCH to true or false: it is 'yes'"),
        ("GPUMON_CLOUDWATCH_TIERS", "core,all", "cloudwatch_tiers in GPUMON_CLOUDWATCH_TIERS from .*'all'"),
        ("GPUMON_STATE_DIRECTORY", "/\udc80", "Remove what cannot be printed from state_directory"),
        ("STATE_DIRECTORY", "here", "state_directory in STATE_DIRECTORY"),
        ("GPUMON_QUEUE_PERIODS", "60", "Replace queue_periods .*GPUMON_QUEUE_PERIODS.* by spool_megabytes"),
    ],
)
def test_a_wrong_variable_is_an_error_that_names_it(variable: str, value: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load_settings({variable: value})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("sample_seconds = 0\n", 1),
        ("# sample_seconds = 1\n\n  sample_seconds = 0", 3),
        ('namespace = "a"\n"sample_seconds" = 0\n', 2),
        ("namespace = 'a'\n'sample_seconds'= 0\n", 2),
        ('namespace = "a"\r\n"sample\\u005fseconds" = 0\r\n', 2),
        ('xid_table = """/x\\\nsample_seconds = 1"""\nsample_seconds = 0\n', 3),
        ('cloudwatch_tiers = [\n"core",\n]\nsample_seconds = 0\n', 4),
    ],
)
def test_an_error_names_the_line_of_its_key(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(SettingsError, match=f", line {line} between"):
        load_settings({}, write(tmp_path, text))


def test_a_file_in_another_encoding_is_named_with_the_line(tmp_path: Path) -> None:
    file = tmp_path / "gpumon.toml"
    file.write_bytes(b'region = ""\nnamespace = "\xe9"\n')

    with pytest.raises(SettingsError, match="line 2 is not in UTF-8"):
        load_settings({}, file)


def test_a_file_that_would_never_end_is_not_read() -> None:
    with pytest.raises(SettingsError, match="not a regular file"):
        load_settings({}, Path("/dev/zero"))


def test_a_file_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Repair the settings file"):
        load_settings({}, tmp_path / "none.toml")


def test_the_system_file_is_read_if_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_module, "SYSTEM_FILE", write(tmp_path, "spool_megabytes = 3\n"))

    assert load_settings({}).settings.spool_megabytes == 3


def test_a_system_file_that_may_not_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "gpumon"
    closed.mkdir(mode=0)
    monkeypatch.setattr(settings_module, "SYSTEM_FILE", closed / "gpumon.toml")
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        with pytest.raises(SettingsError, match="Permission denied"):
            load_settings({})
    finally:
        if is_root:
            os.seteuid(0)


def test_show_config_prints_toml_that_loads_to_the_same_settings(tmp_path: Path) -> None:
    variables = {"GPUMON_STATE_DIRECTORY": '/a"b\\c é\U0001f600', "GPUMON_CLOUDWATCH_TIERS": "legacy,core"}
    loaded = load_settings(variables)

    shown = loaded.as_toml()

    assert load_settings({}, write(tmp_path, shown)).settings == loaded.settings
    assert "# environment GPUMON_STATE_DIRECTORY\n" in shown


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(), max_size=2)
FRAGMENTS = [
    *KEYS,
    *(f"{key} = " for key in KEYS),
    "1",
    "true",
    '"core"',
    '["core"]',
    "[",
    "]",
    '"',
    '"""',
    "'",
    "\n",
    ".",
]


def load_or_complain(environment: dict[str, str], file: Path | None) -> Settings | str:
    """Return settings or a message, within a second; anything else is raised."""
    start = time.monotonic()
    try:
        return load_settings(environment, file).settings
    except SettingsError as error:
        return str(error)
    finally:
        assert time.monotonic() - start < 5


@hypothesis_settings(deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=20), scalars, max_size=5))
def test_no_value_whatever_passes_unchecked_or_ends_in_another_error(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    lines = "".join(f"{_toml(key)} = {_toml(value)}\n" for key, value in values.items() if value is not None)
    file = tmp_path_factory.getbasetemp() / "fuzz.toml"
    file.write_text(lines, encoding="utf-8", errors="replace")

    answer = load_or_complain({}, file)

    if isinstance(answer, str):
        assert str(file) in answer
        assert "\n" not in answer
        return
    assert 0.1 <= answer.sample_seconds <= 60
    assert type(answer.publish_seconds) is int
    assert set(values) <= set(KEYS) | {key for key, value in values.items() if value is None}


@hypothesis_settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=300) | st.lists(st.sampled_from(FRAGMENTS), max_size=20).map(lambda some: "".join(some).encode())
)
def test_no_bytes_as_the_file_end_in_another_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "bytes.toml"
    file.write_bytes(content)

    answer = load_or_complain({}, file)

    assert isinstance(answer, Settings) or str(file) in answer


@pytest.mark.parametrize(
    "text",
    [
        ("a." * 990 + "b = 1\n") * 33,
        'x = """\n' + "namespace = 1\n" * 4600,
        'x = """\n' + "namespace = 1\n" * 4600 + '"""\nnamespace = 1\n',
        'xid_table = """/\\\n' + "namespace = 1\\\n" * 4300 + '"""\nnamespace = 1\n',
        "a = {b = " * 200 + "\n",
        "".join(f"[{'a.' * 900}b{number}]\n" for number in range(35)),
    ],
)
def test_no_file_takes_long(tmp_path: Path, text: str) -> None:
    assert isinstance(load_or_complain({}, write(tmp_path, text)), str)


def test_a_number_that_python_refuses_to_write_does_not_end_in_another_error() -> None:
    with pytest.raises(SettingsError, match="something that cannot be shown is of type list"):
        checked("namespace", [10**5000], "x")


variables = st.sampled_from([*(f"GPUMON_{key.upper()}" for key in KEYS), "STATE_DIRECTORY", "AWS_REGION"])


@hypothesis_settings(deadline=None)
@given(st.dictionaries(variables | st.text().map(lambda name: f"GPUMON_{name}"), st.text(st.characters()), max_size=4))
def test_no_environment_ends_in_another_error(environment: dict[str, str]) -> None:
    answer = load_or_complain(environment, DEFAULT_FILE)

    if isinstance(answer, str):
        assert any(name in answer for name in ("GPUMON_", "STATE_DIRECTORY", "AWS_REGION"))
    else:
        assert answer.log_level in LOG_LEVELS


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" for c in value if not 0xD800 <= ord(c) < 0xE000) + '"'
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value)
