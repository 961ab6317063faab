"""Draws the picture of checks.rst: `python -m docs.wscheck.draw` writes it beside this file.

It is what wscheck finds of a real site: uWSGI behind NGiNX, whose file lost a line. It needs what the tests need.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.project.settings")

import django
from django.core.management import call_command
from django.test import override_settings
from rich.console import Group, RenderableType

from ..terminal import draw_terminal

WIDTH = 90
HEIGHT = 60
PATH = "layout?subscribe-broadcast"


def found() -> Iterator[RenderableType]:
    """Yield what wscheck prints."""
    from django_wsredis.checks.areas import look
    from django_wsredis.checks.situation import Situation
    from django_wsredis.management.display.checks import area_lines, problem_lines, summary
    from tests import layouts
    from tests.servers import RedisServer, find_redis

    with (
        tempfile.TemporaryDirectory(prefix="wsr-") as folder,
        tempfile.TemporaryDirectory(prefix="wsr-") as redis_folder,
    ):
        redis = RedisServer(Path(redis_folder), find_redis())
        try:
            with layouts.running(mistaken, Path(folder), redis) as layout, override_settings(**layout.settings):
                situation = Situation(
                    nginx_conf=layout.folder / "nginx.conf", live=f"ws://127.0.0.1:{layout.port}/ws/{PATH}"
                )
                areas = list(look(situation, ["nginx", "live"]))
        finally:
            redis.kill()
    for area in areas:
        yield from area_lines(area, WIDTH)
    for problem in sorted((problem for area in areas for problem in area.problems), key=lambda problem: problem.rank):
        yield from problem_lines(problem)
    yield summary(areas)


def mistaken(layout: object) -> None:
    """Run uWSGI behind NGiNX, without the line that passes on the Upgrade."""
    from tests import layouts

    address = f"127.0.0.1:{layouts.free_port()}"
    layouts.run_runwsserver(layout, address)
    layouts.run_proxy(layout, "nginx", "--upstream", address, change=without_upgrade)


def without_upgrade(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if "$http_upgrade" not in line)


def main() -> None:
    django.setup()
    call_command("migrate", verbosity=0)
    path = Path(__file__).with_name("wscheck.svg")
    command = "./manage.py wscheck --only nginx,live --live ws://example.com/ws/news"
    draw_terminal(path, command, Group(*found()), WIDTH, HEIGHT)


if __name__ == "__main__":
    main()
