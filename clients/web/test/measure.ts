// Figures of the page in Chromium: bytes, milliseconds to each picture, the longest block of its thread.
// Run it on a machine that does nothing else; it prints the load beside them.

import { execFileSync } from "node:child_process";
import { loadavg } from "node:os";
import { type Browser, chromium, type Page } from "playwright-core";
import { FLAGS } from "./chromium.js";
import { openLink } from "./link.js";
import { BUNDLES, PYTHON } from "./reference.js";
import { serve } from "./served.js";

const RUNS = 5;
const PYTHON_RUN = `
import sys, time
from runtime_client import Client, GenerateRequest
with Client(sys.argv[1], cut=2) as client:
    for run in range(${RUNS} + 1):
        begun, found = time.perf_counter(), []
        for event in client.events(GenerateRequest(prompt="a red apple, noto style", seed=100 + run)):
            if type(event).__name__ == "StageFinished":
                found.append(f"{(time.perf_counter() - begun) * 1000:.0f}")
        print(" ".join(found))
`;

interface Visit {
  readonly megabytes: number;
  /** Of every run, milliseconds to each component's end. */
  readonly runs: number[][];
  readonly blockMs: string;
}

async function draw(page: Page, seed: number): Promise<number[]> {
  await page.fill("#seed", String(seed));
  await page.click("#draw");
  await page.waitForFunction(() => document.querySelector("#status")?.textContent?.startsWith("Done"), undefined, { timeout: 300_000 });
  const cells = await page.$$eval("#rows td:nth-child(5)", (found) => found.map((cell) => cell.textContent ?? ""));
  return cells.map((text) => Math.round(parseFloat(text) * 1000));
}

/** A first visit in a new profile: one picture, then some more. */
async function visit(browser: Browser, url: string, words: boolean): Promise<Visit> {
  const link = await openLink(url);
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(link.url);
  await page.waitForFunction(() => document.querySelector("#status")?.textContent?.startsWith("Ready"), undefined, { timeout: 300_000 });
  await page.click("summary");
  if (words) await page.check("#words");
  const runs = [await draw(page, 99)];
  const [size, unit] = (await page.innerText("[id='total-from the server']")).split(" ");
  const megabytes = link.received() / 1e6 - Number(size) / (unit === "kB" ? 1_000 : 1);
  for (let run = 1; run <= RUNS; run++) runs.push(await draw(page, 100 + run));
  const blockMs = await page.innerText("[id='total-longest block of this page']");
  await context.close();
  link.close();
  return { megabytes, runs, blockMs };
}

function median(values: number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

function line(name: string, runs: number[][]): string {
  const columns = runs[0].map((_, at) => median(runs.slice(1).map((run) => run[at])));
  return `${name.padEnd(34)}${columns.map((ms) => String(ms).padStart(9)).join("")}   first run ${runs[0].join(" ")}`;
}

const served = await serve("dist/page");
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
try {
  const here = await visit(browser, served.url, false);
  const there = await visit(browser, served.url, true);
  const python = execFileSync(PYTHON, ["-c", PYTHON_RUN, `${BUNDLES}/emoji-1`]).toString().trim().split("\n");
  console.log(`load ${loadavg()[0].toFixed(1)}; milliseconds to the end of each component, medians of ${RUNS}`);
  console.log(`${"".padEnd(34)}${["text", "64", "256", "1024"].map((name) => name.padStart(9)).join("")}`);
  console.log(line("page, cut 2", here.runs));
  console.log(line("page, cut 2, encoder on the server", there.runs));
  console.log(line("Python, cut 2", python.map((text) => text.split(" ").map(Number))));
  console.log(`first visit without the pictures: ${here.megabytes.toFixed(2)} MB, with the encoder on the server ${there.megabytes.toFixed(2)} MB`);
  console.log(`longest block of the page in the last run: ${here.blockMs}; ${there.blockMs}`);
} finally {
  await browser.close();
  await served.close();
}
