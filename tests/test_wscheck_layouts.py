"""wscheck of every layout of the deployment guide, while it runs: no false alarm."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings

from .layouts import LAYOUTS, Layout, running
from .servers import RedisServer

# option → the files of a layout that are looked at by it, one after the other
FILES = {
    "nginx": ("nginx.conf",),
    "apache": ("apache2.conf",),
    "haproxy": ("*.haproxy.cfg",),
    "gunicorn": ("gunicorn.conf.py",),
    "uwsgi": ("uwsgi*.ini", "vassals/*.ini"),
}
# what is true of the layouts of the tests
EVERYBODY_PUBLISHES = "wsredis.W010"  # ALLOWED_CHANNELS is tests.project.callbacks.everything
RIGHTS_ARE_TAKEN = "wsredis.E112"  # from Redis' user, who may use no other channels than those of `layout`, for a 503
IS_OF_NOBODY = "wsredis.W609"  # the certificate is its own authority, and --insecure is given


def true_of(layout: Layout) -> set[str]:
    """Return the problems that a layout really has."""
    return {EVERYBODY_PUBLISHES, RIGHTS_ARE_TAKEN, *((IS_OF_NOBODY,) if layout.tls else ())}


def looks(layout: Layout) -> Iterator[list[str]]:
    """Yield the arguments of each look: at one configuration of each kind, and through the front door."""
    found = {
        kind: [path for pattern in patterns for path in sorted(layout.folder.glob(pattern))]
        for kind, patterns in FILES.items()
    }
    live = ["--live", f"{layout.origin.replace('http', 'ws', 1)}/ws/layout?subscribe-broadcast"]
    for number in range(max(1, *map(len, found.values()))):
        files = [f"--{kind}-conf={paths[min(number, len(paths) - 1)]}" for kind, paths in found.items() if paths]
        yield [*files, *(["--insecure"] if layout.tls else []), *live]


def wscheck(layout: Layout, *arguments: str) -> dict[str, Any]:
    # only servers whose files are given: others may run on this machine, too
    areas = [
        "settings",
        "redis",
        "system",
        *(argument[2:].partition("-conf=")[0] for argument in arguments if "-conf=" in argument),
        "live",
    ]
    output = io.StringIO()
    with override_settings(**layout.settings):
        try:
            call_command("wscheck", "--json", "--only", ",".join(areas), *arguments, stdout=output)
        except SystemExit:
            pass
    told: dict[str, Any] = json.loads(output.getvalue())
    return told


@pytest.mark.parametrize("start", LAYOUTS, ids=lambda start: start.__name__)
def test_a_layout_that_works_has_no_problem(
    start: Callable[[Layout], None], folder: Path, redis_server: RedisServer
) -> None:
    with running(start, folder, redis_server) as layout:
        for arguments in looks(layout):
            told = wscheck(layout, *arguments)
            rows = [row for area in told["areas"] for row in area["rows"]]
            problems = [problem for row in rows for problem in row["problems"]]
            wrong = [problem for problem in problems if problem["level"] != "info"]
            assert {problem["id"] for problem in wrong} == true_of(layout), wrong
            areas = {
                area["name"] for area in told["areas"] if any(row["verdict"] != "not checked" for row in area["rows"])
            }
            kinds = {argument[2:].partition("-conf=")[0] for argument in arguments if "-conf=" in argument}
            assert {"settings", "redis", "system", "live", *kinds} <= areas
