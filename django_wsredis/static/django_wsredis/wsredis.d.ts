/** A websocket to django_wsredis that reconnects, gets what it missed, and notices a dead network. */
export class WSRedis extends EventTarget {
  /** @param url relative to the page, or http(s)://, or ws(s):// */
  constructor(url: string | URL, options?: WSRedisOptions);

  /** The absolute ws:// or wss:// URL. */
  readonly url: string;
  readonly state: WSRedisState;
  /** "event-stream" where no websocket gets through. */
  readonly transport: "websocket" | "event-stream";

  /** Where the URL's channels stand, as text for `&since=${encodeURIComponent(socket.cursor)}`; "" if nowhere. */
  readonly cursor: string;

  /**
   * Send text and binary data as they are, anything else as JSON. Nothing is queued: throws unless open.
   * @param options facility: one of subscribe(), that has been acknowledged; by default the URL's
   */
  send(data: unknown, options?: { facility?: string }): void;
  /** Ask for a further facility on the same socket, now and after each reconnect, with the query of a URL. */
  subscribe(facility: string, query: string): void;
  /** Leave a facility that was subscribed with subscribe(). */
  unsubscribe(facility: string): void;
  /** Close for good. */
  close(code?: number, reason?: string): void;

  addEventListener<Type extends keyof WSRedisEventMap>(
    type: Type,
    listener: (this: WSRedis, event: WSRedisEventMap[Type]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<Type extends keyof WSRedisEventMap>(
    type: Type,
    listener: (this: WSRedis, event: WSRedisEventMap[Type]) => void,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
}
export default WSRedis;

/** "waiting": for the next attempt to connect. */
export type WSRedisState = "connecting" | "open" | "waiting" | "closed";

/** Durations are in milliseconds. */
export interface WSRedisOptions {
  /** ["wsredis.v1"]; without it: plain messages, and nothing of what was missed. */
  protocols?: string | string[];
  /** Only without wsredis.v1: the server's heartbeat text; null (the default): a dead network is not looked for. */
  heartbeat?: string | null;
  /** Silence after which the heartbeat is sent; 25000. */
  heartbeatInterval?: number;
  /** Silence after that which means that the network is dead; 10000. */
  heartbeatTimeout?: number;
  /** 10000 */
  connectTimeout?: number;
  /** The longest wait before the first retry; doubled for each further one; 1000. */
  retryBase?: number;
  /** The longest wait before any retry; 30000. */
  retryCap?: number;
  /** A connection that lives this long makes the next retry quick again; 10000. */
  stableAfter?: number;
  /** Where there is no global WebSocket. */
  WebSocket?: unknown;
  /** Stands in where no websocket gets through; the browser's by default, false for none. */
  EventSource?: unknown;
  /** For what is sent then: Django's CSRF token; by default that of the cookie, or else of {% csrf_token %} in the page. */
  csrfToken?: string | (() => string);
  onopen?: (this: WSRedis, event: WSRedisOpenEvent) => void;
  onmessage?: (this: WSRedis, event: WSRedisMessageEvent) => void;
  onclose?: (this: WSRedis, event: WSRedisCloseEvent) => void;
  onreconnecting?: (this: WSRedis, event: WSRedisReconnectingEvent) => void;
  onsubscribed?: (this: WSRedis, event: WSRedisSubscribedEvent) => void;
  ongap?: (this: WSRedis, event: WSRedisGapEvent) => void;
  onrefused?: (this: WSRedis, event: WSRedisRefusedEvent) => void;
}

export interface WSRedisOpenEvent extends Event {
  readonly detail: { readonly reconnect: boolean };
}

export interface WSRedisMessageEvent extends Event {
  readonly data: string | ArrayBuffer;
  /** Such as "group:staff:chat", or "everywhere"; null without wsredis.v1. */
  readonly channel: string | null;
  /** null without wsredis.v1, and of messages for every facility. */
  readonly facility: string | null;
  /** Its place in the channel's history, such as "1700000000000-0"; null if it is not kept. */
  readonly id: string | null;
  /** The data, parsed as JSON; throws a SyntaxError if it is not JSON. */
  json(): any;
}

export interface WSRedisCloseEvent extends Event {
  readonly code: number;
  readonly reason: string;
  /** Whether the socket stays closed. */
  readonly final: boolean;
  /** Milliseconds until the next attempt; null if final, or while the browser has suspended the page. */
  readonly retryIn: number | null;
}

export interface WSRedisReconnectingEvent extends Event {
  readonly detail: { readonly attempt: number };
}

/** All that was missed has come, what follows is live. */
export interface WSRedisSubscribedEvent extends Event {
  readonly facility: string;
  /** The position in each channel; null where nothing is kept. */
  readonly channels: { readonly [channel: string]: string | null };
}

/** Messages may be missing here. */
export interface WSRedisGapEvent extends Event {
  readonly channel: string;
  readonly facility: string | null;
  /** The position after which they are missing. */
  readonly since: string | null;
  /** How many; null if that is not known. */
  readonly missed: number | null;
}

/** The server refused a subscribe(). */
export interface WSRedisRefusedEvent extends Event {
  readonly facility: string;
  /** As of a handshake: 403, 404, 503 … */
  readonly status: number;
  /** false of 503, which is tried again. */
  readonly final: boolean;
}

export interface WSRedisEventMap {
  open: WSRedisOpenEvent;
  message: WSRedisMessageEvent;
  close: WSRedisCloseEvent;
  reconnecting: WSRedisReconnectingEvent;
  subscribed: WSRedisSubscribedEvent;
  gap: WSRedisGapEvent;
  refused: WSRedisRefusedEvent;
}

type WSRedisClass = typeof WSRedis;

declare global {
  /** Set by wsredis.js when it is loaded with a script element. */
  var WSRedis: WSRedisClass;
}
