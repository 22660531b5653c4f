from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
import tomllib
from hypothesis import given
from hypothesis import strategies as st

from gpumon import settings as settings_module
from gpumon.errors import SettingsError
from gpumon.settings import DEFAULT_FILE, Settings, load_settings

KEYS = [field.name for field in dataclasses.fields(Settings)]


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "gpumon.toml"
    file.write_text(text)
    return file


def test_defaults_hold_where_nothing_is_set() -> None:
    settings = load_settings({}).settings

    assert (settings.namespace, settings.sample_seconds, settings.publish_seconds) == ("GPU", 1.0, 60)
    assert settings.metadata_endpoint == "http://169.254.169.254"


def test_every_setting_has_a_default_and_nothing_else_does() -> None:
    assert sorted(tomllib.loads(DEFAULT_FILE.read_text())) == sorted(KEYS)


def test_the_environment_wins_over_the_file_which_wins_over_the_defaults(tmp_path: Path) -> None:
    file = write(tmp_path, 'namespace = "File"\nsample_seconds = 2\n')

    loaded = load_settings({"GPUMON_NAMESPACE": "Env"}, file)

    assert (loaded.settings.namespace, loaded.settings.sample_seconds) == ("Env", 2.0)
    assert loaded.origins["namespace"] == "environment GPUMON_NAMESPACE"
    assert loaded.origins["sample_seconds"] == str(file)
    assert loaded.origins["publish_seconds"] == "default"


def test_region_and_metadata_endpoint_fall_back_to_the_variables_of_the_aws_clients() -> None:
    environment = {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"}

    loaded = load_settings(environment)

    assert (loaded.settings.region, loaded.settings.metadata_endpoint) == ("eu-west-1", "http://127.0.0.1:1")
    assert loaded.origins["region"] == "environment AWS_DEFAULT_REGION"
    assert load_settings({**environment, "GPUMON_REGION": "us-east-1"}).settings.region == "us-east-1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sample_second = 1\n", "'sample_second' .* nearest one is 'sample_seconds'"),
        ("[sampling]\nseconds = 1\n", "unknown setting 'sampling'"),
        ("publish_seconds = 1.5\n", "publish_seconds .* type int: 1.5 is of type float"),
        ("publish_seconds = true\n", "publish_seconds .* of type bool"),
        ("sample_seconds = 0\n", "sample_seconds .* between 0.1 and 60: it is 0"),
        ("sample_seconds = nan\n", "sample_seconds .* between 0.1 and 60"),
        (f"sample_seconds = {10**400}\n", "sample_seconds .* between 0.1 and 60"),
        (f"publish_seconds = {10**400}\n", "publish_seconds .* between 1 and 3600: it is huge"),
        ("publish_seconds = 1" + "0" * 5000 + "\n", "Repair the settings file"),
        ("region = " + "[" * 5000 + "\n", "Repair the settings file"),
        ('namespace = "AWS/GPU"\n', "namespace .* one of your own"),
        ('namespace = "AWS GPU"\n', "namespace .* 1 to 255 letters"),
        ('log_level = "loud"\n', "log_level .* one of debug"),
        ('metadata_endpoint = "file:///etc"\n', "metadata_endpoint .* http://"),
        ("sample_seconds = \n", "Repair the settings file .* line 1"),
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
    ],
)
def test_a_wrong_variable_is_an_error_that_names_it(variable: str, value: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load_settings({variable: value})


def test_a_file_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Repair the settings file"):
        load_settings({}, tmp_path / "none.toml")


def test_the_system_file_is_read_if_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_module, "SYSTEM_FILE", write(tmp_path, "queue_periods = 3\n"))

    assert load_settings({}).settings.queue_periods == 3


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
    loaded = load_settings({"GPUMON_REGION": 'a"b\\c\n\u0001é\U0001f600'})

    shown = loaded.as_toml()

    assert load_settings({}, write(tmp_path, shown)).settings == loaded.settings
    assert "# environment GPUMON_REGION\n" in shown


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2)


@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=20), scalars, max_size=5))
def test_no_value_whatever_passes_unchecked_or_ends_in_another_error(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    lines = "".join(f"{_toml(key)} = {_toml(value)}\n" for key, value in values.items() if value is not None)
    file = tmp_path_factory.mktemp("fuzz") / "gpumon.toml"
    file.write_text(lines, encoding="utf-8", errors="replace")
    try:
        settings = load_settings({}, file).settings
    except SettingsError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert str(file) in message
        return
    assert 0.1 <= settings.sample_seconds <= 60
    assert type(settings.publish_seconds) is int
    assert set(values) <= set(KEYS) | {key for key, value in values.items() if value is None}


@given(st.dictionaries(st.sampled_from([f"GPUMON_{key.upper()}" for key in KEYS]), st.text(), max_size=4))
def test_no_environment_ends_in_another_error(environment: dict[str, str]) -> None:
    try:
        settings: Settings | None = load_settings(environment).settings
    except SettingsError as error:
        settings, message = None, str(error)
    if settings is None:
        assert "GPUMON_" in message
    else:
        assert settings.log_level in settings_module.LOG_LEVELS


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" for c in value if not 0xD800 <= ord(c) < 0xE000) + '"'
    return repr(value)
