"""`manage.py wscheck`: how it tells what it found; and that every problem is documented and tested."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from django_wsredis.checks import areas
from django_wsredis.checks.areas import MODULES, TITLES, look
from django_wsredis.checks.findings import Problem, Row, skipped
from django_wsredis.checks.situation import Situation

from .servers import ROOT

WRONG = {"WSREDIS": {"NOPE": 1}, "WS4REDIS_EXPIRE": 5}


def wscheck(*arguments: str, **settings: Any) -> tuple[int, str]:
    """Return the exit status, and what is printed."""
    output = io.StringIO()
    with override_settings(**settings):
        try:
            call_command("wscheck", *arguments, stdout=output)
        except SystemExit as ended:
            return int(ended.code or 0), output.getvalue()
    return 0, output.getvalue()


def refused(*arguments: str) -> str:
    with pytest.raises(CommandError) as raised:
        call_command("wscheck", *arguments)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [((), 1), (("--fail-level", "warning"), 1), (("--skip", "E001"), 0), (("--skip", "wsredis.e001"), 0)],
)
def test_the_exit_status_is_that_of_the_worst_problem(arguments: tuple[str, ...], status: int) -> None:
    assert wscheck("--only", "settings", *arguments, **WRONG)[0] == status


def test_a_warning_fails_only_if_that_is_wanted() -> None:
    old = {"WS4REDIS_EXPIRE": 5}
    assert wscheck("--only", "settings", **old)[0] == 0
    assert wscheck("--only", "settings", "--fail-level", "warning", **old)[0] == 1
    assert wscheck("--only", "settings", "--fail-level", "warning")[0] == 0


def test_the_problems_follow_the_table_the_worst_first_each_with_its_hint() -> None:
    _, text = wscheck("--only", "settings", **WRONG)
    places = [text.index(part) for part in ("WEBSOCKET_URL", "wsredis.E001", "'NOPE'", "wsredis.W001", "rename it to")]
    assert places == sorted(places)
    assert "\nwscheck: 1 error, 1 warning, " in text
    _, text = wscheck("--only", "settings", "--skip", "W001", **WRONG)
    assert "wsredis.W001" not in text
    assert text.rstrip().endswith(", 1 problem skipped.")


def test_what_django_silences_is_skipped_too() -> None:
    status, text = wscheck("--only", "settings", SILENCED_SYSTEM_CHECKS=["wsredis.E001"], **WRONG)
    assert status == 0
    assert "1 problem skipped" in text


def test_json_tells_the_same() -> None:
    status, text = wscheck("--only", "settings", "--json", **WRONG)
    told = json.loads(text)
    assert (status, told["is_fine"]) == (1, False)
    (area,) = told["areas"]
    assert area["name"] == "settings"
    first = area["rows"][0]
    assert {name: first[name] for name in ("checked", "found", "verdict")} == {
        "checked": "WSREDIS",
        "found": "EXPIRE, NOPE",
        "verdict": "error",
    }
    (problem,) = first["problems"]
    assert problem["id"] == "wsredis.E001"
    assert problem["level"] == "error"
    assert set(problem) == {"id", "level", "text", "hint", "place"}


def test_a_row_that_was_not_checked_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Module:
        TITLES: dict[str, str] = {}

        @staticmethod
        def look(situation: Situation) -> Iterator[Row]:
            yield skipped("nginx", "there is none here")
            problem = Problem(id="wsredis.I999", text="It is so.", hint="Nothing to do.", place="/etc/x.conf:3")
            yield Row(checked="x", found="y", problems=(problem,))

    monkeypatch.setitem(areas.MODULES, "settings", (Module,))  # type: ignore[arg-type]
    _, text = wscheck("--only", "settings")
    assert re.search(r"nginx +there is none here +not checked", text)
    assert "wsredis.I999 /etc/x.conf:3: It is so." in text
    assert text.rstrip().endswith("wscheck: 1 info, 1 of 2 rows not checked.")


def test_list_prints_those_of_an_area_and_as_json() -> None:
    _, text = wscheck("--list", "--only", "redis,live")
    assert set(re.findall(r"wsredis\.[EWI]\d+", text)) == {*areas.titles_of("redis"), *areas.titles_of("live")}
    told = json.loads(wscheck("--list", "--json")[1])
    assert {id: title for area in told["areas"] for id, title in area["titles"].items()} == TITLES
    (settings,) = json.loads(wscheck("--list", "--json", "--only", "settings")[1])["areas"]
    assert settings["name"] == "settings"
    assert list(settings["titles"])[:4] == ["wsredis.E001", "wsredis.W001", "wsredis.E002", "wsredis.W002"]


@pytest.mark.parametrize("width", ["80", "120"])
def test_names_are_never_cut(width: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", width)
    _, text = wscheck("--only", "settings", CSRF_TRUSTED_ORIGINS=["https://app.example.com"])
    assert re.search(r"^ ?CSRF_TRUSTED_ORIGINS +https://app.example.com ", text, re.M)
    assert max(map(len, text.splitlines())) <= int(width)


def test_a_word_that_is_longer_than_half_of_a_line_is_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Module:
        TITLES: dict[str, str] = {}

        @staticmethod
        def look(situation: Situation) -> Iterator[Row]:
            yield Row(checked="/srv/" + "x" * 100 + ".ini: need-app", found="on")

    monkeypatch.setitem(areas.MODULES, "settings", (Module,))  # type: ignore[arg-type]
    monkeypatch.setenv("COLUMNS", "80")
    _, text = wscheck("--only", "settings")
    assert re.sub(r"\s", "", text).startswith("settings" + "─" * 80 + "/srv/" + "x" * 35 + "onok" + "x" * 40)


def test_list_prints_every_id() -> None:
    _, text = wscheck("--list")
    assert set(re.findall(r"wsredis\.[EWI]\d+", text)) == set(TITLES)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--only", "nginks"), "'nginks' is no area; there are settings,"),
        (("--skip", "E998"), "wsredis.E998 is no problem's id; wscheck --list prints them."),
        (("--workers", "2"), "--workers: only with --emit KIND."),
        (("--nginx-conf", "/nowhere/nginx.conf"), "/nowhere/nginx.conf is no file."),
        (("--live", "https://example.com/"), "--live is no websocket's URL"),
        (("--live", "ws:///ws/"), "--live is no websocket's URL"),
        (("--live", "ws://[::1"), "--live is no websocket's URL"),
        (("--live", "ws://alice:word@host:x/ws/"), "--live is no websocket's URL, such as wss://example.com/ws/news."),
        (("--user", "alice"), "go with --live URL"),
        (("--only", "redis", "--nginx-conf", __file__), "--nginx-conf is for the area nginx, which --only leaves out."),
        (("--only", "redis", "--live", "ws://h/ws/x"), "--live is for the area live, which --only leaves out."),
        (("--only", "live"), "Nothing could be checked of live."),
        (("--emit", "nginx", "--against", "/nowhere/x"), "Cannot read /nowhere/x: No such file or directory."),
        (("--emit", "nginx", "--against", "x", "--output", "y"), "Either --output or --against."),
        (
            ("--emit", "nginx", "--json", "--skip", "E001"),
            "--json, --skip: not with --emit nginx, which checks",
        ),
        (("--emit", "nginx", "--list"), "--list: not with --emit nginx"),
        (("--emit", "nginx", "--nginx-conf", __file__), "--nginx-conf: not with --emit nginx"),
        (("--list", "--fail-level", "error"), "--fail-level: not with --list, which checks nothing."),
        (("--list", "--live", "ws://h/ws/x", "--idle", "0"), "--live, --idle: not with --list"),
        (("--list", "--only", "nginks"), "'nginks' is no area"),
        (("--live", ""), "--live is no websocket's URL"),
        (("--idle", "0"), "go with --live URL"),
    ],
)
def test_wrong_options_get_one_line(arguments: tuple[str, ...], said: str) -> None:
    assert said in refused(*arguments)


def test_against_shows_how_a_file_differs_from_what_is_emitted(tmp_path: Path) -> None:
    _, text = wscheck("--emit", "nginx")
    path = tmp_path / "site.conf"
    path.write_text(text)
    assert wscheck("--emit", "nginx", "--against", str(path)) == (0, f"{path} is what wscheck prints.\n")
    assert "proxy_read_timeout 60" in text or "uwsgi_read_timeout 60" in text
    path.write_text(text.replace("read_timeout 60", "read_timeout 5"))
    status, shown = wscheck("--emit", "nginx", "--against", str(path))
    assert status == 1
    assert re.search(r"^-.*read_timeout 5s;.*\n\+.*read_timeout 60s;", shown, re.M)


def test_against_one_of_several_files(tmp_path: Path) -> None:
    wscheck("--emit", "uwsgi-emperor", "--output", str(tmp_path))
    path = tmp_path / "vassals" / "pages.ini"
    assert wscheck("--emit", "uwsgi-emperor", "--against", str(path))[0] == 0
    other = tmp_path / "other.ini"
    other.write_text("")
    assert "is none of these" in refused("--emit", "uwsgi-emperor", "--against", str(other))


def test_a_check_that_fails_is_a_row_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Module:
        TITLES: dict[str, str] = {}

        @staticmethod
        def look(situation: Situation) -> Iterator[Row]:
            yield Row(checked="one", found="seen")
            raise KeyError("secret")

    monkeypatch.setitem(areas.MODULES, "settings", (Module, Module))  # type: ignore[arg-type]
    (area,) = look(Situation(), ["settings"])
    assert [(row.checked, row.is_skipped) for row in area.rows] == [("one", False), ("the rest", True)] * 2
    assert area.rows[1].found == "a check failed: KeyError; please tell its authors"


def test_what_hangs_takes_no_longer_together_than_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nginx", "uwsgi", "gunicorn", "apache2", "httpd", "haproxy"):
        (folder / name).write_text("#!/bin/sh\nsleep 60\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    files = {}
    for name in ("uwsgi", "gunicorn", "apache", "haproxy"):
        (folder / f"{name}.conf").write_text("")
        files[f"{name}_conf"] = folder / f"{name}.conf"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with override_settings(WSREDIS={"URL": url}):
            began_at = time.monotonic()
            names = [area.name for area in look(Situation(**files), [*MODULES])]
            seconds = time.monotonic() - began_at
    assert names == list(MODULES)
    assert 2 < seconds < 5


# Completeness


def test_every_id_is_right_and_of_one_area() -> None:
    assert all(re.fullmatch(r"wsredis\.[EWI]\d{3}", id) for id in TITLES)
    numbers = [id[-3:] for id in TITLES]
    listed = [id for modules in MODULES.values() for module in modules for id in module.TITLES]
    assert len(listed) == len(set(listed)) == len(TITLES)
    assert len(numbers) - len(set(numbers)) == 3  # 001 to 003 are errors and warnings


def test_the_documentation_has_every_id_once_in_the_section_of_its_area() -> None:
    sections = re.split(r"^(\w+)\n\.+\n", (ROOT / "docs/checks.rst").read_text(), flags=re.M)[1:]
    documented = {
        name: re.findall(r"^``(wsredis\.[EWI]\d+)``$", text, re.M)
        for name, text in zip(sections[::2], sections[1::2], strict=True)
    }
    assert list(documented) == list(MODULES)
    for name, modules in MODULES.items():
        ids = [id for module in modules for id in module.TITLES]
        assert sorted(documented[name]) == sorted(ids), name


@pytest.mark.parametrize("id", TITLES)
def test_the_documentation_tells_the_cause_of_each_id_and_then_its_cure(id: str) -> None:
    (entry,) = re.findall(rf"^``{id}``\n((?:    .*\n)+)", (ROOT / "docs/checks.rst").read_text(), re.M)
    cause, *cures = re.split(r"\*Cure:\*\s", entry)
    assert len(cures) == 1, f"{id} needs one *Cure:*"
    for part in (cause, *cures):
        assert re.fullmatch(r"\S.+[.)]", part.strip(), re.S), f"the cause and the cure of {id} are sentences"


def test_every_id_is_raised_by_its_area_and_has_a_broken_example() -> None:
    source = "".join(path.read_text() for path in (ROOT / "django_wsredis/checks").rglob("*.py"))
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for id in TITLES:
        assert source.count(f'"{id}"') >= 2, f"{id} has a title, and is never raised"
        assert id in tests or f'"{id.removeprefix("wsredis.")}"' in tests, f"{id} has no test"


def test_looking_raises_nothing_and_only_ids_that_are_known() -> None:
    found = [problem.id for area in look(Situation(), list(MODULES)) for problem in area.problems]
    assert set(found) <= set(TITLES)
