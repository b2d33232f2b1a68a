// Looks at the page of a run as a person would: node page.mjs PAGE DIRECTORY NAME, with what is expected as
// JSON on standard input: { hosts, violation, least, chromium, seconds }; chromium is the browser, and in so many
// seconds all must be seen. Pictures go into DIRECTORY.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [, , file, directory, name] = process.argv;
const expected = JSON.parse(readFileSync(0, "utf8"));
const address = pathToFileURL(file).href;
// A script of the page that never ends can be waited for by nobody but a clock. Who drives the browser ends it, too.
setTimeout(() => {
  console.error(`${name} is not done after ${expected.seconds} s`);
  process.exit(1);
}, expected.seconds * 1000).unref();
const browser = await chromium.launch({
  executablePath: expected.chromium,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});

async function opened(colorScheme, hash = "") {
  const page = await browser.newPage({ viewport: { width: 1500, height: 900 }, colorScheme });
  const wrong = [], asked = [];
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) wrong.push(message.text()); });
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("request", (request) => { if (!request.url().startsWith("data:")) asked.push(request.url()); });
  await page.goto(address + hash);
  await page.waitForFunction(() => window.view !== undefined);
  await page.evaluate(() => view.frame());
  return { page, wrong, asked };
}

const picture = (page, what) => page.screenshot({ path: `${directory}/${name}-${what}.png` });
// The text that is written in the panel beside the lanes.
const detail = (page) => page.locator("#detail").innerText();
// Goes to what the address says: so many milliseconds around a time, in milliseconds.
async function goTo(page, t, width) {
  await page.evaluate((hash) => { location.hash = hash; }, `#t=${t}&w=${width}`);
  await page.waitForFunction((wanted) => Math.abs(view.window()[1] - view.window()[0] - wanted) < 2, width * 1000);
  await settled(page);
}
// Waits for what a frame of the browser does.
const settled = (page) => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));

async function opensWhereItShould({ page }) {
  const [from, to] = await page.evaluate(() => view.window());
  if (expected.violation) {
    const violation = await page.evaluate(() => view.violation());
    assert.equal(violation.invariant, expected.violation);
    assert.ok(from < violation.t && violation.t < to, `the violation is at ${violation.t}, shown is ${from} to ${to}`);
    assert.match(await page.locator("#verdict").innerText(), new RegExp(`^broken: ${expected.violation} at `));
    assert.ok((await detail(page)).includes(expected.violation), "the panel tells what is broken");
    assert.ok(await page.locator("#fail").isVisible(), "there is a way back to it");
  } else {
    assert.equal(await page.evaluate(() => view.violation()), null);
    assert.match(await page.locator("#verdict").innerText(), /^clean/);
    assert.ok(from <= 0 && to > 1e6, "the whole run is shown");
  }
  const lanes = await page.evaluate(() => view.lanes());
  for (let host = 0; host < expected.hosts; host++) assert.ok(lanes.includes(`host ${host}`), `host ${host} has a lane`);
  const counts = await page.evaluate(() => ({ events: view.events(), messages: view.messages(), shown: view.shown() }));
  assert.equal(counts.shown, counts.events + counts.messages, "at first nothing is hidden");
  assert.ok(counts.shown >= expected.least, `${counts.shown} events are fewer than ${expected.least}`);
  await picture(page, "opened");
  return counts;
}

async function zoomsAndMoves({ page }) {
  const window_ = () => page.evaluate(() => view.window());
  const length = ([from, to]) => to - from;
  await page.click("#all");
  const all = await window_();
  const box = await page.locator("#scene").boundingBox();
  const [x, y] = [box.x + box.width * 0.6, box.y + box.height / 2];
  await page.mouse.move(x, y);
  for (let turn = 0; turn < 4; turn++) await page.mouse.wheel(0, -400);
  await settled(page);
  await page.waitForFunction((before) => view.window()[1] - view.window()[0] < before / 8, length(all));
  const near = await window_();
  await page.mouse.down();
  await page.mouse.move(x - 300, y, { steps: 5 });
  await page.mouse.up();
  const moved = await window_();
  assert.ok(moved[0] > near[0] && Math.abs(length(moved) - length(near)) < 2, "dragging moves, and does not zoom");
  await page.focus("#scene");
  await page.keyboard.press("ArrowRight");
  assert.ok((await window_())[0] > moved[0], "an arrow key moves");
  await page.keyboard.press("+");
  assert.ok(length(await window_()) < length(moved), "plus zooms");
  await settled(page);
  await picture(page, "near");
  await page.keyboard.press("0");
  assert.deepEqual(await window_(), all, "0 shows all again");
}

