/* WSRedis: a websocket that comes back. No dependencies.
 *
 *   const socket = new WSRedis("/ws/chat?subscribe-broadcast&publish-broadcast&echo", {
 *     heartbeat: "--heartbeat--",
 *     onmessage(event) { console.log(event.data, event.json()); },
 *   });
 *   socket.send({ hello: "world" });
 *
 * Events, each also an option with "on" in front of its name:
 *   open          event.detail.reconnect: false the first time, true afterwards
 *   message       event.data: string or ArrayBuffer; event.json(): the same, parsed
 *   close         event.code, event.reason, event.final, event.retryIn (milliseconds or null)
 *   reconnecting  event.detail.attempt: failures since the last stable connection
 */
(() => {
  "use strict";

  // Options and their defaults; durations are in milliseconds.
  const DEFAULTS = {
    protocols: [],
    heartbeat: null, // the server's heartbeat text; null: a dead network is not looked for
    heartbeatInterval: 25000, // silence after which the heartbeat is sent
    heartbeatTimeout: 10000, // silence after that which means that the network is dead
    connectTimeout: 10000,
    retryBase: 1000,
    retryCap: 30000,
    stableAfter: 10000, // a connection that lives this long makes the next retry quick again
    WebSocket: null, // null: the browser's
    onopen: null,
    onmessage: null,
    onclose: null,
    onreconnecting: null,
  };

  // Unsupported data, policy violation, not logged in, not allowed: trying again cannot help.
  const FINAL_CODES = new Set([1003, 1008, 4401, 4403]);
  const ABNORMAL = 1006; // RFC 6455, section 7.4.1: lost without a close frame

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
    return options;
  }

  function websocketURL(given) {
    const base = typeof document === "object" ? document.baseURI : globalThis.location?.href;
    const url = new URL(given, base);
    if (url.protocol === "http:") url.protocol = "ws:";
    if (url.protocol === "https:") url.protocol = "wss:";
    if (!/^wss?:$/.test(url.protocol)) throw new TypeError(`WSRedis: not a websocket URL: ${given}`);
    url.hash = ""; // WebSocket refuses a fragment
    return url.href;
  }

  function encode(data) {
    if (typeof data === "string" || data instanceof ArrayBuffer || ArrayBuffer.isView(data)) return data;
    if (typeof Blob === "function" && data instanceof Blob) return data;
    const text = JSON.stringify(data);
    if (text === undefined) throw new TypeError(`WSRedis: cannot send ${typeof data} as JSON`);
    return text;
  }

  class SocketEvent extends Event {
    constructor(type, fields) {
      super(type);
      Object.assign(this, fields);
    }
  }

  class SocketMessage extends SocketEvent {
    json() {
      return JSON.parse(typeof this.data === "string" ? this.data : new TextDecoder().decode(this.data));
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
      this._hasBeenOpen = false;
      this._page = new AbortController();
      for (const type of ["open", "message", "close", "reconnecting"]) {
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

    /** Send text and binary data as they are, anything else as JSON. Nothing is queued: throws unless open. */
    send(data) {
      // While the closing handshake runs, the browser would drop the data without a word.
      const isClosing = this._state === "open" && this._ws.readyState !== 1;
      if (this._state !== "open" || isClosing) {
        throw new Error(`WSRedis: cannot send, the socket is ${isClosing ? "closing" : this._state}`);
      }
      this._ws.send(encode(data));
    }

    /** Close for good. */
    close(code = 1000, reason = "") {
      if (this._state === "closed") return;
      this._ws?.close(code, reason); // throws on a bad code, before anything has changed
      this._end(code, reason);
    }

    _connect() {
      const { WebSocket, protocols, connectTimeout } = this._options;
      const ws = new WebSocket(this.url, protocols);
      ws.binaryType = "arraybuffer";
      ws.onopen = () => this._opened();
      ws.onmessage = (event) => this._received(event.data);
      ws.onclose = (event) => this._lost(event.code, event.reason);
      ws.onerror = () => {}; // says nothing, and a close event follows; Node's "ws" throws without it
      this._ws = ws;
      this._state = "connecting";
      this._isProbing = false;
      this._after(connectTimeout, () => this._lost(ABNORMAL, "connect timeout"));
    }

    _reconnect() {
      this._connect();
      this._emit("reconnecting", { detail: { attempt: this._attempt } });
    }

    _opened() {
      const reconnect = this._hasBeenOpen;
      this._hasBeenOpen = true;
      this._state = "open";
      this._heardAt = performance.now();
      this._stableTimer = setTimeout(() => { this._attempt = 0; }, this._options.stableAfter);
      this._watch();
      this._emit("open", { detail: { reconnect } });
    }

    _received(data) {
      this._heardAt = performance.now();
      if (data === this._options.heartbeat) return;
      this.dispatchEvent(new SocketMessage("message", { data }));
    }

    // Wait until nothing has been heard for heartbeatInterval. One timer, not one for each message.
    _watch() {
      const { heartbeat, heartbeatInterval } = this._options;
      clearTimeout(this._timer);
      if (heartbeat === null) return;
      const rest = this._heardAt + heartbeatInterval - performance.now();
      if (rest <= 0) this._probe();
      else this._after(rest, () => this._watch());
    }

    _probe() {
      const { heartbeat, heartbeatTimeout } = this._options;
      if (heartbeat === null || this._state !== "open" || this._isProbing) return;
      this._isProbing = true;
      const sentAt = performance.now();
      this._ws.send(heartbeat);
      this._after(heartbeatTimeout, () => {
        this._isProbing = false;
        if (this._heardAt >= sentAt) this._watch();
        else this._lost(ABNORMAL, "no heartbeat");
      });
    }

    _lost(code, reason) {
      if (FINAL_CODES.has(code)) {
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
      const ws = this._ws;
      if (!ws) return;
      this._ws = null;
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
