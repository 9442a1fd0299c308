// The page in Chromium: pictures, hashes, cancel, a second visit, a visit without a network, the accessibility tree.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { FLAGS } from "./chromium.js";
import { note } from "./exactness.js";
import { type Link, openLink } from "./link.js";
import { pythonPictures } from "./reference.js";
import { serve, type Served } from "./served.js";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const SHOTS = "build/screenshots";
/** Text encoder, base stage and their engine took 430 to 490. */
const MOST_MIB = 800;
const MOST_BLOCK_MS = 50;
const PATIENCE_MS = 180_000;
const skip = existsSync(CHROMIUM) ? false : `no browser at ${CHROMIUM}: set CHROMIUM`;

let served: Served;
let link: Link;
let browser: Browser;
let context: BrowserContext;
const complaints: string[] = [];

before(async () => {
  if (skip) return;
  mkdirSync(SHOTS, { recursive: true });
  served = await serve("dist/page");
  link = await openLink(served.url);
  browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
  context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  context.setDefaultTimeout(PATIENCE_MS);
});
after(async () => {
  if (skip) return;
  await browser.close();
  link.close();
  await served.close();
});

async function visit(url = link.url): Promise<Page> {
  const page = await context.newPage();
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(url);
  await page.waitForFunction(() => document.querySelector("#status")?.textContent?.startsWith("Ready"));
  return page;
}

