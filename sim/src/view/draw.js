// What is seen: only what is in sight, and less of it the more there is.

// Of more marks than these only the rare ones are drawn: processes, leaders, faults, what is broken.
const POINTS_MAX = 2500;
const RARE = new Set([0, 1, 11, 12]);

class Drawing {
  constructor(scene, canvas) {
    this.scene = scene;
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.lines = new Lines(this);
    this.hovered = null;
    this.tookMs = 0;
    this.recolor();
  }

  recolor() {
    this.colors = palette();
    this.down = hatch(this.context, this.colors.hatch, this.colors.down);
    this.paused = hatch(this.context, this.colors.unknown, this.colors.pause);
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.scene.width = width;
    this.scene.height = height;
    this.scene.clamp();
  }

  frame() {
    const began = performance.now();
    const { context, scene, colors } = this;
    this.seen = 0;
    context.fillStyle = colors.bg;
    context.fillRect(0, 0, scene.width, scene.height);
    context.save();
    context.beginPath();
    context.rect(GUTTER, RULER, scene.width - GUTTER, scene.height - RULER);
    context.clip();
    const shown = scene.lanes.filter((lane) => scene.y(lane.y) < scene.height && scene.y(lane.y + lane.height) > RULER);
    shown.forEach((lane) => this.ground(lane));
    this.grid();
    shown.forEach((lane) => this.tints(lane));
    this.lines.draw();
    shown.forEach((lane) => this.rowsOf(lane));
    shown.forEach((lane) => this.strips(lane));
    this.lines.names();
    this.points();
    this.moments();
    this.chosen(this.hovered, 1.5);
    this.chosen(scene.selected, 3);
    context.restore();
    this.ruler();
    this.heads(shown);
    this.tookMs = performance.now() - began;
  }

  // A lane's background: the life of its process.
  ground(lane) {
    const { context, scene, colors } = this;
    const y = scene.y(lane.y), height = lane.height;
    context.fillStyle = lane.place % 2 ? colors.laneOther : colors.lane;
    context.fillRect(GUTTER, y, scene.width, height);
    if (lane.host) {
      const lives = scene.run.lives[lane.place];
      const fill = (from, to, style) => {
        const x1 = Math.max(GUTTER, scene.x(from)), x2 = Math.min(scene.width, scene.x(to));
        if (x2 <= x1 && !(x2 + 1 > x1 && to > scene.from && from < scene.to)) return;
        context.fillStyle = style;
        context.fillRect(x1, y + 1, Math.max(1, x2 - x1), height - 2);
      };
      fill(0, lives[0]?.t ?? scene.run.end, this.down);
      lives.forEach((life, i) => {
        const until = lives[i + 1]?.t ?? scene.run.end;
        if (life.life === 0 || until < scene.from || life.t > scene.to) return;
        fill(life.t, until, life.life === 1 ? this.paused : this.down);
        this.asleep(lane, LIVES[life.life], life.t, until);
      });
      this.asleep(lane, "not started", 0, lives[0]?.t ?? scene.run.end);
    }
    if (scene.run.concerned.includes(lane.place)) {
      // Who broke something is marked all along.
      context.fillStyle = colors.bad;
      context.fillRect(GUTTER, y, 3, height);
    }
    context.fillStyle = colors.line;
    context.fillRect(GUTTER, y + height - 1, scene.width, 1);
    context.fillStyle = colors.grid;
    context.fillRect(GUTTER, scene.y(lane.axis), scene.width, 1);
  }

  // Why a process does not run, where there is room for it.
  asleep(lane, text, from, to) {
    const { context, scene, colors } = this;
    const x1 = Math.max(GUTTER, scene.x(from)), x2 = Math.min(scene.width, scene.x(to));
    if (x2 - x1 < 60) return;
    context.font = "italic 11px system-ui, sans-serif";
    context.textBaseline = "middle";
    const width = context.measureText(text).width;
    context.fillStyle = text === "paused" ? colors.pause : colors.down;
    context.fillRect(x1 + 6, scene.y(lane.axis) + AXIS / 2 + 2, width + 8, STRIP - 2);
    context.fillStyle = colors.dim;
    context.fillText(text, x1 + 10, scene.y(lane.axis) + AXIS / 2 + 9);
  }

