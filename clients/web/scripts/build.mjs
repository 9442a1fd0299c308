// Builds dist: the library for bundlers and Node.js, and the page with everything that it loads.

import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { build } from "esbuild";
import { generateProtos } from "./protos.mjs";

const WASM = "ort-wasm-simd-threaded.wasm";
const PAGE = "dist/page";

generateProtos();
rmSync("dist", { recursive: true, force: true });
mkdirSync(PAGE, { recursive: true });
const shared = { bundle: true, format: "esm", target: "es2022", logLevel: "warning" };
await build({
  ...shared,
  entryPoints: ["src/index.ts", "src/node.ts"],
  packages: "external",
  platform: "neutral",
  external: ["node:*"],
  outdir: "dist",
});
await build({ ...shared, entryPoints: ["page/page.ts", "page/worker.ts"], minify: true, outdir: PAGE, conditions: ["import"] });
for (const file of ["index.html", "style.css"]) copyFileSync(`page/${file}`, `${PAGE}/${file}`);
copyFileSync(`node_modules/onnxruntime-web/dist/${WASM}`, `${PAGE}/${WASM}`);

// The service worker keeps these files under their common hash: a new build is a new cache.
const files = readdirSync(PAGE).sort();
const hash = createHash("sha256");
for (const file of files) hash.update(file).update(readFileSync(`${PAGE}/${file}`));
const define = { FILES: JSON.stringify(["/", ...files.map((file) => `/${file}`)]), VERSION: JSON.stringify(hash.digest("hex").slice(0, 16)) };
await build({ ...shared, entryPoints: ["page/service_worker.ts"], minify: true, outdir: PAGE, format: "iife", define });
