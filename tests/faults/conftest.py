from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from ..test_browser import new_browser  # noqa: F401  a fixture
from .trial import Trial
from .windows import Windows, open_windows

TITLE = "faults"  # of a property of the test's report


@pytest.fixture(scope="module")
def windows(new_browser: Callable[[], Any]) -> Windows:  # noqa: F811
    return open_windows(new_browser())


@pytest.fixture
def start_trial(windows: Windows) -> Iterator[Callable[..., Trial]]:
    """Start a trial that ends with the test."""
    with ExitStack() as stack:
        yield lambda port, url, client: Trial(stack, port, url, client, windows)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what the verifier found in each trial."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    lines = [value for report in reports for name, value in report.user_properties if name == TITLE]
    if lines:
        terminalreporter.section(TITLE)
        for line in lines:
            terminalreporter.write_line(line)
