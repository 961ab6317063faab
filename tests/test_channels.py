"""Names in Redis, and what a browser asks for."""

from __future__ import annotations

import json
import string
from urllib.parse import urlencode

import pytest
from django.test import override_settings
from hypothesis import example, given
from hypothesis import strategies as st

from django_wsredis.channels import (
    AUDIENCES,
    MAX_FACILITY_CHARACTERS,
    MAX_HISTORY,
    Channel,
    Wish,
    address,
    channel_name,
    everywhere_name,
    facility_problem,
    is_position,
    parse_wish,
    read_last_event_id,
    read_redis_name,
    redis_name,
    session_digest,
)
from django_wsredis.exceptions import HandshakeError

# few characters, and those that names are made of, so that near misses are frequent
parts = st.text("a:/%@3A*é\n ", min_size=1, max_size=5) | st.sampled_from(["user", "group", "broadcast", "everywhere"])
any_part = parts | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@st.composite
def addressed(draw: st.DrawFn) -> tuple[str, Channel]:
    """A prefix and a channel. A broadcast has no name."""
    audience = draw(st.sampled_from(AUDIENCES))
    name = "" if audience == "broadcast" else draw(any_part)
    return draw(any_part), Channel(audience, name, draw(any_part))


@given(addressed(), addressed())
@example(("p", Channel("broadcast", "", "user:a:b")), ("p", Channel("user", "a", "b")))
@example(("p", Channel("user", "a:b", "c")), ("p", Channel("user", "a", "b:c")))
@example(("p:user", Channel("broadcast", "", "a")), ("p", Channel("user", "broadcast", "a")))
@example(("p", Channel("user", "a%3Ab", "c")), ("p", Channel("user", "a:b", "c")))
@example(("p", Channel("user", "é", "c")), ("p", Channel("user", "%C3%A9", "c")))
def test_no_two_channels_share_a_redis_name(one: tuple[str, Channel], two: tuple[str, Channel]) -> None:
    assert (redis_name(*one) == redis_name(*two)) == (one == two)


@given(addressed())
def test_a_redis_name_tells_its_channel(one: tuple[str, Channel]) -> None:
    prefix, channel = one
    assert read_redis_name(prefix, redis_name(prefix, channel)) == channel


@pytest.mark.parametrize(
    "name",
    [
        b"p",
        b"p:jobs",
        b"p:everywhere",
        b"p:broadcast",
        b"p:broadcast:",
        b"p:broadcast:a:b",
        b"p:user::b",
        b"p:user:a",
        b"p:team:a:b",
        b"p:user:a%3ab:c",
        b"p:user:a:%ff",
        b"p:user:a:b c",
        b"other:broadcast:a",
        b"{p:broadcast:a}:key:b",
        "p:broadcast:é".encode(),
    ],
)
def test_a_name_that_is_none_of_ours_is_no_channels(name: bytes) -> None:
    assert read_redis_name("p", name) is None


@given(addressed(), any_part)
def test_no_channel_has_the_name_that_every_worker_hears(one: tuple[str, Channel], prefix: str) -> None:
    assert redis_name(*one) != everywhere_name(prefix)


@given(addressed(), addressed())
@example(("p", Channel("user", "al", "x")), ("p", Channel("user", "alice", "x")))
@example(("p", Channel("user", "al", "x")), ("p", Channel("user", "al:ice", "x")))
@example(("p", Channel("broadcast", "", "x")), ("p", Channel("broadcast", "", "y")))
def test_an_address_begins_the_names_of_its_own_audience_and_of_no_other(
    one: tuple[str, Channel], two: tuple[str, Channel]
) -> None:
    prefix, channel = one
    is_own = (prefix, channel.audience, channel.name) == (two[0], two[1].audience, two[1].name)
    assert redis_name(*two).startswith(address(prefix, channel.audience, channel.name)) == is_own


@given(addressed())
def test_a_redis_name_is_plain_ascii_without_spaces_or_control_characters(one: tuple[str, Channel]) -> None:
    assert set(redis_name(*one).decode("ascii")) <= set(string.ascii_letters + string.digits + "_.-~/@%:")


@pytest.mark.parametrize(
    ("channel", "name"),
    [
        (Channel("broadcast", "", "news"), b"wsredis:broadcast:news"),
        (Channel("group", "staff", "news"), b"wsredis:group:staff:news"),
        (Channel("user", "alice@example.com", "inbox/unread"), b"wsredis:user:alice@example.com:inbox/unread"),
        (Channel("user", "a:b c", "é"), b"wsredis:user:a%3Ab%20c:%C3%A9"),
    ],
)
def test_a_redis_name_reads_well(channel: Channel, name: bytes) -> None:
    assert redis_name("wsredis", channel) == name


