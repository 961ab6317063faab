/* What the tests of wsredis.js in Node have at hand: a WebSocket that a test plays the server of, and what was seen.
 *
 *   const socket = open("ws://x/ws/chat?subscribe-broadcast");
 *   last().accept("wsredis.v1");
 *   last().message("broadcast:chat", "1-0", "hello");
 *   report(socket.seen);
 */
"use strict";

const WSRedis = require("../../django_wsredis/static/django_wsredis/wsredis.js");

const sockets = []; // each that was opened, the newest last
const warnings = [];
console.warn = (text) => warnings.push(text);

class FakeWebSocket {
  constructor(url, protocols) {
    Object.assign(this, { url, protocols, protocol: "", readyState: 0, sent: [] });
    sockets.push(this);
  }

  send(data) {
    this.sent.push(data);
  }

  close() {
    this.readyState = 3;
  }

  // What the server does:

  accept(protocol = "wsredis.v1") {
    Object.assign(this, { protocol, readyState: 1 });
    this.onopen();
    return this;
  }

  receive(data) {
    this.onmessage?.({ data });
  }

  say(header) {
    this.receive(JSON.stringify(header));
  }

  message(channel, id, payload) {
    this.receive(`${JSON.stringify({ channel, id })}\n${payload}`);
  }

  lose(code = 1006, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  // What it was asked:

  get query() {
    return decodeURIComponent(this.url.split("?")[1]);
  }

  get headers() {
    return this.sent.map((data) => JSON.parse(data.split("\n")[0]));
  }
}

const streams = []; // each EventSource that was opened, the newest last

class FakeEventSource {
  constructor(url) {
    Object.assign(this, { url, readyState: 0, listeners: {} });
    streams.push(this);
  }

  addEventListener(type, listener) {
    this.listeners[type] = listener;
  }

  close() {
    this.readyState = 2;
  }

  // What the server does:

  event(type, data) {
    this.listeners[type]({ data });
    return this;
  }

  begin(key = "k1") {
    return this.event("hello", JSON.stringify({ stream: key }));
  }

  say(header) {
    return this.event("message", JSON.stringify(header));
  }
}

const posts = []; // each request, with `answer(status)` and `fail()`
globalThis.fetch = (url, { method, headers, body }) => new Promise((resolve, reject) => {
  const answer = (status) => resolve({ status, ok: status < 300 });
  posts.push({ url, method, headers, body, answer, fail: () => reject(new TypeError("no network")) });
});

/** Let a socket find that no websocket gets through, and return its stream. */
async function fallBack() {
  const count = streams.length;
  while (streams.length === count) {
    const before = sockets.length;
    last().lose();
    await until(() => sockets.length > before || streams.length > count);
  }
  return streams.at(-1);
}

const KEPT = ["data", "channel", "facility", "id", "channels", "since", "missed", "status", "final", "code"];

/** Open a socket whose events, as plain objects, are added to its `seen`. */
function open(url, options = {}) {
  const seen = [];
  const socket = new WSRedis(url, { WebSocket: FakeWebSocket, retryBase: 0, ...options });
  for (const type of ["open", "message", "close", "reconnecting", "subscribed", "gap", "refused"]) {
    socket.addEventListener(type, (event) => {
      const found = { type };
      for (const name of KEPT) if (event[name] !== undefined) found[name] = event[name];
      seen.push(found);
    });
  }
  return Object.assign(socket, { seen });
}

function last() {
  return sockets.at(-1);
}

/** Wait until something is true; the test's own time limit ends what never is. */
async function until(condition) {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** Cut the connection, and wait for the next one. */
async function cut() {
  const count = sockets.length;
  last().lose();
  await until(() => sockets.length > count);
  return last();
}

/** Return what a function threw, as text. */
function thrown(run) {
  try {
    run();
  } catch (error) {
    return `${error.name}: ${error.message}`;
  }
  return null;
}

/** Give the test its result, and end. */
function report(result) {
  process.stdout.write(JSON.stringify({ result, warnings }), () => process.exit(0));
}

module.exports = {
  WSRedis, FakeWebSocket, FakeEventSource, sockets, streams, posts, warnings,
  open, last, until, cut, fallBack, thrown, report,
};
