from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from ..test_browser import new_browser  # noqa: F401  a fixture
from .trial import Trial
from .windows import Windows, open_windows


@pytest.fixture(scope="module")
def windows(new_browser: Callable[[], Any]) -> Windows:  # noqa: F811
    return open_windows(new_browser())


@pytest.fixture
def start_trial(windows: Windows) -> Iterator[Callable[..., Trial]]:
    """Start a trial that ends with the test."""
    with ExitStack() as stack:
        yield lambda port, url, client: Trial(stack, port, url, client, windows)
