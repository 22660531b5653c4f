"""What moto lacks of an image's life: deprecated, disabled, protected, and gone with its snapshots.

moto's own record of an image is left alone; what is said here is laid over its answers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree.ElementTree import Element

from localaws.ec2_query import Form, ask, element, is_true, listed, paged, parsed, refusal, success, text, with_body
from localaws.wsgi import Answer, WSGIApp

_COOLDOWN = timedelta(hours=24)
_LONGEST_DEPRECATION = timedelta(days=3653)
_VERSION = "2016-11-15"


@dataclass(frozen=True)
class _Extra:
    """What is known of an image beside moto's record.

    Attributes:
        deprecated_at: UTC; None for never.
        is_disabled: nothing can be launched from it.
        is_protected: it cannot be deregistered.
        has_cooldown: it stays protected for a day after the protection was turned off.
        protected_until: UTC, that day's end; None while nobody turned it off.
        imds_support: `v2.0` where instances of it demand session tokens by default.
    """

    deprecated_at: datetime | None = None
    is_disabled: bool = False
    is_protected: bool = False
    has_cooldown: bool = False
    protected_until: datetime | None = None
    imds_support: str = ""


class ImageLifecycle:
    """Answers EC2 calls on the life of images, in place of moto or on top of its answer.

    Args:
        moto: the application that knows the images.
        clock: UTC.
    """

    def __init__(self, moto: WSGIApp, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._moto = moto
        self._clock = clock
        self._lock = threading.Lock()
        self._extras: dict[str, _Extra] = {}
        self._serves: Mapping[str, Callable[[dict[str, Any], Form], Answer]] = {
            "DescribeImages": self._describe,
            "DeregisterImage": self._deregister,
            "EnableImageDeprecation": self._deprecate,
            "DisableImageDeprecation": lambda _, form: self._change(form, deprecated_at=None),
            "DisableImage": self._disable,
            "EnableImage": lambda _, form: self._change(form, is_disabled=False),
            "EnableImageDeregistrationProtection": self._protect,
            "DisableImageDeregistrationProtection": self._unprotect,
            "ModifyImageAttribute": self._modify,
        }

    def answer(self, environ: dict[str, Any], form: Form) -> Answer | None:
        """The answer to a call on the life of images; None where moto has all that it takes.

        Args:
            environ: of the request (PEP 3333).
            form: its parameters.
        """
        action, image_id = form.get("Action", ""), form.get("ImageId", "")
        if action == "RunInstances" and self._extra(image_id).is_disabled:
            return refusal("InvalidAMIID.Unavailable", f"The image id '[{image_id}]' is no longer available")
        serve = self._serves.get(action)
        if serve is None:
            return None
        if action == "DescribeImages":
            return serve(environ, form)
        found = ask(self._moto, environ, _describing(form, image_id))
        return serve(environ, form) if found.is_success and _items(parsed(found)) else _unknown(image_id)

    def _describe(self, environ: dict[str, Any], form: Form) -> Answer:
        """DescribeImages with what moto lacks; a disabled image is shown to whoever asks for such ones."""
        answer = ask(self._moto, environ, _without_disabled(form))
        if not answer.is_success:
            return answer
        root, states = parsed(answer), wanted_states(form)
        images = root.find("imagesSet")
        for item in _items(root):
            extra = self._extra(item.findtext("imageId", ""))
            _lay_over(item, extra, self._clock())
            is_hidden = extra.is_disabled and not is_true(form, "IncludeDisabled")
            if images is not None and (is_hidden or (states and item.findtext("imageState") not in states)):
                images.remove(item)
        return self._page(form, answer, root, images)

    def _page(self, form: Form, answer: Answer, root: Element, images: Element | None) -> Answer:
        """As much of it as was asked for, as EC2 has it: without MaxResults, all."""
        if images is None or "MaxResults" not in form:
            return with_body(answer, root)
        page = paged(form, list(images), len(images))
        if isinstance(page, Answer):
            return page
        shown, token = page
        images[:] = shown
        root.extend(token)
        return with_body(answer, root)

    def _deregister(self, environ: dict[str, Any], form: Form) -> Answer:
        image_id, extra = form["ImageId"], self._extra(form["ImageId"])
        if _protection(extra, self._clock()) != "disabled":
            return refusal("OperationNotPermitted", f"The image {image_id} is protected from deregistration.")
        snapshot_ids = self._snapshots(environ, form, image_id)
        answer = ask(self._moto, environ, form)
        if not answer.is_success:
            return answer
        with self._lock:
            self._extras.pop(image_id, None)
        if not is_true(form, "DeleteAssociatedSnapshots"):
            return answer
        results = [self._delete_snapshot(environ, form, snapshot_id) for snapshot_id in snapshot_ids]
        return success("DeregisterImage", text("return", "true"), element("deleteSnapshotResultSet", *results))

    def _deprecate(self, _environ: dict[str, Any], form: Form) -> Answer:
        try:
            moment = datetime.fromisoformat(form.get("DeprecateAt", "")).astimezone(UTC)
        except ValueError:
            return refusal("InvalidParameterValue", "Value for parameter DeprecateAt is no time in UTC.")
        now = self._clock()
        if not now - timedelta(minutes=1) <= moment <= now + _LONGEST_DEPRECATION:
            return refusal("InvalidParameterValue", "DeprecateAt must not be in the past, nor ten years ahead.")
        rounded = (moment + timedelta(seconds=30)).replace(second=0, microsecond=0)
        return self._change(form, deprecated_at=rounded)

    def _disable(self, environ: dict[str, Any], form: Form) -> Answer:
        """It takes all launch permissions, too, which EnableImage does not give back."""
        asked = {"Version": form.get("Version", _VERSION), "ImageId": form["ImageId"], "Attribute": "launchPermission"}
        found = parsed(ask(self._moto, environ, {**asked, "Action": "DescribeImageAttribute"}))
        removed = {
            f"LaunchPermission.Remove.{number}.{name}": target.text or ""
            for number, permission in enumerate(found.findall("launchPermission/item"), 1)
            for name, target in ((child.tag[:1].upper() + child.tag[1:], child) for child in permission)
        }
        if removed:
            ask(self._moto, environ, {**asked, "Action": "ModifyImageAttribute", **removed})
        return self._change(form, is_disabled=True)

    def _modify(self, environ: dict[str, Any], form: Form) -> Answer:
        """Of the attributes moto knows the shares and the description; nothing takes ImdsSupport back, as on AWS."""
        wanted = form.get("ImdsSupport.Value") or (
            form.get("Value") if form.get("Attribute") == "imdsSupport" else None
        )
        if wanted is None:
            return ask(self._moto, environ, form)
        if wanted != "v2.0":
            return refusal("InvalidParameterValue", f"{wanted} is no value of ImdsSupport; v2.0 is the only one.")
        return self._change(form, imds_support=wanted)

    def _protect(self, _environ: dict[str, Any], form: Form) -> Answer:
        has_cooldown = is_true(form, "WithCooldown")
        self._change(form, is_protected=True, has_cooldown=has_cooldown, protected_until=None)
        said = "enabled-with-cooldown" if has_cooldown else "enabled-without-cooldown"
        return success(form["Action"], text("return", said))

    def _unprotect(self, _environ: dict[str, Any], form: Form) -> Answer:
        until = self._clock() + _COOLDOWN if self._extra(form["ImageId"]).has_cooldown else None
        self._change(form, is_protected=False, has_cooldown=False, protected_until=until)
        return success(form["Action"], text("return", _protection(self._extra(form["ImageId"]), self._clock())))

    def _change(self, form: Form, **changes: Any) -> Answer:
        with self._lock:
            image_id = form["ImageId"]
            self._extras[image_id] = replace(self._extras.get(image_id, _Extra()), **changes)
        return success(form["Action"], text("return", "true"))

    def _extra(self, image_id: str) -> _Extra:
        with self._lock:
            return self._extras.get(image_id, _Extra())

    def _snapshots(self, environ: dict[str, Any], form: Form, image_id: str) -> list[str]:
        root = parsed(ask(self._moto, environ, _describing(form, image_id)))
        return [found.text or "" for item in _items(root) for found in item.iter("snapshotId")]

    def _delete_snapshot(self, environ: dict[str, Any], form: Form, snapshot_id: str) -> Element:
        """Delete it unless another image is made of it, too."""
        version = {"Version": form.get("Version", _VERSION)}
        others = parsed(ask(self._moto, environ, {**version, "Action": "DescribeImages", "Owner.1": "self"}))
        code = "skipped"
        if snapshot_id not in {used.text for used in others.iter("snapshotId")}:
            delete = {"Action": "DeleteSnapshot", "SnapshotId": snapshot_id}
            code = "success" if ask(self._moto, environ, {**version, **delete}).is_success else "internal-error"
        return element("item", text("snapshotId", snapshot_id), text("returnCode", code))


def _lay_over(item: Element, extra: _Extra, now: datetime) -> None:
    """Put into an image's element what moto does not know of it."""
    root_device = item.find("rootDeviceType")
    if root_device is not None:
        # moto says `standard` of an image that was made from an instance; Packer bakes from nothing but ebs.
        root_device.text = "ebs"
    if extra.deprecated_at:
        item.append(text("deprecationTime", f"{extra.deprecated_at:%Y-%m-%dT%H:%M:%S.000Z}"))
    state = item.find("imageState")
    if extra.is_disabled and state is not None:
        state.text = "disabled"
    if extra.imds_support:
        item.append(text("imdsSupport", extra.imds_support))
    item.append(text("deregistrationProtection", _protection(extra, now)))


