// Bundles the tests and runs them under node --test: `node scripts/test.mjs [name ...]`.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { build } from "esbuild";
import { generateProtos } from "./protos.mjs";

generateProtos();

const names = process.argv.slice(2);
const all = readdirSync("test").filter((file) => file.endsWith(".test.ts"));
const files = names.length ? all.filter((file) => names.some((name) => file.startsWith(name))) : all;
const TABLE = "build/exactness.txt";
rmSync("build/test", { recursive: true, force: true });
rmSync(TABLE, { force: true });
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
if (existsSync(TABLE)) console.log(`\nagainst Python, or the part named\n\n${readFileSync(TABLE, "utf8")}`);
process.exit(run.status ?? 1);
