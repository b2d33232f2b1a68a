// The page: puts together the run, the scene, what draws and what is told; keeps the place in the address.

// The run in a strip: how much happens, faults, the end of faults, and where the view is.
class Strip {
  constructor(run, scene, canvas) {
    Object.assign(this, { run, scene, canvas, bins: null });
  }

  count(width) {
    const bins = new Uint32Array(Math.max(1, width));
    const { points, messages, end } = this.run;
    for (const { t, on } of [points, messages]) {
      for (let i = 0; i < t.length; i++) if (on[i]) bins[Math.min(width - 1, Math.floor((t[i] / end) * width))]++;
    }
    return bins;
  }

  draw(colors) {
    const { canvas, run, scene } = this;
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (canvas.width !== Math.round(width * ratio)) this.bins = null;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = colors.panel;
    context.fillRect(0, 0, width, height);
    const x = (t) => (t / run.end) * width;
    const faults = 12;
    context.fillStyle = colors.fault;
    context.globalAlpha = 0.55;
    for (const span of run.spans) if (span.outcome === NONE) context.fillRect(x(span.t), height - faults, Math.max(1, x(span.e) - x(span.t)), faults - 2);
    context.globalAlpha = 1;
    this.bins ??= this.count(Math.floor(width));
    const most = Math.max(1, ...this.bins);
    context.fillStyle = colors.entries;
    this.bins.forEach((count, at) => {
      const tall = count === 0 ? 0 : 1 + (height - faults - 5) * Math.sqrt(count / most);
      context.fillRect(at, height - faults - 2 - tall, 1, tall);
    });
    for (const [t, color] of [[run.peace, colors.good], [run.converged, colors.good], [run.violation, colors.bad]]) {
      if (t === null) continue;
      context.fillStyle = color;
      context.fillRect(x(t) - 1, 0, 2.5, height);
    }
    const from = Math.max(0, x(scene.from)), to = Math.min(width, x(scene.to));
    context.fillStyle = colors.bg;
    context.globalAlpha = 0.6;
    context.fillRect(0, 0, from, height);
    context.fillRect(to, 0, width - to, height);
    context.globalAlpha = 1;
    context.strokeStyle = colors.select;
    context.lineWidth = 2;
    context.strokeRect(from + 1, 1, Math.max(3, to - from - 2), height - 2);
  }
}

