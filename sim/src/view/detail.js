// What is told of the event that is chosen, of those around it, and of all hosts at that moment.

const AROUND = 9;
const STORY_MAX = 500;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

class Detail {
  constructor(scene, place, choose) {
    this.scene = scene;
    this.place = place;
    this.choose = choose;
  }

  get run() { return this.scene.run; }

  laneName(place) { return this.run.lanes[place]?.name ?? "?"; }

  kindName(id) {
    const run = this.run, place = Number(id.slice(1));
    if (id[0] === "m") return run.messageKinds[run.messages.kind[place]][0];
    if (id[0] === "p") return run.kinds[run.points.kind[place]];
    return run.spans[place].outcome === NONE ? "fault" : "question";
  }

  // An event in a line.
  summary(id) {
    const run = this.run, place = Number(id.slice(1));
    if (id[0] === "m") {
      const { messages } = run;
      const lost = isLost(messages.fate[place]) ? " ✗" : "";
      const term = messages.term[place] === NONE ? "" : ` term ${messages.term[place]}`;
      return `${this.laneName(messages.from[place])} → ${this.laneName(messages.to[place])} ${this.kindName(id)}${term}${lost}`;
    }
    if (id[0] === "p") return run.texts[run.points.text[place]];
    return run.spans[place].label;
  }

  color(id) {
    const run = this.run, place = Number(id.slice(1));
    const { colors } = this.scene;
    if (id[0] === "m") return colors[GROUP_COLORS[run.messages.group[place]]];
    if (id[0] === "p") return colors[markOf(run.points.kind[place]).color];
    return colors[run.spans[place].outcome === NONE ? "fault" : BECAME_COLORS[run.spans[place].outcome]];
  }

  show() {
    const id = this.scene.selected;
    this.place.replaceChildren(...(id === null ? this.nothing() : this.event(id)));
    this.place.scrollTop = 0;
  }

  nothing() {
    const run = this.run;
    const parts = [];
    if (run.broken) parts.push(...this.violation());
    parts.push(element("p", { textContent: "Click on a mark, a line or a bar, or step through what is shown with n and p." }),
      element("h3", { textContent: "What happened, in short" }), this.story());
    return parts;
  }

  // Processes, leaders of the cluster and faults, as far as they are shown.
  story() {
    const { points } = this.run, list = element("ul", { className: "around" });
    let told = null, count = 0;
    for (let i = 0; i < points.n && count < STORY_MAX; i++) {
      const leads = points.kind[i] === 1 && points.shard[i] === CONFIGURATION;
      // A fault of many hosts is told once.
      const again = points.kind[i] === 11 && points.text[i] === told;
      if (!points.on[i] || again || !(leads || points.kind[i] === 0 || points.kind[i] >= 11)) continue;
      told = points.text[i];
      count++;
      const id = "p" + i, mark = element("i");
      mark.style.background = this.color(id);
      const button = element("button", { type: "button", title: this.summary(id).slice(0, 300) }, mark,
        element("time", { textContent: (points.t[i] / 1e6).toFixed(3) + " s" }), element("span", { textContent: this.summary(id).slice(0, 120) }));
      button.onclick = () => this.choose(id);
      list.append(element("li", {}, button));
    }
    return list;
  }

  violation() {
    const { run } = this;
    const text = element("pre");
    text.append(...this.text(run.broken.detail));
    const go = element("button", { type: "button", textContent: `at ${clock(run.violation)}` });
    go.onclick = () => this.choose(this.broken());
    return [element("h2", {}, "Broken: ", element("span", { className: "bad", textContent: run.broken.invariant })), text, go];
  }

  // The mark of the violation, or what was told last before it.
  broken() {
    const { points } = this.run;
    for (let i = points.n - 1; i >= 0; i--) if (points.kind[i] === 12) return "p" + i;
    return points.n > 0 ? "p" + (points.n - 1) : null;
  }

  event(id) {
    const run = this.run, place = Number(id.slice(1)), t = run.timeOf(id);
    const parts = [];
    const rows = [];
    let text = "";
    if (id[0] === "m") {
      const { messages } = run;
      parts.push(element("h2", { textContent: `${this.kindName(id)}: ${this.laneName(messages.from[place])} → ${this.laneName(messages.to[place])}` }));
      rows.push(["sent", this.time(messages.t[place])], ["ended", this.time(messages.e[place])],
        ["took", `${((messages.e[place] - messages.t[place]) / 1000).toFixed(3)} ms`],
        ["fate", [FATES[messages.fate[place]], WAYS[messages.way[place]]].filter(Boolean).join(", ")]);
      const number = (name, column) => { if (column[place] !== NONE) rows.push([name, String(column[place])]); };
      if (messages.shard[place] !== NONE) rows.push(["log", run.shards[messages.shard[place]]]);
      number("term", messages.term); number("index", messages.index); number("commit", messages.commit);
      number(this.kindName(id) === "append" ? "entries" : "holds", messages.count);
      if (messages.bytes[place] > 0) rows.push(["bytes", String(messages.bytes[place])]);
      rows.push(["group", run.classes[messages.group[place]]]);
      text = run.texts[messages.text[place]];
    } else if (id[0] === "p") {
      const { points } = run;
      parts.push(element("h2", { textContent: `${this.laneName(points.lane[place])}: ${this.kindName(id)}` }));
      if (points.kind[place] === 12) parts.push(...this.violation().slice(0, 2));
      rows.push(["at", this.time(t)]);
      if (points.shard[place] !== NONE) rows.push(["log", run.shards[points.shard[place]]]);
      if (points.span[place] !== NONE) rows.push(...this.spanRows(run.spans[points.span[place]]));
      text = run.texts[points.text[place]];
    } else {
      const span = run.spans[place];
      parts.push(element("h2", { textContent: `${this.laneName(span.lane)}: ${span.label}` }));
      rows.push(...this.spanRows(span));
      const told = this.pointOf(place);
      if (told !== null) {
        const go = element("button", { type: "button", textContent: "the event that began it" });
        go.onclick = () => this.choose("p" + told);
        parts.push(go);
        text = run.texts[run.points.text[told]];
      }
    }
    parts.push(table(rows));
    const shown = element("pre");
    shown.append(...this.text(pretty(text)));
    parts.push(shown, element("h3", { textContent: "Around it, of what is shown" }), this.around(id));
    parts.push(element("h3", { textContent: "The hosts at that moment" }), this.hosts(t));
    return parts;
  }

