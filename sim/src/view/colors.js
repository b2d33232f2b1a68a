// Colours: names of what has one, and the values of the style sheet.

const GROUP_COLORS = ["elections", "links", "copies", "requests", "sql", "client", "entries", "acks", "beats", "announce"];
const ROLE_COLORS = ["follower", "preCandidate", "candidate", "leader", "learner"];
const ROLE_LETTERS = ["F", "P", "C", "L", "Ln"];
const COPY_COLORS = ["copyNone", "copyMissing", "copySync", "copyOnline", "copyBackup", "copyOffline"];
const BECAME_COLORS = ["dim", "good", "warn", "unknown"];

// The colours of the style sheet, by names in camel case.
function palette() {
  const style = getComputedStyle(document.documentElement);
  const names = ["bg", "panel", "ink", "dim", "line", "lane", "lane-other", "grid", "down", "hatch", "accent", "select", "good",
    "bad", "warn", "unknown", "follower", "pre-candidate", "candidate", "leader", "learner", "on-role", "on-leader", "copy-none",
    "copy-missing", "copy-sync", "copy-online", "copy-backup", "copy-offline", "fault", "fault-ink", "fault-tint", "pause",
    "elections", "links", "copies", "requests", "sql", "client", "entries", "acks", "beats", "announce"];
  const colors = {};
  for (const name of names) {
    colors[name.replace(/-(\w)/g, (_, letter) => letter.toUpperCase())] = style.getPropertyValue("--" + name).trim();
  }
  colors.faultStrong = colors.copies;
  return colors;
}

function hatch(context, color, background) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const brush = tile.getContext("2d");
  brush.fillStyle = background;
  brush.fillRect(0, 0, 8, 8);
  brush.strokeStyle = color;
  brush.beginPath();
  for (const shift of [-8, 0, 8]) { brush.moveTo(shift, 8); brush.lineTo(shift + 8, 0); }
  brush.stroke();
  return context.createPattern(tile, "repeat");
}