class View {
  constructor() {
    const get = (id) => document.getElementById(id);
    this.run = new Run(JSON.parse(get("data").textContent));
    get("data").remove();
    this.scene = new Scene(this.run);
    this.drawing = new Drawing(this.scene, get("scene"));
    this.strip = new Strip(this.run, this.scene, get("overview"));
    this.search = get("search");
    this.detail = new Detail(this.scene, get("detail"), (id) => this.choose(id, true));
    this.run.filter(this.scene.filter);
    this.recolor();
    this.head();
    this.controls = new Controls(this);
    this.swatches();
    this.pending = false;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.recolor(); this.swatches(); this.detail.show(); this.draw(); });
    new ResizeObserver(() => { this.drawing.resize(); this.draw(); }).observe(get("scene"));
    window.addEventListener("hashchange", () => this.fromAddress());
    this.drawing.resize();
    this.begin();
  }

  recolor() {
    this.drawing.recolor();
    this.scene.colors = this.drawing.colors;
  }

  swatches() {
    document.querySelectorAll("[data-color]").forEach((swatch) => {
      const color = this.drawing.colors[swatch.dataset.color];
      if (swatch.classList.contains("line")) swatch.style.borderColor = color; else swatch.style.background = color;
    });
  }

  head() {
    const { run } = this;
    const get = (id) => document.getElementById(id);
    get("title").textContent = `seed ${run.seed}`;
    const verdict = get("verdict"), reasons = Object.keys(run.reasons);
    verdict.className = run.broken ? "bad" : "good";
    if (run.broken) verdict.textContent = `broken: ${run.broken.invariant} at ${clock(run.violation)}`;
    else if (reasons.length > 0) verdict.textContent = `clean, settled ${run.converged_ms} ms after the last fault, held back by ${reasons.join(", ")}`;
    else verdict.textContent = run.converged_ms === null ? "clean" : `clean, one healthy cluster ${run.converged_ms} ms after the last fault`;
    const many = (count, what) => `${count.toLocaleString("en")} ${what}`;
    get("facts").textContent = [many(run.events, "events"), `${(run.simulated_ms / 1000).toFixed(1)} simulated seconds`,
      many(run.points.n, "told"), many(run.messages.n, "messages"), `hash ${run.hash}`].join(" · ");
    get("command").textContent = run.command;
    get("fail").hidden = !run.broken;
    get("planned").append(element("pre", { textContent: run.plan }), table(Object.entries(run.counts).map(([name, count]) => [name, count.toLocaleString("en")])));
    get("keys").append(element("h2", { textContent: "Keys and pointer" }), table([]), element("form", { method: "dialog" }, element("button", { textContent: "close" })));
    const body = get("keys").querySelector("tbody");
    for (const [key, what] of KEYS) body.append(element("tr", {}, element("td", {}, element("kbd", { textContent: key })), element("td", { textContent: what })));
  }

  // Where the address says, or where something is broken, or all of it.
  begin() {
    // Wide rows, if all of them fit.
    this.scene.isCompact = this.scene.total > this.scene.height * 1.3;
    if (!this.fromAddress()) {
      this.written = location.hash;
      if (this.run.broken) this.toViolation();
      else { this.scene.show(0, this.run.end); this.detail.show(); this.moved(); }
    }
  }

  fromAddress() {
    const said = new URLSearchParams(location.hash.slice(1));
    if (!said.has("t") || location.hash === this.written) return false;
    this.written = location.hash;
    clearTimeout(this.writes);
    const t = Number(said.get("t")) * 1000, length = Number(said.get("w") ?? 1000) * 1000;
    if (!Number.isFinite(t) || !Number.isFinite(length)) return false;
    this.scene.show(t - length / 2, t + length / 2);
    const id = said.get("e");
    this.scene.selected = id !== null && /^[pms]\d+$/.test(id) && this.run.timeOf(id) !== null ? id : null;
    if (this.scene.selected !== null) this.scene.reveal(this.run.timeOf(id), this.scene.lanesOf(id));
    this.detail.show();
    this.draw();
    return true;
  }

  toAddress() {
    // Somebody goes elsewhere just now.
    if (location.hash !== (this.written ?? "")) return;
    const { scene } = this;
    const middle = (scene.from + scene.to) / 2000, length = (scene.to - scene.from) / 1000;
    const chosen = scene.selected === null ? "" : `&e=${scene.selected}`;
    this.written = `#t=${middle.toFixed(3)}&w=${length.toFixed(3)}${chosen}`;
    try { history.replaceState(null, "", this.written); } catch { /* A page in a sandbox keeps its address. */ }
  }

  draw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => this.now());
  }

  now() {
    this.pending = false;
    this.drawing.frame();
    this.strip.draw(this.drawing.colors);
    const { scene } = this, precise = scene.to - scene.from < 1e6;
    const name = (t) => (precise ? clock(t) : `${(t / 1e6).toFixed(3)} s`);
    document.getElementById("position").textContent = `${name(Math.max(0, scene.from))} – ${name(Math.min(this.run.end, scene.to))} · ${this.drawing.seen.toLocaleString("en")} in sight`;
  }

  moved() {
    this.draw();
    clearTimeout(this.writes);
    this.writes = setTimeout(() => this.toAddress(), 200);
  }

  choose(id, reveals) {
    this.scene.selected = id;
    if (id !== null && reveals) this.scene.reveal(this.run.timeOf(id), this.scene.lanesOf(id));
    this.detail.show();
    this.moved();
  }

  step(direction) {
    const from = direction > 0 ? this.scene.from : this.scene.to;
    const id = this.run.step(this.scene.selected, from, direction);
    if (id !== null) this.choose(id, true);
  }

  toViolation() {
    const { run, scene } = this;
    if (!run.broken) return;
    const length = run.before(run.violation, 140);
    scene.show(run.violation - length, run.violation + length * 0.12);
    scene.scroll = 0;
    scene.reveal(run.violation, run.concerned);
    this.choose(this.detail.broken(), false);
  }

  find(text) {
    this.scene.filter.text = text;
    this.filtered();
  }

  filtered() {
    const { run, scene } = this;
    run.filter(scene.filter);
    scene.arrange();
    this.strip.bins = null;
    document.getElementById("found").textContent = scene.filter.text ? `${run.found.toLocaleString("en")} found` : "";
    this.detail.show();
    this.moved();
  }

  showKeys() { document.getElementById("keys").showModal(); }
}

const page = new View();
// For tests, and for whoever has a console open.
window.view = {
  events: () => page.run.points.n, messages: () => page.run.messages.n, shown: () => page.run.found, seen: () => page.drawing.seen,
  lines: () => page.drawing.lines.drawn, lanes: () => page.scene.lanes.map((lane) => lane.head.name), window: () => [page.scene.from, page.scene.to],
  selected: () => page.scene.selected, choose: (id) => page.choose(id, true), summary: (id) => page.detail.summary(id),
  // The place of something on the canvas.
  place: (id) => {
    const ends = id[0] === "m" ? page.scene.ends(Number(id.slice(1))) : null;
    const of = Number(id.slice(1));
    if (ends) return { x: (ends.x1 + ends.x2) / 2, y: (ends.y1 + ends.y2) / 2 };
    const lane = page.scene.laneAt.get(page.scene.lanesOf(id)[0]);
    return { x: page.scene.x(page.run.timeOf(id)), y: page.scene.y(lane.axis + markOf(page.run.points.kind[of]).dy) };
  },
  violation: () => (page.run.violation === null ? null : { t: page.run.violation, x: page.scene.x(page.run.violation), invariant: page.run.broken.invariant }),
  // Draws now, and says how many milliseconds that took.
  frame: () => { page.now(); return page.drawing.tookMs; },
};