async function filters({ page }, counts) {
  await page.click("#kinds > summary");
  await page.locator('#kinds input[data-name="heartbeats"]').uncheck();
  const fewer = await page.evaluate(() => view.shown());
  assert.ok(fewer < counts.shown, "heartbeats are hidden");
  await picture(page, "legend");
  await page.locator('#kinds input[data-name="heartbeats"]').check();
  assert.equal(await page.evaluate(() => view.shown()), counts.shown);
  await page.keyboard.press("Escape");
  await page.click("#lanes > summary");
  await page.locator('#lanes input[data-name="host 1"]').uncheck();
  assert.ok(!(await page.evaluate(() => view.lanes())).includes("host 1"), "a lane is hidden");
  await page.locator('#lanes input[data-name="host 1"]').check();
  await page.click("#lanes > summary");
  await page.fill("#search", "LEADS in term");
  const found = await page.evaluate(() => view.shown());
  assert.ok(found > 0 && found < counts.shown / 10, `${found} of ${counts.shown} are found`);
  assert.equal(await page.locator("#found").innerText(), `${found.toLocaleString("en")} found`);
  await page.keyboard.press("Enter");
  assert.match(await detail(page), /LEADS in term/, "the next of what was found is told");
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => view.shown()), counts.shown);
}

async function tellsOfWhatIsClicked({ page }) {
  // Of all messages one in the midst that takes its time.
  const chosen = await page.evaluate(() => {
    for (let i = view.messages() >> 1; i < view.messages(); i++) if (/(append|sql|vote|heartbeat)[^✗]*$/.test(view.summary(`m${i}`))) return `m${i}`;
    return null;
  });
  assert.ok(chosen, "there is a message to click on");
  await page.evaluate((id) => { view.choose(id); }, chosen);
  const number = async (what) => Number((await detail(page)).match(new RegExp(`${what}\\s+([\\d.]+) ms`))[1]);
  const [sent, took] = [await number("sent"), await number("took")];
  await goTo(page, sent + took / 2, 1 + took * 3);
  const place = await page.evaluate((id) => view.place(id), chosen);
  const box = await page.locator("#scene").boundingBox();
  await page.evaluate(() => view.choose(null));
  assert.match(await detail(page), /Click on a mark/);
  await page.mouse.click(box.x + place.x, box.y + place.y);
  const selected = await page.evaluate(() => view.selected());
  assert.ok(selected !== null, "a click on a line chooses it");
  const told = await detail(page);
  assert.match(told, /The hosts at that moment/);
  if (selected[0] === "m") for (const word of ["sent", "ended", "took", "fate", "→"]) assert.ok(told.includes(word), `${word} is told: ${told}`);
  await picture(page, "chosen");
  await page.keyboard.press("n");
  const next = await page.evaluate(() => view.selected());
  assert.notEqual(next, selected, "n goes on");
  await page.keyboard.press("p");
  assert.equal(await page.evaluate(() => view.selected()), selected, "p goes back");
}

async function keepsItsPlace({ page }) {
  await goTo(page, 3000, 500);
  await page.focus("#scene");
  await page.keyboard.press("ArrowRight");
  await page.waitForFunction(() => location.hash.startsWith("#t=3062.5"));
  const hash = await page.evaluate(() => location.hash);
  const again = await opened("dark", hash);
  assert.deepEqual(await again.page.evaluate(() => view.window().map(Math.round)), [2812500, 3312500]);
  await picture(again.page, "dark");
  await again.page.close();
  return again;
}

async function measures({ page }) {
  const took = {};
  for (const [what, width] of [["all", null], ["1 s", 1000], ["20 ms", 20]]) {
    if (width) await goTo(page, 10_000, width); else await page.click("#all");
    await settled(page);
    const frames = await page.evaluate(() => Array.from({ length: 15 }, () => view.frame()));
    took[what] = frames.sort((a, b) => a - b)[7];
  }
  return Object.entries(took).map(([what, ms]) => `${what} ${ms.toFixed(1)} ms`).join(", ");
}

try {
  const began = performance.now();
  const view = await opened("light");
  const opening = performance.now() - began;
  const counts = await opensWhereItShould(view);
  await zoomsAndMoves(view);
  await filters(view, counts);
  await tellsOfWhatIsClicked(view);
  const again = await keepsItsPlace(view);
  const frames = await measures(view);
  for (const { wrong, asked } of [view, again]) {
    assert.deepEqual(wrong, [], "nothing is wrong, as the browser says");
    assert.ok(asked.length === 1 && asked[0].startsWith(address), `only the page is asked for: ${asked}`);
  }
  console.log(`${name}: ${counts.events} events and ${counts.messages} messages, opened in ${opening.toFixed(0)} ms, a frame of ${frames}`);
} finally {
  await browser.close();
}
