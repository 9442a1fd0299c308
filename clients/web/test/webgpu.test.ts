// Graphs on WebGPU, a software adapter: the form for browsers is right, and the check refuses what is wrong.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { build } from "esbuild";
import { type Browser, chromium, type Page } from "playwright-core";
import { GPU_FLAGS } from "./chromium.js";
import { LIMIT } from "../src/engines/checked.js";
import { note } from "./exactness.js";
import { BUNDLES, PYTHON } from "./reference.js";
import { serve, type Served } from "./served.js";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const PATIENCE_MS = 600_000;
const skip = existsSync(CHROMIUM) ? false : `no browser at ${CHROMIUM}: set CHROMIUM`;
const COMPONENTS = ["text_encoder", "base", "sr256", "sr1024"];

let folder: string;
let served: Served;
let browser: Browser;
let page: Page;

before(async () => {
  if (skip) return;
  folder = mkdtempSync(join(tmpdir(), "edge-cascade-"));
  cpSync("dist/page", join(folder, "page"), { recursive: true });
  await build({ entryPoints: ["test/gpu_page.ts"], bundle: true, format: "esm", target: "es2022", conditions: ["import"], logLevel: "warning", outdir: join(folder, "page") });
  writeFileSync(join(folder, "page/gpu.html"), '<script type="module" src="gpu_page.js"></script>');
  served = await serve(join(folder, "page"), `${BUNDLES}/emoji-1`);
  browser = await chromium.launch({ executablePath: CHROMIUM, args: GPU_FLAGS });
  const context = await browser.newContext();
  context.setDefaultTimeout(PATIENCE_MS);
  page = await context.newPage();
});
after(async () => {
  if (skip) return;
  await browser.close();
  await served.close();
  rmSync(folder, { recursive: true });
});

test("every graph in the form for browsers is right on WebGPU; files for processors are refused", { skip }, async () => {
  await page.goto(`${served.url}/gpu.html`);
  await page.waitForFunction(() => "parity" in window);
  const parity = (name: string, isWebForm: boolean): Promise<string> =>
    page.evaluate(([asked, form]) => (window as unknown as { parity(n: string, f: boolean): Promise<string> }).parity(asked as string, form as boolean), [name, isWebForm] as const);
  const base = await parity("base", false);
  note("base on WebGPU, file for processors, refused", base.slice(0, 100).replaceAll("\n", " "));
  assert.match(base, /% off|Too many storage buffers/);
  // Its splits are narrow enough: only numbers tell that attention is wrong.
  const large = await parity("sr256", false);
  note("sr256 on WebGPU, file for processors, refused", large);
  assert.match(large, /^prediction is .* % off/);
  for (const name of COMPONENTS) {
    const found = await parity(name, true);
    assert.equal(found, "", name);
    note(`${name} on WebGPU, form for browsers, by WebAssembly`, `under ${100 * LIMIT} % of the largest value`);
  }
});

/** Its numbers must stay as they are written, 0.0 for one: the id of a bundle is that of its text. */
const WITHOUT = `
import json, pathlib, sys
path = pathlib.Path(sys.argv[1]) / "manifest.json"
manifest = json.loads(path.read_text())
for component in manifest["components"]:
    for graph in component["graphs"].values():
        graph.pop("web_form", None)
manifest["files"] = [f for f in manifest["files"] if not f["name"].endswith(".web.onnx")]
path.write_text(json.dumps(manifest))
`;

/** A copy of the reference bundle as it was exported without forms for browsers. */
function withoutForms(): string {
  const copy = join(folder, "without");
  cpSync(`${BUNDLES}/emoji-1`, copy, { recursive: true });
  for (const name of ["base", "sr256", "sr1024"]) rmSync(join(copy, `${name}.web.onnx`));
  execFileSync(PYTHON, ["-c", WITHOUT, copy]);
  return copy;
}

test("the page draws on the graphics card what is right there, and says what is not", { skip }, async () => {
  const plain = await serve("dist/page", withoutForms());
  await page.goto(plain.url);
  await page.waitForFunction(() => document.querySelector("#status")?.textContent?.startsWith("Ready"));
  await page.click("summary");
  await page.check("#gpu");
  await page.fill("#steps", "1");
  await page.click("#draw");
  await page.waitForFunction(() => /^Done|^[A-Z_]+:/.test(document.querySelector("#status")?.textContent ?? ""));
  assert.equal(await page.innerText("#status"), "Done");
  const where = await page.$$eval("#rows tr td:nth-child(2)", (cells) => cells.map((cell) => cell.textContent));
  assert.deepEqual(where.slice(0, 2), ["here, ort webgpu", "here, ort wasm"]);
  const remarks = await page.innerText("#remarks");
  console.log(remarks);
  assert.match(remarks, /^base runs on ort wasm, not on the graphics card: /);
  await plain.close();
});
