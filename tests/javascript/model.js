/* A server of wsredis.v1 that plays random schedules: it publishes, joins, cuts off, repeats itself and loses its data.
 *
 * What it keeps is all that was published in this life of its one stream. A loss of data begins a new life with lower
 * ids, and is told as a gap.
 *
 * A page with many other channels names the oldest position of all. Its server's stream is trimmed, and the ids of a
 * new life are higher.
 */
"use strict";

const { open, until, sockets } = require("./fake.js");

const CHANNEL = "broadcast:chat";
const OLDEST = "0-0";
const TRIMMED_TO = 8;

// A generator of random numbers that can be repeated: mulberry32.
function randomFrom(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

class Model {
  constructor(seed, isTrimmed) {
    this.random = randomFrom(seed);
    this.isTrimmed = isTrimmed;
    this.end = 0;
    this.published = []; // every payload, in order, over all lives
    this.life = 1;
    this.begin();
  }

  begin() {
    this.entries = []; // [number of its id, payload]
    this.end = (this.isTrimmed ? this.end + 1 : 0) + Math.floor(this.random() * 20); // of the last id
    this.beginning = this.id; // a position, too: nothing can be missed from there
  }

  get id() {
    return `${this.end}-${this.life}`;
  }

  publish() {
    this.end += 1 + Math.floor(this.random() * 3);
    const payload = `${this.life}.${this.published.length}`;
    this.published.push(payload);
    this.entries.push([this.id, payload]);
    if (this.isTrimmed) this.entries = this.entries.slice(-TRIMMED_TO);
    return [this.id, payload];
  }

  loseData(ws) {
    const since = this.id;
    this.life += 1;
    this.begin();
    if (ws) ws.say({ type: "gap", channel: CHANNEL, since });
  }

  positionOf(ws) {
    return ws.query.match(/since=[^&]*?(\d+-\d+)/)?.[1] ?? null;
  }

  /** Send what is stored and missed, some of it again as if it had come live meanwhile; cut in the middle at times. */
  join(ws) {
    const since = this.positionOf(ws);
    const at = this.entries.findIndex(([id]) => id === since);
    if (since !== null && at < 0 && since !== this.beginning) ws.say({ type: "gap", channel: CHANNEL, since });
    const missed = this.entries.slice(at + 1);
    const first = Math.floor(this.random() * (missed.length + 1));
    for (const [id, payload] of [...missed, ...missed.slice(first)]) {
      if (this.random() < 0.05) return false;
      ws.message(CHANNEL, id, payload);
    }
    // an id that is behind what came live meanwhile; not where more than was missed is sent: it is never before that
    const isBehind = this.random() < 0.3 && missed.length > 0 && !this.isTrimmed;
    const behind = isBehind ? missed[first && first - 1][0] : this.id;
    ws.say({ type: "ack", facility: "chat", channels: { [CHANNEL]: behind } });
    return true;
  }
}

// Of 100 channels, too long for a query.
const MANY = `&since=${Array.from({ length: 100 }, (_, i) => `group:${i}-of-many-groups:chat=${OLDEST}`).join(",")}`;

/** Run one schedule; return what was published and what the page saw of it. */
async function play(seed, { hasMany = false, steps = 60 } = {}) {
  const model = new Model(seed, hasMany);
  const socket = open(`ws://x/ws/chat?subscribe-broadcast&history=1000${hasMany ? MANY : ""}`);
  let ws = null;
  const connect = async () => {
    await until(() => sockets.at(-1).readyState === 0);
    ws = sockets.at(-1).accept();
    if (!model.join(ws)) drop();
  };
  const drop = () => {
    const was = ws;
    ws = null;
    was.lose();
  };
  while (!ws) await connect();
  for (let step = 0; step < steps; step += 1) {
    const dice = model.random();
    if (dice < 0.6) {
      const [id, payload] = model.publish();
      if (ws) ws.message(CHANNEL, id, payload);
    } else if (dice < 0.75) {
      if (ws) drop();
    } else if (dice < 0.97) {
      if (!ws) await connect();
    } else {
      model.loseData(ws);
    }
  }
  while (!ws) await connect();
  const gaps = socket.seen.filter(({ type }) => type === "gap").length;
  const received = socket.seen.filter(({ type }) => type === "message").map(({ data }) => data);
  const order = socket.seen.filter(({ type }) => type === "message" || type === "gap").map(({ data }) => data ?? null);
  socket.close();
  return { published: model.published, received, gaps, order, life: model.life };
}

module.exports = { play };
