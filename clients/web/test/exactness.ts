// The table that a run of the tests ends with: every part and how far it is from Python's.

import { appendFileSync, mkdirSync } from "node:fs";
import type { difference } from "./reference.js";

/** Where the lines are kept between test files; `scripts/test.mjs` prints it. */
const FILE = "build/exactness.txt";

/** Note what was found of a part that a test has just judged. */
export function note(part: string, found: string): void {
  mkdirSync("build", { recursive: true });
  appendFileSync(FILE, `${part.padEnd(60)}${found}\n`);
}

/** How two pictures differ, in words. */
export function said({ count, most, decibels, values }: ReturnType<typeof difference>): string {
  if (count === 0) return "equal to the byte";
  return `${count} of ${values} values (${((100 * count) / values).toFixed(3)} %), by ${most} at most, ${decibels.toFixed(1)} dB`;
}
