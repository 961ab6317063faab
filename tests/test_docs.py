"""docs/: what it shows is what the code does."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import shlex
import xml.etree.ElementTree
from pathlib import Path

import pytest
from django.core.management import call_command, load_command_class

from .layouts import LAYOUTS
from .servers import ROOT

PICTURES = ROOT / "docs/pictures"
DRAWN = runpy.run_path(str(PICTURES / "draw.py"))
DEPLOY = (ROOT / "docs/deploy.rst").read_text()
COMMAND = re.compile(r"^ +\./manage\.py (wscheck|runwsserver) ([^>#\n]+)", re.MULTILINE)
COMMANDS = [
    (match[1], " ".join(match[2].split()))
    for path in (ROOT / "README.rst", *sorted((ROOT / "docs").glob("*.rst")))
    for match in COMMAND.finditer(path.read_text().replace("\\\n", " "))
]
MAX_PICTURE_BYTES = 6 * 1024


@pytest.mark.parametrize("name", DRAWN["PICTURES"])
def test_a_picture_is_what_draw_py_draws(name: str) -> None:
    picture = (PICTURES / f"{name}.svg").read_text()
    assert picture == DRAWN["draw"](DRAWN["PICTURES"][name]), "run python docs/pictures/draw.py"
    assert len(picture) <= MAX_PICTURE_BYTES
    xml.etree.ElementTree.fromstring(picture)


def test_every_picture_is_shown_and_no_other() -> None:
    shown = re.findall(r"^\.\. image:: pictures/(\S+)\.svg$", DEPLOY, re.MULTILINE)
    assert sorted(shown) == sorted(DRAWN["PICTURES"]) == sorted(path.stem for path in PICTURES.glob("*.svg"))


def test_the_pictures_of_wsinspect_are_shown() -> None:
    folder = ROOT / "docs/wsinspect"
    shown = re.findall(r"^\.\. image:: wsinspect/(\S+)\.svg$", (ROOT / "docs/inspect.rst").read_text(), re.MULTILINE)
    assert sorted(shown) == sorted(path.stem for path in folder.glob("*.svg")) == ["overview", "sockets", "watch"]
    for path in folder.glob("*.svg"):
        xml.etree.ElementTree.parse(path)
        assert "http" not in path.read_text().replace("http://www.w3.org/", "").replace("https://www.textualize.io", "")
    assert re.findall(r"^\.\. image:: (\S+)$", (ROOT / "README.rst").read_text(), re.MULTILINE) == [
        "docs/wsinspect/watch.svg"
    ]


@pytest.mark.parametrize("layout", [start.__name__ for start in LAYOUTS])
def test_every_layout_that_is_tested_has_a_section(layout: str) -> None:
    assert f"\n.. _{layout}:\n" in DEPLOY


@pytest.mark.parametrize(("name", "arguments"), COMMANDS, ids=[" ".join(command).strip() for command in COMMANDS])
def test_a_command_that_is_printed_works(
    name: str, arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "wscheck":
        with (
            contextlib.nullcontext() if "--emit" in arguments else contextlib.suppress(SystemExit)
        ):  # for what it finds
            call_command(name, *shlex.split(arguments), stdout=io.StringIO())
    else:  # it would serve
        load_command_class("django_wsredis", name).create_parser("manage.py", name).parse_args(shlex.split(arguments))
