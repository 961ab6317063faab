"""`manage.py wsbroadcast`: one message from the shell."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import override_settings

from django_wsredis import EVERYWHERE, BrokerUnavailable, fetch_message, redis
from django_wsredis.channels import Channel, address, everywhere_name, redis_name
from django_wsredis.commands import Command
from django_wsredis.testing import PublishRecorder

from .conftest import DATABASE
from .servers import ROOT, Listener, RedisServer, free_port

MANAGE = str(ROOT / "tests/project/manage.py")


def wsbroadcast(*arguments: str) -> str:
    output = io.StringIO()
    call_command("wsbroadcast", *arguments, stdout=output)
    return output.getvalue()


def refused(*arguments: str) -> str:
    with pytest.raises(CommandError) as raised:
        wsbroadcast(*arguments)
    text = str(raised.value)
    assert "\n" not in text
    return text


def everywhere(listener: Listener) -> tuple[str | bytes, list[bytes]]:
    """Return the one message that went to every facility, with its addresses."""
    name, message = listener.next() or pytest.fail("nothing was published")
    assert name == everywhere_name("wsredis")
    assert listener.all() == []
    return message.data, list(message.addresses)


def name_of(audience: str, name: str, facility: str) -> bytes:
    return redis_name("wsredis", Channel(audience, name, facility))


# the listener is no worker, and so does not answer
SILENT = " → no socket; 1 worker did not say how many it has\n"


# Who gets it


def test_without_an_audience_it_goes_to_everybody_on_every_facility(listener: Listener) -> None:
    said = wsbroadcast("hello")
    assert said == f"Sent to everybody on every facility{SILENT}"
    assert everywhere(listener) == ("hello", [address("wsredis", "broadcast", "")])


def test_a_group_on_every_facility(listener: Listener) -> None:
    said = wsbroadcast("--group", "staff", "the site sleeps at 5")
    assert said == f"Sent to group staff on every facility{SILENT}"
    assert everywhere(listener) == ("the site sleeps at 5", [address("wsredis", "group", "staff")])


def test_groups_users_and_sessions_together(published: PublishRecorder, alice: str) -> None:
    options = ["--group", "staff", "--group", "chatters", "--user", "alice", "--user", "bob", "--session", alice]
    said = wsbroadcast("x", *options)
    assert said.startswith("Sent to group staff, group chatters, user alice, user bob, a session on every facility →")
    assert alice not in said
    published.assert_published(
        "x", facility=EVERYWHERE, groups=["staff", "chatters"], users=["alice", "bob"], sessions=[alice], count=1
    )


def test_a_facility_narrows_it(listener: Listener) -> None:
    said = wsbroadcast("x", "--facility", "news/é", "--user", "alice")
    assert said == f"Sent to user alice on facility news/é{SILENT}"
    assert listener.all() == [(name_of("user", "alice", "news/é"), "x")]


def test_several_audiences_on_a_facility(listener: Listener) -> None:
    said = wsbroadcast("x", "--facility", "news", "--user", "alice", "--group", "staff")
    assert said.startswith("Sent to group staff, user alice on facility news →")
    assert len(listener.all()) == 2


def test_it_says_when_nobody_is_listening(configured: RedisServer) -> None:
    sent = "Sent to everybody on {} → no socket\nNobody is listening there now{}\n".format
    not_kept = ", and it is not kept: WSREDIS['HISTORY'], or --expire, says what is."
    kept = ". It is kept for those who join."
    assert wsbroadcast("x") == sent("every facility", not_kept)
    assert wsbroadcast("x", "--facility", "news") == sent("facility news", not_kept)
    assert wsbroadcast("x", "--facility", "news", "--expire", "60") == sent("facility news", kept)
    history = {"news": {"messages": 10, "seconds": 60}}
    with override_settings(WSREDIS={"URL": configured.url, "HISTORY": history}):
        assert wsbroadcast("x", "--facility", "news") == sent("facility news", kept)
        assert wsbroadcast("x", "--facility", "news", "--expire", "0") == sent("facility news", not_kept)


# The message


def test_a_message_comes_from_standard_input(published: PublishRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("two\nlines\n"))
    wsbroadcast("-", "--facility", "news")
    published.assert_published("two\nlines", facility="news", broadcast=True, count=1)


@pytest.mark.parametrize("message", ['{"unread": 3}', "[]", '"text"', "3", "null", " [1] "])
def test_json_is_sent_as_it_is_written(published: PublishRecorder, message: str) -> None:
    wsbroadcast(message, "--json", "--facility", "news")
    published.assert_published(message, count=1)


@pytest.mark.parametrize(
    "message", ["{unread: 3}", "hello", "{'a': 1}", "[1,]", "NaN", '{"a": -Infinity}', "[" * 100_000]
)
def test_bad_json_is_refused(published: PublishRecorder, message: str) -> None:
    assert refused(message, "--json").startswith("The message is not JSON: ")
    published.assert_nothing_published()


@pytest.mark.parametrize("given", ["", "\n"])
def test_an_empty_message_is_refused(published: PublishRecorder, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(given))
    assert refused("-") == "The message is empty."
    assert refused("") == "The message is empty."
    published.assert_nothing_published()


# Names


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--group", "stuff"], "There is no group 'stuff'. Did you mean 'staff'? (--force sends anyway.)"),
        (["--group", "staff", "--group", "chaters"], "There is no group 'chaters'. Did you mean 'chatters'?"),
        (["--user", "alise"], "There is no user 'alise'. Did you mean 'alice'?"),
        (["--user", "Bob"], "There is no user 'Bob'. Did you mean 'bob'?"),
        (["--user", "carol"], "There is no user 'carol'. (--force sends anyway.)"),
        (["--session", "abc"], "There is no such session. (--force sends anyway.)"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(
    published: PublishRecorder, options: list[str], said: str
) -> None:
    assert refused("x", *options).startswith(said)
    published.assert_nothing_published()


def test_force_sends_to_unknown_names(published: PublishRecorder) -> None:
    said = wsbroadcast("x", "--group", "stuff", "--user", "nobody", "--session", "abc", "--force")
    assert said.startswith("Sent to group stuff, user nobody, a session on every facility →")
    published.assert_published("x", facility=EVERYWHERE, groups=["stuff"], users=["nobody"], sessions=["abc"])


@pytest.mark.parametrize(
    ("engine", "is_known"),
    [("db", False), ("cached_db", False), ("cache", False), ("file", False), ("signed_cookies", True)],
)
@pytest.mark.parametrize("key", ["x" * 32, "../x"])
def test_a_session_is_looked_up_where_the_server_has_it(
    published: PublishRecorder, engine: str, is_known: bool, key: str
) -> None:
    with override_settings(SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}"):
        if is_known:
            assert wsbroadcast("x", "--session", key).startswith("Sent to a session")
        else:
            assert refused("x", "--session", key) == "There is no such session. (--force sends anyway.)"


def test_without_an_app_for_sessions_they_cannot_be_looked_up(published: PublishRecorder, alice: str) -> None:
    apps = [name for name in django_settings.INSTALLED_APPS if name != "django.contrib.sessions"]
    with override_settings(INSTALLED_APPS=apps):
        assert refused("x", "--session", alice).startswith("This project has no django.contrib.sessions")


@pytest.mark.parametrize("option", ["--group", "--user", "--session"])
def test_an_empty_name_is_nobodys(published: PublishRecorder, option: str) -> None:
    assert "not empty" in refused("x", option, "")
    assert "not empty" in refused("x", option, "", "--force")
    published.assert_nothing_published()


# Options


def test_a_dry_run_only_asks(listener: Listener) -> None:
    said = wsbroadcast("héllo", "--group", "staff", "--dry-run")
    assert said == "Would send 6 bytes to group staff on every facility → no socket\n"
    name, message = listener.next() or pytest.fail("nobody was asked")
    assert (name, message.is_request, listener.all()) == (everywhere_name("wsredis"), True, [])


def test_a_dry_run_checks_the_names_too(configured: RedisServer) -> None:
    assert "Did you mean 'staff'" in refused("x", "--group", "stuff", "--dry-run")


def test_expire_keeps_it(configured: RedisServer) -> None:
    wsbroadcast("kept", "--facility", "news", "--expire", "60")
    assert fetch_message(None, "news") == "kept"
    with configured.client() as client:
        assert 50 < client.ttl(name_of("broadcast", "", "news")) <= 60


def test_the_settings_expire_counts_on_a_facility(configured: RedisServer) -> None:
    with override_settings(WSREDIS={"URL": configured.url, "EXPIRE": 60}):
        wsbroadcast("not kept", "--facility", "news", "--expire", "0")
        assert fetch_message(None, "news") is None
        wsbroadcast("kept", "--facility", "news")
        wsbroadcast("not kept")
        assert fetch_message(None, "news") == "kept"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--expire", "60"], "--expire needs --facility: a message for every facility is kept on none."),
        (["--expire", "0"], "--expire needs --facility"),
        (["--expire", "-1", "--facility", "news"], "--expire is -1; it is a whole number of seconds up to"),
        (["--expire", str(2**31), "--facility", "news"], "--expire is 2147483648; it is a whole number"),
    ],
)
def test_a_wrong_expire_is_refused(published: PublishRecorder, options: list[str], said: str) -> None:
    assert refused("x", *options).startswith(said)
    published.assert_nothing_published()


@pytest.mark.parametrize(
    ("facility", "path"),
    [("ws/x?y", "/ws/ws/x%3Fy"), ("ws/news", "/ws/ws/news"), ("a#b", "/ws/a%23b"), ("50%", "/ws/50%25")],
)
@pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=["sent", "dry-run"])
def test_a_name_that_looks_like_a_path_is_shown_as_one_if_nobody_listens(
    configured: RedisServer, facility: str, path: str, options: list[str]
) -> None:
    said = wsbroadcast("x", "--facility", facility, *options)
    assert said.endswith(f"\nBrowsers reach this facility at {path}.\n")
    assert "Browsers" not in wsbroadcast("x", "--facility", "rooms/zürich", *options)


@pytest.mark.parametrize("facility", ["", "x" * 201, "\ud800", "/news", "-/readyz"])
def test_a_facility_that_is_none_is_refused(published: PublishRecorder, facility: str) -> None:
    assert "is no facility" in refused("x", f"--facility={facility}")
    published.assert_nothing_published()


@pytest.mark.parametrize("options", [["--expire", "soon"], ["--nonsense"], ["--group"], ["a second message"]])
def test_wrong_options_are_refused(options: list[str]) -> None:
    with pytest.raises(CommandError):
        wsbroadcast("x", *options)


def test_a_message_is_sent_inside_a_transaction_too(published: PublishRecorder) -> None:
    with transaction.atomic():
        wsbroadcast("x", "--facility", "news")
        assert not published.assert_published("x")[0].waits_for_commit


def test_a_history_decides_what_is_kept_there(configured: RedisServer) -> None:
    history = {"chat": {"messages": 5, "seconds": 60}}
    with override_settings(WSREDIS={"URL": configured.url, "HISTORY": history}):
        said = refused("x", "--facility", "chat", "--expire", "60")
        assert said == "--expire is not for 'chat': WSREDIS['HISTORY'] says what is kept there."
        wsbroadcast("kept", "--facility", "chat")
        wsbroadcast("not kept", "--facility", "chat", "--expire", "0")
        assert fetch_message(None, "chat") == "kept"


def test_the_same_key_is_sent_once(listener: Listener) -> None:
    assert wsbroadcast("x", "--key", "1").endswith(SILENT)
    said = wsbroadcast("x", "--key", "1")
    assert said.endswith("It was sent with this key before, and not again.\n")
    assert everywhere(listener)[0] == "x"


def test_a_key_is_told_to_be_new_or_not_also_when_nobody_is_listening(configured: RedisServer) -> None:
    said = [wsbroadcast("x", "--facility", "news", "--user", "alice", "--key", "1").splitlines()[-1] for _ in range(2)]
    assert said[0].startswith("Nobody is listening there now, and it is not kept")
    assert said[1] == "It was sent with this key before, and not again."
    said = wsbroadcast("x", "--facility", "news", "--user", "alice", "--user", "bob", "--key", "1")
    assert "before" not in said  # bob gets it


def test_it_tries_again_while_redis_is_away(configured: RedisServer) -> None:
    assert wsbroadcast("x", "--retry", "5").startswith("Sent to everybody")
    with override_settings(WSREDIS={"URL": f"redis://127.0.0.1:{free_port()}/0"}):
        assert "cannot be reached" in refused("x", "--retry", "0.2")


def test_a_retry_after_a_lost_answer_does_not_say_that_nobody_listens(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute, answers = redis.execute, []

    def lose_the_first_answer(commands: list[Command]) -> list[Any]:
        answers.append(execute(commands))
        if len(answers) == 1:
            raise BrokerUnavailable("it did not answer")
        return answers[-1]

    monkeypatch.setattr(redis, "execute", lose_the_first_answer)
    assert wsbroadcast("x", "--retry", "5").endswith(" → no socket\nA try whose answer was lost had sent it already.\n")
    assert everywhere(listener)[0] == "x"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--key", ""], "--key is ''; it is a text of 1 to 200 characters."),
        (["--key", "\udcff"], "--key is '\\udcff'; it is a text of 1 to 200 characters."),
        (["--retry", "0"], "--retry is 0; it is a number of seconds above 0, up to 240."),
        (["--retry", "1e9"], "--retry is 1e+09; it is a number of seconds above 0, up to 240."),
    ],
)
def test_a_wrong_key_or_retry_is_refused(listener: Listener, options: list[str], said: str) -> None:
    assert refused("x", *options) == said
    assert refused("x", "--dry-run", *options) == said
    assert listener.all() == []


# As a process


def manage_py(*arguments: str | bytes, input: bytes | None = None, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, MANAGE, "wsbroadcast", *arguments],
        env={**os.environ, "TEST_DATABASE": str(DATABASE), **env},
        cwd=ROOT,
        input=input,
        capture_output=True,
        timeout=60,
    )


def is_one_clear_line(done: subprocess.CompletedProcess[bytes]) -> bool:
    text = done.stderr.decode(errors="replace")
    return done.returncode == 1 and done.stdout == b"" and text.count("\n") == 1 and text.startswith("CommandError: ")


def test_the_command_works_from_a_shell(configured: RedisServer, listener: Listener) -> None:
    done = manage_py("--group", "staff", "-", input="héllo\n".encode(), TEST_REDIS_URL=configured.url)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == f"Sent to group staff on every facility{SILENT}".encode()
    assert everywhere(listener)[0] == "héllo"


def test_redis_away_is_one_line_and_exit_status_1() -> None:
    done = manage_py("hello", TEST_REDIS_URL=f"redis://:secret@127.0.0.1:{free_port()}/0")
    assert is_one_clear_line(done), done
    assert b"cannot be reached" in done.stderr
    assert b"secret" not in done.stderr


def test_an_embedded_server_that_does_not_run_is_one_line_that_says_how_to_start_it(folder: Any) -> None:
    done = manage_py("hello", TEST_REDIS_URL=f"embedded://{folder}")
    assert is_one_clear_line(done), done
    assert b"runwsserver" in done.stderr
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "input", "said"),
    [
        ([b"\xff"], None, b"not text"),
        (["-"], b"\xff\xfe", b"not text"),
        (["x", "--user", b"\xff", "--force"], None, b"UTF-8"),
        (["x", "--group", b"\xff"], None, b"UTF-8"),
    ],
)
def test_bytes_that_are_no_text_are_one_line_and_exit_status_1(
    configured: RedisServer, arguments: list[str | bytes], input: bytes | None, said: bytes
) -> None:
    for locale in ("C.UTF-8", "C"):
        done = manage_py(*arguments, input=input, TEST_REDIS_URL=configured.url, LC_ALL=locale)
        assert is_one_clear_line(done), done
        assert said in done.stderr


def test_help_shows_examples() -> None:
    done = manage_py("--help")
    assert done.returncode == 0
    text = done.stdout.decode()
    examples = [line.strip() for line in text.splitlines() if line.startswith("  ./manage.py wsbroadcast")]
    assert len(examples) >= 3
    assert "  date | ./manage.py wsbroadcast --facility clock --expire 60 -" in text
    for option in ("facility", "group", "user", "session", "expire", "key", "retry", "json", "force", "dry-run"):
        assert f"--{option}" in text
