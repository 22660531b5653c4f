"""A version of a launch template that is made from an earlier one: moto takes what is given, and forgets the rest."""

from __future__ import annotations

from typing import Any

from localaws.ec2_query import Form, ask
from localaws.query_protocol import Calls, RefusedCallError, form_of
from localaws.wsgi import Answer, WSGIApp

_ACTION = "CreateLaunchTemplateVersion"
_DATA = "LaunchTemplateData"


def answer(moto: WSGIApp, environ: dict[str, Any], form: Form) -> Answer | None:
    """CreateLaunchTemplateVersion with SourceVersion; None for any other call, of which moto knows all.

    Args:
        moto: the application that knows templates.
        environ: of the request (PEP 3333).
        form: its parameters.
    """
    if form.get("Action") != _ACTION or "SourceVersion" not in form:
        return None
    named = {name: form[name] for name in ("LaunchTemplateId", "LaunchTemplateName") if name in form}
    try:
        found = Calls(moto, environ)("ec2", "DescribeLaunchTemplateVersions", **named, Versions=[form["SourceVersion"]])
    except RefusedCallError:
        return None  # moto says of the template itself what is wrong
    source = form_of("ec2", _ACTION, LaunchTemplateData=found["LaunchTemplateVersions"][0][_DATA])
    given = {name.split(".")[1] for name in form if name.startswith(f"{_DATA}.")}
    old = {name: value for name, value in source.items() if name.startswith(f"{_DATA}.")}
    kept = {name: value for name, value in old.items() if name.split(".")[1] not in given}
    return ask(moto, environ, {**form, **kept})
