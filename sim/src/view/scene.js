// Where things are: lanes from top to bottom, time from left to right, and what lies under the pointer.

const GUTTER = 116;
const RULER = 22;
const AXIS = 26;
const STRIP = 15;
// Rows of faults, questions and shards, with text in them and without.
const ROW = 14;
const ROW_COMPACT = 6;
const ASK_ROWS_MAX = 6;
const SHARD_ROWS_MAX = 10;
const PAD = 5;
const WINDOW_MIN = 20;

class Scene {
  constructor(run) {
    this.run = run;
    this.from = 0;
    this.to = run.end;
    this.scroll = 0;
    this.width = 800;
    this.height = 600;
    this.filter = { kinds: new Set(), groups: new Set(), lanes: new Set(), shards: new Set(), text: "" };
    this.selected = null;
    this.lanes = [];
    this.row = ROW;
    this.rows();
    this.arrange();
  }

  get isCompact() { return this.row === ROW_COMPACT; }

  set isCompact(compact) {
    this.row = compact ? ROW_COMPACT : ROW;
    this.arrange();
  }

  // Spans that overlap get rows of their own, each lane by itself.
  rows() {
    this.spansOf = this.run.lanes.map(() => []);
    this.rowsOf = this.run.lanes.map(() => 0);
    for (const span of this.run.spans) {
      if (span.lane < this.spansOf.length) this.spansOf[span.lane].push(span);
    }
    this.spansOf.forEach((spans, lane) => {
      const ends = [], last = [];
      const most = this.run.lanes[lane].kind === "host" ? 5 : ASK_ROWS_MAX;
      for (const span of spans) {
        let row = ends.findIndex((end) => end <= span.t);
        if (row < 0) row = ends.length < most ? ends.length : ends.indexOf(Math.min(...ends));
        ends[row] = Math.max(ends[row] ?? 0, span.e);
        // Where rows do not suffice, what is below is called by its name only as far as it can be seen.
        if (last[row]) last[row].named = Math.min(last[row].e, span.t);
        last[row] = span;
        span.row = row;
      }
      this.rowsOf[lane] = ends.length;
    });
  }

  arrange() {
    let y = 0;
    this.lanes = [];
    this.laneAt = new Map();
    this.run.lanes.forEach((head, place) => {
      if (this.filter.lanes.has(place)) return;
      const host = head.kind === "host";
      const rows = this.rowsOf[place];
      const top = PAD + rows * this.row;
      const { strips, hidden, tall } = host ? this.stripsOf(place, y + top + AXIS) : { strips: [], hidden: 0, tall: 0 };
      const height = top + AXIS + tall + PAD;
      const lane = { place, head, host, y, height, rows: y + PAD, axis: y + top + AXIS / 2, strips, hidden, texts: [] };
      // Where there is text already.
      for (const strip of strips) if (strip.tall > ROW_COMPACT) lane.texts.push([strip.y, strip.y + strip.tall]);
      if (!this.isCompact) lane.texts.push([lane.rows, lane.rows + rows * this.row]);
      this.lanes.push(lane);
      this.laneAt.set(place, lane);
      y += height;
    });
    this.total = y;
    this.clamp();
  }

  // The strips of a host: the cluster's log, then shards. Those that are not there at the same time share one;
  // of more than there is room for the last are left out.
  stripsOf(place, from) {
    const tracks = this.run.tracks[place], wanted = (shard) => !this.filter.shards.has(shard);
    const strips = [];
    let y = from, hidden = 0;
    if (wanted(CONFIGURATION) || tracks.size < 2) {
      strips.push({ y, tall: STRIP, shards: tracks.has(CONFIGURATION) ? [CONFIGURATION] : [] });
      y += STRIP;
    }
    const held = [...tracks].filter(([shard]) => shard !== CONFIGURATION && wanted(shard)).sort(([, a], [, b]) => a[0].t - b[0].t);
    const ends = [], rows = [];
    for (const [shard, states] of held) {
      const last = states.at(-1);
      let row = ends.findIndex((end) => end <= states[0].t);
      if (row < 0) row = rows.length;
      if (row >= SHARD_ROWS_MAX) { hidden++; continue; }
      ends[row] = last.role === NONE ? last.t : Infinity;
      (rows[row] ??= []).push(shard);
    }
    for (const shards of rows) {
      strips.push({ y, tall: this.row, shards });
      y += this.row;
    }
    return { strips, hidden, tall: y - from };
  }

  // Which log a strip is of at a time.
  shardIn(lane, strip, t) {
    const tracks = this.run.tracks[lane.place];
    const there = strip.shards.find((shard) => (Run.at(tracks.get(shard), t)?.role ?? NONE) !== NONE);
    return there ?? (strip.shards.length === 1 ? strip.shards[0] : null);
  }

  get scale() { return (this.width - GUTTER) / (this.to - this.from); }

  x(t) { return GUTTER + (t - this.from) * this.scale; }

  time(x) { return this.from + (x - GUTTER) / this.scale; }

  y(y) { return RULER + y - this.scroll; }

  clamp() {
    const least = WINDOW_MIN, most = this.run.end * 1.06;
    const length = Math.min(most, Math.max(least, this.to - this.from));
    const middle = (this.from + this.to) / 2;
    this.from = middle - length / 2;
    const low = -this.run.end * 0.03, high = this.run.end * 1.03;
    this.from = Math.max(low, Math.min(high - length, this.from));
    this.to = this.from + length;
    this.scroll = Math.max(0, Math.min(this.total - (this.height - RULER), this.scroll));
  }