def _protection(extra: _Extra, now: datetime) -> str:
    if extra.is_protected:
        return "enabled-with-cooldown" if extra.has_cooldown else "enabled-without-cooldown"
    if extra.protected_until and now < extra.protected_until:
        return f"disabled-and-in-cooldown-until-{extra.protected_until:%Y-%m-%dT%H:%M:%S.000Z}"
    return "disabled"


def _describing(form: Form, image_id: str) -> dict[str, str]:
    return {"Action": "DescribeImages", "Version": form.get("Version", _VERSION), "ImageId.1": image_id}


def _items(root: Element) -> list[Element]:
    return root.findall("imagesSet/item")


def _unknown(image_id: str) -> Answer:
    return refusal("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")


def wanted_states(form: Form) -> list[str]:
    """Of a filter on the state; empty without one."""
    number = 1
    while f"Filter.{number}.Name" in form:
        if form[f"Filter.{number}.Name"] == "state":
            return listed(form, f"Filter.{number}.Value")
        number += 1
    return []


def _without_disabled(form: Form) -> dict[str, str]:
    """What moto is asked: to it, disabled images are available ones."""
    asked = {name: value for name, value in form.items() if name != "IncludeDisabled"}
    for name in [name for name, value in asked.items() if value == "state" and name.endswith(".Name")]:
        prefix = name.removesuffix(".Name")
        for number, value in enumerate(listed(form, f"{prefix}.Value"), 1):
            asked[f"{prefix}.Value.{number}"] = "available" if value == "disabled" else value
    return asked
