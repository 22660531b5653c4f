"""`resolve:ssm:NAME` where an image's id stands: EC2 looks the parameter up at the launch, moto takes it for an id.

EC2 User Guide, "Use a Systems Manager parameter instead of an AMI ID".
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from localaws.ec2_query import Form, ask, parsed, refusal, with_body
from localaws.wsgi import Answer, WSGIApp, call, signed_for

PREFIX = "resolve:ssm:"
_TEMPLATE_KEYS = ("LaunchTemplateId", "LaunchTemplateName")


class ImageAliases:
    """Looks up what image ids of launches and of launch templates stand for.

    Args:
        moto: the application that knows templates.
        ssm: the application that knows parameters.
    """

    def __init__(self, moto: WSGIApp, ssm: WSGIApp) -> None:
        self._moto = moto
        self._ssm = ssm
        self._launched: dict[str, str] = {}

    def resolve_launch(self, environ: dict[str, Any], form: dict[str, str]) -> Answer | None:
        """Put an image's id into a request of RunInstances; returns a refusal where there is none to put.

        Args:
            environ: of the request (PEP 3333); its body is replaced.
            form: its parameters, which are changed; the image may stand in the launch template that they name.
        """
        wanted = form.get("ImageId") or self._image_of_template(environ, form)
        found = self.resolved(environ, wanted)
        if wanted and not found:
            return refusal("InvalidParameterValue", f"The parameter of {wanted} holds no AMI id, or does not exist.")
        if found and found != form.get("ImageId"):
            form["ImageId"] = found
            body = urlencode(form).encode()
            environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(body), str(len(body))
        return None

    def resolved(self, environ: Mapping[str, Any], image_id: str) -> str:
        """An image's id; empty where an alias leads to none.

        Args:
            environ: of a request to EC2, in whose name the parameter is looked up.
            image_id: an id, or an alias.
        """
        if not image_id.startswith(PREFIX):
            return image_id
        as_ssm = {
            **signed_for(environ, "ssm"),
            "HTTP_X_AMZ_TARGET": "AmazonSSM.GetParameter",
            "CONTENT_TYPE": "application/x-amz-json-1.1",
        }
        found = call(self._ssm, as_ssm, json.dumps({"Name": image_id.removeprefix(PREFIX)}).encode())
        value = str(json.loads(found.body)["Parameter"]["Value"]) if found.is_success else ""
        return value if value.startswith("ami-") else ""

    def describe_instances(self, environ: dict[str, Any], form: Form) -> Answer:
        """DescribeInstances with ids for aliases, as they were when the instance was first seen.

        moto's Auto Scaling groups launch by what stands in the launch template; there is no request to change.
        """
        answer = ask(self._moto, environ, form)
        if PREFIX.encode() not in answer.body:
            return answer
        root = parsed(answer)
        for instance in root.iterfind("reservationSet/item/instancesSet/item"):
            image, instance_id = instance.find("imageId"), instance.findtext("instanceId", "")
            if image is not None and (image.text or "").startswith(PREFIX):
                if instance_id not in self._launched:
                    self._launched[instance_id] = self.resolved(environ, image.text or "") or image.text or ""
                image.text = self._launched[instance_id]
        return with_body(answer, root)

    def note_launched(self, environ: dict[str, Any]) -> None:
        """Look up now what instances without a request of their own were launched from.

        Args:
            environ: of the request to Auto Scaling that may have launched them.
        """
        self.describe_instances(signed_for(environ, "ec2"), {"Action": "DescribeInstances", "Version": "2016-11-15"})

    def _image_of_template(self, environ: Mapping[str, Any], form: Form) -> str:
        """What the launch template of RunInstances names; empty where there is none."""
        template = {key: form[f"LaunchTemplate.{key}"] for key in _TEMPLATE_KEYS if f"LaunchTemplate.{key}" in form}
        if not template:
            return ""
        version = form.get("LaunchTemplate.Version", "$Default")
        asked = {"Action": "DescribeLaunchTemplateVersions", "Version": form.get("Version", ""), **template}
        found = ask(self._moto, environ, {**asked, "LaunchTemplateVersion.1": version})
        if not found.is_success:
            return ""  # moto says of the launch itself what is wrong with its template
        return parsed(found).findtext("launchTemplateVersionSet/item/launchTemplateData/imageId", "")
