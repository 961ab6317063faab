/* WSRedis: a websocket that comes back, with what it missed; an EventSource where none gets through. No dependencies.
 *
 *   const socket = new WSRedis("/ws/chat?subscribe-broadcast&publish-broadcast&echo&history=50", {
 *     onmessage(event) { console.log(event.channel, event.data, event.json()); },
 *     ongap(event) { console.log("messages may be missing here", event.channel); },
 *   });
 *   socket.send({ hello: "world" });
 *
 * Events, each also an option with "on" in front of its name:
 *   open          event.detail.reconnect: false the first time, true afterwards
 *   message       event.data: string or ArrayBuffer; event.json(): the same, parsed;
 *                 event.channel, event.facility, event.id: null where the server did not say
 *   close         event.code, event.reason, event.final, event.retryIn (milliseconds or null)
 *   reconnecting  event.detail.attempt: failures since the last stable connection
 * and from servers that speak wsredis.v1, as django_wsredis does:
 *   subscribed    event.facility, event.channels: all that was missed has come, what follows is live
 *   gap           event.channel, event.facility, event.since, event.missed: messages may be missing here
 *   refused       event.facility, event.status, event.final: of a subscribe()
 */
(() => {
  "use strict";

  // The subprotocol: each message begins with a line of JSON, its header. docs/protocol.rst describes it.
  const V1 = "wsredis.v1";
  const PING = '{"type":"ping"}';
  const NEWLINE = 10;

  // Options and their defaults; durations are in milliseconds.
  const DEFAULTS = {
    protocols: [V1], // without it: plain messages, and nothing of what was missed
    heartbeat: null, // only without V1: the server's heartbeat text; null: a dead network is not looked for
    heartbeatInterval: 25000, // silence after which the heartbeat is sent
    heartbeatTimeout: 10000, // silence after that which means that the network is dead
    connectTimeout: 10000,
    retryBase: 1000,
    retryCap: 30000,
    stableAfter: 10000, // a connection that lives this long makes the next retry quick again
    WebSocket: null, // null: the browser's
    EventSource: null, // null: the browser's; false: nothing stands in for websockets that do not get through
    csrfToken: null, // a string, or a function that returns one; null: of the cookie, or else of {% csrf_token %}
    onopen: null,
    onmessage: null,
    onclose: null,
    onreconnecting: null,
    onsubscribed: null,
    ongap: null,
    onrefused: null,
  };
  const EVENTS = Object.keys(DEFAULTS).filter((name) => /^on/.test(name)).map((name) => name.slice(2));

  // Unsupported data, policy violation, not logged in, not allowed: trying again cannot help.
  const FINAL_CODES = new Set([1003, 1008, 4401, 4403]);
  const ABNORMAL = 1006; // RFC 6455, section 7.4.1: lost without a close frame
  // What a websocket would be closed with: too large; and too many requests is none of ours, so it passes.
  const POST_CODES = { 413: 1009, 429: 1013 };
  // Refusals of a subscribe: of what is subscribed already, and the one that passes by itself.
  const CONFLICT = 409;
  const UNAVAILABLE = 503;

  // A position in a channel: the id of a message in a Redis stream, two numbers of up to 64 bits.
  const POSITION = /^\d{1,20}-\d{1,20}$/;
  // Of the positions in a query, encoded. Servers and proxies refuse a request line of more than 4 or 8 KiB.
  const MAX_SINCE = 2000;

  // Websockets do not get through if so many in a row were not heard on a page that never heard one, and a stream is.
  const MAX_UNHEARD = 2;
  // For so long no websocket is tried again, as on a new page: proxies change, and laptops move.
  const STREAMS_FOR = 3600000;
  let hasHeard = false; // whether any websocket of this page got through
  let streamsUntil = -Infinity; // in the time of performance.now()

  const encoder = new TextEncoder();
  const decoder = new TextDecoder();
  const exactDecoder = new TextDecoder("utf-8", { ignoreBOM: true });

  function readOptions(given) {
    const options = { ...DEFAULTS };
    for (const [name, value] of Object.entries(given)) {
      if (!Object.prototype.hasOwnProperty.call(DEFAULTS, name)) {
        console.warn(`WSRedis: unknown option "${name}"`);
      } else if (value !== undefined) {
        options[name] = value;
      }
    }
    if (options.heartbeat !== null && typeof options.heartbeat !== "string") {
      throw new TypeError("WSRedis: the heartbeat must be a string or null");
    }
    options.WebSocket = options.WebSocket || globalThis.WebSocket;
    if (!options.WebSocket) throw new TypeError("WSRedis: no WebSocket here; give the option WebSocket");
    options.EventSource ??= globalThis.EventSource;
    return options;
  }

  function websocketURL(given) {
    if (!given) throw new TypeError("WSRedis: it needs the URL of a facility, such as /ws/news?subscribe-broadcast");
    const base = typeof document === "object" ? document.baseURI : globalThis.location?.href;
    const url = new URL(given, base);
    if (url.protocol === "http:") url.protocol = "ws:";
    if (url.protocol === "https:") url.protocol = "wss:";
    if (!/^wss?:$/.test(url.protocol)) throw new TypeError(`WSRedis: not a websocket URL: ${given}`);
    url.hash = ""; // WebSocket refuses a fragment
    return url.href;
  }

  function isBlob(data) {
    return typeof Blob === "function" && data instanceof Blob;
  }

  function encode(data) {
    if (typeof data === "string" || data instanceof ArrayBuffer || ArrayBuffer.isView(data)) return data;
    if (isBlob(data)) return data;
    const text = JSON.stringify(data);
    if (text === undefined) throw new TypeError(`WSRedis: cannot send ${typeof data} as JSON`);
    return text;
  }

  function withHeader(header, data) {
    const line = `${JSON.stringify(header)}\n`;
    if (typeof data === "string") return line + data;
    if (isBlob(data)) return new Blob([line, data]);
    const head = encoder.encode(line);
    const body = new Uint8Array(data.buffer ?? data, data.byteOffset, data.byteLength); // of a view or an ArrayBuffer
    const joined = new Uint8Array(head.length + body.length);
    joined.set(head);
    joined.set(body, head.length);
    return joined;
  }

  function csrfToken(given) {
    if (given !== null) return typeof given === "function" ? given() : given;
    if (typeof document !== "object") return ""; // a worker
    const cookie = /(?:^|; )csrftoken=([^;]+)/.exec(document.cookie);
    return cookie ? cookie[1] : document.querySelector("[name=csrfmiddlewaretoken]")?.value ?? "";
  }

  function joint(url) {
    return url.includes("?") ? "&" : "?";
  }

  function fromBase64(text) {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  }

  /** Return [header, payload] of what the server sent; throw on a header that would do harm. */
  function readMessage(data) {
    const isText = typeof data === "string";
    const newline = isText ? data.indexOf("\n") : new Uint8Array(data).indexOf(NEWLINE);
    const end = newline < 0 ? data.length ?? data.byteLength : newline;
    const line = data.slice(0, end);
    const header = JSON.parse(isText ? line : decoder.decode(line));
    if (header.type === undefined || header.type === "gap") header.facility = facilityOf(header.channel);
    if (header.type === "ack" && typeof header.facility !== "string") throw new TypeError("an ack without a facility");
    for (const id of [header.id ?? null, ...Object.values(header.channels ?? {})]) {
      // It would be sent back in each handshake, and be refused in each.
      if (id !== null && !POSITION.test(id)) throw new TypeError(`${id} is no position`);
    }
    return [header, data.slice(end + 1)];
  }

  /** Return the last part of a channel's name; null for "everywhere", which is every facility's. */
  function facilityOf(channel) {
    const colon = channel.lastIndexOf(":");
    return colon < 0 ? null : decodeURIComponent(channel.slice(colon + 1));
  }

  /** Tell whether a position is after another. As texts of one length they compare as the numbers do, of any size. */
  function isAfter(position, other) {
    const padded = (text) => text.replace(/\d+/g, (number) => number.padStart(20, "0"));
    return padded(position) > padded(other);
  }

  /** Return what a query asks for: its parts, and apart from them where to begin, for that changes. */
  function readQuery(query) {
    const wish = { query, parts: [], history: "", since: "", positions: [] };
    for (const part of query.replace(/^\?/, "").split("&").filter(Boolean)) {
      if (part.startsWith("history=")) wish.history = part;
      else if (part.startsWith("since=")) readSince(new URLSearchParams(part).get("since"), wish);
      else wish.parts.push(part);
    }
    return wish;
  }

  // "broadcast:chat=1700000000000-0,user:alice:chat=1700000000001-0"; a position alone is that of all other channels.
  function readSince(since, wish) {
    for (const text of since.split(",").filter(Boolean)) {
      const equals = text.lastIndexOf("=");
      const id = text.slice(equals + 1);
      if (!POSITION.test(id)) throw new TypeError(`WSRedis: since=${text} is no position`);
      if (equals < 0) wish.since = id;
      else wish.positions.push([text.slice(0, equals), id]);
    }
  }

  class SocketEvent extends Event {
    constructor(type, fields) {
      super(type);
      Object.assign(this, fields);
    }
  }

  class SocketMessage extends SocketEvent {
    json() {
      return JSON.parse(typeof this.data === "string" ? this.data : decoder.decode(this.data));
    }
  }

  /** What stands for a WebSocket where none gets through: an EventSource, and a request for whatever is sent. */
  class Stream {
    constructor(url, { EventSource, csrfToken: token }, protocol) {
      this.readyState = 0;
      this.protocol = protocol;
      this._token = token;
      this._isLost = false;
      this._posted = Promise.resolve(); // one after another, so they keep their order
      this._source = new EventSource(url.replace(/^ws/, "http") + (protocol && `${joint(url)}${protocol}`));
      this._on("hello", (data) => this._begin(JSON.parse(data).stream));
      this._on("message", (data) => this.onmessage?.({ data }));
      this._on("text", (data) => this.onmessage?.({ data: exactDecoder.decode(fromBase64(data)) }));
      this._on("binary", (data) => this.onmessage?.({ data: fromBase64(data).buffer }));
      this._on("close", (data) => { const { code, reason } = JSON.parse(data); this._lose(code, reason); });
      // It would come back by itself, but to the positions of its URL; and never after a refusal.
      this._source.onerror = () => this._lose(ABNORMAL, "the stream ended");
    }

    // Not before something came: on the way there may be one who waits for the end of a response.
    _begin(key) {
      this.key = key;
      this.readyState = 1;
      streamsUntil = performance.now() + STREAMS_FOR;
      this.onopen?.();
    }

    _on(type, callback) {
      this._source.addEventListener(type, ({ data }) => callback(data));
    }

    /** Post a message, or what is said by wsredis.v1, to a URL that grants it. */
    post(url, body, type) {
      const target = `${url.replace(/^ws/, "http")}${joint(url)}stream=${this.key}`;
      const request = () => {
        const headers = { "Content-Type": type, "X-CSRFToken": csrfToken(this._token) };
        return fetch(target, { method: "POST", headers, body });
      };
      const finish = ({ ok, status }) => {
        if (!ok) this._lose(POST_CODES[status] ?? (status < 500 ? 1003 : 1013), `a POST got ${status}`);
      };
      const next = () => this._isLost || request().then(finish);
      this._posted = this._posted.then(next).catch((error) => this._lose(ABNORMAL, `a POST failed: ${error.message}`));
    }

    close() {
      this.readyState = 3;
      this._source.close();
    }

    _lose(code, reason) {
      if (this._isLost) return;
      this._isLost = true;
      this.close();
      this.onclose?.({ code, reason });
    }
  }

  class WSRedis extends EventTarget {
    constructor(url, options = {}) {
      super();
      this.url = websocketURL(url);
      this._options = readOptions(options);
      this._ws = null;
      this._timer = null; // every state waits for one thing: connect, silence, heartbeat or retry
      this._stableTimer = null;
      this._attempt = 0;
      this._unheard = 0; // websockets in a row on which nothing came
      this._hasBeenOpen = false;
      this._isV1 = false;
      // channel → { id, ws: who told it, looseOn: who told of a gap after it, doubtedOn: who told of one before it }
      this._positions = new Map();
      this._wishes = new Map(); // further facilities → what is asked for
      this._wish = this._asWish(null, new URL(this.url).search.slice(1)); // the URL's; its ack names the facility
      this._left = []; // the wishes that were given up on this connection, until the server says so, too
      this._page = new AbortController();
      for (const type of EVENTS) {
        const callback = this._options[`on${type}`];
        if (callback) this.addEventListener(type, callback);
      }
      this._connect();
      this._listenToPage();
    }

    /** "connecting", "open", "waiting" (for the next attempt) or "closed". */
    get state() {
      return this._state;
    }

    /** "websocket", or "event-stream" where no websocket gets through. */
    get transport() {
      return this._ws instanceof Stream ? "event-stream" : "websocket";
    }

    /** Where the URL's channels stand, as text for `&since=${encodeURIComponent(socket.cursor)}`; "" if nowhere. */
    get cursor() {
      return this._cursor(this._wish);
    }

    /** Ask for a further facility on the same socket, now and after each reconnect, with the query of a URL. */
    subscribe(facility, query) {
      if (typeof facility !== "string" || typeof query !== "string") {
        throw new TypeError("WSRedis: subscribe() needs a facility and a query");
      }
      if (facility.startsWith("/")) throw new TypeError(`WSRedis: leave out the slash in front of "${facility}"`);
      if (this._state === "closed") throw new Error("WSRedis: cannot subscribe, the socket is closed");
      if (this._state === "open" && !this._isV1) throw new Error(`WSRedis: the server does not speak ${V1}`);
      if (facility === this._wish.facility) throw new Error(`WSRedis: "${facility}" is the URL's own facility`);
      const former = this._wishes.get(facility);
      if (former?.query === query) return;
      if (former) throw new Error(`WSRedis: "${facility}" is subscribed with another query; unsubscribe() it first`);
      this._wishes.set(facility, this._asWish(facility, query));
      this._ask(facility);
    }

    /** Leave a facility that was subscribed with subscribe(). */
    unsubscribe(facility) {
      const wish = this._wishes.get(facility);
      if (!wish) return;
      this._left.push(wish);
      this._forget(wish);
      this._tell({ type: "unsubscribe", facility });
    }

    /** Send text and binary data as they are, anything else as JSON. Nothing is queued: throws unless open.
     *
     * facility: one of subscribe(), that has been acknowledged; by default the URL's.
     */
    send(data, { facility } = {}) {
      // While the closing handshake runs, the browser would drop the data without a word.
      const isClosing = this._state === "open" && this._ws.readyState !== 1;
      if (this._state !== "open" || isClosing) {
        throw new Error(`WSRedis: cannot send, the socket is ${isClosing ? "closing" : this._state}`);
      }
      if (facility !== undefined && !this._isLive(facility)) {
        throw new Error(`WSRedis: cannot send, "${facility}" is not subscribed`); // the server would close the socket
      }
      const payload = encode(data);
      if (this._ws instanceof Stream) {
        const type = typeof payload === "string" ? "text/plain;charset=UTF-8" : "application/octet-stream";
        this._ws.post(this._postURL(this._wishes.get(facility) ?? this._wish), payload, type);
        return;
      }
      this._ws.send(this._isV1 ? withHeader({ type: "publish", facility }, payload) : payload);
    }

    /** Close for good. */
    close(code = 1000, reason = "") {
      if (this._state === "closed") return;
      this._ws?.close(code, reason); // throws on a bad code, before anything has changed
      this._end(code, reason);
    }

    _connect() {
      const { WebSocket, protocols, connectTimeout } = this._options;
      const url = new URL(this.url);
      url.search = this._query(this._wish);
      const ws = this._wantsStream()
        ? new Stream(url.href, this._options, protocols.includes(V1) ? V1 : "")
        : new WebSocket(url.href, protocols);
      ws.binaryType = "arraybuffer";
      ws.onopen = () => this._opened();
      ws.onmessage = (event) => this._received(event.data);
      ws.onclose = ({ code, reason }) => {
        if (code !== ABNORMAL) this._noteHeard(); // a close frame came
        this._lost(code, reason);
      };
      ws.onerror = () => {}; // says nothing, and a close event follows; Node's "ws" throws without it
      this._ws = ws;
      this._state = "connecting";
      this._isProbing = false;
      this._after(connectTimeout, () => this._lost(ABNORMAL, "connect timeout"));
    }

    _wantsStream() {
      const { EventSource, protocols } = this._options;
      const isPossible = EventSource && !hasHeard && (protocols.includes(V1) || protocols.length === 0);
      const wants = isPossible && (this._unheard >= MAX_UNHEARD || performance.now() < streamsUntil);
      this._unheard = wants ? 0 : this._unheard + 1; // if there is no stream either, the server is away
      return wants;
    }

    _reconnect() {
      this._connect();
      this._emit("reconnecting", { detail: { attempt: this._attempt } });
    }

    _opened() {
      const reconnect = this._hasBeenOpen;
      this._hasBeenOpen = true;
      this._state = "open";
      this._isV1 = this._ws.protocol === V1;
      if (!this._isV1) this._noteHeard();
      this._left = [];
      this._heardAt = performance.now();
      this._stableTimer = setTimeout(() => { this._attempt = 0; }, this._options.stableAfter);
      this._watch();
      if (this._wishes.size > 0 && !this._isV1) console.warn(`WSRedis: the server does not speak ${V1}`);
      for (const facility of this._wishes.keys()) this._ask(facility);
      this._emit("open", { detail: { reconnect } });
    }

    // With V1 an ack follows at once: there are proxies that let a handshake through, and nothing after it.
    _noteHeard() {
      if (this._ws instanceof Stream) return;
      hasHeard = true;
      this._unheard = 0;
    }

    _received(data) {
      this._heardAt = performance.now();
      this._noteHeard();
      if (!this._isV1) {
        if (data !== this._options.heartbeat) this._deliver({ channel: null, facility: null }, data);
        return;
      }
      let header, payload;
      try {
        [header, payload] = readMessage(data);
      } catch (error) {
        console.warn(`WSRedis: left out a message whose header cannot be read: ${error.message}`);
        return;
      }
      this._settleDoubts(header);
      if (!this._ws) return; // closed by who heard of a gap
      // "pong" needs no answer; nor do types that later servers may know.
      if (header.type === undefined) this._onMessage(header, payload);
      else if (header.type === "ack") this._onAck(header);
      else if (header.type === "gap") this._onGap(header);
      else if (header.type === "error") this._onError(header);
      else if (header.type === "unsubscribed") this._onUnsubscribed(header);
    }

    _onMessage(header, payload) {
      const { channel, facility, id } = header;
      if (!this._isWanted(facility, channel)) return;
      if (id) {
        const known = this._positions.get(channel);
        if (known && known.looseOn !== this._ws && !isAfter(id, known.id)) return; // seen before
        this._positions.set(channel, { id, ws: this._ws });
      }
      this._deliver(header, payload);
    }

    _onAck({ facility, channels = {} }) {
      if (!this._isWanted(facility)) return;
      const wish = this._wishes.get(facility) ?? this._wish;
      wish.facility ??= facility;
      wish.isLive = true;
      for (const [channel, id] of Object.entries(channels)) {
        wish.channels.add(channel);
        if (id !== null) wish.history = wish.since = ""; // from now on it is known what was seen
        const known = this._positions.get(channel);
        // What came live meanwhile may be after what the server read.
        const isNewer = known?.ws === this._ws && known.looseOn !== this._ws && (id === null || isAfter(known.id, id));
        if (isNewer) continue;
        if (id === null) this._positions.delete(channel);
        else this._positions.set(channel, { id, ws: this._ws });
      }
      this._emit("subscribed", { facility, channels });
    }

    _onGap({ channel, facility, since = null, missed = null }) {
      if (!this._isWanted(facility, channel)) return;
      const known = this._positions.get(channel);
      // The oldest position of all channels was asked for, see _query(): this one's own is after it, or there is none.
      if (known && known.ws !== this._ws && since !== null && isAfter(known.id, since)) {
        known.doubtedOn = this._ws;
        return;
      }
      if (!known && since !== null && this._wishesOf(channel).every((wish) => !wish.since)) return;
      // The stream may have begun anew, with lower ids. Until it is heard of, its old position is the best one known.
      if (known) known.looseOn = this._ws;
      this._emit("gap", { channel, facility, since, missed });
    }

    // A gap from before a channel's position concerns us if it reaches beyond: unless the position itself comes again.
    _settleDoubts({ type, channel, id, channels = {} }) {
      if (type === undefined && id) this._settleDoubt(channel, id, false);
      if (type !== "ack") return;
      for (const [name, end] of Object.entries(channels)) this._settleDoubt(name, end, true);
    }

    _settleDoubt(channel, id, isAck) {
      const known = this._positions.get(channel);
      if (known?.doubtedOn !== this._ws) return;
      const isThere = id === known.id;
      if (!isThere && !isAck && !isAfter(id, known.id)) return; // it may come yet
      known.doubtedOn = null;
      if (!isThere) this._emit("gap", { channel, facility: facilityOf(channel), since: known.id, missed: null });
    }

    _onUnsubscribed({ facility }) {
      const at = this._left.findIndex((wish) => wish.facility === facility);
      if (at >= 0) this._left.splice(at, 1);
    }

    _onError({ facility, status }) {
      const wish = this._wishes.get(facility);
      if (!wish) return;
      const final = status !== UNAVAILABLE;
      if (status === CONFLICT) this._wishes.delete(facility); // the positions are of that which is subscribed
      else if (final) this._forget(wish);
      else wish.timer = setTimeout(() => this._ask(facility), Math.random() * this._options.retryCap);
      this._emit("refused", { facility, status, final });
    }

    _deliver({ channel, facility, id = null }, data) {
      this.dispatchEvent(new SocketMessage("message", { channel, facility, id, data }));
    }

    // What is not wanted was sent before the server had read our unsubscribe.
    _isWanted(facility, channel) {
      const isOf = (wish) => wish.facility === facility || wish.channels.has(channel);
      return !this._left.some(isOf) || this._allWishes.some(isOf);
    }

    _isLive(facility) {
      return this._isV1 && (facility === this._wish.facility || Boolean(this._wishes.get(facility)?.isLive));
    }

    get _allWishes() {
      return [this._wish, ...this._wishes.values()];
    }

    // Those whose ack named it, for a project may grant channels of other facilities; or else that of its facility.
    _wishesOf(channel) {
      const found = this._allWishes.filter((wish) => wish.channels.has(channel));
      return found.length > 0 ? found : [this._wishes.get(facilityOf(channel)) ?? this._wish];
    }

    _asWish(facility, query) {
      const wish = { ...readQuery(query), facility, channels: new Set(), isLive: false, timer: null };
      for (const [channel, id] of wish.positions) {
        facilityOf(channel); // throws on a name that cannot be one
        wish.channels.add(channel);
        this._positions.set(channel, { id, ws: null });
      }
      return wish;
    }

    _positionsOf(wish) {
      return [...this._positions].filter(([channel]) => this._wishesOf(channel).includes(wish));
    }

    _cursor(wish) {
      const named = this._positionsOf(wish).map(([channel, { id }]) => `${channel}=${id}`);
      return [wish.since, ...named].filter(Boolean).join(",");
    }

    _query(wish) {
      let since = encodeURIComponent(this._cursor(wish));
      // The oldest position is good for every channel: what has been seen and comes again is left out here.
      if (since.length > MAX_SINCE) since = this._oldest(wish);
      return [...wish.parts, wish.history, since && `since=${since}`].filter(Boolean).join("&");
    }

    _oldest(wish) {
      const ids = [wish.since, ...this._positionsOf(wish).map(([, { id }]) => id)].filter(Boolean);
      return ids.reduce((oldest, id) => (isAfter(oldest, id) ? id : oldest));
    }

    _ask(facility) {
      this._tell({ type: "subscribe", facility, query: this._query(this._wishes.get(facility)) });
    }

    _tell(header) {
      if (this._isV1 && this._ws?.readyState === 1) this._say(JSON.stringify(header));
    }

    _say(text) {
      if (this._ws instanceof Stream) this._ws.post(this._postURL(this._wish), text, `application/${V1}`);
      else this._ws.send(text);
    }

    // That of a wish, below the same WEBSOCKET_URL as the URL's facility.
    _postURL({ facility, parts }) {
      const url = new URL(this.url);
      const own = this._wish.facility;
      if (facility !== own) {
        const path = url.pathname;
        let end = path.lastIndexOf("/");
        while (end > 0 && decodeURIComponent(path.slice(end + 1)) !== own) end = path.lastIndexOf("/", end - 1);
        url.pathname = path.slice(0, end + 1) + facility.split("/").map(encodeURIComponent).join("/");
      }
      url.search = parts.join("&");
      return url.href;
    }

    _forget(wish) {
      clearTimeout(wish.timer);
      for (const channel of [...this._positions.keys()]) {
        if (this._wishesOf(channel).every((other) => other === wish)) this._positions.delete(channel);
      }
      this._wishes.delete(wish.facility);
    }

    get _heartbeat() {
      if (this._isV1) return PING;
      return this._ws instanceof Stream ? null : this._options.heartbeat;
    }

    // Wait until nothing has been heard for heartbeatInterval. One timer, not one for each message.
    _watch() {
      clearTimeout(this._timer);
      if (this._heartbeat === null) return;
      const rest = this._heardAt + this._options.heartbeatInterval - performance.now();
      if (rest <= 0) this._probe();
      else this._after(rest, () => this._watch());
    }

    _probe() {
      if (this._heartbeat === null || this._state !== "open" || this._isProbing) return;
      this._isProbing = true;
      const sentAt = performance.now();
      this._say(this._heartbeat);
      this._after(this._options.heartbeatTimeout, () => {
        this._isProbing = false;
        if (this._heardAt >= sentAt) this._watch();
        else this._lost(ABNORMAL, "no heartbeat");
      });
    }

    _lost(code, reason) {
      if (FINAL_CODES.has(code)) {
        const { pathname } = new URL(this.url);
        console.warn(`WSRedis: the server closed ${pathname}, and it stays closed: ${code} ${reason}`.trimEnd());
        this._end(code, reason);
        return;
      }
      // Full jitter: a server that restarts must not meet all its browsers in the same second.
      const { retryBase, retryCap } = this._options;
      const retryIn = Math.random() * Math.min(retryCap, retryBase * 2 ** this._attempt);
      this._attempt += 1;
      this._abandon();
      this._state = "waiting";
      this._after(retryIn, () => this._reconnect());
      this._emit("close", { code, reason, final: false, retryIn });
    }

    _end(code, reason) {
      this._abandon();
      this._page.abort();
      this._state = "closed";
      this._emit("close", { code, reason, final: true, retryIn: null });
    }

    // On a dead network the closing handshake would take minutes; whatever this socket says later is ignored.
    _abandon() {
      clearTimeout(this._timer);
      clearTimeout(this._stableTimer);
      for (const wish of this._wishes.values()) {
        clearTimeout(wish.timer);
        wish.isLive = false;
      }
      const ws = this._ws;
      if (!ws) return;
      this._ws = null;
      this._isV1 = false;
      ws.onopen = ws.onmessage = ws.onclose = null;
      ws.close();
    }

    _listenToPage() {
      if (typeof document !== "object") return; // a worker, or Node
      const on = (target, type, listener) => target.addEventListener(type, listener, { signal: this._page.signal });
      on(window, "online", () => this._wake());
      on(window, "offline", () => this._probe());
      on(document, "visibilitychange", () => { if (document.visibilityState === "visible") this._wake(); });
      // An open socket keeps a page out of the back/forward cache, and a frozen page does not read from it.
      on(window, "pagehide", (event) => { if (event.persisted) this._suspend(); });
      on(window, "pageshow", (event) => { if (event.persisted) this._wake(); });
      on(document, "freeze", () => this._suspend());
      on(document, "resume", () => this._wake());
    }

    _wake() {
      if (this._state === "waiting") {
        clearTimeout(this._timer);
        this._reconnect();
      } else {
        this._probe();
      }
    }

    _suspend() {
      if (this._state !== "open" && this._state !== "connecting") {
        clearTimeout(this._timer);
        return;
      }
      this._abandon();
      this._state = "waiting";
      this._emit("close", { code: 1001, reason: "page suspended", final: false, retryIn: null });
    }

    _after(milliseconds, callback) {
      clearTimeout(this._timer);
      this._timer = setTimeout(callback, milliseconds);
    }

    _emit(type, fields) {
      this.dispatchEvent(new SocketEvent(type, fields));
    }
  }

  // Loaded twice, the first class stays, so that instanceof keeps its meaning.
  if (!globalThis.WSRedis) globalThis.WSRedis = WSRedis;
  if (typeof module === "object" && module.exports) module.exports = globalThis.WSRedis;
})();
