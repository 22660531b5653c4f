"""CopyImage as EC2 does it: once for each token, with tags from the start, pending for a while, and maybe failed.

moto copies at once, without tags, tokens and encryption; what is said here is laid over its answers. A copy fails where
its snapshots cannot be encrypted with the key that was asked for: EC2 looks at the key after it has answered.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree.ElementTree import Element

from localaws.ec2_query import Form, ask, element, is_true, parsed, refusal, success, text, with_body
from localaws.image_lifecycle import wanted_states
from localaws.regions import region_of
from localaws.wsgi import Answer, WSGIApp, call

COPY_SECONDS = 1.0
DEFAULT_KEY = "alias/aws/ebs"
_VERSION = "2016-11-15"
_TAGGED = ("image", "snapshot")


@dataclass(frozen=True)
class _Copy:
    """What is known of a copy beside moto's record.

    Attributes:
        source_id: the image that it was made of.
        source_region: where that is.
        ready_at: UTC; it is pending until then.
        failure: why it is failed then; empty where it becomes available.
        key_arn: that its snapshots are encrypted with; empty where they are not.
    """

    source_id: str
    source_region: str
    ready_at: datetime
    failure: str = ""
    key_arn: str = ""

    def state(self, now: datetime) -> str:
        """As DescribeImages has it."""
        if now < self.ready_at:
            return "pending"
        return "failed" if self.failure else "available"


class ImageCopies:
    """Answers CopyImage in place of moto, and lays what copies are over the descriptions of images and snapshots.

    Args:
        moto: the application that knows images, snapshots and keys.
        images: answers the calls on images that somebody else lays something over; None for those of moto alone.
        clock: UTC.
    """

    def __init__(
        self,
        moto: WSGIApp,
        images: Callable[[dict[str, Any], Form], Answer | None],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._moto = moto
        self._images = images
        self._clock = clock
        self._lock = threading.Lock()
        self._copies: dict[str, _Copy] = {}
        self._keys: dict[str, str] = {}  # snapshot -> key
        self._tokens: dict[tuple[str, str], tuple[Form, str]] = {}
        self._default_keys: dict[str, str] = {}  # region -> key
        self._serves: Mapping[str, Callable[[dict[str, Any], Form], Answer | None]] = {
            "CopyImage": self._copy,
            "DescribeImages": self._describe_images,
            "DescribeSnapshots": self._describe_snapshots,
            "GetEbsDefaultKmsKeyId": self._default_key,
            "ModifyEbsDefaultKmsKeyId": self._choose_default_key,
            "RunInstances": self._refuse_launch,
        }

    def answer(self, environ: dict[str, Any], form: Form) -> Answer | None:
        """The answer to a call that concerns copies; None where others have all that it takes.

        Args:
            environ: of the request (PEP 3333).
            form: its parameters.
        """
        serve = self._serves.get(form.get("Action", ""))
        return serve(environ, form) if serve else None

    def _copy(self, environ: dict[str, Any], form: Form) -> Answer:
        token = (region_of(environ), form.get("ClientToken", ""))
        with self._lock:
            asked, made = self._tokens.get(token, (form, "")) if token[1] else (form, "")
            if asked != form:
                return refusal("IdempotentParameterMismatch", "The same ClientToken was used with other parameters.")
            if made:
                return success("CopyImage", text("imageId", made))
            if any(kind not in _TAGGED for kind in _tagged_kinds(form)):
                return refusal("InvalidParameterValue", "TagSpecifications of CopyImage are of image or snapshot.")
            answer = ask(self._moto, environ, form)
            if not answer.is_success:
                return answer
            image_id = parsed(answer).findtext("imageId", "")
            self._tokens[token] = (dict(form), image_id)
            self._remember(environ, form, image_id)
        return answer

    def _remember(self, environ: dict[str, Any], form: Form, image_id: str) -> None:
        source_id, source_region = form["SourceImageId"], form["SourceRegion"]
        snapshots = self._snapshots(environ, image_id)
        there = _in_region(environ, source_region)
        is_encrypted = any(snapshot in self._keys for snapshot in self._snapshots(there, source_id))
        failure = key_arn = ""
        if is_encrypted or is_true(form, "Encrypted"):
            key_id = form.get("KmsKeyId") or self._default_keys.get(region_of(environ), DEFAULT_KEY)
            key_arn = self._usable_key(environ, key_id)
            failure = "" if key_arn else f"Client.InvalidKMSKey: The key {key_id} is not accessible."
        ready_at = self._clock() + timedelta(seconds=COPY_SECONDS)
        self._copies[image_id] = _Copy(source_id, source_region, ready_at, failure, key_arn)
        if key_arn:
            self._keys.update(dict.fromkeys(snapshots, key_arn))
        self._tag(environ, form, {"image": [image_id], "snapshot": snapshots}, self._copied_tags(there, form))

    def _copied_tags(self, there: dict[str, Any], form: Form) -> dict[str, str]:
        if not is_true(form, "CopyImageTags"):
            return {}
        root = parsed(ask(self._moto, there, _describing(form["SourceImageId"])))
        found = {
            tag.findtext("key", ""): tag.findtext("value", "") for tag in root.findall("imagesSet/item/tagSet/item")
        }
        return {key: value for key, value in found.items() if not key.startswith("aws:")}

    def _tag(
        self, environ: dict[str, Any], form: Form, resources: Mapping[str, list[str]], copied: Mapping[str, str]
    ) -> None:
        wanted = {"image": dict(copied), "snapshot": {}}
        for number, kind in enumerate(_tagged_kinds(form), 1):
            prefix, place = f"TagSpecification.{number}.Tag", 1
            while f"{prefix}.{place}.Key" in form:
                wanted[kind][form[f"{prefix}.{place}.Key"]] = form.get(f"{prefix}.{place}.Value", "")
                place += 1
        for kind, tags in wanted.items():
            if tags and resources[kind]:
                asked = {"Action": "CreateTags", "Version": _VERSION}
                asked |= {f"ResourceId.{number}": each for number, each in enumerate(resources[kind], 1)}
                for number, (key, value) in enumerate(tags.items(), 1):
                    asked |= {f"Tag.{number}.Key": key, f"Tag.{number}.Value": value}
                ask(self._moto, environ, asked)

    def _describe_images(self, environ: dict[str, Any], form: Form) -> Answer | None:
        answer = self._images(environ, form)
        if answer is None or not answer.is_success or not self._copies:
            return answer
        root, states = parsed(answer), wanted_states(form)
        images = root.find("imagesSet")
        for item in root.findall("imagesSet/item"):
            copy = self._copies.get(item.findtext("imageId", ""))
            if copy is None or images is None:
                continue
            _lay_over(item, copy, self._clock())
            if states and item.findtext("imageState") not in states:
                images.remove(item)
        return with_body(answer, root)

    def _describe_snapshots(self, environ: dict[str, Any], form: Form) -> Answer | None:
        answer = ask(self._moto, environ, form)
        if not answer.is_success or not self._keys:
            return answer
        root = parsed(answer)
        for item in root.findall("snapshotSet/item"):
            if key_arn := self._keys.get(item.findtext("snapshotId", "")):
                encrypted = item.find("encrypted")
                if encrypted is not None:
                    encrypted.text = "true"
                item.append(text("kmsKeyId", key_arn))
        return with_body(answer, root)

    def _refuse_launch(self, _environ: dict[str, Any], form: Form) -> Answer | None:
        """An image that is not there yet, or failed, cannot be launched."""
        copy = self._copies.get(form.get("ImageId", ""))
        if copy is None or (state := copy.state(self._clock())) == "available":
            return None
        return refusal("InvalidAMIID.Unavailable", f"The image id '[{form['ImageId']}]' is {state}")

    def _default_key(self, environ: dict[str, Any], _form: Form) -> Answer:
        key_id = self._default_keys.get(region_of(environ), DEFAULT_KEY)
        return success("GetEbsDefaultKmsKeyId", text("kmsKeyId", key_id))

    def _choose_default_key(self, environ: dict[str, Any], form: Form) -> Answer:
        answer = ask(self._moto, environ, form)
        if answer.is_success:
            self._default_keys[region_of(environ)] = parsed(answer).findtext("kmsKeyId", "")
        return answer

    def _usable_key(self, environ: Mapping[str, Any], key_id: str) -> str:
        """The key's ARN; empty where nobody could encrypt with it."""
        as_kms = {
            **environ,
            "HTTP_X_AMZ_TARGET": "TrentService.DescribeKey",
            "HTTP_AUTHORIZATION": environ.get("HTTP_AUTHORIZATION", "").replace("/ec2/", "/kms/"),
            "CONTENT_TYPE": "application/x-amz-json-1.1",
        }
        found = call(self._moto, as_kms, json.dumps({"KeyId": key_id}).encode())
        key = json.loads(found.body)["KeyMetadata"] if found.is_success else {}
        return str(key["Arn"]) if key.get("KeyState") == "Enabled" else ""

    def _snapshots(self, environ: dict[str, Any], image_id: str) -> list[str]:
        root = parsed(ask(self._moto, environ, _describing(image_id)))
        return [found.text or "" for item in root.findall("imagesSet/item") for found in item.iter("snapshotId")]


def _lay_over(item: Element, copy: _Copy, now: datetime) -> None:
    """Put into an image's element what moto does not know of a copy; a disabled one stays so."""
    item.append(text("sourceImageId", copy.source_id))
    item.append(text("sourceImageRegion", copy.source_region))
    state = item.find("imageState")
    now_is = copy.state(now)
    if state is None or now_is == "available":
        return
    state.text = now_is
    if now_is == "failed":
        code, _, message = copy.failure.partition(": ")
        item.append(element("stateReason", text("code", code), text("message", message)))


def _tagged_kinds(form: Form) -> list[str]:
    kinds: list[str] = []
    while (kind := form.get(f"TagSpecification.{len(kinds) + 1}.ResourceType")) is not None:
        kinds.append(kind)
    return kinds


def _describing(image_id: str) -> dict[str, str]:
    return {"Action": "DescribeImages", "Version": _VERSION, "ImageId.1": image_id}


def _in_region(environ: dict[str, Any], region: str) -> dict[str, Any]:
    """The same request, signed for another region."""
    signed = environ.get("HTTP_AUTHORIZATION", "").replace(f"/{region_of(environ)}/ec2/", f"/{region}/ec2/")
    return {**environ, "HTTP_AUTHORIZATION": signed}
