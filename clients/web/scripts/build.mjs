// Builds dist: the library for bundlers and Node.js, and the page with everything that it loads.

import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { build } from "esbuild";
import { generateProtos } from "./protos.mjs";

const WASM = "ort-wasm-simd-threaded.wasm";
const GPU = ["webgpu.js", "ort-wasm-simd-threaded.asyncify.wasm"];
const PAGE = "dist/page";

generateProtos();
rmSync("dist", { recursive: true, force: true });
mkdirSync(PAGE, { recursive: true });
const shared = { bundle: true, format: "esm", target: "es2022", logLevel: "warning" };
await build({
  ...shared,
  entryPoints: ["src/index.ts", "src/node.ts", "src/webgpu.ts"],
  packages: "external",
  platform: "neutral",
  external: ["node:*"],
  outdir: "dist",
});
await build({ ...shared, entryPoints: ["page/page.ts", "page/worker.ts", "page/webgpu.ts"], minify: true, outdir: PAGE, conditions: ["import"] });
for (const file of ["index.html", "style.css"]) copyFileSync(`page/${file}`, `${PAGE}/${file}`);
for (const file of [WASM, GPU[1]]) copyFileSync(`node_modules/onnxruntime-web/dist/${file}`, `${PAGE}/${file}`);

// The service worker keeps these files under their common hash: a new build is a new cache.
const files = readdirSync(PAGE).sort();
const hash = createHash("sha256");
for (const file of files) hash.update(file).update(readFileSync(`${PAGE}/${file}`));
const first = files.filter((file) => !GPU.includes(file));
const paths = (names) => JSON.stringify(names.map((file) => `/${file}`));
// Those of the graphics card are kept once they were asked for.
const define = { FILES: paths(["", ...first]), LATER: paths(GPU), VERSION: JSON.stringify(hash.digest("hex").slice(0, 16)) };
await build({ ...shared, entryPoints: ["page/service_worker.ts"], minify: true, outdir: PAGE, format: "iife", define });
