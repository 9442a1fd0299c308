// Bundles the tests and runs them under node --test: `node scripts/test.mjs [name ...]`.

import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { build } from "esbuild";
import { generateProtos } from "./protos.mjs";

generateProtos();

const names = process.argv.slice(2);
const all = readdirSync("test").filter((file) => file.endsWith(".test.ts"));
const files = names.length ? all.filter((file) => names.some((name) => file.startsWith(name))) : all;
rmSync("build/test", { recursive: true, force: true });
mkdirSync("build/test", { recursive: true });
await build({
  entryPoints: files.map((file) => `test/${file}`),
  bundle: true,
  platform: "node",
  format: "esm",
  packages: "external",
  outdir: "build/test",
  logLevel: "warning",
});
const built = files.map((file) => `build/test/${file.replace(/\.ts$/, ".js")}`);
const run = spawnSync(process.execPath, ["--test", "--test-concurrency=1", ...built], { stdio: "inherit" });
process.exit(run.status ?? 1);