  spanRows(span) {
    const rows = [["from", this.time(span.t)], [span.open ? "until" : "to", span.open ? "the end" : this.time(span.e)],
      ["lasted", `${((span.e - span.t) / 1000).toFixed(3)} ms`]];
    if (span.outcome !== NONE) rows.push(["outcome", BECAME[span.outcome]]);
    if (span.host !== NONE) rows.push(["at", this.laneName(span.host)]);
    if (span.shard !== NONE) rows.push(["log", this.run.shards[span.shard]]);
    return rows;
  }

  pointOf(span) {
    const place = this.run.points.span.indexOf(span);
    return place < 0 ? null : place;
  }

  time(t) { return clock(t); }

  // Ids of nodes get the names of their hosts.
  text(text) {
    const { nodes } = this.run;
    return text.split(/\b([0-9a-f]{8})\b/).map((part, i) => {
      if (i % 2 === 0 || !(part in nodes)) return part;
      return element("mark", { textContent: `${part} (host ${nodes[part]})` });
    });
  }

  around(id) {
    const before = [], after = [];
    for (let at = id; before.length < AROUND;) {
      at = this.run.step(at, this.run.timeOf(id), -1);
      if (at === null) break;
      before.unshift(at);
    }
    for (let at = id; after.length < AROUND;) {
      at = this.run.step(at, this.run.timeOf(id), 1);
      if (at === null) break;
      after.push(at);
    }
    const here = this.run.timeOf(id);
    const item = (of) => {
      const passed = (this.run.timeOf(of) - here) / 1000;
      const mark = element("i");
      mark.style.background = this.color(of);
      const button = element("button", { type: "button", title: this.summary(of).slice(0, 300) }, mark,
        element("time", { textContent: of === id ? "this" : `${passed >= 0 ? "+" : "−"}${Math.abs(passed).toFixed(3)}` }),
        element("span", { textContent: this.summary(of).slice(0, 120) }));
      button.setAttribute("aria-current", String(of === id));
      button.onclick = () => this.choose(of);
      return element("li", {}, button);
    };
    return element("ul", { className: "around" }, ...[...before, id, ...after].map(item));
  }

  // Each host's process, its role and term, the version it knows, and the shards that it owns.
  hosts(t) {
    const { run } = this;
    const body = element("tbody");
    run.lanes.forEach((head, place) => {
      if (head.kind !== "host") return;
      const life = Run.at(run.lives[place], t);
      const state = Run.at(run.tracks[place].get(CONFIGURATION) ?? [], t);
      const owned = [...run.tracks[place]].filter(([shard, all]) => shard !== CONFIGURATION && Run.at(all, t)?.owns);
      const role = element("td");
      if (state && state.role !== NONE) {
        const badge = element("span", { className: "role", textContent: run.roles[state.role] });
        badge.style.background = this.scene.colors[ROLE_COLORS[state.role]];
        if (state.role === 3) badge.style.color = this.scene.colors.onLeader;
        role.append(badge);
      }
      body.append(element("tr", {}, element("td", { textContent: head.name }),
        element("td", { textContent: life ? LIVES[life.life] : "not started" }), role,
        element("td", { textContent: state && state.role !== NONE ? `term ${state.term} · v${state.version}` : "" }),
        element("td", { textContent: owned.map(([shard]) => "★\u00a0" + run.shards[shard]).join(" ") })));
    });
    return element("table", { className: "roles" }, body);
  }
}

function table(rows) {
  const body = element("tbody");
  for (const [name, value] of rows) body.append(element("tr", {}, element("th", { textContent: name, scope: "row" }), element("td", { textContent: value })));
  return element("table", {}, body);
}

// What is nested gets lines of its own, as far as it is long.
function pretty(text) {
  const closes = (from) => {
    let depth = 0;
    for (let i = from; i < text.length; i++) {
      if ("{[(".includes(text[i])) depth++;
      else if ("}])".includes(text[i]) && --depth === 0) return i;
    }
    return text.length;
  };
  let depth = 0, made = "";
  const line = () => { made = made.trimEnd() + "\n" + "  ".repeat(depth); };
  for (let i = 0; i < text.length; i++) {
    const letter = text[i];
    if ("{[(".includes(letter)) {
      const close = closes(i);
      if (close - i < 64 && close < text.length) {
        made += text.slice(i, close + 1);
        i = close;
        continue;
      }
      depth++;
      made += letter;
      line();
      while (text[i + 1] === " ") i++;
    } else if ("}])".includes(letter)) {
      depth = Math.max(0, depth - 1);
      line();
      made += letter;
    } else if (letter === "," && text[i + 1] === " " && depth > 0) {
      made += letter;
      line();
      i++;
    } else made += letter;
  }
  return made;
}
