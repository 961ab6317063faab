"""The commands' --help."""

from __future__ import annotations

import pytest
from django.core.management import load_command_class


@pytest.mark.parametrize("name", ["runwsserver", "wsbroadcast", "wscheck", "wsinspect"])
def test_help_fits_into_80_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = load_command_class("django_wsredis", name).create_parser("manage.py", name).format_help()
    assert "examples:" in text
    assert [line for line in text.splitlines() if len(line) > 80] == []
