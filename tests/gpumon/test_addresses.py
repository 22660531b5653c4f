from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumon.addresses import Address, parse_listen
from gpumon.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":9400", Address("", 9400)),
        ("127.0.0.1:9400", Address("127.0.0.1", 9400)),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),
        ("[::1]:9400", Address("::1", 9400)),
        ("localhost:9400", Address("localhost", 9400)),
        ("gpu-1.example:9400", Address("gpu-1.example", 9400)),
        ("[fe80::1%eth0]:65535", Address("fe80::1%eth0", 65535)),
    ],
)
def test_addresses_are_read(text: str, address: Address) -> None:
    assert parse_listen(text) == address


@given(st.text(st.sampled_from("0123456789:.[]a٣ \n%")) | st.text())
def test_text_is_an_address_or_a_wrong_setting(text: str) -> None:
    try:
        address = parse_listen(text)
    except SettingsError as error:
        assert str(error).startswith("Set prometheus_listen in the settings to")  # noqa: PT017 - both outcomes are right
    else:
        assert text.isascii() or "%" in text
        assert 0 <= address.port <= 65535
