"""EC2's query protocol: a form is the question, XML the answer (AWS's "EC2 query protocol" of its service models)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from localaws.wsgi import Answer, WSGIApp, call

_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15"
_HEADERS = [("Content-Type", "text/xml; charset=utf-8")]

Form = Mapping[str, str]


def parsed(answer: Answer) -> Element:
    """The body of an answer without namespaces."""
    root = ElementTree.fromstring(answer.body)  # noqa: S314 - moto wrote it
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def with_body(answer: Answer, root: Element) -> Answer:
    """The same answer with another body."""
    return Answer(answer.status, answer.headers, _document(root))


def ask(application: WSGIApp, environ: Mapping[str, Any], form: Form) -> Answer:
    """Put a form to an application in the name of whoever made another request (`call`)."""
    return call(application, environ, urlencode(form).encode())


def success(action: str, *parts: Element) -> Answer:
    """A call that was answered, with these elements in the answer."""
    root = Element(f"{action}Response")
    root.append(text("requestId", str(uuid.uuid4())))
    root.extend(parts)
    return Answer("200 OK", _HEADERS, _document(root))


def refusal(code: str, message: str) -> Answer:
    """A call that was refused, as EC2 says so."""
    root = Element("Response")
    errors = ElementTree.SubElement(root, "Errors")
    errors.append(element("Error", text("Code", code), text("Message", message)))
    root.append(text("RequestID", str(uuid.uuid4())))
    return Answer("400 Bad Request", _HEADERS, _bytes(root))


def text(tag: str, content: str) -> Element:
    """An element with text in it."""
    made = Element(tag)
    made.text = content
    return made


def element(tag: str, *children: Element) -> Element:
    """An element with others in it."""
    made = Element(tag)
    made.extend(children)
    return made


def listed(form: Form, name: str) -> list[str]:
    """The values of a list parameter, such as those of `ImageId.1`, `ImageId.2`."""
    found: list[str] = []
    while (value := form.get(f"{name}.{len(found) + 1}")) is not None:
        found.append(value)
    return found


def is_true(form: Form, name: str) -> bool:
    """A boolean parameter; false where it is not given."""
    return form.get(name, "").lower() == "true"


def paged(form: Form, items: Sequence[Element], usual: int) -> tuple[Sequence[Element], list[Element]] | Answer:
    """One page of items, and the element that leads to the next one; a refusal where the form's token leads nowhere.

    Args:
        form: with `MaxResults` and `NextToken`, or without.
        items: all of them.
        usual: so many are on a page where the form does not say.
    """
    size, begin = form.get("MaxResults", str(usual)), form.get("NextToken", "0")
    if not size.isdecimal() or int(size) < 1:
        return refusal("InvalidParameterValue", f"{size} is no value of MaxResults.")
    if not begin.isdecimal() or (int(begin) >= len(items) and begin != "0"):
        return refusal("InvalidNextToken", f"The token {begin} is not valid.")
    end = int(begin) + int(size)
    return items[int(begin) : end], [text("nextToken", str(end))] if end < len(items) else []


def _document(root: Element) -> bytes:
    root.set("xmlns", _NAMESPACE)
    return _bytes(root)


def _bytes(root: Element) -> bytes:
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written