  show(from, to) {
    this.from = from;
    this.to = to;
    this.clamp();
  }

  zoom(factor, at = (this.from + this.to) / 2) {
    this.show(at - (at - this.from) * factor, at + (this.to - at) * factor);
  }

  move(by) { this.show(this.from + by, this.to + by); }

  // Brings a time, and a lane, into sight, moving no more than needed.
  reveal(t, places = []) {
    const length = this.to - this.from;
    if (t < this.from + length * 0.08 || t > this.to - length * 0.08) this.show(t - length / 2, t + length / 2);
    const shown = places.map((place) => this.laneAt.get(place)).filter(Boolean);
    if (shown.length > 0) {
      const top = Math.min(...shown.map((lane) => lane.y)), bottom = Math.max(...shown.map((lane) => lane.y + lane.height));
      const room = this.height - RULER;
      if (top < this.scroll) this.scroll = top;
      else if (bottom > this.scroll + room) this.scroll = Math.min(top, bottom - room);
    }
    this.clamp();
  }

  lanesOf(id) {
    if (id === null) return [];
    const place = Number(id.slice(1));
    if (id[0] === "p") return [this.run.points.lane[place]];
    if (id[0] === "m") return [this.run.messages.from[place], this.run.messages.to[place]];
    return [this.run.spans[place].lane];
  }

  laneUnder(y) {
    const at = y - RULER + this.scroll;
    return this.lanes.find((lane) => at >= lane.y && at < lane.y + lane.height) ?? null;
  }

  // The event nearest to a place of the canvas, if one is near.
  hit(x, y) {
    if (x < GUTTER || y < RULER) return null;
    const run = this.run, reach = 7;
    let best = null, distance = reach;
    const near = (id, d) => { if (d < distance) [best, distance] = [id, d]; };
    run.eachPoint(this.time(x - reach), this.time(x + reach), (i) => {
      const lane = this.laneAt.get(run.points.lane[i]);
      if (!lane) return;
      // A mark lies on top of lines, and is meant first.
      near("p" + i, Math.hypot(this.x(run.points.t[i]) - x, this.y(lane.axis + markOf(run.points.kind[i]).dy) - y) * 0.7);
    });
    const lane = this.laneUnder(y);
    if (lane && (best === null || distance > 3)) {
      for (const span of this.spansOf[lane.place]) {
        const top = this.y(lane.rows + span.row * this.row);
        if (y >= top && y < top + this.row && this.x(span.t) - 2 <= x && x <= this.x(span.e) + 2) return "s" + span.id;
      }
    }
    const drawn = this.drawn;
    run.eachMessage(this.time(x - reach), this.time(x + reach), (i) => {
      if (drawn && !drawn[run.messages.group[i]]) return;
      const ends = this.ends(i);
      if (ends) near("m" + i, toSegment(x, y, ends));
    });
    return best;
  }

  // Where the line of a message is.
  ends(i) {
    const { messages } = this.run;
    const from = this.laneAt.get(messages.from[i]), to = this.laneAt.get(messages.to[i]);
    if (!from || !to) return null;
    const stub = messages.fate[i] >= 3 && messages.fate[i] !== UNDER_WAY;
    const ends = messages.fate[i] === UNDER_WAY;
    const y1 = this.y(from.axis), y2 = this.y(to.axis);
    const x1 = this.x(messages.t[i]), x2 = this.x(messages.e[i]);
    // What was lost on its way ends there: a part of the way is drawn.
    // What is on its way at the end comes as far as the edge of the run.
    if (ends) return { x1, y1, x2: x2 + 4, y2: y1 + (y2 - y1 || 10) * 0.5 };
    return stub ? { x1, y1, x2: x1 + 6, y2: y1 + (y2 - y1 || 10) * 0.3 } : { x1, y1, x2, y2: y1 === y2 ? y2 + 8 : y2 };
  }
}

function toSegment(x, y, { x1, y1, x2, y2 }) {
  const dx = x2 - x1, dy = y2 - y1;
  const along = Math.max(0, Math.min(1, ((x - x1) * dx + (y - y1) * dy) / (dx * dx + dy * dy || 1)));
  return Math.hypot(x1 + along * dx - x, y1 + along * dy - y);
}

// How points of each kind are drawn: what matters most on the axis, what is frequent below it.
const MARKS = [
  { shape: "square", color: "ink", dy: 0, size: 5 }, { shape: "up", color: "leader", dy: 0, size: 6 },
  { shape: "dot", color: "sql", dy: 5, size: 2.5 }, { shape: "diamond", color: "requests", dy: 0, size: 5 },
  { shape: "diamond", color: "warn", dy: -5, size: 4 }, { shape: "tick", color: "dim", dy: 9, size: 3 },
  { shape: "dot", color: "links", dy: -8, size: 2.5 }, { shape: "tick", color: "copies", dy: 9, size: 3 },
  { shape: "dot", color: "good", dy: 0, size: 3 }, { shape: "diamond", color: "unknown", dy: 0, size: 5 },
  { shape: "dot", color: "client", dy: 0, size: 2.5 }, { shape: "down", color: "faultStrong", dy: -8, size: 5 },
  { shape: "down", color: "bad", dy: 0, size: 8 },
];

function markOf(kind) { return MARKS[kind] ?? MARKS[0]; }
