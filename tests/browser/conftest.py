"""A headless Chromium that knows no host and tells what it was asked for."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # root, and containers, have none; it opens only pages of ours
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


@dataclass(frozen=True)
class View:
    """A way to look at a page: width in CSS pixels, and the colour scheme that a person prefers."""

    width: int
    scheme: str

    def __str__(self) -> str:
        return f"{self.width}-{self.scheme}"


VIEWS = [View(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]
HEIGHT = 800


class Browser:
    """Opens files."""

    def __init__(self, driver: Chrome) -> None:
        self._driver = driver

    def open(self, page: Path, view: View = VIEWS[0]) -> None:
        """Show a page; what the browser logged before is forgotten."""
        phone = view.width < 500
        self._command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": view.scheme}])
        self._command(
            "Emulation.setDeviceMetricsOverride", width=view.width, height=HEIGHT, deviceScaleFactor=1, mobile=phone
        )
        self.requests()
        self.messages()
        self._driver.get(page.as_uri())

    def ask(self, script: str) -> Any:
        """What a script in the page returns. It runs beside the page's own policy."""
        return self._driver.execute_script(script)

    def requests(self) -> dict[str, str]:
        """Every address that the page wanted since, and what kept the browser from asking for it; empty if nothing."""
        events = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        failed = [event["params"] for event in events if event["method"] == "Network.loadingFailed"]
        blocked = {params["requestId"]: params.get("blockedReason", "") for params in failed}
        return {params["request"]["url"]: blocked.get(params["requestId"], "") for params in sent}

    def messages(self) -> list[str]:
        """Errors and warnings of the console since."""
        return [entry["message"] for entry in self._log("browser")]

    def _log(self, name: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self._driver.get_log(name)  # type: ignore[no-untyped-call]  # it has no types
        return entries

    def _command(self, name: str, **parameters: Any) -> None:
        self._driver.execute_cdp_cmd(name, parameters)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("Chromium is not here: scripts/bootstrap installs it on Debian, and Ubuntu has no package of it")
    options = ChromeOptions()
    options.binary_location = program
    for argument in _ARGUMENTS:
        options.add_argument(argument)
    options.add_experimental_option("perfLoggingPrefs", {"enableNetwork": True, "enablePage": False})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SE_OFFLINE", "true")  # Selenium must not look for a driver elsewhere
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            environment.delenv(name)
        opened = Chrome(options=options, service=ChromeService(driver))
        try:
            yield Browser(opened)
        finally:
            opened.quit()
