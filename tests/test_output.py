"""What our commands do when nobody reads their output to the end, or when there is no room for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import call_command

from django_wsredis import publish

from .servers import ROOT, RedisServer, wait_until

MANAGE = [sys.executable, "-X", "dev", "-W", "error", str(ROOT / "tests/project/manage.py")]
CHECK = ["wscheck", "--only", "settings"]


@pytest.fixture
def run(configured: RedisServer) -> Callable[..., subprocess.Popen[str]]:
    """Start a command whose output goes somewhere."""

    def run(arguments: list[str], stdout: Any, settings: dict[str, Any] | None = None, **env: str) -> Any:
        env = {**os.environ, "TEST_REDIS_URL": configured.url, "TEST_SETTINGS": json.dumps(settings or {}), **env}
        return subprocess.Popen(
            [*MANAGE, *arguments], env=env, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True
        )

    return run


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments",
    [
        CHECK,
        [*CHECK, "--json"],
        ["wscheck", "--list"],
        ["wscheck", "--emit", "nginx"],
        ["wsinspect"],
        ["wsinspect", "--json"],
        ["wsinspect", "--watch", "--json"],
        ["wsinspect", "--messages", "--facility", "x"],
        ["wsbroadcast", "x"],
        ["wsbroadcast", "x", "--dry-run"],
    ],
    ids=" ".join,
)
def test_a_full_disk_is_one_line(run: Callable[..., Any], arguments: list[str], unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        process = run(arguments, full, PYTHONUNBUFFERED=unbuffered)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (
        1,
        "CommandError: The output cannot be written: No space left on device.\n",
    )


def test_a_full_disk_ends_what_follows_messages(run: Callable[..., Any]) -> None:
    with open("/dev/full", "w") as full:
        process = run(["wsinspect", "--tail", "chat"], full)

        def has_ended() -> bool:
            publish("x", facility="chat", broadcast=True)
            return process.poll() is not None

        wait_until(has_ended, 30, "its end")
        _, said = process.communicate()
    assert (process.returncode, said) == (
        1,
        "CommandError: The output cannot be written: No space left on device.\n",
    )


@pytest.mark.parametrize(
    ("arguments", "status"), [(CHECK, 1), (["wscheck", "--list"], 1), (["wsinspect"], 0), (["wsbroadcast", "x"], 0)]
)
def test_who_reads_no_more_is_told_nothing(run: Callable[..., Any], arguments: list[str], status: int) -> None:
    """Of wscheck nobody has seen the result: that is no success."""
    read, write = os.pipe()
    os.close(read)
    try:
        process = run(arguments, write)
    finally:
        os.close(write)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (status, "")


def test_a_failure_stays_one_if_nobody_reads(run: Callable[..., Any]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        process = run(["wsinspect"], write, {"WSREDIS": {"URL": "redis://127.0.0.1:1/0"}})
    finally:
        os.close(write)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.startswith("CommandError: ")
    assert said.count("\n") == 1


def test_an_error_that_is_none_of_the_output_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise FileNotFoundError(2, "No such file or directory", "/x")

    monkeypatch.setattr("django_wsredis.management.commands.wscheck.Command.look", fail)
    with pytest.raises(FileNotFoundError):
        call_command("wscheck")
