// Bundles test/measure.ts and runs it; `npm run build` comes before.

import { spawnSync } from "node:child_process";
import { build } from "esbuild";

const shared = { bundle: true, platform: "node", format: "esm", packages: "external", logLevel: "warning" };
await build({ ...shared, entryPoints: ["test/measure.ts"], outdir: "build/measure" });
const run = spawnSync(process.execPath, ["build/measure/measure.js"], { stdio: "inherit" });
process.exit(run.status ?? 1);