  // A host that a fault concerns is tinted.
  tints(lane) {
    const { context, scene, colors } = this;
    if (!lane.host || scene.filter.kinds.has(11)) return;
    context.fillStyle = colors.faultTint;
    for (const span of scene.spansOf[lane.place]) {
      if (span.outcome !== NONE || span.e < scene.from || span.t > scene.to) continue;
      const x1 = Math.max(GUTTER, scene.x(span.t));
      context.fillRect(x1, scene.y(lane.y), Math.min(scene.width, scene.x(span.e)) - x1, lane.height);
    }
  }

  grid() {
    const { context, scene, colors } = this;
    context.fillStyle = colors.grid;
    for (const t of ticks(scene)) context.fillRect(Math.round(scene.x(t)), RULER, 1, scene.height);
  }

  // Faults of a host, or what was asked for and answered.
  rowsOf(lane) {
    const { context, scene, colors } = this;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    const last = [];
    for (const span of scene.spansOf[lane.place]) {
      if (span.e < scene.from || span.t > scene.to) continue;
      if (span.shard >= 0 && scene.filter.shards.has(span.shard)) continue;
      const fault = span.outcome === NONE;
      if (fault && scene.filter.kinds.has(11)) continue;
      const x1 = Math.max(GUTTER - 4, scene.x(span.t)), x2 = Math.min(scene.width + 4, scene.x(span.e));
      // Of those in one column of pixels one is enough.
      if (x2 - (last[span.row] ?? -9) < 1) continue;
      last[span.row] = x2;
      const width = Math.max(1.5, x2 - x1), y = scene.y(lane.rows + span.row * scene.row);
      this.seen++;
      const color = fault ? colors.fault : colors[BECAME_COLORS[span.outcome]];
      context.fillStyle = colors.bg;
      if (!fault) context.fillRect(x1, y, width, scene.row - 2);
      context.globalAlpha = fault ? 1 : 0.28;
      context.fillStyle = color;
      context.fillRect(x1, y, width, scene.row - 2);
      context.globalAlpha = 1;
      if (!fault) {
        context.fillStyle = color;
        context.fillRect(x1, y, Math.min(2, width), scene.row - 2);
        if (span.outcome >= 2) context.fillRect(x1, y + scene.row - 3, width, 1);
      }
      const room = Math.min(x2, scene.x(span.named)) - x1;
      if (room > 34 && !scene.isCompact) this.label(span.label, x1 + 5, y + 6, room - 8, fault ? colors.faultInk : colors.ink);
    }
  }

  // Text that is cut off where its place ends.
  label(text, x, y, width, color) {
    const { context } = this;
    context.fillStyle = color;
    const letters = Math.floor(width / 5.6);
    if (text.length > letters) text = letters > 2 ? text.slice(0, letters - 1) + "…" : "";
    if (text) context.fillText(text, Math.max(x, GUTTER + 4), y);
  }

  // What a host is in each log.
  strips(lane) {
    const { context } = this;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (const strip of lane.strips) for (const shard of strip.shards) this.strip(lane, strip, shard);
  }

  strip(lane, { y: top, tall }, shard) {
    const { context, scene, colors } = this;
    const states = scene.run.tracks[lane.place].get(shard);
    const cluster = shard === CONFIGURATION, y = scene.y(top);
    let last = -9;
    for (let i = firstState(states, scene.from); i < states.length && states[i].t <= scene.to; i++) {
      const state = states[i];
      if (state.role === NONE) continue;
      const x1 = Math.max(GUTTER, scene.x(state.t)), x2 = Math.min(scene.width, scene.x(states[i + 1]?.t ?? scene.run.end));
      if (x2 - last < 1) continue;
      last = x2;
      const width = Math.max(1, x2 - x1);
      const role = colors[ROLE_COLORS[state.role]];
      context.fillStyle = cluster ? role : colors[COPY_COLORS[state.version] ?? "copyNone"];
      context.globalAlpha = 0.9;
      context.fillRect(x1, y, width, tall - 1);
      context.globalAlpha = 1;
      if (!cluster && state.role !== 0) {
        const edge = state.role === 3 ? 3 : 2;
        context.fillStyle = role;
        context.fillRect(x1, y + tall - 1 - edge, width, edge);
      }
      if (width > 3) { context.fillStyle = colors.bg; context.fillRect(x1, y, 1, tall - 1); }
      if (width <= 30 || tall <= 10) continue;
      const letter = ROLE_LETTERS[state.role];
      const text = cluster ? `${letter} term ${state.term} · v${state.version}`
        : `${state.owns ? "★ owner " : ""}${letter} term ${state.term} · ${scene.run.shards[shard]} ${scene.run.copies[state.version]}`;
      const short = cluster ? `${letter} ${state.term}` : `${state.owns ? "★" : ""}${letter} ${state.term}`;
      const color = cluster && state.role === 3 ? colors.onLeader : colors.onRole;
      this.label(text.length * 5.6 < width - 8 ? text : short, x1 + 4, y + (cluster ? 7 : 6), width - 6, color);
    }
  }

