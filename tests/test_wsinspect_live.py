"""`manage.py wsinspect` where servers of two kinds run: what it tells of them is what the test knows."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from django_wsredis import EVERYWHERE, count, publish
from django_wsredis.channels import Channel, redis_name, session_digest

from .conftest import DATABASE, login
from .hosted import HostedSite
from .servers import ROOT, RedisServer, Site, find_redis, run_manage, wait_until
from .tails import Tail

SETTINGS = {
    "WSREDIS": {
        "PING_INTERVAL": 1,
        "ALLOWED_CHANNELS": "tests.project.callbacks.everything",
        "HISTORY": {"kept/*": {"messages": 50, "seconds": 3600}},
    }
}


class Stage(NamedTuple):
    redis: RedisServer
    one: Site  # runwsserver with two workers
    two: Site  # gunicorn


@pytest.fixture(scope="module")
def stage(database: Path) -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="wsr-") as folder, ExitStack() as stack:
        redis = RedisServer(Path(folder), find_redis())
        stack.callback(redis.stop)
        one = Site("runwsserver", "--workers", "2", database=DATABASE, redis_url=redis.url, settings=SETTINGS)
        stack.callback(one.stop)
        two = HostedSite("gunicorn gthread", redis, DATABASE, SETTINGS)
        stack.callback(two.stop)
        two.get("hello/")
        with override_settings(WSREDIS={"URL": redis.url, **SETTINGS["WSREDIS"]}):
            with two.connect("warm?subscribe-broadcast"):  # its loop starts with its first socket
                pass
            wait_until(lambda: len(told()["workers"]) == 3 and count().sockets == 0, 30, "three workers")
        yield Stage(redis, one, two)


@pytest.fixture(autouse=True)
def configured_for_stage(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("COLUMNS", "80")
    with override_settings(WSREDIS={"URL": stage.redis.url, **SETTINGS["WSREDIS"]}):
        yield
        wait_until(lambda: count().sockets == 0, 10, "the end of all sockets")


def wsinspect(*arguments: str) -> str:
    output = io.StringIO()
    call_command("wsinspect", *arguments, stdout=output)
    return output.getvalue()


def told(*arguments: str) -> Any:
    return json.loads(wsinspect(*arguments, "--json"))


def row(output: str, begin: str) -> list[str]:
    """Return the cells of the first line that begins with a text."""
    line = next(line for line in output.splitlines() if line.startswith(begin))
    return re.split(r" {2,}", line.strip())


ALL = "subscribe-broadcast&subscribe-user&subscribe-group&subscribe-session"


@contextmanager
def crowd(stage: Stage, cookies: dict[str, str]) -> Iterator[list[ClientConnection]]:
    """Connect alice thrice, bob twice, and one whom nobody knows."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(site.connect(f"{facility}?{ALL}&publish-broadcast", cookie=cookies.get(name)))
            for site, facility, name in (
                (stage.one, "chat", "alice"),
                (stage.two, "chat", "alice"),
                (stage.one, "kept/1", "alice"),
                (stage.two, "chat", "bob"),
                (stage.one, "kept/1", "bob"),
                (stage.two, "news", ""),
            )
        ]


@pytest.fixture
def cookies(alice: str, bob: str) -> dict[str, str]:
    return {"alice": alice, "bob": bob}


# The overview


def test_the_overview_tells_what_is_true(stage: Stage, cookies: dict[str, str]) -> None:
    with crowd(stage, cookies) as sockets:
        for number in range(3):
            publish(f"message {number}", facility="kept/1", broadcast=True)
        assert [sockets[2].recv(5) for _ in range(3)] == ["message 0", "message 1", "message 2"]
        sockets[5].send("from a browser")
        wait_until(lambda: sum(worker["received"] for worker in told()["workers"]) >= 1)
        report = told()
        assert (report["problems"], report["silent"], report["workers_problem"]) == ([], [], None)
        assert len(report["workers"]) == 3
        by_server: dict[str, int] = {}
        for worker in report["workers"]:
            by_server[worker["server"].split()[0]] = by_server.get(worker["server"].split()[0], 0) + worker["sockets"]
            assert worker["sockets_meant"] == worker["sockets"]
            assert worker["uptime_seconds"] > 0
            assert worker["memory_bytes"] > 10_000_000
            assert worker["lag_p99_ms"] >= 0
        assert by_server == {"runwsserver": 3, "gunicorn": 3}
        assert {worker["pid"] for worker in report["workers"]} == {*stage.one.worker_pids(), stage.two.pid}
        assert sum(worker["delivered"] for worker in report["workers"]) >= 6
        found = {one["channel"]: (one["sockets"], (one["kept"] or {}).get("messages")) for one in report["channels"]}
        assert found == {
            "broadcast:chat": (3, None),
            "session:chat": (3, None),
            "broadcast:kept/1": (2, 3),
            "session:kept/1": (2, None),
            "user:alice:chat": (2, None),
            "group:staff:chat": (2, None),
            "group:chatters:chat": (1, None),
            "group:chatters:kept/1": (1, None),
            "group:staff:kept/1": (1, None),
            "user:alice:kept/1": (1, None),
            "user:bob:chat": (1, None),
            "user:bob:kept/1": (1, None),
            "broadcast:news": (1, None),
        }
        assert (report["live_channels"], report["kept_channels"]) == (13, 1)


