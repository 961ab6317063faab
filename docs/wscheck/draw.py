"""Draws the picture of checks.rst: `python -m docs.wscheck.draw` writes it beside this file.

It is what the areas nginx and live find of a real site: runwsserver behind NGiNX, whose file lost a line. It needs what
the tests need.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.project.settings")

import django
from django.core.management import call_command
from django.test import override_settings
from rich.console import Group, RenderableType

from ..terminal import draw_terminal

WIDTH = 90
HEIGHT = 60


def found() -> tuple[str, list[RenderableType]]:
    """Return a command, and what it prints."""
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
                live = f"ws://127.0.0.1:{layout.port}/ws/news"
                situation = Situation(nginx_conf=layout.folder / "nginx.conf", live=live)
                areas = list(look(situation, ["nginx", "live"]))
        finally:
            redis.kill()
    lines = [line for area in areas for line in area_lines(area, WIDTH)]
    lines += [line for area in areas for problem in area.problems for line in problem_lines(problem)]
    return f"./manage.py wscheck --nginx-conf nginx.conf --live {live}", [*lines, summary(areas)]


def mistaken(layout: object) -> None:
    """Run it behind NGiNX, without the line that passes on the Upgrade."""
    from tests import layouts

    address = f"127.0.0.1:{layouts.free_port()}"
    layouts.run_runwsserver(layout, address)
    layouts.run_proxy(layout, "nginx", "--upstream", address, change=without_upgrade)


def without_upgrade(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if "proxy_set_header Upgrade" not in line)


def main() -> None:
    django.setup()
    call_command("migrate", verbosity=0)
    path = Path(__file__).with_name("wscheck.svg")
    command, lines = found()
    draw_terminal(path, command, Group(*lines), WIDTH, HEIGHT)


if __name__ == "__main__":
    main()