@pytest.mark.parametrize(
    ("channel", "name"),
    [
        (Channel("broadcast", "", "news"), "broadcast:news"),
        (Channel("user", "alice@example.com", "a/b"), "user:alice@example.com:a/b"),
        (Channel("group", "a:b, c=d", "é%"), "group:a%3Ab%2C%20c%3Dd:%C3%A9%25"),
        (Channel("session", "0" * 32, "cart"), "session:cart"),
    ],
)
def test_clients_know_a_channel_by_a_name_without_prefix_and_digest(channel: Channel, name: str) -> None:
    assert channel_name(channel) == name


@given(st.text(string.ascii_lowercase + string.digits, min_size=8, max_size=40), any_part)
def test_a_session_key_never_appears(key: str, facility: str) -> None:
    digest = session_digest(key)
    assert len(digest) == 32
    assert key not in digest
    assert key not in redis_name("wsredis", Channel("session", digest, facility)).decode().removesuffix(facility)
    assert digest not in str(Channel("session", digest, "x"))


def test_a_sessions_digest_is_stable_and_its_own_and_depends_on_the_secret_key() -> None:
    digest = session_digest("abcdefgh")
    assert digest == session_digest("abcdefgh") != session_digest("abcdefgi")
    with override_settings(SECRET_KEY="another"):
        assert session_digest("abcdefgh") != digest


@pytest.mark.parametrize(
    ("channel", "text"),
    [
        (Channel("broadcast", "", "news"), "everybody on news"),
        (Channel("group", "staff", "news"), "group staff on news"),
        (Channel("session", "0" * 32, "news"), "a session on news"),
    ],
)
def test_a_channel_is_shown_in_words(channel: Channel, text: str) -> None:
    assert str(channel) == text


@pytest.mark.parametrize("facility", ["a", "a/b:c d", "a/", "-", "-a", "a?b#c", "é" * MAX_FACILITY_CHARACTERS])
def test_most_texts_can_name_a_facility(facility: str) -> None:
    assert facility_problem(facility) == ""


@pytest.mark.parametrize(
    ("facility", "problem"),
    [
        ("", "it has 1 to 200 characters"),
        ("a" * (MAX_FACILITY_CHARACTERS + 1), "it has 1 to 200 characters"),
        ("\ud800", "UTF-8 cannot hold it"),
        ("/", "leave out the slash in front: a facility is what follows WEBSOCKET_URL"),
        ("/ws/news", "leave out the slash in front: a facility is what follows WEBSOCKET_URL"),
        ("-/", "what begins with '-/' is for operators"),
        ("-/readyz", "what begins with '-/' is for operators"),
    ],
)
def test_what_cannot_name_a_facility_is_told_why(facility: str, problem: str) -> None:
    assert facility_problem(facility) == problem


@pytest.mark.parametrize(
    ("query", "subscribe", "publish", "echo"),
    [
        ("subscribe-broadcast", ("broadcast",), (), False),
        ("SUBSCRIBE-Broadcast", ("broadcast",), (), False),
        ("subscribe-user=1&publish-user=no&echo=false", ("user",), ("user",), True),
        ("subscribe-broadcast=", ("broadcast",), (), False),
        ("publish-session", (), ("session",), False),
        ("subscribe-session&subscribe-user&subscribe-group&subscribe-broadcast", AUDIENCES, (), False),
        ("subscribe-user&subscribe-user", ("user",), (), False),
        ("subscribe-user&Echo", ("user",), (), True),
        ("subscribe-user&token=subscribe-group&x", ("user",), (), False),
        ("subscribe%2Duser", ("user",), (), False),
        ("&&subscribe-user&", ("user",), (), False),
        ("subscribe-user&subscribers-nobody&publisher-x", ("user",), (), False),
    ],
)
def test_the_query_says_what_a_browser_wants(
    query: str, subscribe: tuple[str, ...], publish: tuple[str, ...], echo: bool
) -> None:
    assert parse_wish(query) == Wish(subscribe, publish, echo)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("", "nothing"),
        ("echo", "nothing"),
        ("token=subscribe-user", "nothing"),
        ("subscribe_broadcast", "nothing"),
        ("subscribe-brodcast", "subscribe-brodcast"),
        ("subscribe-broadcast&publish-users", "publish-users"),
        ("subscribe", "subscribe"),
        ("publish-", "publish-"),
        ("subscribe-user-x", "subscribe-user-x"),
    ],
)
def test_a_query_that_asks_for_nothing_or_a_typo_is_malformed(query: str, named: str) -> None:
    with pytest.raises(HandshakeError, match=named) as raised:
        parse_wish(query)
    assert raised.value.status == 400


