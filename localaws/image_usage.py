"""Reports on who uses an image in other accounts: made a moment after they were asked for, and read page by page.

EC2 User Guide, "View your AMI usage". Accounts are those that the image was ever shared with by their ids; which
accounts an organization has, nobody here knows.
"""

from __future__ import annotations

import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree.ElementTree import Element

from localaws.ec2_query import Form, ask, element, listed, paged, refusal, success, text
from localaws.image_references import wanted_scopes
from localaws.referrers import PARAMETER, Referrers, Scope
from localaws.request_origin import account_of, in_account, region_of
from localaws.wsgi import Answer, WSGIApp

WRITING_SECONDS = 2.0
_LIFE = timedelta(days=30)
_USUAL_DEPTH = 20
_USUAL_PAGE = 100
_VERSION = "2016-11-15"


@dataclass(frozen=True)
class _Report:
    """What was asked for, and what was found then.

    Attributes:
        report_id: of it.
        owner: account and region of whoever asked.
        image_id: the image.
        scopes: kinds of resources, with options.
        accounts: that it was restricted to; empty for all.
        created_at: UTC.
        entries: account, kind and how many of them use the image.
    """

    report_id: str
    owner: tuple[str, str]
    image_id: str
    scopes: Mapping[str, Scope]
    accounts: tuple[str, ...]
    created_at: datetime
    entries: tuple[tuple[str, str, int], ...]


