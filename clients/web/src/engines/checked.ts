// A faster engine that is used for a graph only where it computes what a trusted one does, on this device.

import type { TensorSpec } from "../bundle/manifest.js";
import { normals } from "../numerics/noise.js";
import type { Engine, Engines, GraphFiles, Tensor } from "./engine.js";

/** Largest difference that passes, in shares of the answer's largest value. Rounding on WebGPU was 4e-5; attention that is wrong was 3e-2. */
export const LIMIT = 1e-3;

/** Tries each graph on both engines once, on made-up inputs of the usual size, before the faster one runs it. */
export class CheckedEngines implements Engines {
  constructor(
    private readonly fast: Engines,
    private readonly trusted: Engines,
  ) {}

  async open(files: GraphFiles): Promise<Engine> {
    const safe = await this.trusted.open(files);
    const refused = (reason: string): Engine => ({ name: safe.name, refused: reason, run: (inputs) => safe.run(inputs), close: () => safe.close() });
    if (files.isExact) return refused("this cascade is exact to the bit, which no graphics card promises");
    let fast: Engine | undefined;
    let reason: string;
    try {
      fast = await this.fast.open(files);
      const inputs = madeUp(files.inputs, files.axes);
      reason = disagreement(await safe.run(inputs), await fast.run(inputs));
    } catch (error) {
      reason = error instanceof Error ? error.message : String(error);
    }
    if (fast && !reason) {
      await safe.close();
      return fast;
    }
    // A device that was lost may refuse to release what it held.
    await fast?.close().catch(() => undefined);
    return refused(reason);
  }
}

/** In which output a faster engine is too far off, in words; empty where it is in none. */
export function disagreement(wanted: Readonly<Record<string, Float32Array>>, found: Readonly<Record<string, Float32Array>>): string {
  for (const [name, values] of Object.entries(wanted)) {
    let [peak, most] = [0, 0];
    for (let at = 0; at < values.length; at++) {
      peak = Math.max(peak, Math.abs(values[at]));
      const distance = Math.abs(values[at] - (found[name]?.[at] ?? Number.NaN));
      // Not a number is as far off as anything can be.
      most = Number.isNaN(distance) ? Infinity : Math.max(most, distance);
    }
    if (most > LIMIT * peak) return `${name} is ${((100 * most) / peak).toPrecision(2)} % off, at most ${100 * LIMIT} % passes`;
  }
  return "";
}

/** Inputs of a usual size: normal numbers, 0.5 for times and levels, whole masks, the first words of a vocabulary. */
export function madeUp(specs: readonly TensorSpec[], axes: Readonly<Record<string, number>>): Record<string, Tensor> {
  const made = specs.map((spec, stage): [string, Tensor] => {
    const shape = spec.shape.map((axis) => (typeof axis === "number" ? axis : (axes[axis] ?? 1)));
    const count = shape.reduce((product, length) => product * length, 1);
    if (spec.dtype === "int64") return [spec.name, { shape, data: BigInt64Array.from({ length: count }, (_, at) => BigInt(at % 2)) }];
    if (shape.length < 3) return [spec.name, { shape, data: new Float32Array(count).fill(shape.length === 1 ? 0.5 : 1) }];
    return [spec.name, { shape, data: normals(count, { seed: 0n, image: 0, stage, step: 0 }) }];
  });
  return Object.fromEntries(made);
}
