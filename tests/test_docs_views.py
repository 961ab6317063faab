"""docs/views.rst: who does what it says has a room in which people talk, and it leaves nothing public out."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.views.generic import View
from websockets.sync.client import ClientConnection, connect

from django_wsredis import views

from .servers import ROOT, Process, find_redis

PAGE = (ROOT / "docs/views.rst").read_text()
WALK = PAGE[PAGE.index("A room in ten minutes") : PAGE.index("\nFunctions\n")]

BLOCK = r"((?: {4}.*\n|\n)+)"
COMMANDS = re.compile(rf"::\n\n{BLOCK}")
FILE = re.compile(
    rf"(Add to the end of|New\s+file|in\s+the place of what is in) ``(\S+)``:\n\n\.\. code-block:: \S+\n\n{BLOCK}"
)

# of the reader's own: what is installed is here already
INSTALLING = ["python3 -m venv .venv && . .venv/bin/activate", "pip install 'django-wsredis[embedded]'"]
PROGRAMS = {"python": [sys.executable], "django-admin": [sys.executable, "-m", "django"]}
FOR_HANDLERS = {"attach", "wire", "published", "peek", "forget", "tell", "unread_bytes"}


class Step(NamedTuple):
    """What is to be done: a command, or a file, of which `how` says what becomes of it."""

    how: str
    name: str
    text: str = ""


def steps() -> list[Step]:
    """Return what the reader does, in the page's order."""
    found: list[tuple[int, Step]] = []
    for match in COMMANDS.finditer(WALK):
        found += [(match.start(), Step("command", line)) for line in unindented(match[1]).splitlines() if line]
    for match in FILE.finditer(WALK):
        found.append((match.start(), Step(" ".join(match[1].split()), match[2], unindented(match[3]))))
    return [step for _, step in sorted(found, key=lambda place: place[0])]


def unindented(block: str) -> str:
    return re.sub(r"^ {4}", "", block, flags=re.MULTILINE).strip("\n") + "\n"


def do(step: Step, folder: Path, env: dict[str, str]) -> None:
    path = folder / step.name
    if step.how == "command":
        program, *arguments = shlex.split(step.name)
        command = [*PROGRAMS[program], *arguments]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
    elif step.how == "Add to the end of":
        path.write_text(f"{path.read_text()}\n{step.text}")
    elif step.how == "New file":
        assert not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(step.text)
    else:
        assert path.exists()
        path.write_text(step.text)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server that the page's last command starts, on another port; its address."""
    find_redis()  # with `embedded` the reader has one
    folder = tmp_path_factory.mktemp("empty")
    env = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    env |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    *before, last = [step for step in steps() if step.name not in INSTALLING]
    for step in before:
        do(step, folder, env)
    assert last == Step("command", "python manage.py runwsserver")
    server = Process([sys.executable, *shlex.split(last.name)[1:], "127.0.0.1:0"], cwd=folder, env=env)
    try:
        yield server.wait_for(r"\bat http://(127.0.0.1:\d+)/")[1]
    finally:
        server.stop()
    assert "Traceback" not in server.output, server.output


def say(person: ClientConnection, **message: str) -> None:
    person.send(json.dumps(message))


def said(person: ClientConnection) -> Any:
    return json.loads(person.recv(20))


def test_the_page_has_all_steps() -> None:
    found = steps()
    assert [step.name for step in found][:2] == INSTALLING
    assert [step.name for step in found if step.how != "command"] == re.findall(r"``(\S+/\S+\.(?:py|html))``:\n", WALK)
    assert len(found) == 11


def test_who_follows_the_page_has_a_room(site: str) -> None:
    with urllib.request.urlopen(f"http://{site}/rooms/lobby/", timeout=20) as response:
        page = response.read().decode()
    (url,) = re.findall(r'new WSRedis\("(.+?)"', page)
    assert url == f"ws://{site}/ws/rooms/lobby/"
    with connect(url, proxy=None) as alice, connect(url, proxy=None) as bob:
        say(alice, name="alice", text="hello")
        assert said(alice) == said(bob) == {"name": "alice", "text": "hello"}
        say(bob, name="bob", text="")
        assert said(bob) == {"errors": {"text": [{"message": "This field is required.", "code": "required"}]}}
        say(bob, name="bob", text="hello, alice")
        assert said(alice) == said(bob) == {"name": "bob", "text": "hello, alice"}
    with connect(url, proxy=None) as late:
        assert [said(late)["name"], said(late)["name"]] == ["alice", "bob"]


@pytest.mark.parametrize(
    "code", re.findall(rf"code-block:: python\n\n{BLOCK}", PAGE), ids=lambda code: code.split()[-1]
)
def test_the_pages_code_can_be_read(code: str) -> None:
    compile(unindented(code), "docs/views.rst", "exec")


@pytest.mark.parametrize("owner", [views, views.WebSocketView, views.ViewSocket, views.WebSocket, views.Published])
def test_the_page_has_all_that_is_public(owner: Any) -> None:
    if owner is views:
        names = set(views.__all__)
    elif owner is views.Published:
        names = set(views.Published._fields)
    else:
        names = {name for name in [*vars(owner), *owner.__annotations__] if not name.startswith("_")}
        names -= {*FOR_HANDLERS, *(vars(View) if owner is views.WebSocketView else ())}
    missing = {name for name in names if not re.search(rf"\b{name}\b", PAGE)}
    assert not missing