/** Resident memory of the largest process that shows a page, in MiB. */
async function largestRenderer(): Promise<number> {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = (await session.send("SystemInfo.getProcessInfo")) as { processInfo: { type: string; id: number }[] };
  await session.detach();
  const pages = processInfo.filter(({ type }) => type === "renderer");
  const kib = pages.map(({ id }) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${id}/status`, "utf8"))?.[1]));
  return Math.max(...kib) / 1024;
}

/** Of a trace: the longest task of a page's thread, in milliseconds of a core. Waiting for a core is no work of the page. */
function longestTask(trace: Buffer): number {
  type Entry = { name: string; pid: number; tid: number; tdur?: number; args: { name?: string } };
  const { traceEvents } = JSON.parse(trace.toString()) as { traceEvents: Entry[] };
  const pages = new Set(traceEvents.filter(({ args }) => args.name === "CrRendererMain").map(({ pid, tid }) => `${pid} ${tid}`));
  const tasks = traceEvents.filter(({ name, pid, tid }) => name.endsWith("RunTask") && pages.has(`${pid} ${tid}`));
  assert.ok(tasks.length > 10, "a trace without tasks");
  return Math.max(...tasks.map(({ tdur }) => tdur ?? 0)) / 1000;
}

async function status(page: Page, words: RegExp): Promise<string> {
  const text = await page.waitForFunction(
    (source) => {
      const found = document.querySelector("#status")?.textContent ?? "";
      return new RegExp(source).test(found) && found;
    },
    words.source,
  );
  return String(await text.jsonValue());
}

const hashes = (page: Page): Promise<Record<string, string>> =>
  page.$$eval("#rows tr", (rows) => Object.fromEntries((rows as HTMLElement[]).map((row) => [row.dataset.stage, row.dataset.sha256])));

test("a first visit draws a picture by the keyboard alone; nothing is complained of", { skip }, async () => {
  const begun = performance.now();
  const page = await visit();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement?.id), "prompt");
  await page.keyboard.press("Enter");
  assert.equal(await status(page, /^Done|^[A-Z_]+:/), "Done");
  const found = await hashes(page);
  assert.deepEqual(Object.keys(found), ["text_encoder", "base", "sr256", "sr1024"]);
  assert.equal(await page.$eval("#large", (canvas) => (canvas as HTMLCanvasElement).width), 1024);
  await page.screenshot({ path: `${SHOTS}/wide.png`, fullPage: true });
  const totals = (await page.innerText("#totals")).replaceAll("\n", " ");
  console.log(`first visit: ${(link.received() / 1e6).toFixed(2)} MB, ${((performance.now() - begun) / 1000).toFixed(1)} s; ${totals}`);
  const memory = await largestRenderer();
  note("memory of the page", `${memory.toFixed(0)} MiB`);
  assert.ok(memory < MOST_MIB, `${memory} MiB`);
  await browser.startTracing(page, { categories: ["toplevel"] });
  await page.click("#again");
  assert.match(await status(page, /again$|other pixels/), /the same pixels again/);
  const longestMs = longestTask(await browser.stopTracing());
  note("longest block of the page's thread", `${longestMs.toFixed(1)} ms of a core`);
  assert.ok(longestMs < MOST_BLOCK_MS, `${longestMs} ms`);
  await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
  await page.close();
  assert.deepEqual(complaints, []);
});

test("with every component on the server the page shows Python's pixels", { skip }, async () => {
  const expected = await pythonPictures({ bundle: "emoji-1", cut: 4, seed: "7", prompt: "a red apple, noto style" });
  const page = await visit();
  await page.click("summary");
  await page.selectOption("#cut", "0");
  await page.click("#draw");
  assert.equal(await status(page, /^Done|^[A-Z_]+:/), "Done");
  const found = await hashes(page);
  for (const [stage, { data }] of expected) assert.equal(found[stage], createHash("sha256").update(data).digest("hex"), stage);
  await page.selectOption("#format", "webp90");
  await page.click("#draw");
  assert.equal(await status(page, /^Done|^[A-Z_]+:/), "Done; webp90 lost pixels on the way");
  const told = await page.$$eval("#rows td:last-child", (cells) => cells.map((cell) => cell.textContent));
  assert.deepEqual(told.slice(1), Array(3).fill("webp90, with loss"));
  assert.match((await page.getAttribute("#download", "download")) ?? "", /\.webp$/);
  await page.close();
});

test("a second visit downloads nothing but the answer that nothing is new", { skip }, async () => {
  const first = await visit();
  await first.waitForFunction(() => navigator.serviceWorker.controller !== null);
  await first.close();
  const before = link.received();
  const page = await visit();
  await page.waitForTimeout(500);
  console.log(`second visit: ${link.received() - before} bytes`);
  assert.ok(link.received() - before < 2_000, `${link.received() - before} bytes`);
  await page.close();
});

test("cancel ends the work on the server", { skip }, async () => {
  const page = await visit();
  await page.click("summary");
  await page.selectOption("#cut", "0");
  await page.fill("#seed", "1234");
  await page.fill("#steps", "64");
  await page.click("#draw");
  await page.waitForFunction(() => document.querySelector("#bar-base"));
  await page.click("#cancel");
  assert.equal(await status(page, /^Cancelled|^Done|^[A-Z_]+:/), "Cancelled");
  assert.match(await served.logged("cancelled"), /cancelled/);
  await page.close();
});

test("a server that is killed and comes back is used again by the open page", { skip }, async () => {
  const first = await serve("dist/page");
  const { host } = new URL(first.url);
  const page = await visit(first.url);
  await page.click("summary");
  await page.selectOption("#cut", "0");
  await page.uncheck("#fallback");
  await first.close();
  await page.click("#draw");
  assert.match(await status(page, /^Done|^[A-Z_]+:/), /^TRANSPORT_ERROR: /);
  const second = await serve("dist/page", "emoji-1", host);
  await page.click("#draw");
  assert.equal(await status(page, /^Done|^[A-Z_]+: (?!.*TRANSPORT)/), "Done");
  await page.close();
  await second.close();
  // What the browser itself says of a connection that is refused is no fault of the page.
  const unlike = complaints.filter((text) => !/ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE/.test(text));
  complaints.length = 0;
  assert.deepEqual(unlike, []);
});

test("labels, roles and names are there, and a phone needs no sideways scrolling", { skip }, async () => {
  const page = await visit();
  await page.setViewportSize({ width: 390, height: 844 });
  const tree = await page.locator("main").ariaSnapshot();
  for (const part of ['textbox "Prompt"', 'combobox "Style"', 'textbox "Seed"', 'button "Draw"', 'button "Cancel"', "status", 'heading "Time and bytes"', 'img "No picture yet"']) {
    assert.ok(tree.includes(part), `${part} in\n${tree}`);
  }
  const [seen, all] = await page.evaluate(() => [document.documentElement.clientWidth, document.documentElement.scrollWidth]);
  assert.ok(all <= seen, `${all} of ${seen}`);
  await page.click("#draw");
  assert.equal(await status(page, /^Done|^[A-Z_]+:/), "Done");
  await page.screenshot({ path: `${SHOTS}/narrow.png`, fullPage: true });
  await page.close();
});

test("saved for offline use, the page draws everything here without a network", { skip }, async () => {
  const own = await openLink(served.url);
  const page = await visit(own.url);
  await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
  await page.click("summary");
  await page.click("#keep");
  await status(page, /^Saved/);
  await page.close();
  own.close();
  const offline = await visit(own.url);
  await offline.click("#draw");
  assert.equal(await status(offline, /^Done|^[A-Z_]+:/), "Done");
  const where = await offline.$$eval("#rows tr td:nth-child(2)", (cells) => cells.map((cell) => cell.textContent));
  assert.deepEqual(where, Array(4).fill("here, ort wasm"));
  await offline.close();
});