class ImageUsage:
    """Answers the calls on reports.

    Args:
        api: the application that knows images and whom they are shared with.
        referrers: knows who names what.
        clock: UTC.
    """

    def __init__(
        self, api: WSGIApp, referrers: Referrers, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._api = api
        self._referrers = referrers
        self._clock = clock
        self._lock = threading.Lock()
        self._reports: dict[str, _Report] = {}
        self._shares: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._serves: Mapping[str, Callable[[Mapping[str, Any], Form], Answer]] = {
            "CreateImageUsageReport": self._create,
            "DescribeImageUsageReports": self._describe,
            "DescribeImageUsageReportEntries": self._describe_entries,
            "DeleteImageUsageReport": self._delete,
        }

    def answer(self, environ: Mapping[str, Any], form: Form) -> Answer | None:
        """The answer to a call on reports; None for any other.

        Args:
            environ: of the request (PEP 3333).
            form: its parameters.
        """
        if form.get("Action") == "ModifyImageAttribute":
            self._note_shares(form)
        serve = self._serves.get(form.get("Action", ""))
        return serve(environ, form) if serve else None

    def _create(self, environ: Mapping[str, Any], form: Form) -> Answer:
        image_id, asked_accounts = form.get("ImageId", ""), listed(form, "AccountId")
        try:
            scopes = wanted_scopes(form, _USUAL_DEPTH, has_all=False)
        except ValueError as error:
            return refusal("InvalidParameterValue", str(error))
        if not scopes:
            return refusal("MissingParameter", "The request must contain the parameter ResourceTypes")
        if PARAMETER in scopes:
            return refusal("InvalidParameterValue", "Parameters of other accounts cannot be looked for.")
        shared = self._shared_with(environ, image_id)
        if isinstance(shared, Answer):
            return shared
        accounts = [account for account in shared if account in (asked_accounts or shared)]
        entries = tuple(entry for account in accounts for entry in self._used(environ, account, image_id, scopes))
        report_id = f"amiur-{uuid.uuid4().hex[:17]}"
        owner = (account_of(self._api, environ), region_of(environ))
        made = _Report(report_id, owner, image_id, scopes, tuple(asked_accounts), self._clock(), entries)
        with self._lock:
            self._reports[report_id] = made
        return success("CreateImageUsageReport", text("reportId", report_id))

    def _shared_with(self, environ: Mapping[str, Any], image_id: str) -> list[str] | Answer:
        """Ids of the accounts that may, or might, launch it; a refusal where there is no such image."""
        describe = {"Action": "DescribeImages", "Version": _VERSION, "ImageId.1": image_id}
        described = ask(self._api, environ, {**describe, "IncludeDisabled": "true"})
        if not described.is_success:
            return described
        with self._lock:
            return list(self._shares[image_id])

    def _note_shares(self, form: Form) -> None:
        """An instance of an account stays where the image is no longer shared with it."""
        number = 1
        while any(name.startswith(f"LaunchPermission.Add.{number}.") for name in form):
            if user := form.get(f"LaunchPermission.Add.{number}.UserId"):
                with self._lock:
                    self._shares[form.get("ImageId", "")][user] = None
            number += 1

    def _used(
        self, environ: Mapping[str, Any], account_id: str, image_id: str, scopes: Mapping[str, Scope]
    ) -> list[tuple[str, str, int]]:
        found = self._referrers.find(in_account(environ, account_id), scopes)
        of_image = [each.kind for each in found if each.image_id == image_id]
        return [(account_id, kind, of_image.count(kind)) for kind in scopes if kind in of_image]

    def _describe(self, environ: Mapping[str, Any], form: Form) -> Answer:
        reports = self._wanted(environ, form)
        if isinstance(reports, Answer):
            return reports
        page = paged(form, [self._shown(report) for report in reports], _USUAL_PAGE)
        if isinstance(page, Answer):
            return page
        shown, token = page
        return success("DescribeImageUsageReports", element("imageUsageReportSet", *shown), *token)

    def _describe_entries(self, environ: Mapping[str, Any], form: Form) -> Answer:
        reports = self._wanted(environ, form)
        if isinstance(reports, Answer):
            return reports
        written = [report for report in reports if self._is_written(report)]
        items = [_entry(report, *entry) for report in written for entry in report.entries]
        page = paged(form, items, _USUAL_PAGE)
        if isinstance(page, Answer):
            return page
        shown, token = page
        return success("DescribeImageUsageReportEntries", element("imageUsageReportEntrySet", *shown), *token)

    def _delete(self, environ: Mapping[str, Any], form: Form) -> Answer:
        reports = self._wanted(environ, {"ReportId.1": form.get("ReportId", "")})
        if isinstance(reports, Answer):
            return reports
        with self._lock:
            for report in reports:
                self._reports.pop(report.report_id, None)
        return success("DeleteImageUsageReport", text("return", "true"))

    def _wanted(self, environ: Mapping[str, Any], form: Form) -> list[_Report] | Answer:
        """Reports of this account by the ids that a form names; a refusal where one is not there."""
        owner, now = (account_of(self._api, environ), region_of(environ)), self._clock()
        report_ids, image_ids = listed(form, "ReportId"), listed(form, "ImageId")
        with self._lock:
            self._reports = {key: one for key, one in self._reports.items() if now < one.created_at + _LIFE}
            own = {key: one for key, one in self._reports.items() if one.owner == owner}
        if missing := [report_id for report_id in report_ids if report_id not in own]:
            return refusal("InvalidImageUsageReportId.NotFound", f"The report {missing[0]} does not exist")
        return [
            report
            for report in own.values()
            if (not report_ids or report.report_id in report_ids) and (not image_ids or report.image_id in image_ids)
        ]

    def _is_written(self, report: _Report) -> bool:
        return self._clock() >= report.created_at + timedelta(seconds=WRITING_SECONDS)

    def _shown(self, report: _Report) -> Element:
        kinds = [element("item", text("resourceType", kind)) for kind in report.scopes]
        return element(
            "item",
            text("imageId", report.image_id),
            text("reportId", report.report_id),
            element("resourceTypeSet", *kinds),
            element("accountIdSet", *(text("item", account) for account in report.accounts)),
            text("state", "available" if self._is_written(report) else "pending"),
            text("creationTime", _moment(report.created_at)),
            text("expirationTime", _moment(report.created_at + _LIFE)),
        )


def _entry(report: _Report, account_id: str, kind: str, count: int) -> Element:
    return element(
        "item",
        text("resourceType", kind),
        text("reportId", report.report_id),
        text("usageCount", str(count)),
        text("accountId", account_id),
        text("imageId", report.image_id),
        text("reportCreationTime", _moment(report.created_at)),
    )


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.000Z}"