  points() {
    const { context, scene, colors } = this;
    const { points } = scene.run;
    const last = new Map();
    let count = 0;
    scene.run.eachPoint(scene.from, scene.to, () => { count++; });
    this.seen += count;
    scene.frequent = count <= POINTS_MAX;
    scene.run.eachPoint(scene.from, scene.to, (i) => {
      if (!scene.frequent && !RARE.has(points.kind[i])) return;
      const lane = scene.laneAt.get(points.lane[i]);
      if (!lane) return;
      const x = scene.x(points.t[i]), key = points.lane[i] * 32 + points.kind[i];
      if (x - (last.get(key) ?? -9) < 1.5) return;
      last.set(key, x);
      const mark = markOf(points.kind[i]);
      context.fillStyle = colors[mark.color];
      shape(context, mark.shape, x, scene.y(lane.axis + mark.dy), mark.size);
    });
  }

  // What is said of the whole run: the end of faults, convergence, and what is broken.
  moments() {
    const { context, scene, colors } = this;
    const { run } = scene;
    context.textBaseline = "top";
    context.font = "bold 11px system-ui, sans-serif";
    const moment = (t, color, width) => {
      if (t === null || t < scene.from || t > scene.to) return;
      context.fillStyle = color;
      context.fillRect(scene.x(t) - width / 2, RULER, width, scene.height);
    };
    moment(run.peace, colors.good, 1.5);
    moment(run.converged, colors.good, 1.5);
    moment(run.violation, colors.bad, 3);
  }

  chosen(id, width) {
    if (id === null) return;
    const { context, scene, colors } = this;
    const place = Number(id.slice(1));
    context.strokeStyle = context.fillStyle = colors.select;
    context.lineWidth = width;
    context.beginPath();
    if (id[0] === "m") {
      const ends = scene.ends(place);
      if (!ends) return;
      context.moveTo(ends.x1, ends.y1);
      context.lineTo(ends.x2, ends.y2);
      for (const [x, y] of [[ends.x1, ends.y1], [ends.x2, ends.y2]]) { context.moveTo(x + 5, y); context.arc(x, y, 5, 0, 7); }
    } else if (id[0] === "p") {
      const lane = scene.laneAt.get(scene.run.points.lane[place]);
      if (!lane) return;
      const x = scene.x(scene.run.points.t[place]);
      context.arc(x, scene.y(lane.axis + markOf(scene.run.points.kind[place]).dy), 8, 0, 7);
      if (width > 2) { context.moveTo(x, RULER); context.lineTo(x, scene.y(lane.axis) - 14); }
    } else {
      const span = scene.run.spans[place], lane = scene.laneAt.get(span.lane);
      if (!lane) return;
      context.rect(scene.x(span.t), scene.y(lane.rows + span.row * scene.row), Math.max(2, scene.x(span.e) - scene.x(span.t)), scene.row - 2);
    }
    context.stroke();
  }

  ruler() {
    const { context, scene, colors } = this;
    context.fillStyle = colors.panel;
    context.fillRect(0, 0, scene.width, RULER);
    context.fillStyle = colors.line;
    context.fillRect(0, RULER - 1, scene.width, 1);
    context.textBaseline = "middle";
    const flags = this.flags();
    context.font = "11px system-ui, sans-serif";
    const all = ticks(scene), step = all.length > 1 ? all[1] - all[0] : 1e6;
    context.fillStyle = colors.dim;
    for (const t of all) {
      const x = scene.x(t);
      if (x < GUTTER) continue;
      const name = tickName(t, step), end = x + 4 + context.measureText(name).width;
      if (flags.some(({ left, right }) => x < right && left < end)) continue;
      context.fillRect(x, RULER - 6, 1, 5);
      if (end <= scene.width) context.fillText(name, x + 4, RULER / 2 - 1);
    }
  }

