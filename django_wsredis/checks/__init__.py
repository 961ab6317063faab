"""What has to be right for a socket to live: for `wscheck`, and, what needs no network, for `manage.py check`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import ERROR, INFO, WARNING, CheckMessage

from . import deployment, each_request, pairs, settings, site, system, views
from .findings import Row
from .looking import rows_of
from .situation import Situation

LEVELS = {"error": ERROR, "warning": WARNING, "info": INFO}


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check what is wrong wherever it runs."""
    return _messages(rows_of((settings, pairs, site, views, each_request), Situation()))


def check_deployment(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check what is wrong on a server, and with the machine. For `check --deploy`."""
    return _messages(rows_of((deployment, system), Situation()))


def _messages(rows: Iterable[Row]) -> list[CheckMessage]:
    return [
        CheckMessage(LEVELS[problem.level], problem.text, hint=problem.hint, id=problem.id)
        for row in rows
        for problem in row.problems
    ]
