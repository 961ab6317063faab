"""What wsredis.js does where no websocket gets through, in Node, where a test plays the server of streams and posts."""

from __future__ import annotations

from typing import Any

import pytest

from . import test_javascript

BEGIN = """
    const { FakeEventSource, streams, posts, fallBack } = require("./fake.js");
    const stream = (url, options = {}) => open(url, { EventSource: FakeEventSource, csrfToken: "t0", ...options });
    const count = () => [sockets.length, streams.length];
"""


def run(script: str, warns: bool = False) -> Any:
    return test_javascript.run(BEGIN + script, warns)


def test_it_falls_back_after_two_websockets_that_were_not_heard_and_the_page_remembers() -> None:
    found = run("""
        const socket = stream(CHAT + "&history=5");
        const found = [];
        await fallBack();
        found.push(count(), streams[0].url, socket.state, socket.transport);
        streams[0].begin();
        found.push(socket.state, socket.transport);
        const other = stream(CHAT);
        found.push(count(), other.transport);
        report(found);
    """)
    query = "subscribe-broadcast&publish-broadcast&echo"
    assert found == [
        [2, 1], f"http://x/ws/chat?{query}&history=5&wsredis.v1", "connecting", "event-stream", "open", "event-stream",
        [2, 2], "event-stream",
    ]  # fmt: skip


def test_a_url_without_a_query_gets_one() -> None:
    found = run("""
        stream("ws://x/ws/chat");
        await fallBack();
        report(streams[0].url);
    """)
    assert found == "http://x/ws/chat?wsredis.v1"


def test_a_handshake_that_passes_and_nothing_after_it_is_none_that_got_through() -> None:
    assert run("""
        const socket = stream(CHAT);
        last().accept();
        await cut();
        last().accept();
        last().lose();
        await until(() => streams.length === 1);
        report([count(), socket.seen.filter(({ type }) => type === "open").length]);
    """) == [[2, 1], 2]


def test_a_page_that_heard_a_websocket_waits_for_the_server_and_so_do_its_other_objects() -> None:
    assert (
        run("""
        stream(CHAT);
        last().accept();
        ack({ "broadcast:chat": null });
        for (let i = 0; i < 5; i += 1) await cut();
        stream(CHAT);
        for (let i = 0; i < 5; i += 1) await cut();
        report(streams.length);
    """)
        == 0
    )


def test_a_websocket_that_the_server_closes_did_get_through() -> None:
    assert (
        run("""
        stream(CHAT);
        for (let i = 0; i < 5; i += 1) {
            const before = sockets.length;
            last().accept();
            last().lose(1013, "Redis is away");
            await until(() => sockets.length > before);
        }
        report(streams.length);
    """)
        == 0
    )


def test_where_no_stream_gets_through_either_it_tries_both() -> None:
    assert run("""
        const socket = stream(CHAT);
        for (let i = 0; i < 3; i += 1) {
            const found = await fallBack();
            found.onerror();
            const before = sockets.length;
            await until(() => sockets.length > before);
        }
        report([count(), socket.transport]);
    """) == [[7, 3], "websocket"]


@pytest.mark.parametrize("options", ["{ EventSource: false }", "{ EventSource: null }", '{ protocols: ["other.v2"] }'])
def test_it_does_not_fall_back_where_that_is_not_wanted_or_not_possible(options: str) -> None:
    assert (
        run(f"""
        delete globalThis.EventSource; // of later versions of Node
        stream(CHAT, {options});
        for (let i = 0; i < 6; i += 1) await cut();
        report(streams.length);
    """)
        == 0
    )


def test_it_comes_back_to_a_stream_with_its_positions_and_gets_no_message_twice() -> None:
    found = run(r"""
        const socket = stream(CHAT + "&history=5");
        const first = (await fallBack()).begin();
        first.event("message", '{"channel":"broadcast:chat","id":"5-0"}\na\nb');
        first.say({ type: "ack", facility: "chat", channels: { "broadcast:chat": "5-0" } });
        first.onerror();
        await until(() => streams.length === 2);
        const second = streams[1].begin("k2");
        second.event("message", '{"channel":"broadcast:chat","id":"5-0"}\na\nb');
        second.event("text", btoa('{"channel":"broadcast:chat","id":"6-0"}\n\xef\xbb\xbfc\r'));
        second.event("binary", btoa('{"channel":"broadcast:chat","id":"7-0"}\n\x00\xff'));
        report([decodeURIComponent(second.url), first.readyState, socket.seen, socket.cursor]);
    """)
    url, state, seen, cursor = found
    query = "subscribe-broadcast&publish-broadcast&echo&since=broadcast:chat=5-0&wsredis.v1"
    assert (url, state, cursor) == (f"http://x/ws/chat?{query}", 2, "broadcast:chat=7-0")
    assert test_javascript.messages(seen) == ["a\nb", "\ufeffc\r", {}]
    assert [event["type"] for event in seen[2:]].count("open") == 2


