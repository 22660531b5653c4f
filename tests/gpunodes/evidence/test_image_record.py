from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpunodes.errors import UsageError
from gpunodes.evidence import image_record
from gpunodes.evidence.image_record import ImageRecord
from gpunodes.operation.steps import Timing
from gpunodes.settings import REPOSITORY
from tests.gpunodes.image_records import RECORD

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
seconds = st.floats(min_value=0, max_value=1e6, allow_nan=False)
timings = st.builds(Timing, text, seconds, st.tuples(st.builds(Timing, text, seconds)))
scalars = (
    st.none() | st.booleans() | text | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
)
st.register_type_strategy(Timing, timings)
records = st.builds(
    ImageRecord,
    **{field.name: text for field in fields(ImageRecord) if field.type == "str"},
    pins=st.dictionaries(text, scalars, max_size=3),
    recipe=st.builds(
        image_record.RecipeRecord,
        fingerprint=text,
        inputs=st.dictionaries(text, scalars, max_size=3),
        git_commit=st.none() | text,
        git_is_dirty=st.none() | st.booleans(),
    ),
    durations=st.builds(
        image_record.Durations,
        steps=st.lists(timings, max_size=2).map(tuple),
        packer_seconds=seconds,
        own_seconds=seconds,
    ),
    cost=st.builds(image_record.CostEstimate, usd=st.none() | seconds, reason=text),
    schema_version=st.just(1),
)


@settings(max_examples=60, deadline=None)
@given(records)
def test_every_record_comes_back_from_its_file_as_it_was(record: ImageRecord) -> None:
    document = json.loads(record.canonical_bytes())

    assert image_record.from_document(document) == record
    assert image_record.from_document(document).canonical_bytes() == record.canonical_bytes()


def test_document_has_its_schema_and_what_people_look_for() -> None:
    document = json.loads(RECORD.canonical_bytes())

    assert document["schema_version"] == 1
    assert document["base"]["image_id"] == "ami-0aaaaaaaaaaaaaaaa"
    assert document["recipe"]["inputs"]["root_volume_size_gib"] == 8
    assert document["durations"]["steps"][1]["phases"] == [{"name": "provision", "seconds": 7.25, "phases": []}]
    assert document["cost"] == {"usd": None, "reason": "nothing costs money offline"}


def test_canonical_bytes_do_not_depend_on_the_order_of_keys() -> None:
    turned = replace(RECORD, pins={name: RECORD.pins[name] for name in sorted(RECORD.pins)})

    assert turned.canonical_bytes() == RECORD.canonical_bytes()
    assert replace(RECORD, notes=()).canonical_bytes() != RECORD.canonical_bytes()


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_jq_writes_the_same_bytes() -> None:
    record = replace(RECORD, notes=("Größe <&> \u2028",))

    done = subprocess.run(["jq", "-S", "."], input=record.canonical_bytes(), capture_output=True, check=True)

    assert json.loads(done.stdout) == json.loads(record.canonical_bytes())


def test_figure_that_json_does_not_have_is_not_written() -> None:
    record = replace(RECORD, cost=image_record.CostEstimate(float("nan"), "a slip"))

    with pytest.raises(ValueError, match="not JSON compliant"):
        record.canonical_bytes()


def test_field_that_a_later_version_added_is_left_aside() -> None:
    assert image_record.from_document(RECORD.to_document() | {"waivers": []}) == RECORD


@pytest.mark.parametrize("field", [field.name for field in fields(ImageRecord) if field.name != "schema_version"])
def test_field_that_is_missing_is_named(field: str) -> None:
    document = json.loads(RECORD.canonical_bytes())
    del document[field]

    with pytest.raises(UsageError, match=rf"^image\.json is damaged \(.*`{field}`.*\); restore it"):
        image_record.from_document(document)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"ami_id": 5}, r"is damaged \(Expected `str`, got `int` - at `\$\.ami_id`\); restore it from a copy, or bake"),
        ({"wheels": [{"file": "a.whl"}]}, r"is damaged \(.*`sha256` - at `\$\.wheels\[0\]`\)"),
        ({"durations": {"steps": [], "packer_seconds": "1", "own_seconds": 1}}, r"damaged \(.*packer_seconds"),
        ({"schema_version": None}, "gpunodes that had no such record yet; bake the image again"),
        ({"schema_version": 2}, "has schema 2 and this checkout reads 1; take the other checkout"),
        ({"schema_version": "one"}, r"damaged \(.*schema_version"),
        ({"schema_version": 0}, "has schema 0"),
    ],
)
def test_damaged_document_is_a_usage_error(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        image_record.from_document(RECORD.to_document() | changes)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff"])
def test_file_that_holds_no_record_is_a_usage_error_of_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "image.json"
    path.write_bytes(content)

    with pytest.raises(UsageError) as caught:
        image_record.read(path)

    assert str(caught.value).startswith(f"{path} is damaged (")
    assert str(caught.value).endswith("; restore it from a copy, or bake the image again.")
    assert "\n" not in str(caught.value)


def test_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        image_record.read(tmp_path)


def test_record_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "image.json"
    path.write_bytes(RECORD.canonical_bytes())

    assert image_record.read(path) == RECORD
    assert image_record.sha256_of(path) == hashlib.sha256(RECORD.canonical_bytes()).hexdigest()


def test_what_the_api_lacks_is_told_once_even_where_it_is_a_note_too() -> None:
    record = replace(RECORD, notes=("a", "b"), seal=image_record.Seal(missing=("b", "c")))

    assert record.to_know == ["a", "b", "c"]


def test_every_field_is_described_in_the_document_about_evidence() -> None:
    text = (REPOSITORY / "docs" / "evidence.md").read_text()

    assert [field.name for field in fields(ImageRecord) if f"`{field.name}`" not in text] == []