def test_it_is_shown_in_80_columns(stage: Stage, cookies: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with crowd(stage, cookies):
        publish("x", facility="kept/1", broadcast=True)
        output = wsinspect()
        assert max(map(len, output.splitlines())) <= 80
        pid = stage.two.pid
        name = next(worker["host"] for worker in told()["workers"] if worker["pid"] == pid)
        assert row(output, f"{name}:{pid}")[1:3] == ["gunicorn 27.0.1"[: len(row(output, f"{name}:{pid}")[1])], "3"]
        assert row(output, "3 workers")[1] == "6"
        cells = row(output, "broadcast:kept/1")
        assert cells[1] == "2"
        assert re.fullmatch(r"\d+ of 50", cells[2])
        assert cells[3:] in (["0s ago", "59m"], ["1s ago", "59m"])
        assert row(output, "broadcast:chat")[1:] == ["3"]
        assert "13 more" not in output
        assert "12 more; --limit 13 shows all." in wsinspect("--limit", "1")
        monkeypatch.setenv("COLUMNS", "120")
        assert f"127.0.0.1:{stage.two.port}" in wsinspect()


def test_it_is_narrowed(stage: Stage, cookies: dict[str, str]) -> None:
    def look(*options: str) -> tuple[int, int, set[str]]:
        report = told(*options)
        meant = sum(worker["sockets_meant"] for worker in report["workers"])
        return meant, sum(worker["sockets"] for worker in report["workers"]), {c["channel"] for c in report["channels"]}

    with crowd(stage, cookies):
        alices = {"broadcast:chat", "session:chat", "user:alice:chat", "group:staff:chat"}
        alices |= {channel.replace(":chat", ":kept/1") for channel in alices}
        assert look("--user", "alice") == (3, 6, alices)
        assert look("--group", "staff") == (3, 6, alices)
        assert look("--session", cookies["alice"]) == (3, 6, alices)
        assert look("--user", "alice", "--facility", "chat") == (2, 6, {name for name in alices if "kept" not in name})
        assert look("--user", "alice", "--user", "bob")[:2] == (5, 6)
        assert look("--facility", "kept/*")[0] == 2
        assert look("--channel", "user:*:chat") == (3, 6, {"user:alice:chat", "user:bob:chat"})
        assert look("--user", "carol") == (0, 6, set())
        assert look("--group", "nobody") == (0, 6, set())
        worker = next(worker for worker in told()["workers"] if worker["pid"] == stage.two.pid)
        assert look("--worker", worker["id"])[:2] == (3, 3)
        assert len(told("--worker", f"{worker['host']}:{worker['pid']}:")["workers"]) == 1
        assert told("--worker", "nonsense")["problems"] == ["No worker's id begins with 'nonsense'."]
        output = wsinspect("--user", "alice", "--facility", "chat")
        assert "Only facility chat, user alice" in output
        assert "1 of 3" in row(output, f"{worker['host']}:{worker['pid']}")[2]
        assert row(output, "3 workers")[1] == "2 of 6"


def test_workers_are_sorted(stage: Stage, cookies: dict[str, str]) -> None:
    with crowd(stage, cookies):
        for sort, key in (("sockets", "sockets"), ("memory", "memory_bytes"), ("uptime", "uptime_seconds")):
            found = [worker[key] for worker in told("--sort", sort)["workers"]]
            assert found == sorted(found, reverse=True)
        assert [worker["pid"] for worker in told("--sort", "name")["workers"]] == sorted(
            [*stage.one.worker_pids(), stage.two.pid]
        )


def test_the_last_error_is_shown_with_its_age(stage: Stage) -> None:
    with stage.redis.client() as client:
        client.publish("wsredis:everywhere", b"\xffW\xff")
    wait_until(lambda: all(worker["last_error"] for worker in told()["workers"]), 10, "the errors")
    for worker in told()["workers"]:
        assert "cannot be read and is dropped" in worker["last_error"]
        assert 0 <= worker["last_error_age_seconds"] < 60
    lines = [line for line in wsinspect().splitlines() if "ago  A message on" in line]
    assert len(lines) == 3
    assert all(len(line) <= 80 for line in lines)


def test_every_key_is_documented(stage: Stage, cookies: dict[str, str]) -> None:
    def keys(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from value
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                yield from keys(item)

    docs = (ROOT / "docs/inspect.rst").read_text().partition("\nFor programs\n")[2].partition("\nWhat it costs\n")[0]
    with crowd(stage, cookies), followed(stage, "kept/1", "--json") as tail:
        publish("x", facility="kept/1", broadcast=True)
        tail.wait_for("broadcast:kept/1")
        found = {
            *keys(told()),
            *keys(told("--sockets")),
            *keys(told("--messages", "--facility", "kept/1")),
            *keys(json.loads(tail.lines[-1])),
            *keys(json.loads(wsinspect("--disconnect", "--user", "carol", "--yes", "--json"))),
        }
    assert len(found) > 60
    assert {key for key in found if not key.isdigit()} - set(re.findall(r"\w+", docs)) == set()  # digits: close codes


# Sockets


def test_each_socket_has_a_row(stage: Stage, cookies: dict[str, str]) -> None:
    with crowd(stage, cookies) as sockets:
        publish("hello", facility="chat", broadcast=True)
        assert sockets[3].recv(5) == "hello"
        sockets[3].send("from bob")
        assert sockets[0].recv(5) == "hello"
        assert sockets[0].recv(5) == "from bob"
        wait_until(lambda: all(one["round_trip_ms"] for one in told("--sockets")["sockets"]), 10, "pongs")
        report = told("--sockets", "--sort", "in")
        assert (report["total"], report["silent"], len(report["sockets"])) == (6, [], 6)
        bobs = report["sockets"][0]
        assert (bobs["user"], bobs["received"], bobs["sent"], bobs["outbox_bytes"]) == ("bob", 1, 1, 0)
        assert (bobs["facilities"], bobs["address"]) == (["chat"], "127.0.0.1")
        assert sorted(bobs["channels"]) == ["broadcast:chat", "group:chatters:chat", "session:chat", "user:bob:chat"]
        ages = [one["age_seconds"] for one in told("--sockets", "--sort", "age")["sockets"]]
        assert ages == sorted(ages)
        alices = told("--sockets", "--user", "alice", "--limit", "2")
        assert ({one["user"] for one in alices["sockets"]}, len(alices["sockets"]), alices["total"]) == (
            {"alice"},
            2,
            3,
        )
        output = wsinspect("--sockets", "--user", "alice", "--limit", "2")
        assert max(map(len, output.splitlines())) <= 80
        assert " 2 of 3 sockets" in output.splitlines()
        assert "Only user alice" in output
        assert row(output, "127.0.0.1")[1].startswith("broadcast group:staff")
        assert "No socket." in wsinspect("--sockets", "--user", "carol")


def test_session_keys_are_never_shown(stage: Stage, cookies: dict[str, str]) -> None:
    key = cookies["alice"]
    digest = session_digest(key)
    with crowd(stage, cookies), followed(stage, "session:kept/1") as tail:
        with stage.redis.client() as client:
            client.publish(f"wsredis:session:{digest}:kept/1", b"\xffW\xff")  # whose name is logged
        wait_until(lambda: "A message on wsredis:session:" in wsinspect("--json"), 10, "the error")
        publish("for her session", facility="kept/1", sessions=[key])
        tail.wait_for("for her session")
        shown = tail.output
        for options in ([], ["--sockets"]):
            for narrow in ([], ["--session", key]):
                shown += wsinspect(*options, *narrow) + wsinspect(*options, *narrow, "--json")
        shown += wsinspect("--messages", "--facility", "kept/1", "--session", key)
    assert shown.count("session:kept/1") > 3
    assert key not in shown
    assert digest not in shown


# Workers that do not answer


def test_a_worker_that_hangs_is_named(stage: Stage) -> None:
    os.kill(stage.two.pid, signal.SIGSTOP)
    try:
        output = io.StringIO()
        with pytest.raises(CommandError, match=rf"1 worker did not answer: \w+:{stage.two.pid}\.") as raised:
            call_command("wsinspect", stdout=output)
        assert raised.value.returncode == 2
        said = " ".join(output.getvalue().split())
        assert f":{stage.two.pid} (gunicorn" in said
        assert "does not answer: it hangs, or has too much to do." in said
        done = run_manage("wsinspect", "--json", redis_url=stage.redis.url)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        report = json.loads(done.stdout)
        (silent,) = report["silent"]
        assert f":{stage.two.pid}:" in silent
        hanging = next(worker for worker in report["workers"] if worker["id"] == silent)
        assert (hanging["sockets"], hanging["memory_bytes"]) == (None, None)
        for option in (["--sockets"], ["--disconnect", "--user", "carol", "--yes"]):
            with pytest.raises(CommandError, match="1 worker did not answer") as raised:
                wsinspect(*option)
            assert raised.value.returncode == 2
        assert len(told("--worker", told_of(stage.one.worker_pids()[0]))["workers"]) == 1  # the others are well
    finally:
        os.kill(stage.two.pid, signal.SIGCONT)
    wait_until(lambda: told_or_none() is not None, 10, "its answer")


def told_or_none() -> Any:
    try:
        return told()
    except CommandError:
        return None


def told_of(pid: int) -> str:
    """Return how the id of a worker begins."""
    output = io.StringIO()
    with pytest.raises(CommandError):
        call_command("wsinspect", "--json", stdout=output)
    return next(worker["id"] for worker in json.loads(output.getvalue())["workers"] if worker["pid"] == pid)


def test_a_worker_that_is_not_announced_is_named(stage: Stage) -> None:
    def problems() -> list[str]:
        with stage.redis.client() as client:
            client.delete("wsredis:workers")
        return told()["problems"]

    (*problem,) = wait_until(lambda: found if len(found := problems()) == 3 else None)
    assert all("answers, but is not announced" in line for line in problem)
    wait_until(lambda: told()["problems"] == [], 10, "the announcements")


# Following messages


@contextmanager
def followed(stage: Stage, what: str, *options: str) -> Iterator[Tail]:
    """Run `--tail` beside the three workers, until the end of the block."""
    with stage.redis.client() as client, Tail(stage.redis.url, what, *options, settings=SETTINGS) as tail:
        # the channels that are followed are subscribed before this one
        wait_until(lambda: client.pubsub_numsub("wsredis:everywhere")[0][1] > 3, 20, "the tail's listening")
        yield tail


def test_messages_are_followed(stage: Stage, cookies: dict[str, str]) -> None:
    with crowd(stage, cookies) as sockets, followed(stage, "kept/*", "--json") as tail:
        with stage.redis.client() as client:
            name = redis_name("wsredis", Channel("user", "bob", "kept/1")).decode()
            wait_until(lambda: client.pubsub_numsub(name)[0][1] == 2)  # the tail's, too
        publish("hello ⏎", facility="kept/1", broadcast=True)
        publish(b"\x00\xff", facility="kept/1", users=["bob"])
        sockets[4].send("from bob")
        publish("not followed", facility="chat", broadcast=True)
        publish("to bob", facility=EVERYWHERE, users=["bob"])
        publish("to who is not there", facility=EVERYWHERE, users=["carol"])
        publish("end", facility="kept/1", broadcast=True)
        tail.wait_for('"end"')
        found = [json.loads(line) for line in tail.lines]
        by_text = {one["text"] or one["hex"]: one for one in found}
        assert by_text.keys() == {"hello ⏎", "00ff", "from bob", "to bob", "end"}
        hello, binary, bobs, everywhere = (by_text[text] for text in ("hello ⏎", "00ff", "from bob", "to bob"))
        assert (hello["channel"], hello["bytes"], hello["from_browser"]) == ("broadcast:kept/1", 9, False)
        assert re.fullmatch(r"\d+-\d+", hello["id"])
        assert (binary["channel"], binary["text"], binary["bytes"]) == ("user:bob:kept/1", None, 2)
        assert bobs["from_browser"] is True
        assert (everywhere["channel"], everywhere["audiences"], everywhere["id"]) == ("everywhere", ["user:bob"], None)


def test_messages_are_followed_as_lines(stage: Stage) -> None:
    with followed(stage, "broadcast:chat") as tail:
        publish("one\ntwo\x1b[31m", facility="chat", broadcast=True)
        publish(bytes(range(64)), facility="chat", broadcast=True)
        tail.wait_for("00 01 02")
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} broadcast:chat +12B one⏎two\\x1b\[31m", tail.lines[0])
        assert re.search(r" broadcast:chat +64B 00 01 02 .* 3f$", tail.lines[1])


def test_who_follows_is_not_waited_for(stage: Stage) -> None:
    with (
        stage.redis.client() as client,
        followed(stage, "*"),
        stage.one.connect("chat?subscribe-broadcast") as websocket,
    ):
        wait_until(lambda: client.pubsub_numsub("wsredis:broadcast:chat")[0][1] == 2)  # a worker, and who follows
        assert count().seconds < 0.5
        assert told()["problems"] == []
        assert told()["seconds"] < 0.5
        receipt = publish("x", facility="chat", broadcast=True, receipt=True)
        assert (receipt.sockets, receipt.workers, receipt.unanswered) == (1, 1, 0)
        assert receipt.seconds < 0.5
        assert websocket.recv(5) == "x"


def test_others_who_listen_are_hardly_waited_for(stage: Stage) -> None:
    with stage.redis.client() as client, client.pubsub() as pubsub:
        pubsub.psubscribe("*")  # as redis-cli may
        assert pubsub.get_message(timeout=5)["type"] == "psubscribe"
        assert count().seconds < 0.5
        assert told()["problems"] == []


def test_a_reader_that_has_seen_enough_ends_it(stage: Stage) -> None:
    command = [sys.executable, str(ROOT / "tests/project/manage.py"), "wsinspect", "--tail", "chat", "--json"]
    env = {**stage.one.env, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        with stage.redis.client() as client:
            wait_until(lambda: client.pubsub_numsub("wsredis:broadcast:chat")[0][1] == 1, 20, "the tail's listening")
        publish("first", facility="chat", broadcast=True)
        assert "first" in process.stdout.readline()
        process.stdout.close()

        def has_ended() -> bool:
            publish("more", facility="chat", broadcast=True)
            return process.poll() is not None

        wait_until(has_ended, 10, "its end")
        assert (process.returncode, process.stderr.read()) == (0, "")


# Closing sockets


class Terminal(io.StringIO):
    """Standard input where somebody answers."""

    def isatty(self) -> bool:
        return True


def end(websocket: ClientConnection) -> tuple[int, str]:
    """Return the code and the reason with which a socket is closed."""
    with pytest.raises(ConnectionClosed) as error:
        receive_all(websocket)
    return error.value.rcvd.code, error.value.rcvd.reason


def receive_all(websocket: ClientConnection) -> None:
    while True:
        websocket.recv(5)


def test_sockets_are_closed(stage: Stage, cookies: dict[str, str]) -> None:
    with crowd(stage, cookies) as sockets:
        output = wsinspect("--disconnect", "--user", "alice", "--yes", "--reason", "see you")
        assert re.fullmatch(r"Closed 3 sockets of 1 user on [23] workers in \d+ ms\.\n", output)
        for websocket in sockets[:3]:
            assert end(websocket) == (4403, "see you")
        assert wsinspect("--disconnect", "--user", "alice", "--yes") == "There is no such socket.\n"
        wait_until(lambda: count().sockets == 3)
        closed = json.loads(wsinspect("--disconnect", "--facility", "news", "--yes", "--json", "--code", "1012"))
        assert (closed["sockets"], closed["users"], closed["workers"], closed["silent"]) == (1, 0, 1, [])
        assert end(sockets[5]) == (1012, "")
        wait_until(lambda: count().sockets == 2)
        assert wsinspect("--disconnect", "--everybody", "--yes").startswith("Closed 2 sockets of 1 user on 2 workers")


def test_it_asks_before_it_closes(
    stage: Stage, cookies: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with crowd(stage, cookies):
        with pytest.raises(CommandError, match="Standard input is no terminal"):
            wsinspect("--disconnect", "--user", "alice")
        for answer in ("n\n", "\n", "", "no\n"):
            monkeypatch.setattr(sys, "stdin", Terminal(answer))
            with pytest.raises(CommandError, match="Nothing was closed"):
                wsinspect("--disconnect", "--user", "bob")
        asked = capsys.readouterr().err
        assert asked.startswith("Close 2 sockets of 1 user on 2 workers with 4403? [y/N] ")
        assert count(users=["bob"]).sockets == 2
        monkeypatch.setattr(sys, "stdin", Terminal(""))
        assert wsinspect("--disconnect", "--user", "carol") == "There is no such socket.\n"
        monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
        assert "Closed 2 sockets of 1 user on 2 workers" in wsinspect("--disconnect", "--group", "chatters")
        wait_until(lambda: count().sockets == 4)


def test_the_command_ends_well_from_a_shell(stage: Stage) -> None:
    done = run_manage("wsinspect", redis_url=stage.redis.url)
    assert (done.returncode, done.stderr) == (0, "")
    with stage.one.connect("chat?subscribe-broadcast", cookie=login("alice")):
        done = run_manage("wsinspect", "--sockets", "--group", "staff", redis_url=stage.redis.url)
        assert (done.returncode, done.stderr) == (0, "")
        assert "alice" in done.stdout
