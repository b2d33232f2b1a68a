"use strict";
// A run: the columns of the page's data as arrays, what is filtered, and searches in time.
// Times are microseconds of the world's time. The files of this page are one script.

const NONE = -1;
const FATES = ["arrived", "arrived, and waits at a stopped process", "nobody there, or the link is broken",
  "lost on its way", "stopped by a cut", "never left: its link ended first",
  "on its way as the run ends"];
const WAYS = ["", "a second time", "mangled", "an older one again"];
const BECAME = ["not answered", "done", "failed", "outcome unknown"];
const LIVES = ["up", "paused", "killed", "ended"];
const UNDER_WAY = 6;
const CONFIGURATION = 0;
// A message that takes longer is looked for by itself, so that the others are found by their beginning.
const SLOW = 250_000;

function times(deltas) {
  const all = new Float64Array(deltas.length);
  let now = 0;
  for (let i = 0; i < deltas.length; i++) all[i] = now += deltas[i];
  return all;
}

// The first place whose time is `t` or later.
function firstAt(all, t) {
  let low = 0, high = all.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (all[middle] < t) low = middle + 1; else high = middle;
  }
  return low;
}

class Run {
  constructor(data) {
    Object.assign(this, data);
    const { points, messages, spans, states, lives, texts } = data.columns;
    this.texts = texts;
    this.points = {
      n: points.t.length, t: times(points.t), lane: Uint16Array.from(points.lane), kind: Uint8Array.from(points.kind),
      shard: Int32Array.from(points.shard), span: Int32Array.from(points.span), text: Uint32Array.from(points.text),
      on: new Uint8Array(points.t.length).fill(1),
    };
    const sent = times(messages.t);
    this.messages = {
      n: sent.length, t: sent, e: sent.map((t, i) => t + messages.d[i]),
      from: Uint16Array.from(messages.from), to: Uint16Array.from(messages.to), kind: Uint8Array.from(messages.kind),
      group: Uint8Array.from(messages.kind, (kind) => data.messages[kind][1]), fate: Uint8Array.from(messages.fate),
      way: Uint8Array.from(messages.way), shard: Int32Array.from(messages.shard), term: messages.term, index: messages.index,
      commit: messages.commit, count: messages.count, bytes: messages.bytes, text: Uint32Array.from(messages.text),
      on: new Uint8Array(sent.length).fill(1),
    };
    this.messageKinds = data.messages;
    this.slow = [];
    for (let i = 0; i < sent.length; i++) if (this.messages.e[i] - sent[i] > SLOW) this.slow.push(i);
    this.end = Math.max(1000, data.simulated_ms * 1000, data.violated_at, this.points.t.at(-1) ?? 0, sent.at(-1) ?? 0);
    this.spans = this.readSpans(spans);
    this.tracks = this.readStates(states);
    this.lives = this.readLives(lives);
    this.columns = null;
    this.found = 0;
    this.broken = data.violation;
    this.concerned = data.violation ? this.hostsIn(data.violation.detail) : [];
    this.violation = data.violation ? data.violated_at : null;
    this.converged = data.peace !== null && data.converged_ms !== null ? data.peace + data.converged_ms * 1000 : null;
  }

  // The lanes of the hosts that a text names, by their ids or their numbers.
  hostsIn(text) {
    const hosts = [...text.matchAll(/\bhost (\d+)\b/g)].map((found) => Number(found[1]));
    for (const [id] of text.matchAll(/\b[0-9a-f]{8}\b/g)) if (id in this.nodes) hosts.push(this.nodes[id]);
    return [...new Set(hosts.map((host) => this.lanes.findIndex((lane) => lane.kind === "host") + host))];
  }

  // A time so long before another that only so many events are between.
  before(t, most) {
    let length = 2e6;
    const between = (column) => firstAt(column.t, t) - firstAt(column.t, t - length);
    while (length > 1000 && between(this.points) + between(this.messages) > most) length *= 0.8;
    return length;
  }

  readSpans(columns) {
    const t = times(columns.t);
    const all = [];
    for (let i = 0; i < t.length; i++) {
      all.push({
        id: i, t: t[i], e: columns.d[i] === NONE ? this.end : t[i] + columns.d[i], lane: columns.lane[i],
        label: this.texts[columns.label[i]], outcome: columns.outcome[i], shard: columns.shard[i], host: columns.host[i],
        open: columns.d[i] === NONE, row: 0, named: Infinity,
      });
    }
    return all;
  }