@given(st.text(st.characters(max_codepoint=255)))
def test_any_query_is_a_wish_or_malformed(query: str) -> None:
    try:
        wish = parse_wish(query)
    except HandshakeError:
        return
    assert wish.names


@pytest.mark.parametrize(
    ("names", "granted"),
    [
        (["subscribe-user"], Wish(("user",), (), True)),
        (["publish-user", "subscribe-broadcast", "subscribe-user"], Wish(("broadcast", "user"), ("user",), True)),
        (["subscribe-group", "publish-group"], Wish((), (), True)),
        ([], Wish((), (), True)),
        (["SUBSCRIBE-USER", "user"], Wish((), (), True)),
    ],
)
def test_only_what_was_wished_for_can_be_granted(names: list[str], granted: Wish) -> None:
    wish = Wish(("broadcast", "user"), ("user",), True)
    assert wish.names == ["subscribe-broadcast", "subscribe-user", "publish-user"]
    assert wish.granted(iter(names)) == granted


# Positions


@given(addressed())
def test_a_channels_name_needs_no_escape_in_json_or_in_a_list_of_positions(one: tuple[str, Channel]) -> None:
    name = channel_name(one[1])
    assert json.dumps(name) == f'"{name}"'
    assert not set(name) & set('=,"\\\n')
    query = urlencode({"subscribe-broadcast": "", "since": f"{name}=1-2,other=3-4"})
    assert parse_wish(query).since == {name: b"1-2", "other": b"3-4"}


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ("1700000000000-0", True),
        ("0-0", True),
        ("1700000000000", False),
        ("", False),
        ("-", False),
        ("1-", False),
        ("-1", False),
        ("1-1\n", False),
        ("1-1-1", False),
        ("+1-1", False),
        ("١-١", False),
        ("9" * 20 + "-0", False),
        ("$", False),
        ("(1-1", False),
    ],
)
def test_a_position_is_the_id_of_an_entry(text: str, is_right: bool) -> None:
    assert is_position(text) is is_right


@pytest.mark.parametrize(
    ("query", "since", "history"),
    [
        ("", {}, 1),
        ("&since=", {}, 1),
        ("&since=5-1", {"": b"5-1"}, 1),
        ("&since=broadcast:chat%3D5-1", {"broadcast:chat": b"5-1"}, 1),
        ("&since=broadcast:chat=5-1,user:al:chat=6-0&history=0", {"broadcast:chat": b"5-1", "user:al:chat": b"6-0"}, 0),
        ("&since=broadcast:chat=5-1,7-0", {"broadcast:chat": b"5-1", "": b"7-0"}, 1),
        ("&since=user:a%253Ab:chat=5-1", {"user:a%3Ab:chat": b"5-1"}, 1),
        ("&history=50", {}, 50),
        (f"&history={MAX_HISTORY}", {}, MAX_HISTORY),
    ],
)
def test_the_query_says_from_where_a_browser_wants_its_messages(
    query: str, since: dict[str, bytes], history: int
) -> None:
    wish = parse_wish("subscribe-broadcast" + query)
    assert (wish.since, wish.history) == (since, history)
    assert (wish.granted(["subscribe-broadcast"]).since, wish.granted([]).history) == (since, history)


@pytest.mark.parametrize(
    "query",
    [
        "since=yesterday",
        "since=5",
        "since=broadcast:chat",
        "since=5-1,,x",
        "since=broadcast:chat=",
        "history=",
        "history=-1",
        "history=1.5",
        "history=all",
        "history=٣",
        f"history={MAX_HISTORY + 1}",
        "history=99999999999999999999",
    ],
)
def test_what_is_no_position_or_number_is_malformed(query: str) -> None:
    with pytest.raises(HandshakeError, match=r"since|history") as raised:
        parse_wish("subscribe-broadcast&" + query)
    assert raised.value.status == 400


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("", {}),
        ("5-1", {"": b"5-1"}),
        (
            "broadcast:chat=1700000000000-7",
            {"broadcast:chat": b"1700000000000-7", "": b"1699999999999-9999999999999999999"},
        ),
        ("broadcast:chat=0-1", {"broadcast:chat": b"0-1", "": b"0-9999999999999999999"}),
        ("broadcast:chat=5-1,user:a:chat=6-0", {"broadcast:chat": b"5-1", "user:a:chat": b"6-0"}),
    ],
)
def test_an_event_s_id_says_where_all_channels_go_on(text: str, since: dict[str, bytes]) -> None:
    found = read_last_event_id(text)
    assert found == since
    assert all(is_position(position.decode()) for position in found.values())


@pytest.mark.parametrize("text", ["x", "broadcast:chat=", "broadcast:chat", "5-1-1"])
def test_what_is_no_event_s_id_is_malformed(text: str) -> None:
    with pytest.raises(HandshakeError):
        read_last_event_id(text)
