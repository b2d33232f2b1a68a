// Messages as lines from lane to lane; where there are too many, how many there are.

// So many lines are drawn; of what is more only where and how much it is.
const LINES_MAX = 1400;

class Lines {
  constructor(drawing) {
    this.drawing = drawing;
    this.drawn = 0;
  }

  get context() { return this.drawing.context; }

  get scene() { return this.drawing.scene; }

  get colors() { return this.drawing.colors; }

  draw() {
    const { context, scene, colors } = this;
    const { messages } = scene.run;
    this.drawn = 0;
    this.scale = scene.scale;
    const counts = new Array(GROUP_COLORS.length).fill(0);
    scene.run.eachMessage(scene.from, scene.to, (i) => { counts[messages.group[i]]++; });
    let sum = 0;
    scene.drawn = counts.map((count) => (sum += count) <= LINES_MAX);
    this.drawing.seen += sum;
    const byGroup = counts.map(() => []);
    const bins = scene.run.lanes.map(() => null);
    scene.run.eachMessage(scene.from, scene.to, (i) => {
      if (scene.drawn[messages.group[i]]) return byGroup[messages.group[i]].push(i);
      this.count(bins, messages.from[i], messages.t[i], false);
      return this.count(bins, messages.to[i], messages.e[i], isLost(messages.fate[i]));
    });
    bins.forEach((counted, lane) => { if (counted) this.density(lane, counted); });
    const few = sum < 500;
    const many = byGroup.reduce((sum, all) => sum + all.length, 0);
    // The more lines there are, the fainter each is.
    const alpha = Math.min(1, Math.max(0.3, 330 / many));
    this.named = few ? byGroup : [];
    for (let group = byGroup.length - 1; group >= 0; group--) {
      if (byGroup[group].length === 0) continue;
      context.strokeStyle = context.fillStyle = colors[GROUP_COLORS[group]];
      context.lineWidth = group >= 8 ? 0.8 : few ? 1.5 : 1;
      context.globalAlpha = alpha;
      context.beginPath();
      for (const i of byGroup[group]) this.line(i);
      context.stroke();
      context.globalAlpha = 1;
      this.drawn += byGroup[group].length;
      for (const i of byGroup[group]) this.tip(i, few);
    }
  }

  line(i) {
    const ends = this.scene.ends(i);
    if (!ends) return;
    this.context.moveTo(ends.x1, ends.y1);
    this.context.lineTo(ends.x2, ends.y2);
  }

  // An arrow where a message arrives, a cross where it is lost.
  tip(i, few) {
    const ends = this.scene.ends(i);
    if (!ends) return;
    const { context, colors } = this;
    const { x1, y1, x2, y2 } = ends;
    const lost = isLost(this.scene.run.messages.fate[i]);
    if (lost) {
      const color = context.strokeStyle;
      context.strokeStyle = colors.bad;
      context.lineWidth = this.named.length > 0 ? 1.5 : 0.8;
      context.beginPath();
      const size = this.named.length > 0 ? 3.5 : 2;
      context.moveTo(x2 - size, y2 - size); context.lineTo(x2 + size, y2 + size);
      context.moveTo(x2 + size, y2 - size); context.lineTo(x2 - size, y2 + size);
      context.stroke();
      context.strokeStyle = color;
    } else if (few) {
      const angle = Math.atan2(y2 - y1, x2 - x1);
      context.beginPath();
      context.moveTo(x2, y2);
      context.lineTo(x2 - 7 * Math.cos(angle - 0.4), y2 - 7 * Math.sin(angle - 0.4));
      context.lineTo(x2 - 7 * Math.cos(angle + 0.4), y2 - 7 * Math.sin(angle + 0.4));
      context.fill();
    }
  }

  // Names beside lines that are far enough from each other.
  names() {
    const { context, scene, colors } = this;
    const { messages } = scene.run;
    const taken = [];
    const free = (y) => !scene.lanes.some((lane) => lane.texts.some(([top, bottom]) => y > scene.y(top) - 7 && y < scene.y(bottom) + 7));
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    this.named.forEach((all, group) => {
      if (group >= 8 && scene.scale < 0.05) return;
      for (const i of all) {
        const ends = scene.ends(i);
        if (!ends || Math.abs(ends.y2 - ends.y1) < 24) continue;
        const facts = messages.term[i] === NONE ? "" : ` ${messages.term[i]}${messages.index[i] === NONE ? "" : "/" + messages.index[i]}`;
        const text = scene.run.messageKinds[messages.kind[i]][0] + facts;
        const width = text.length * 5.8 + 4;
        const at = [0.5, 0.3, 0.7, 0.2, 0.8].map((part) => ({ x: ends.x1 + (ends.x2 - ends.x1) * part + 5, y: ends.y1 + (ends.y2 - ends.y1) * part }))
          .find(({ x, y }) => x > GUTTER && x + width < scene.width && y > RULER + 8 && free(y)
            && !taken.some((box) => x < box.x + box.width && box.x < x + width && Math.abs(box.y - y) < 14));
        if (!at) continue;
        taken.push({ x: at.x, y: at.y, width });
        context.globalAlpha = 0.85;
        context.fillStyle = colors.bg;
        context.fillRect(at.x - 2, at.y - 7, width, 14);
        context.globalAlpha = 1;
        context.fillStyle = group >= 7 ? colors.dim : colors[GROUP_COLORS[group]];
        context.fillText(text, at.x, at.y);
        if (taken.length > 120) return;
      }
    });
  }

  count(bins, place, t, lost) {
    const { scene } = this;
    if (t < scene.from || t > scene.to) return;
    const width = 1 + (scene.width >> 1);
    const counted = (bins[place] ??= { all: new Uint32Array(width), lost: new Uint32Array(width) });
    const bin = Math.floor(GUTTER + (t - scene.from) * this.scale) >> 1;
    counted.all[bin]++;
    if (lost) counted.lost[bin]++;
  }

  density(place, { all, lost }) {
    const { context, scene, colors } = this;
    const lane = scene.laneAt.get(place);
    if (!lane) return;
    const most = Math.max(4, ...all);
    const bottom = scene.y(lane.axis) + AXIS / 2 - 1;
    for (const [bins, color] of [[all, colors.acks], [lost, colors.bad]]) {
      context.fillStyle = color;
      for (let bin = 0; bin < bins.length; bin++) {
        if (bins[bin] === 0) continue;
        const height = 1 + (AXIS - 4) * Math.sqrt(bins[bin] / most);
        context.fillRect(bin * 2, bottom - height, 2, height);
      }
    }
  }
}

// Whether something did not come to anybody, as far as that is known.
function isLost(fate) { return fate >= 2 && fate !== UNDER_WAY; }