  // Names of the moments of the run, on the ruler; where they are is not free for times.
  flags() {
    const { context, scene, colors } = this;
    const { run } = scene;
    const taken = [];
    context.font = "bold 11px system-ui, sans-serif";
    const flag = (t, text, color, side) => {
      const x = scene.x(t);
      if (t === null || t < scene.from || t > scene.to || x < GUTTER) return;
      const width = context.measureText(text).width + 10;
      const left = Math.max(GUTTER, Math.min(scene.width - width, x - width * side));
      context.fillStyle = color;
      context.fillRect(left, 1, width, RULER - 3);
      context.fillStyle = colors.bg;
      context.fillText(text, left + 5, RULER / 2);
      taken.push({ left, right: left + width });
    };
    flag(run.peace, "faults end", colors.good, 1);
    flag(run.converged, "converged", colors.good, 0);
    flag(run.violation, run.broken?.invariant, colors.bad, 0.5);
    return taken;
  }

  // What each lane is called, at its left.
  heads(shown) {
    const { context, scene, colors } = this;
    context.save();
    context.beginPath();
    context.rect(0, RULER, GUTTER, scene.height);
    context.clip();
    context.fillStyle = colors.panel;
    context.fillRect(0, RULER, GUTTER, scene.height);
    context.textBaseline = "middle";
    for (const lane of shown) {
      const y = scene.y(lane.y);
      context.fillStyle = colors.line;
      context.fillRect(0, y + lane.height - 1, GUTTER, 1);
      context.fillStyle = scene.run.concerned.includes(lane.place) ? colors.bad : colors.ink;
      context.font = "bold 12px system-ui, sans-serif";
      context.fillText(lane.head.name, 8, scene.y(lane.axis));
      context.font = "11px system-ui, sans-serif";
      context.fillStyle = colors.dim;
      const middle = (scene.from + scene.to) / 2;
      for (const strip of lane.strips) {
        if (strip.tall < 10) continue;
        const shard = scene.shardIn(lane, strip, middle);
        const name = shard === null ? "" : scene.run.shards[shard];
        context.fillText(name.length > 17 ? name.slice(0, 16) + "…" : name, 14, scene.y(strip.y) + 6);
      }
      if (lane.hidden > 0) context.fillText(`+ ${lane.hidden} shards`, 14, scene.y(lane.y + lane.height) - 8);
    }
    context.fillStyle = colors.line;
    context.fillRect(GUTTER - 1, RULER, 1, scene.height);
    context.restore();
  }
}

function firstState(states, from) {
  let low = 0, high = states.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (states[middle].t <= from) low = middle + 1; else high = middle;
  }
  return Math.max(0, low - 1);
}

function shape(context, kind, x, y, size) {
  context.beginPath();
  if (kind === "dot") context.arc(x, y, size, 0, 7);
  else if (kind === "square") context.rect(x - size / 2, y - size, size, size * 2);
  else if (kind === "tick") context.rect(x - 0.75, y - size, 1.5, size * 2);
  else {
    const down = kind === "down" ? 1 : -1;
    context.moveTo(x - size, kind === "diamond" ? y : y - size * down * 0.8);
    if (kind === "diamond") context.lineTo(x, y - size);
    context.lineTo(x + size, kind === "diamond" ? y : y - size * down * 0.8);
    context.lineTo(x, y + size * (kind === "diamond" ? 1 : down));
  }
  context.fill();
}

// Times at which the ruler has a mark: round, and not too close.
function ticks(scene) {
  const least = 110 / scene.scale;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((times) => times * power).find((step) => step >= least);
  const all = [];
  for (let t = Math.ceil(scene.from / step) * step; t <= scene.to; t += step) if (t >= 0) all.push(t);
  return all;
}

function tickName(t, step) {
  if (step >= 1e6) return `${Math.round(t / 1e6)} s`;
  if (step >= 1e4) return `${(t / 1e6).toFixed(step >= 1e5 ? 1 : 2)} s`;
  return `${(t / 1e3).toFixed(step >= 1000 ? 0 : step >= 100 ? 1 : step >= 10 ? 2 : 3)} ms`;
}

function clock(t) { return `${(t / 1000).toFixed(3)} ms`; }
