"""moto's API server, with an ear on EC2 calls that ask a machine for something that `Describe*` does not show."""

from __future__ import annotations

import os
import queue
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from localaws import image_shares, instance_connect, region_services, template_versions
from localaws.base_releases import PublicParameter
from localaws.image_aliases import ImageAliases
from localaws.image_builder import ImageBuilder
from localaws.image_copies import ImageCopies
from localaws.image_lifecycle import ImageLifecycle
from localaws.image_parameters import ImageParameters
from localaws.image_references import ImageReferences
from localaws.image_usage import ImageUsage
from localaws.instance_connect import Push, PushedKeys
from localaws.instance_refresh import InstanceRefreshes
from localaws.launch_templates import LaunchTemplates
from localaws.permissions import Denials, refusal
from localaws.referrers import Referrers
from localaws.regions import Regions
from localaws.wsgi import Answer, WSGIApp, take_body

_LARGEST_EC2_FORM_BYTES = 1_000_000


@dataclass(frozen=True)
class Ec2Call:
    """An EC2 request that was answered with success and changed something.

    Attributes:
        action: as in the EC2 API reference, e.g. RebootInstances.
        parameters: the request's form, e.g. {"InstanceId.1": "i-..."}.
    """

    action: str
    parameters: dict[str, str]


def load_moto(amis_file: Path) -> WSGIApp:
    """Import moto's server application, set up before it is imported, as moto demands.

    Args:
        amis_file: JSON list of the images that exist from the start, in the format of MOTO_AMIS_PATH.
    """
    os.environ["MOTO_AMIS_PATH"] = str(amis_file)
    os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"
    from moto.server import DomainDispatcherApplication, create_backend_app  # noqa: PLC0415 - see above

    application: WSGIApp = DomainDispatcherApplication(create_backend_app)
    return application


class ObservedApi:
    """A WSGI application that passes everything to moto and puts successful EC2 changes on a queue.

    What moto lacks of the life of images, of who refers to them, of parameters that name one, and of instance refreshes
    is answered here.
    What `denials` forbids is refused, `pushed_keys` gets the SSH keys that are pushed to instances, `public_parameter`
    names the base image.

    Args:
        moto: the application that answers.
        launched: given every answer of RunInstances, which is held back until this returns.
        is_ready: whether instances at these addresses let people in; asked for those of instance refreshes.
    """

    def __init__(
        self,
        moto: WSGIApp,
        launched: Callable[[bytes], object] = lambda _: None,
        is_ready: Callable[[list[str]], bool] = lambda _: True,
    ) -> None:
        self._moto = moto
        self._launched = launched
        self._regions = Regions(moto)
        self._images = ImageLifecycle(moto)
        self._image_copies = ImageCopies(moto, self._images.answer)
        self._image_parameters = ImageParameters(moto, self)
        self._image_aliases = ImageAliases(moto, self)
        self._launch_templates = LaunchTemplates(moto, self._image_aliases)
        self._image_builder = ImageBuilder(moto)
        referrers = Referrers(self, self._image_builder)
        self._image_references = ImageReferences(referrers)
        self._image_usage = ImageUsage(self, referrers)
        self._refreshes = InstanceRefreshes(self._without_waiting, is_ready)
        self.denials: Denials | None = None
        self.pushed_keys: PushedKeys | None = None
        self.public_parameter: PublicParameter | None = None
        self.calls: queue.SimpleQueue[Ec2Call] = queue.SimpleQueue()

    @property
    def is_replacing(self) -> bool:
        """Whether an instance refresh goes on, which every request takes a step further."""
        return self._refreshes.is_active

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request (PEP 3333)."""
        self._refreshes.advance()
        form, scaling = _form(environ, "ec2"), _form(environ, "autoscaling")
        push = instance_connect.push_in(environ)
        answer = self._refusal(environ, push) or self._parameter(environ)
        answer = answer or self._image_builder.answer(environ) or self._refreshes.answer(environ, scaling)
        if answer is not None:
            return answer.send(start_response)
        action = form.get("Action", "") or scaling.get("Action", "")
        if (answer := self._of_images(environ, form)) is not None:
            if answer.is_success:
                self._note(action, form)
            return answer.send(start_response)
        statuses: list[str] = []

        def note_status(status: str, *rest: Any) -> Any:
            statuses.append(status)
            return start_response(status, *rest)

        response = self._moto(environ, note_status)
        if statuses[-1:] != ["200 OK"]:
            return response
        if push and self.pushed_keys:
            self.pushed_keys.add(push)
        self._note(action, form)
        if scaling and not action.startswith("Describe"):
            self._image_aliases.note_launched(environ)
        if action == "RunInstances":
            response = list(response)
            self._launched(b"".join(response))
        return response

    def _of_images(self, environ: dict[str, Any], form: dict[str, str]) -> Answer | None:
        """The answer to a call that concerns images; None where moto has all that it takes."""
        if form.get("Action") == "DescribeInstances":
            return self._image_aliases.describe_instances(environ, form)
        if form.get("Action") == "RunInstances":
            refused = self._image_aliases.resolve_launch(environ, form)
            if refused is not None:
                return refused
        return (
            self._launch_templates.answer(environ, form)
            or template_versions.answer(self._moto, environ, form)
            or self._image_references.answer(environ, form)
            or self._image_usage.answer(environ, form)
            or image_shares.answer(environ, form)
            or self._image_copies.answer(environ, form)
            or self._images.answer(environ, form)
        )

    def _parameter(self, environ: dict[str, Any]) -> Answer | None:
        """The answer to a call that concerns a parameter which names an image; None for any other."""
        published = self.public_parameter.answer(environ) if self.public_parameter else None
        return published or region_services.answer(environ) or self._image_parameters.answer(environ)

    def _without_waiting(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve a request of an instance refresh: nobody waits for the machine, which other threads start."""
        form = _form(environ, "ec2")
        if (answer := self._of_images(environ, form)) is not None:
            return answer.send(start_response)
        self._note(form.get("Action", ""), form)
        return self._moto(environ, start_response)

    def _note(self, action: str, form: dict[str, str]) -> None:
        if action and not action.startswith("Describe"):
            self.calls.put(Ec2Call(action, form))

    def _refusal(self, environ: dict[str, Any], push: Push | None) -> Answer | None:
        if self.denials and (forbidden := self.denials.forbids(environ)):
            return refusal(forbidden)
        if push and self.pushed_keys and (unknown := self.pushed_keys.refusal(push)):
            return unknown
        return self._regions.refusal(environ)


def serve(application: ObservedApi, listener: socket.socket) -> BaseWSGIServer:
    """A threaded HTTP server on a socket that listens already; the caller runs `serve_forever`."""
    host, port = listener.getsockname()[:2]
    return make_server(
        host, port, application, threaded=True, fd=listener.fileno(), request_handler=_QuietRequestHandler
    )


class _QuietRequestHandler(WSGIRequestHandler):
    """Keeps the log for what went wrong."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: every poll of Terraform would be a line."""


def _form(environ: dict[str, Any], service: str) -> dict[str, str]:
    """The parameters of a request to a service; empty for every other one. Leaves the body readable for moto."""
    if not environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        return {}
    if f"/{service}/aws4_request" not in environ.get("HTTP_AUTHORIZATION", ""):
        return {}
    body = take_body(environ, _LARGEST_EC2_FORM_BYTES) or b""  # one without a stated length is left to moto
    return {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
