// What the Python client makes of a request, and how far a picture is from another.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Picture } from "../src/picture.js";

const run = promisify(execFile);

/** The interpreter with the product installed. */
export const PYTHON = process.env.PYTHON ?? "../../.venv/light/bin/python";
export const BUNDLES = "../../bundles";

/** The request whose answers are compared. */
export interface Asked {
  readonly bundle: string;
  readonly cut: number;
  readonly seed: string;
  readonly prompt: string;
  readonly address?: string;
}

/** Every stage's picture, made by the Python client. */
export async function pythonPictures(asked: Asked): Promise<Map<string, Picture>> {
  const words = [`${BUNDLES}/${asked.bundle}`, String(asked.cut), asked.seed, asked.prompt, asked.address ?? ""];
  const { stdout } = await run(PYTHON, ["test/reference.py", ...words], { maxBuffer: 1 << 26 });
  const lines = stdout.trim().split("\n").map((line) => JSON.parse(line));
  return new Map(lines.map((line) => [line.stage, { ...line, data: new Uint8Array(Buffer.from(line.data, "base64")) }]));
}

/** How two pictures differ: how many values, by how much at most, and the peak signal-to-noise ratio in dB. */
export function difference(a: Picture, b: Picture): { count: number; most: number; decibels: number; values: number } {
  let [count, most, squares] = [0, 0, 0];
  a.data.forEach((value, at) => {
    const distance = Math.abs(value - b.data[at]);
    count += distance > 0 ? 1 : 0;
    most = Math.max(most, distance);
    squares += distance * distance;
  });
  const decibels = squares ? 10 * Math.log10((255 * 255 * a.data.length) / squares) : Infinity;
  return { count, most, decibels, values: a.data.length };
}
