/** A websocket to django_wsredis that reconnects and notices a dead network. */
export class WSRedis extends EventTarget {
  /** @param url relative to the page, or http(s)://, or ws(s):// */
  constructor(url: string | URL, options?: WSRedisOptions);

  /** The absolute ws:// or wss:// URL. */
  readonly url: string;
  readonly state: WSRedisState;

  /** Send text and binary data as they are, anything else as JSON. Nothing is queued: throws unless open. */
  send(data: unknown): void;
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
  protocols?: string | string[];
  /** The server's heartbeat text; null (the default): a dead network is not looked for. */
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
  onopen?: (this: WSRedis, event: WSRedisOpenEvent) => void;
  onmessage?: (this: WSRedis, event: WSRedisMessageEvent) => void;
  onclose?: (this: WSRedis, event: WSRedisCloseEvent) => void;
  onreconnecting?: (this: WSRedis, event: WSRedisReconnectingEvent) => void;
}

export interface WSRedisOpenEvent extends Event {
  readonly detail: { readonly reconnect: boolean };
}

export interface WSRedisMessageEvent extends Event {
  readonly data: string | ArrayBuffer;
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

export interface WSRedisEventMap {
  open: WSRedisOpenEvent;
  message: WSRedisMessageEvent;
  close: WSRedisCloseEvent;
  reconnecting: WSRedisReconnectingEvent;
}

type WSRedisClass = typeof WSRedis;

declare global {
  /** Set by wsredis.js when it is loaded with a script element. */
  var WSRedis: WSRedisClass;
}
