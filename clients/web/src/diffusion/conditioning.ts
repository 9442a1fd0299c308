// What super-resolution is shown of the smaller picture: enlarged, then augmented with noise.
// Every product and every sum is rounded by itself, in a fixed order, so that all machines agree.

import { weightedSum } from "../numerics/arrays.js";
import { makeSchedule, type ScheduleSpec } from "./schedule.js";

const round = Math.fround;

/** How pixels between the given ones are made. */
export type EnlargeKind = "cubic" | "bilinear_corners";

/** For every pixel of an enlarged line, its sources and their weights: `taps` of each. */
interface Taps {
  readonly taps: number;
  readonly places: Int32Array;
  readonly weights: Float32Array;
}

function cubicWeight(distance: number): number {
  const d = Math.abs(distance);
  if (d <= 1) return (1.5 * d - 2.5) * d * d + 1;
  return d < 2 ? ((-0.5 * d + 2.5) * d - 4) * d + 2 : 0;
}

function cubicTaps(length: number, factor: number): Taps {
  const found = { taps: 4, places: new Int32Array(length * factor * 4), weights: new Float32Array(length * factor * 4) };
  for (let at = 0; at < length * factor; at++) {
    const centre = ((at % factor) + 0.5) / factor - 0.5;
    const base = Math.floor(centre);
    for (let tap = 0; tap < 4; tap++) {
      const place = Math.floor(at / factor) + base - 1 + tap;
      found.places[at * 4 + tap] = Math.min(Math.max(place, 0), length - 1);
      found.weights[at * 4 + tap] = cubicWeight(centre - base - (tap - 1));
    }
  }
  return found;
}

function cornerTaps(length: number, factor: number): Taps {
  const last = length - 1;
  const found = { taps: 2, places: new Int32Array(length * factor * 2), weights: new Float32Array(length * factor * 2) };
  for (let at = 0; at < length * factor; at++) {
    const place = at * (last / Math.max(length * factor - 1, 1));
    const above = Math.min(Math.max(Math.floor(place), 0), Math.max(last - 1, 0));
    found.places.set([above, Math.min(above + 1, last)], at * 2);
    found.weights.set([1 - (place - above), place - above], at * 2);
  }
  return found;
}

function tapsOf(length: number, factor: number, kind: EnlargeKind): Taps {
  return kind === "cubic" ? cubicTaps(length, factor) : cornerTaps(length, factor);
}

/** Lines of `stride` values apart, `[out, inner]` from `[in, inner]`: along the first of both axes. */
function along(values: Float32Array, length: number, inner: number, by: Taps): Float32Array {
  const outer = values.length / (length * inner);
  const made = by.places.length / by.taps;
  const found = new Float32Array(outer * made * inner);
  for (let block = 0; block < outer; block++) {
    for (let at = 0; at < made; at++) {
      const target = (block * made + at) * inner;
      for (let tap = 0; tap < by.taps; tap++) {
        const weight = by.weights[at * by.taps + tap];
        const source = (block * length + by.places[at * by.taps + tap]) * inner;
        for (let x = 0; x < inner; x++) {
          const product = round(weight * values[source + x]);
          found[target + x] = tap ? found[target + x] + product : product;
        }
      }
    }
  }
  return found;
}

/** A picture enlarged by a whole factor. */
export interface Enlarging {
  readonly width: number;
  readonly height: number;
  readonly factor: number;
  readonly kind: EnlargeKind;
}

/** `[3, height, width]` float32 to `[3, height * factor, width * factor]`: along rows, then along columns. */
export function enlarge(values: Float32Array, by: Enlarging): Float32Array {
  const wide = along(values, by.width, 1, tapsOf(by.width, by.factor, by.kind));
  return along(wide, by.height, by.width * by.factor, tapsOf(by.height, by.factor, by.kind));
}

/** The enlarged picture at a level of noise of 0 to 1; 0 leaves it as it is. */
export function augment(low: Float32Array, level: number, noise: () => Float32Array, spec: ScheduleSpec): Float32Array {
  if (level === 0) return low;
  const schedule = makeSchedule(spec);
  return weightedSum([schedule.alpha(level), low], [schedule.sigma(level), noise()]);
}
