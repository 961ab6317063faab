"""wsredis.js in Node, where a fake WebSocket lets each test play the server of wsredis.v1."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any
from urllib.parse import quote

import pytest

from .servers import ROOT, missing

FOLDER = ROOT / "tests/javascript"

BEGIN = """
const { WSRedis, FakeWebSocket, sockets, warnings, open, last, until, cut, thrown, report } = require("./fake.js");
const CHAT = "ws://x/ws/chat?subscribe-broadcast&publish-broadcast&echo";
const ack = (channels, facility = "chat") => last().say({ type: "ack", facility, channels });
"""


def run(script: str, warns: bool = False) -> Any:
    """Run a test's script in Node and return what it reports; it warns on the console only where that is said."""
    node = shutil.which("node")
    if node is None:
        missing("no node on PATH")
    whole = f"{BEGIN}(async () => {{{script}}})().catch((error) => {{ console.error(error); process.exit(1); }});"
    done = subprocess.run([node, "-e", whole], cwd=FOLDER, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert bool(found["warnings"]) is warns, found["warnings"]
    return found["result"]


def messages(seen: list[dict[str, Any]]) -> list[Any]:
    return [event["data"] for event in seen if event["type"] == "message"]


# What it says of a message


def test_it_offers_the_subprotocol_and_an_application_may_offer_others() -> None:
    offered = run("""
        open(CHAT);
        open(CHAT, { protocols: ["my.v2", "wsredis.v1"] });
        open(CHAT, { protocols: [] });
        report(sockets.map((ws) => ws.protocols));
    """)
    assert offered == [["wsredis.v1"], ["my.v2", "wsredis.v1"], []]


def test_a_message_tells_its_channel_facility_and_id() -> None:
    seen = run(r"""
        const socket = open(CHAT);
        last().accept();
        last().message("broadcast:chat", "1700000000000-0", "two\nlines");
        last().message("group:staff%3A1:chat/%C3%A4%2C2", undefined, "");
        last().receive('{"channel":"everywhere"}\n{"a":1}');
        last().receive('{"channel":"session:cart"}');
        report(socket.seen.slice(1));
    """)
    assert [(e["channel"], e["facility"], e["id"], e["data"]) for e in seen] == [
        ("broadcast:chat", "chat", "1700000000000-0", "two\nlines"),
        ("group:staff%3A1:chat/%C3%A4%2C2", "chat/ä,2", None, ""),
        ("everywhere", None, None, '{"a":1}'),
        ("session:cart", "cart", None, ""),
    ]


def test_a_binary_message_is_an_array_buffer_without_the_header() -> None:
    found = run(r"""
        const found = [];
        open(CHAT, { onmessage(event) {
            found.push([event.channel, event.id, event.data instanceof ArrayBuffer, [...new Uint8Array(event.data)]]);
            if (event.id === "2-0") found.push(event.json());
        } });
        last().accept();
        const frame = (header, ...bytes) => Uint8Array.from([...Buffer.from(header), ...bytes]).buffer;
        last().receive(frame('{"channel":"broadcast:chat","id":"1-0"}\n', 0, 10, 255));
        last().receive(frame('{"channel":"broadcast:chat","id":"2-0"}\n', 91, 49, 93));
        last().receive(frame('{"channel":"broadcast:chat","id":"3-0"}'));
        report(found);
    """)
    assert found == [
        ["broadcast:chat", "1-0", True, [0, 10, 255]],
        ["broadcast:chat", "2-0", True, [91, 49, 93]],
        [1],
        ["broadcast:chat", "3-0", True, []],
    ]


def test_json_reads_a_text() -> None:
    assert run(r"""
        open(CHAT, { onmessage(event) { report(event.json()); } });
        last().accept().receive('{"channel":"broadcast:chat"}\n{"a":[1,null]}');
    """) == {"a": [1, None]}


@pytest.mark.parametrize(
    "data",
    [
        "hello",
        "",
        "[1]\\nx",
        "null\\nx",
        '"text"\\nx',
        "{}\\nx",
        '{"channel":5}\\nx',
        '{"channel":"broadcast:%zz"}\\nx',
        '{"channel":"broadcast:chat","id":"abc"}\\nx',
        '{"channel":"broadcast:chat","id":5}\\nx',
        '{"type":"ack"}',
        '{"type":"ack","facility":"chat","channels":{"broadcast:chat":"0"}}',
        '{"type":"gap"}',
    ],
)
def test_what_has_no_header_that_can_be_read_is_left_out_with_a_warning(data: str) -> None:
    found = run(
        f"""
        const socket = open(CHAT);
        last().accept().receive('{data}');
        last().message("broadcast:chat", "1-0", "next");
        report([socket.state, socket.seen.slice(1), socket.cursor]);
        """,
        warns=True,
    )
    assert (found[0], messages(found[1]), len(found[1]), found[2]) == ("open", ["next"], 1, "broadcast:chat=1-0")


def test_types_of_later_servers_are_left_out() -> None:
    seen = run("""
        const socket = open(CHAT);
        last().accept().say({ type: "weather", channel: 5 });
        last().say({ type: "pong" });
        last().say({ type: "unsubscribed", facility: "x" });
        last().say({ type: "error", status: 403, facility: "x" });
        report(socket.seen.slice(1));
    """)
    assert seen == []


# Positions


def test_it_comes_back_with_the_position_of_each_channel() -> None:
    found = run(r"""
        const socket = open(CHAT + "&history=50&since=&x=%2C+1#part");
        const found = [last().url, socket.cursor];
        last().accept();
        last().message("broadcast:chat", "5-0", "a");
        found.push(socket.cursor);
        await cut();
        found.push(last().query); // no ack yet: the other channels' history is still wanted
        last().accept();
        ack({ "broadcast:chat": "7-1", "group:a%2Cb:chat": "6-0", "user:alice:chat": null });
        last().message("user:alice:chat", "8-0", "b");
        await cut();
        found.push(last().url);
        report(found);
    """)
    base = "subscribe-broadcast&publish-broadcast&echo"
    cursor = "broadcast:chat=7-1,group:a%2Cb:chat=6-0,user:alice:chat=8-0"
    assert found == [
        f"ws://x/ws/chat?{base}&x=%2C+1&history=50",
        "",
        "broadcast:chat=5-0",
        f"{base}&x=,+1&history=50&since=broadcast:chat=5-0",
        f"ws://x/ws/chat?{base}&x=%2C+1&since={quote(cursor, safe='')}",
    ]


def test_a_page_goes_on_from_a_cursor() -> None:
    found = run(r"""
        const before = open(CHAT);
        last().accept();
        ack({ "broadcast:chat": "5-0", "group:a%2Cb:chat": "6-0" });
        before.close();
        const socket = open(CHAT + `&history=50&since=${encodeURIComponent(before.cursor)}`);
        const found = [before.cursor, socket.cursor, last().query];
        last().accept().message("broadcast:chat", "7-0", "a");
        await cut();
        found.push(last().query);
        report(found);
    """)
    base = "subscribe-broadcast&publish-broadcast&echo&history=50&since="
    assert found == [
        "broadcast:chat=5-0,group:a%2Cb:chat=6-0",
        "broadcast:chat=5-0,group:a%2Cb:chat=6-0",
        base + "broadcast:chat=5-0,group:a%2Cb:chat=6-0",
        base + "broadcast:chat=7-0,group:a%2Cb:chat=6-0",
    ]


def test_one_position_for_all_channels_counts_until_an_ack_names_each() -> None:
    found = run(r"""
        const socket = open(CHAT + "&since=5-0");
        const found = [socket.cursor];
        last().accept().message("broadcast:chat", "7-0", "a");
        await cut();
        found.push(socket.cursor, last().query);
        last().accept();
        ack({ "broadcast:chat": "7-0", "user:alice:chat": "4-0" });
        found.push(socket.cursor);
        report(found);
    """)
    query = "subscribe-broadcast&publish-broadcast&echo&since=5-0,broadcast:chat=7-0"
    assert found == ["5-0", "5-0,broadcast:chat=7-0", query, "broadcast:chat=7-0,user:alice:chat=4-0"]


def test_a_position_that_is_none_is_an_error_at_once() -> None:
    errors = run("""
        const texts = ["x", "broadcast:chat", "broadcast:chat=", "5", "broadcast:%25zz=1-0"];
        report(texts.map((text) => thrown(() => open(`${CHAT}&since=${text}`))));
    """)
    assert all(error.startswith(("TypeError: WSRedis: since=", "URIError")) for error in errors)


def test_what_was_seen_is_not_delivered_twice() -> None:
    seen = run(r"""
        const socket = open(CHAT);
        last().accept();
        for (const id of ["9-0", "9-0", "8-5", "10-0", "9-1", "10-9", "10-10", "10-9"]) {
            last().message("broadcast:chat", id, id);
        }
        last().message("broadcast:chat", "10-18446744073709551614", "big");
        last().message("broadcast:chat", "10-18446744073709551615", "bigger");
        last().message("broadcast:chat", "10-18446744073709551614", "big");
        last().message("user:alice:chat", "1-0", "of another channel");
        last().message("broadcast:chat", undefined, "not kept");
        last().message("broadcast:chat", undefined, "not kept");
        await cut();
        last().accept().message("broadcast:chat", "10-10", "10-10");
        report(socket.seen);
    """)
    expected = ["9-0", "10-0", "10-9", "10-10", "big", "bigger", "of another channel", "not kept", "not kept"]
    assert messages(seen) == expected


def test_an_ack_is_told_and_sets_the_positions() -> None:
    seen = run(r"""
        const socket = open(CHAT);
        last().accept();
        ack({ "broadcast:chat": "9-0", "user:alice:chat": null });
        last().message("broadcast:chat", "9-0", "before it");
        last().message("broadcast:chat", "9-1", "after it");
        report(socket.seen.slice(1));
    """)
    channels = {"broadcast:chat": "9-0", "user:alice:chat": None}
    assert seen[0] == {"type": "subscribed", "facility": "chat", "channels": channels}
    assert messages(seen) == ["after it"]


def test_an_ack_that_is_behind_what_came_live_moves_nothing_back() -> None:
    found = run(r"""
        const socket = open(CHAT);
        last().accept();
        last().message("broadcast:chat", "5-0", "live");
        last().message("user:alice:chat", "6-0", "live");
        ack({ "broadcast:chat": "4-0", "user:alice:chat": null });
        report(socket.cursor);
    """)
    assert found == "broadcast:chat=5-0,user:alice:chat=6-0"


def test_an_ack_of_a_new_connection_counts_more_than_what_was_known() -> None:
    found = run(r"""
        const socket = open(CHAT);
        last().accept();
        ack({ "broadcast:chat": "9-0", "user:alice:chat": "9-0" });
        await cut();
        last().accept();
        ack({ "broadcast:chat": "4-0", "user:alice:chat": null });
        last().message("broadcast:chat", "5-0", "lower");
        report([socket.cursor, socket.seen]);
    """)
    assert found[0] == "broadcast:chat=5-0"
    assert messages(found[1]) == ["lower"]


def test_a_gap_is_told_and_what_follows_may_have_lower_ids() -> None:
    found = run(r"""
        const socket = open(CHAT);
        last().accept();
        ack({ "broadcast:chat": "1700-0" });
        last().say({ type: "gap", channel: "broadcast:chat", since: "1700-0" });
        const cursor = socket.cursor; // until there is a new one
        last().message("broadcast:chat", "5-0", "new life");
        last().message("broadcast:chat", "5-0", "new life");
        last().say({ type: "gap", channel: "broadcast:chat", missed: 12 });
        ack({ "broadcast:chat": "4-0" });
        last().message("broadcast:chat", "4-0", "seen");
        last().message("broadcast:chat", "4-1", "newer");
        report([cursor, socket.cursor, socket.seen.slice(2)]);
    """)
    assert found[:2] == ["broadcast:chat=1700-0", "broadcast:chat=4-1"]
    assert messages(found[2]) == ["new life", "newer"]
    gap = {"type": "gap", "channel": "broadcast:chat", "facility": "chat"}
    assert [event for event in found[2] if event["type"] == "gap"] == [
        gap | {"since": "1700-0", "missed": None},
        gap | {"since": None, "missed": 12},
    ]


def test_each_message_comes_once_and_in_order_in_any_schedule() -> None:
    schedules = run("""
        const { play } = require("./model.js");
        const found = [];
        for (let seed = 1; seed <= 400; seed += 1) found.push(await play(seed));
        report(found);
    """)
    for seed, found in enumerate(schedules, 1):
        published, received = found["published"], found["received"]
        assert received == [payload for payload in published if payload in set(received)], seed  # no two, none swapped
        life = f"{found['life']}."  # the last one, all of whose data is there
        assert [p for p in received if p.startswith(life)] == [p for p in published if p.startswith(life)], seed
        assert (found["gaps"] > 0) is (found["life"] > 1), seed
    assert sum(len(found["received"]) for found in schedules) > 10_000
    assert any(found["life"] > 1 for found in schedules)
    assert any(found["life"] == 1 for found in schedules)


# Many channels


MANY = """
const channels = (count, id) => Object.fromEntries(
    Array.from({ length: count }, (_, i) => [`group:${i}-of-many-groups:chat`, id]),
);
const many = async (position, oldest = "3-0") => {
    const socket = open(CHAT);
    last().accept();
    ack({ ...channels(100, oldest), "broadcast:chat": position });
    await cut();
    last().accept();
    socket.seen.length = 0;
    return socket;
};
const gap = (since, channel = "broadcast:chat") => last().say({ type: "gap", channel, since });
"""


@pytest.mark.parametrize(("count", "is_named"), [(40, True), (100, False), (5000, False)])
def test_many_channels_come_back_with_the_oldest_position_of_all(count: int, is_named: bool) -> None:
    url, header, cursor = run(f"""{MANY}
        const socket = open(CHAT);
        socket.subscribe("news", "subscribe-group");
        last().accept();
        ack({{ ...channels({count}, "12-5"), "broadcast:chat": "9-7", "user:alice:chat": null }});
        const news = Object.keys(channels({count})).map((name) => [name.replace("chat", "news"), "8-1"]);
        ack(Object.fromEntries(news), "news");
        await cut();
        last().accept();
        report([last().url, last().sent[0], socket.cursor]);
    """)
    assert max(len(url), len(header)) < 2200
    if not is_named:
        assert url == "ws://x/ws/chat?subscribe-broadcast&publish-broadcast&echo&since=9-7"
        assert json.loads(header)["query"] == "subscribe-group&since=8-1"
    assert cursor.count("=") == count + 1
    assert "chat=9-7" in cursor


def test_a_page_goes_on_from_a_cursor_of_many_channels() -> None:
    query, seen = run(
        MANY
        + r"""
        const cursor = Object.keys(channels(100)).map((name) => `${name}=7-0`).join(",");
        const socket = open(`${CHAT}&history=5&since=${encodeURIComponent(`2-0,${cursor}`)}`);
        last().accept().message("group:0-of-many-groups:chat", "6-0", "seen");
        last().message("group:0-of-many-groups:chat", "8-0", "new");
        report([last().query, socket.seen]);
    """
    )
    assert query == "subscribe-broadcast&publish-broadcast&echo&history=5&since=2-0"
    assert messages(seen) == ["new"]


def test_a_gap_before_a_position_that_comes_again_is_none() -> None:
    seen = run(
        MANY
        + r"""
        const socket = await many("9-0");
        gap("3-0");
        for (const id of ["8-0", "9-0", "10-0"]) last().message("broadcast:chat", id, id);
        ack({ "broadcast:chat": "10-0" });
        last().message("broadcast:chat", "11-0", "11-0");
        report(socket.seen);
    """
    )
    assert messages(seen) == ["10-0", "11-0"]
    assert [event["type"] for event in seen] == ["message", "subscribed", "message"]


def test_a_gap_before_a_position_that_is_still_the_end_is_none() -> None:
    seen = run(
        MANY
        + """
        const socket = await many("9-0");
        gap("3-0");
        ack({ "broadcast:chat": "9-0" });
        report(socket.seen);
    """
    )
    assert [event["type"] for event in seen] == ["subscribed"]


@pytest.mark.parametrize("first", ["10-0", "8-0"])
def test_a_gap_before_a_position_that_is_gone_is_told_before_what_follows_it(first: str) -> None:
    seen = run(
        MANY
        + f"""
        const socket = await many("9-0");
        gap("3-0");
        gap("5-0"); // of the next page
        last().message("broadcast:chat", "{first}", "{first}");
        last().message("broadcast:chat", undefined, "not kept");
        last().message("broadcast:chat", "11-0", "11-0");
        ack({{ "broadcast:chat": "11-0" }});
        report(socket.seen);
    """
    )
    gap = {"type": "gap", "channel": "broadcast:chat", "facility": "chat", "since": "9-0", "missed": None}
    assert [event for event in seen if event["type"] == "gap"] == [gap]
    if first == "10-0":
        assert seen[0] == gap
        assert messages(seen) == ["10-0", "not kept", "11-0"]
    else:  # seen before
        assert seen[1] == gap
        assert messages(seen) == ["not kept", "11-0"]


@pytest.mark.parametrize("end", ["12-0", "8-0", None])
def test_a_gap_before_a_position_of_which_nothing_comes_is_told_before_the_ack(end: str | None) -> None:
    seen = run(
        MANY
        + f"""
        const socket = await many("9-0");
        gap("3-0");
        ack({{ "broadcast:chat": {json.dumps(end)} }});
        report(socket.seen);
    """
    )
    assert [(event["type"], event.get("since")) for event in seen] == [("gap", "9-0"), ("subscribed", None)]


def test_a_gap_that_was_not_told_yet_is_forgotten_with_its_connection() -> None:
    seen = run(
        MANY
        + """
        const socket = await many("9-0");
        gap("3-0");
        await cut();
        last().accept().message("broadcast:chat", "10-0", "10-0");
        report(socket.seen);
    """
    )
    assert messages(seen) == ["10-0"]
    assert "gap" not in {event["type"] for event in seen}


def test_after_a_gap_on_an_earlier_connection_what_was_seen_is_not_delivered_twice() -> None:
    seen = run(
        MANY
        + """
        const socket = await many("9-0");
        gap("9-0");
        await cut();
        last().accept();
        for (const id of ["4-0", "9-0", "10-0"]) last().message("broadcast:chat", id, id);
        report(socket.seen);
    """
    )
    assert messages(seen) == ["10-0"]


def test_a_channel_that_is_new_among_many_has_no_gap() -> None:
    seen = run(
        MANY
        + """
        const socket = await many("9-0");
        gap("3-0", "group:new:chat");
        last().message("group:new:chat", "10-0", "10-0");
        report(socket.seen);
    """
    )
    assert [event["type"] for event in seen] == ["message"]


def test_who_asks_for_one_position_of_all_channels_is_told_of_each_gap() -> None:
    seen = run("""
        const socket = open(CHAT + "&since=5-0");
        last().accept().say({ type: "gap", channel: "broadcast:chat", since: "5-0" });
        report(socket.seen.slice(1));
    """)
    assert [(event["type"], event["since"]) for event in seen] == [("gap", "5-0")]


def test_who_closes_the_socket_at_a_gap_hears_no_more() -> None:
    seen = run(
        MANY
        + """
        const socket = await many("9-0");
        socket.addEventListener("gap", () => socket.close());
        gap("3-0");
        last().message("broadcast:chat", "10-0", "10-0");
        report(socket.seen);
    """
    )
    assert [event["type"] for event in seen] == ["gap", "close"]


def test_of_many_channels_each_message_comes_once_and_none_is_missed_without_a_gap_in_any_schedule() -> None:
    schedules = run("""
        const { play } = require("./model.js");
        const found = [];
        for (let seed = 1; seed <= 400; seed += 1) found.push(await play(seed, { hasMany: true }));
        report(found);
    """)
    for seed, found in enumerate(schedules, 1):
        published, received = found["published"], found["received"]
        assert received == [payload for payload in published if payload in set(received)], seed  # no two, none swapped
        place = 0  # in what was published
        for payload, before in zip(found["order"], [None, *found["order"]], strict=False):
            if payload is not None:
                assert payload == published[place] or before is None, (seed, payload)
                place = published.index(payload) + 1
        assert place == len(published) or found["order"][-1] is None, seed
    assert sum(len(found["received"]) for found in schedules) > 10_000
    assert any(found["gaps"] == 0 for found in schedules)
    assert any(found["gaps"] > 0 and found["life"] == 1 for found in schedules)


# Channels of other facilities, as a project's SUBSCRIBER may grant them


def test_a_channel_of_another_facility_is_heard() -> None:
    seen = run("""
        const socket = open("ws://x/ws/room/1?subscribe-group");
        last().accept().message("group:staff:news", "1-0", "stored");
        ack({ "group:staff:news": "1-0", "group:staff:room/1": null }, "room/1");
        last().message("group:staff:news", "2-0", "live");
        last().say({ type: "gap", channel: "group:staff:news", since: "2-0" });
        last().message("group:staff:news", "3-0", "after a gap");
        ack({ "group:staff:news": "3-0" }, "room/1"); // of this channel alone
        socket.send("x", { facility: "room/1" });
        await cut();
        report([socket.seen, last().query]);
    """)
    assert messages(seen[0]) == ["stored", "live", "after a gap"]
    assert [event["type"] for event in seen[0]].count("gap") == 1
    assert seen[1] == "subscribe-group&since=group:staff:news=3-0"


def test_a_channel_of_another_facility_belongs_to_the_subscription_that_has_it() -> None:
    found = run("""
        const socket = open(CHAT);
        last().accept();
        ack({ "broadcast:chat": "5-0" });
        socket.subscribe("room/1", "subscribe-group");
        last().message("group:staff:news", "1-0", "stored");
        ack({ "group:staff:news": "1-0" }, "room/1");
        last().message("group:staff:news", "2-0", "live");
        await cut();
        last().accept();
        const query = decodeURIComponent(last().headers[0].query);
        ack({ "group:staff:news": "2-0" }, "room/1");
        socket.unsubscribe("room/1");
        last().message("group:staff:news", "3-0", "late");
        last().say({ type: "unsubscribed", facility: "room/1" });
        const cursor = socket.cursor;
        socket.subscribe("room/2", "subscribe-group");
        last().message("group:staff:news", "3-0", "of room/2");
        report([socket.seen, query, cursor]);
    """)
    assert messages(found[0]) == ["stored", "live", "of room/2"]
    assert found[1:] == ["subscribe-group&since=group:staff:news=2-0", "broadcast:chat=5-0"]


def test_a_channel_of_two_subscriptions_stays_with_the_one_that_is_not_left() -> None:
    found = run("""
        const socket = open(CHAT);
        last().accept();
        ack({ "broadcast:chat": "5-0", "group:staff:news": "1-0" });
        socket.subscribe("news", "subscribe-group");
        ack({ "group:staff:news": "1-0" }, "news");
        socket.unsubscribe("news");
        last().message("group:staff:news", "2-0", "of the URL");
        report([socket.seen, socket.cursor]);
    """)
    assert messages(found[0]) == ["of the URL"]
    assert found[1] == "broadcast:chat=5-0,group:staff:news=2-0"


def test_a_channel_of_two_further_facilities_keeps_its_position_when_one_of_them_is_left() -> None:
    query = run("""
        const socket = open(CHAT);
        last().accept();
        ack({ "broadcast:chat": "5-0" });
        socket.subscribe("room/1", "subscribe-group");
        socket.subscribe("room/2", "subscribe-group");
        ack({ "group:staff:news": "1-0", "group:staff:room/1": null }, "room/1");
        last().message("group:staff:news", "2-0", "live");
        ack({ "group:staff:news": "2-0", "group:staff:room/2": null }, "room/2"); // all of it, also what is shared
        socket.unsubscribe("room/1");
        last().say({ type: "unsubscribed", facility: "room/1" });
        last().message("group:staff:news", "3-0", "live");
        await cut();
        last().accept();
        report(decodeURIComponent(last().headers[0].query));
    """)
    assert query == "subscribe-group&since=group:staff:news=3-0"


# Further facilities


def test_a_further_facility_is_subscribed_again_with_its_positions() -> None:
    found = run(r"""
        const socket = open(CHAT);
        socket.subscribe("chat/2", "subscribe-broadcast&history=20");
        last().accept();
        socket.subscribe("news", "?subscribe-user&since=user:alice:news=2-0");
        const first = last().headers;
        ack({ "broadcast:chat": "5-0" });
        ack({ "broadcast:chat/2": "6-0" }, "chat/2");
        last().message("user:alice:news", "7-0", "from news");
        const cursor = socket.cursor;
        await cut();
        last().accept();
        report([first, cursor, last().query, last().headers.map((header) => decodeURIComponent(header.query))]);
    """)
    first, cursor, query, again = found
    assert first == [
        {"type": "subscribe", "facility": "chat/2", "query": "subscribe-broadcast&history=20"},
        {"type": "subscribe", "facility": "news", "query": "subscribe-user&since=user%3Aalice%3Anews%3D2-0"},
    ]
    assert cursor == "broadcast:chat=5-0"
    assert query == "subscribe-broadcast&publish-broadcast&echo&since=broadcast:chat=5-0"
    assert again == ["subscribe-broadcast&since=broadcast:chat/2=6-0", "subscribe-user&since=user:alice:news=7-0"]


def test_the_same_subscription_twice_is_one_and_another_needs_the_end_of_the_first() -> None:
    headers, error = run("""
        const socket = open(CHAT);
        last().accept();
        socket.subscribe("news", "subscribe-broadcast");
        socket.subscribe("news", "subscribe-broadcast");
        const error = thrown(() => socket.subscribe("news", "subscribe-user"));
        socket.unsubscribe("news");
        socket.subscribe("news", "subscribe-user");
        report([last().headers, error]);
    """)
    assert [header["type"] for header in headers] == ["subscribe", "unsubscribe", "subscribe"]
    assert headers[2]["query"] == "subscribe-user"
    assert error == 'Error: WSRedis: "news" is subscribed with another query; unsubscribe() it first'


def test_a_facility_that_was_left_is_not_heard_and_not_asked_for_again() -> None:
    found = run(r"""
        const socket = open(CHAT);
        last().accept();
        ack({ "broadcast:chat": "5-0" });
        socket.subscribe("news", "subscribe-broadcast");
        ack({ "broadcast:news": "6-0" }, "news");
        last().message("broadcast:news", "7-0", "heard");
        socket.unsubscribe("news");
        socket.unsubscribe("never");
        const sent = last().headers.slice(1);
        last().message("broadcast:news", "8-0", "late");
        last().say({ type: "gap", channel: "broadcast:news", since: "8-0" });
        ack({ "broadcast:news": "8-0" }, "news");
        last().say({ type: "unsubscribed", facility: "news" });
        last().message("everywhere", undefined, "to all");
        await cut();
        last().accept();
        report([sent, socket.seen.slice(3), last().query, last().sent]);
    """)
    assert found[0] == [{"type": "unsubscribe", "facility": "news"}]
    assert messages(found[1]) == ["heard", "to all"]
    assert {event["type"] for event in found[1]} == {"message", "close", "reconnecting", "open"}
    assert found[2] == "subscribe-broadcast&publish-broadcast&echo&since=broadcast:chat=5-0"
    assert found[3] == []


def test_a_refused_facility_is_told_and_given_up() -> None:
    found = run("""
        const socket = open(CHAT);
        last().accept();
        socket.subscribe("secret", "subscribe-broadcast");
        last().say({ type: "error", status: 403, facility: "secret" });
        const error = thrown(() => socket.send("x", { facility: "secret" }));
        await cut();
        last().accept();
        report([socket.seen[1], error, last().sent, socket.state]);
    """)
    assert found[0] == {"type": "refused", "facility": "secret", "status": 403, "final": True}
    assert found[1] == 'Error: WSRedis: cannot send, "secret" is not subscribed'
    assert found[2:] == [[], "open"]


def test_to_subscribe_the_urls_own_facility_before_its_ack_loses_no_position() -> None:
    found = run("""
        const socket = open(CHAT);
        socket.subscribe("chat", "subscribe-user");
        last().accept();
        ack({ "broadcast:chat": "5-0" });
        last().say({ type: "error", status: 409, facility: "chat" });
        report([socket.seen.at(-1), socket.cursor]);
    """)
    assert found[0] == {"type": "refused", "facility": "chat", "status": 409, "final": True}
    assert found[1] == "broadcast:chat=5-0"


def test_a_facility_that_is_refused_for_the_moment_is_asked_for_again() -> None:
    found = run("""
        const socket = open(CHAT, { retryCap: 1 });
        last().accept();
        socket.subscribe("news", "subscribe-broadcast");
        last().say({ type: "error", status: 503, facility: "news" });
        await until(() => last().sent.length === 2);
        socket.unsubscribe("news");
        report([socket.seen[1], last().headers]);
    """)
    assert found[0] == {"type": "refused", "facility": "news", "status": 503, "final": False}
    assert [header["type"] for header in found[1]] == ["subscribe", "subscribe", "unsubscribe"]


def test_what_cannot_be_subscribed_is_an_error() -> None:
    errors = run("""
        const socket = open(CHAT);
        const errors = [thrown(() => socket.subscribe("news")), thrown(() => socket.subscribe("/news", "a"))];
        errors.push(thrown(() => socket.subscribe("news", "since=x")));
        last().accept();
        ack({ "broadcast:chat": null });
        errors.push(thrown(() => socket.subscribe("chat", "subscribe-user")));
        socket.close();
        errors.push(thrown(() => socket.subscribe("news", "subscribe-user")));
        report([errors, last().sent]);
    """)
    assert errors == [
        [
            "TypeError: WSRedis: subscribe() needs a facility and a query",
            'TypeError: WSRedis: leave out the slash in front of "/news"',
            "TypeError: WSRedis: since=x is no position",
            'Error: WSRedis: "chat" is the URL\'s own facility',
            "Error: WSRedis: cannot subscribe, the socket is closed",
        ],
        [],
    ]


# Sending


def test_what_is_sent_has_a_header() -> None:
    found = run(r"""
        const socket = open(CHAT);
        last().accept();
        ack({ "broadcast:chat": null });
        socket.subscribe("news", "publish-broadcast");
        ack({}, "news");
        last().sent.length = 0;
        socket.send("two\nlines");
        socket.send({ a: [1, null] }, { facility: "news" });
        socket.send("", { facility: "chat" });
        socket.send(new Uint8Array([9, 0, 10, 255]).subarray(1));
        socket.send(new Uint16Array([1]).buffer);
        socket.send(new DataView(new ArrayBuffer(1)));
        socket.send(new Blob([new Uint8Array([0, 255])]));
        const sent = await Promise.all(last().sent.map(async (data) => {
            if (typeof data === "string") return data;
            return Buffer.from(data instanceof Blob ? await data.arrayBuffer() : data).toString("latin1");
        }));
        report(sent);
    """)
    header = '{"type":"publish"}\n'
    assert found == [
        header + "two\nlines",
        '{"type":"publish","facility":"news"}\n{"a":[1,null]}',
        '{"type":"publish","facility":"chat"}\n',
        header + "\x00\n\xff",
        header + "\x01\x00",
        header + "\x00",
        header + "\x00\xff",
    ]


def test_nothing_is_sent_to_a_facility_before_its_ack() -> None:
    found = run("""
        const socket = open(CHAT);
        last().accept();
        socket.subscribe("news", "publish-broadcast");
        const send = () => thrown(() => socket.send("x", { facility: "news" }));
        const found = [send()];
        ack({}, "news");
        found.push(send());
        await cut();
        last().accept();
        found.push(send(), thrown(() => socket.send(() => {})));
        report(found);
    """)
    error = 'Error: WSRedis: cannot send, "news" is not subscribed'
    assert found == [error, None, error, "TypeError: WSRedis: cannot send function as JSON"]


# The heartbeat


def test_it_pings_when_nothing_comes_and_leaves_a_server_that_is_silent() -> None:
    found = run("""
        const socket = open(CHAT, { heartbeatInterval: 1, heartbeatTimeout: 1 });
        last().accept();
        await until(() => sockets.length === 2);
        report([sockets[0].sent, socket.seen.slice(1)]);
    """)
    assert found[0] == ['{"type":"ping"}']
    assert found[1][0] == {"type": "close", "code": 1006, "final": False}


def test_a_pong_keeps_it() -> None:
    found = run("""
        const socket = open(CHAT, { heartbeatInterval: 1, heartbeatTimeout: 1000 });
        last().accept();
        last().send = (data) => { last().sent.push(data); last().say({ type: "pong" }); };
        socket.addEventListener("close", () => report("closed"));
        // the next ping waits for the end of the timeout
        await until(() => last().sent.length === 1);
        report([socket.state, socket.seen]);
    """)
    assert found == ["open", [{"type": "open"}]]


# Without wsredis.v1


@pytest.mark.parametrize("protocol", ["", "my.v2"])
def test_without_the_subprotocol_messages_are_plain(protocol: str) -> None:
    found = run(f"""
        const socket = open(CHAT + "&history=5", {{ protocols: ["my.v2"], heartbeat: "beat" }});
        last().accept("{protocol}");
        last().receive('{{"channel":"broadcast:chat","id":"1-0"}}\\nx');
        last().receive("beat");
        socket.send("text");
        socket.send({{ a: 1 }});
        const errors = [
            thrown(() => socket.send("x", {{ facility: "chat" }})), thrown(() => socket.subscribe("news", "a")),
        ];
        const sent = last().sent;
        await cut();
        report([socket.seen.slice(1, -2), sent, errors, last().query, socket.cursor]);
    """)
    data = '{"channel":"broadcast:chat","id":"1-0"}\nx'
    assert found[0] == [{"type": "message", "data": data, "channel": None, "facility": None, "id": None}]
    assert found[1] == ["text", '{"a":1}']
    assert found[2] == [
        'Error: WSRedis: cannot send, "chat" is not subscribed',
        "Error: WSRedis: the server does not speak wsredis.v1",
    ]
    assert found[3:] == ["subscribe-broadcast&publish-broadcast&echo&history=5", ""]


def test_a_subscription_that_waited_for_a_server_without_the_subprotocol_is_warned_of() -> None:
    sent = run(
        """
        const socket = open(CHAT);
        socket.subscribe("news", "subscribe-broadcast");
        last().accept("");
        report([last().sent, warnings]);
        """,
        warns=True,
    )
    assert sent == [[], ["WSRedis: the server does not speak wsredis.v1"]]


@pytest.mark.parametrize("code", [1003, 1008])
def test_a_final_code_ends_it_and_is_warned_of_once(code: int) -> None:
    found = run(
        f"""
        const socket = open(CHAT);
        last().accept();
        last().lose({code}, "no");
        socket.close();
        report([socket.state, socket.seen.at(-1), warnings]);
        """,
        warns=True,
    )
    warning = f"WSRedis: the server closed /ws/chat, and it stays closed: {code} no"
    assert found == ["closed", {"type": "close", "code": code, "final": True}, [warning]]


@pytest.mark.parametrize("url", ["", "undefined", "null", '""'])
def test_a_url_that_is_left_out_is_an_error(url: str) -> None:
    found = run(f"report([thrown(() => new WSRedis({url})), sockets.length]);")
    assert found == ["TypeError: WSRedis: it needs the URL of a facility, such as /ws/news?subscribe-broadcast", 0]


def test_each_event_is_an_option_too() -> None:
    found = run("""
        const found = [];
        const options = {};
        for (const type of ["open", "message", "close", "reconnecting", "subscribed", "gap", "refused"]) {
            options[`on${type}`] = function (event) { found.push([this === socket, event.type === type]); };
        }
        const socket = open(CHAT, options);
        last().accept();
        last().message("broadcast:chat", "1-0", "x");
        ack({});
        last().say({ type: "gap", channel: "broadcast:chat" });
        socket.subscribe("news", "subscribe-broadcast");
        last().say({ type: "error", status: 403, facility: "news" });
        await cut();
        report(found);
    """)
    assert found == [[True, True]] * 7
