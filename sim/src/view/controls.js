// What a person can do: move, zoom, step, filter and search, with pointer, keys and buttons.

const KEYS = [
  ["← →", "move in time"], ["↑ ↓", "move up and down"], ["+ −", "zoom"], ["0", "the whole run"], ["n p", "the next event, the one before"],
  ["c", "narrow rows, or wide ones with text"], ["v", "where the invariant is broken"], ["/", "search"], ["Escape", "choose nothing, clear the search"], ["wheel", "zoom where the pointer is"],
  ["Shift + wheel", "move in time"], ["Ctrl + wheel", "move up and down"], ["drag", "move"], ["double click", "zoom in there"],
];

class Controls {
  constructor(view) {
    this.view = view;
    this.drags = null;
    this.canvas();
    this.keys();
    this.buttons();
    this.menus();
    this.overview();
  }

  get scene() { return this.view.scene; }

  canvas() {
    const { canvas } = this.view.drawing;
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const { scene } = this, { x } = place(event);
      const length = scene.to - scene.from;
      const lines = event.deltaMode === 1 ? 30 : 1;
      if (event.ctrlKey) scene.scroll += event.deltaY * lines;
      else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        scene.move((length * (event.deltaX || event.deltaY) * lines) / 900);
      } else scene.zoom(Math.exp(event.deltaY * lines * 0.0016), scene.time(Math.max(GUTTER, x)));
      scene.clamp();
      this.view.moved();
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      const { x, y } = place(event);
      this.drags = { x, y, from: this.scene.from, to: this.scene.to, scroll: this.scene.scroll, far: false };
    });
    canvas.addEventListener("pointermove", (event) => {
      const { x, y } = place(event), { scene } = this;
      if (!this.drags) return this.hover(x, y);
      const dx = x - this.drags.x, dy = y - this.drags.y;
      this.drags.far ||= Math.hypot(dx, dy) > 4;
      if (!this.drags.far) return;
      canvas.classList.add("drags");
      scene.scroll = this.drags.scroll - dy;
      scene.show(this.drags.from - dx / scene.scale, this.drags.to - dx / scene.scale);
      this.view.moved();
    });
    const drop = (event) => {
      canvas.classList.remove("drags");
      if (this.drags && !this.drags.far && event.type === "pointerup") {
        const { x, y } = place(event);
        this.view.choose(this.scene.hit(x, y), false);
      }
      this.drags = null;
    };
    canvas.addEventListener("pointerup", drop);
    canvas.addEventListener("pointercancel", drop);
    canvas.addEventListener("dblclick", (event) => {
      this.scene.zoom(0.3, this.scene.time(place(event).x));
      this.view.moved();
    });
    canvas.addEventListener("pointerleave", () => this.hover(-1, -1));
  }

  hover(x, y) {
    const { drawing } = this.view;
    // Where there is too much to be told apart nothing is pointed out.
    const id = drawing.seen > 40_000 ? null : this.scene.hit(x, y);
    drawing.canvas.classList.toggle("points", id !== null);
    const lane = this.scene.laneUnder(y);
    drawing.canvas.title = id !== null ? this.view.detail.summary(id).slice(0, 200) : x < GUTTER && x >= 0 && lane ? lane.head.title : "";
    if (id !== drawing.hovered) {
      drawing.hovered = id;
      this.view.draw();
    }
  }

  keys() {
    document.addEventListener("keydown", (event) => {
      const typing = event.target instanceof HTMLInputElement && event.target.type === "search";
      if (event.key === "Escape") {
        this.view.search.value = "";
        this.view.find("");
        this.view.choose(null, false);
        this.view.drawing.canvas.focus();
        return;
      }
      if (typing) {
        if (event.key === "Enter") this.view.step(event.shiftKey ? -1 : 1);
        return;
      }
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const { scene } = this, length = scene.to - scene.from;
      const moves = {
        ArrowLeft: () => scene.move(-length / 8), ArrowRight: () => scene.move(length / 8),
        ArrowUp: () => { scene.scroll -= 60; }, ArrowDown: () => { scene.scroll += 60; },
        "+": () => this.zoom(0.6), "=": () => this.zoom(0.6), "-": () => this.zoom(1 / 0.6), 0: () => scene.show(0, this.view.run.end),
        c: () => { scene.isCompact = !scene.isCompact; },
        Home: () => scene.show(0, length), End: () => scene.show(this.view.run.end - length, this.view.run.end),
      };
      const acts = {
        n: () => this.view.step(1), p: () => this.view.step(-1), v: () => this.view.toViolation(),
        "/": () => this.view.search.focus(), "?": () => this.view.showKeys(),
      };
      if (document.activeElement instanceof HTMLElement && document.activeElement.closest("#detail, .menu") && event.key.startsWith("Arrow")) return;
      if (moves[event.key]) {
        moves[event.key]();
        scene.clamp();
        this.view.moved();
      } else if (acts[event.key]) acts[event.key]();
      else return;
      event.preventDefault();
    });
  }

  // In and out around what is chosen, if it is in sight.
  zoom(factor) {
    const { scene } = this, t = this.view.run.timeOf(scene.selected);
    scene.zoom(factor, t !== null && t >= scene.from && t <= scene.to ? t : undefined);
  }

  buttons() {
    const on = (id, act) => { document.getElementById(id).onclick = act; };
    const moves = (act) => () => { act(); this.view.moved(); };
    on("in", moves(() => this.zoom(0.5)));
    on("out", moves(() => this.zoom(2)));
    on("all", moves(() => this.scene.show(0, this.view.run.end)));
    on("compact", moves(() => { this.scene.isCompact = !this.scene.isCompact; }));
    on("next", () => this.view.step(1));
    on("back", () => this.view.step(-1));
    on("fail", () => this.view.toViolation());
    on("help", () => this.view.showKeys());
    on("copy", async (event) => {
      const button = event.currentTarget;
      try {
        await navigator.clipboard.writeText(this.view.run.command);
        button.textContent = "copied";
      } catch {
        getSelection().selectAllChildren(document.getElementById("command"));
      }
    });
    this.view.search.addEventListener("input", () => this.view.find(this.view.search.value));
  }

  menus() {
    const { run, scene } = this.view;
    const counted = (column, length) => {
      const counts = new Array(length).fill(0);
      column.forEach((value) => { if (value >= 0) counts[value]++; });
      return counts;
    };
    const kinds = counted(run.points.kind, run.kinds.length), groups = counted(run.messages.group, run.classes.length);
    const points = run.kinds.map((name, i) => ({ name, value: i, count: kinds[i], color: markOf(i).color }));
    const messages = run.classes.map((name, i) => ({ name, value: i, count: groups[i], color: GROUP_COLORS[i], line: true }));
    const menu = document.querySelector("#kinds > div");
    menu.append(this.choices("Messages, as lines", messages, scene.filter.groups, "kinds"),
      this.choices("Events, as marks", points, scene.filter.kinds, "kinds"), this.legend());
    const lanes = run.lanes.map((head, i) => ({ name: head.name, value: i, title: head.title }));
    document.querySelector("#lanes > div").append(this.choices("Lanes", lanes, scene.filter.lanes, "lanes"));
    const shards = run.shards.map((name, i) => ({ name, value: i }));
    document.querySelector("#shards > div").append(this.choices("Logs", shards, scene.filter.shards, "shards"));
    document.addEventListener("pointerdown", (event) => {
      document.querySelectorAll(".menu[open]").forEach((menu) => { if (!menu.contains(event.target)) menu.open = false; });
    });
  }

  choices(title, all, hidden, of) {
    const boxes = [];
    const apply = () => {
      hidden.clear();
      boxes.forEach((box) => { if (!box.checked) hidden.add(Number(box.value)); });
      const { filter } = this.scene;
      const some = of === "kinds" ? filter.kinds.size + filter.groups.size : hidden.size;
      document.getElementById(of).classList.toggle("some", some > 0);
      this.view.filtered();
    };
    const set = (checked) => () => { boxes.forEach((box) => { box.checked = checked; }); apply(); };
    const list = element("div", {}, element("h2", { textContent: title }), element("div", { className: "all" },
      element("button", { type: "button", textContent: "all", onclick: set(true) }), element("button", { type: "button", textContent: "none", onclick: set(false) })));
    for (const { name, value, count, color, line, title } of all) {
      const box = element("input", { type: "checkbox", checked: true, value: String(value), onchange: apply });
      box.dataset.name = name;
      boxes.push(box);
      const label = element("label", { title: title ?? "" }, box);
      if (color) {
        const swatch = element("span", { className: line ? "swatch line" : "swatch" });
        swatch.dataset.color = color;
        label.append(swatch);
      }
      label.append(element("span", { textContent: name }));
      if (count !== undefined) label.append(element("span", { className: "count", textContent: count.toLocaleString("en") }));
      list.append(label);
    }
    return list;
  }

  legend() {
    const list = element("div", {}, element("h2", { textContent: "Lanes and strips" }));
    const line = (color, text) => {
      const swatch = element("span", { className: "swatch" });
      swatch.dataset.color = color;
      list.append(element("label", {}, swatch, element("span", { textContent: text })));
    };
    this.view.run.roles.forEach((role, i) => line(ROLE_COLORS[i], `${role} (${ROLE_LETTERS[i]})`));
    this.view.run.copies.forEach((copy, i) => line(COPY_COLORS[i], `copy: ${copy}`));
    line("fault", "a fault, as long as it lasts");
    line("pause", "process stopped (hatched)");
    line("down", "process down (hatched)");
    BECAME.forEach((became, i) => line(BECAME_COLORS[i], `asked: ${became}`));
    line("bad", "✗ a message is lost");
    return list;
  }

  overview() {
    const { canvas } = this.view.strip;
    const to = (event) => {
      const box = canvas.getBoundingClientRect(), { scene, run } = this.view;
      const t = ((event.clientX - box.left) / box.width) * run.end, length = scene.to - scene.from;
      scene.show(t - length / 2, t + length / 2);
      this.view.moved();
    };
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); to(event); });
    canvas.addEventListener("pointermove", (event) => { if (event.buttons & 1) to(event); });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.scene.zoom(Math.exp(event.deltaY * 0.0016));
      this.view.moved();
    }, { passive: false });
  }
}