@pytest.mark.parametrize(
    ("code", "state"), [(4401, "closed"), (4403, "closed"), (1003, "closed"), (1012, "waiting"), (1013, "waiting")]
)
def test_the_word_with_which_a_stream_ends_counts_as_a_close_code(code: int, state: str) -> None:
    found = run(
        f"""
        const socket = stream(CHAT, {{ retryBase: 60000 }});
        socket._unheard = 2;
        last().lose();
        socket._wake();
        streams[0].begin().event("close", JSON.stringify({{ code: {code}, reason: "why" }}));
        report([socket.state, socket.seen.at(-1).code]);
        """,
        warns=state == "closed",
    )
    assert found == [state, code]


SEND = """
    const socket = stream(CHAT + "&x=1", { retryBase: 60000 });
    socket._unheard = 2;
    last().lose();
    socket._wake();
    streams[0].begin("k7").say({ type: "ack", facility: "chat", channels: {} });
"""


def test_what_is_sent_is_posted_one_after_another_with_the_token() -> None:
    found = run(
        SEND
        + """
        socket.send("one"); socket.send({ two: 2 }); socket.send(Uint8Array.from([3]));
        await until(() => posts.length === 1);
        const found = [];
        for (let i = 1; i <= 3; i += 1) {
            await until(() => posts.length === i);
            const { url, method, headers, body } = posts.at(-1);
            found.push([url, method, headers, typeof body === "string" ? body : [...body]]);
            posts.at(-1).answer(204);
        }
        report(found);
    """
    )
    url = "http://x/ws/chat?subscribe-broadcast&publish-broadcast&echo&x=1&stream=k7"
    text, binary = "text/plain;charset=UTF-8", "application/octet-stream"
    assert found == [
        [url, "POST", {"Content-Type": kind, "X-CSRFToken": "t0"}, body]
        for kind, body in ((text, "one"), (text, '{"two":2}'), (binary, [3]))
    ]


def test_what_it_says_is_posted_for_its_stream_and_a_further_facility_has_its_own_url() -> None:
    found = run(
        SEND
        + """
        socket.subscribe("a/b c", "publish-user&since=1-0");
        await until(() => posts.length === 1);
        posts[0].answer(204);
        streams[0].say({ type: "ack", facility: "a/b c", channels: {} });
        socket.send("x", { facility: "a/b c" });
        await until(() => posts.length === 2);
        report(posts.map(({ url, headers, body }) => [url, headers["Content-Type"], body]));
    """
    )
    own = "http://x/ws/chat?subscribe-broadcast&publish-broadcast&echo&x=1&stream=k7"
    asked = '{"type":"subscribe","facility":"a/b c","query":"publish-user&since=1-0"}'
    assert found == [
        [own, "application/wsredis.v1", asked],
        ["http://x/ws/a/b%20c?publish-user&stream=k7", "text/plain;charset=UTF-8", "x"],
    ]


@pytest.mark.parametrize(
    ("answer", "code", "state"),
    [
        ("answer(403)", 1003, "closed"),
        ("answer(404)", 1003, "closed"),
        ("answer(413)", 1009, "waiting"),
        ("answer(429)", 1013, "waiting"),
        ("answer(503)", 1013, "waiting"),
        ("fail()", 1006, "waiting"),
    ],
)
def test_a_post_that_fails_ends_the_stream_and_what_waits_is_not_sent(answer: str, code: int, state: str) -> None:
    found = run(
        SEND
        + f"""
        socket.send("one"); socket.send("two");
        await until(() => posts.length === 1);
        posts[0].{answer};
        await until(() => socket.state !== "open");
        await new Promise((resolve) => setTimeout(resolve, 1));
        report([socket.state, socket.seen.at(-1).code, posts.length, streams[0].readyState]);
        """,
        warns=state == "closed",
    )
    assert found == [state, code, 1, 2]


def test_what_was_sent_before_a_close_goes_out() -> None:
    assert run(
        SEND
        + """
        socket.send("one"); socket.send("two");
        socket.close();
        await until(() => posts.length === 1);
        posts[0].answer(204);
        await until(() => posts.length === 2);
        report(posts.map(({ body }) => body));
    """
    ) == ["one", "two"]


@pytest.mark.parametrize(
    ("cookie", "field", "option", "token"),
    [
        ("a=1; csrftoken=fromcookie; b=2", "fromfield", "null", "fromcookie"),
        ("xcsrftoken=1", "fromfield", "null", "fromfield"),
        ("", None, "null", ""),
        ("csrftoken=fromcookie", None, '"given"', "given"),
        ("csrftoken=fromcookie", None, '() => "made"', "made"),
    ],
)
def test_the_token_is_that_of_the_cookie_or_the_page_or_given(
    cookie: str, field: str | None, option: str, token: str
) -> None:
    value = "null" if field is None else f'{{ value: "{field}" }}'
    found = run(f"""
        globalThis.window = new EventTarget();
        const page = Object.assign(new EventTarget(), {{
            cookie: "{cookie}", baseURI: "http://x/", querySelector: () => ({value}),
        }});
        globalThis.document = page;
        const socket = stream(CHAT, {{ retryBase: 60000, csrfToken: {option} }});
        socket._unheard = 2;
        last().lose();
        socket._wake();
        streams[0].begin();
        socket.subscribe("b", "c");
        streams[0].say({{ type: "ack", facility: "chat", channels: {{}} }});
        socket.send("x");
        await until(() => posts.length === 1);
        report(posts[0].headers["X-CSRFToken"]);
    """)
    assert found == token