  // By lane and shard: what it is, from each moment until the next.
  readStates(columns) {
    const t = times(columns.t);
    const tracks = this.lanes.map(() => new Map());
    for (let i = 0; i < t.length; i++) {
      const of = tracks[columns.lane[i]];
      const shard = columns.shard[i];
      if (!of.has(shard)) of.set(shard, []);
      of.get(shard).push({
        t: t[i], role: columns.role[i], term: columns.term[i], version: columns.version[i], owns: columns.owns[i] === 1,
      });
    }
    return tracks;
  }

  readLives(columns) {
    const t = times(columns.t);
    const lives = this.lanes.map(() => []);
    for (let i = 0; i < t.length; i++) lives[columns.lane[i]].push({ t: t[i], life: columns.life[i] });
    return lives;
  }

  // What holds at a time, of something that holds from each moment until the next.
  static at(all, t) {
    let low = 0, high = all.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (all[middle].t <= t) low = middle + 1; else high = middle;
    }
    return low > 0 ? all[low - 1] : null;
  }

  // Lets through only what `filter` wants: sets of hidden kinds, groups, lanes, shards, and a text.
  filter(filter) {
    const { points, messages, texts } = this;
    const words = filter.text.toLowerCase().trim();
    let hit = null;
    if (words) {
      this.lower ??= texts.map((text) => text.toLowerCase());
      hit = Uint8Array.from(this.lower, (text) => (text.includes(words) ? 1 : 0));
    }
    const named = this.messageKinds.map(([name]) => words && name.includes(words));
    const shardOn = (shard) => shard === NONE || !filter.shards.has(shard);
    let found = 0;
    for (let i = 0; i < points.n; i++) {
      const on = !filter.kinds.has(points.kind[i]) && !filter.lanes.has(points.lane[i]) && shardOn(points.shard[i])
        && (hit === null || hit[points.text[i]] === 1);
      points.on[i] = on ? 1 : 0;
      found += points.on[i];
    }
    for (let i = 0; i < messages.n; i++) {
      const on = !filter.groups.has(messages.group[i]) && !filter.lanes.has(messages.from[i])
        && !filter.lanes.has(messages.to[i]) && shardOn(messages.shard[i])
        && (hit === null || hit[messages.text[i]] === 1 || named[messages.kind[i]]);
      messages.on[i] = on ? 1 : 0;
      found += messages.on[i];
    }
    this.found = found;
  }

  // Calls `use` with each message that is on and on its way between two times.
  eachMessage(from, to, use) {
    const { t, e, on } = this.messages;
    const first = firstAt(t, from - SLOW);
    for (const i of this.slow) {
      if (i >= first) break;
      if (on[i] && e[i] >= from) use(i);
    }
    for (let i = first; i < t.length && t[i] <= to; i++) if (on[i] && e[i] >= from) use(i);
  }

  eachPoint(from, to, use) {
    const { t, on } = this.points;
    for (let i = firstAt(t, from); i < t.length && t[i] <= to; i++) if (on[i]) use(i);
  }

  timeOf(id) {
    if (id === null) return null;
    const place = Number(id.slice(1));
    return { p: this.points.t, m: this.messages.t }[id[0]]?.[place] ?? this.spans[place]?.t ?? null;
  }

  // The next (1) or last (-1) event that is on, in order of time; of two at once points come first.
  step(id, from, direction) {
    const t = id === null ? from : this.timeOf(id);
    const rank = id === null || id[0] === "s" ? (direction > 0 ? -1 : 2) : id[0] === "p" ? 0 : 1;
    const next = (column, own, letter) => {
      let i;
      if (rank === own) i = Number(id.slice(1)) + direction;
      else if (direction > 0) i = firstAt(column.t, own > rank ? t : t + 0.001);
      else i = firstAt(column.t, own < rank ? t + 0.001 : t) - 1;
      while (i >= 0 && i < column.n && !column.on[i]) i += direction;
      return i >= 0 && i < column.n ? { id: letter + i, t: column.t[i], own } : null;
    };
    const point = next(this.points, 0, "p"), message = next(this.messages, 1, "m");
    if (!point || !message) return (point ?? message)?.id ?? null;
    const first = point.t < message.t || (point.t === message.t) ? point : message;
    const last = message.t > point.t || (point.t === message.t) ? message : point;
    return (direction > 0 ? first : last).id;
  }
}
