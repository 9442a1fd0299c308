// What super-resolution is shown of the smaller picture: enlarged, then augmented with noise.
// Every product and every sum is rounded by itself, in a fixed order, so that all machines agree.

import { weightedSum } from "../numerics/arrays.js";
import { levelOf, valueOf } from "../picture.js";
import { makeSchedule, type ScheduleSpec } from "./schedule.js";

const round = Math.fround;

/** How pixels between the given ones are made. */
export type EnlargeKind = "nearest" | "bilinear" | "cubic" | "bicubic_pil" | "bilinear_corners" | "none";

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

function linearTaps(length: number, factor: number, placeOf: (at: number) => number): Taps {
  const last = length - 1;
  const found = { taps: 2, places: new Int32Array(length * factor * 2), weights: new Float32Array(length * factor * 2) };
  for (let at = 0; at < length * factor; at++) {
    const place = placeOf(at);
    const above = Math.min(Math.max(Math.floor(place), 0), Math.max(last - 1, 0));
    found.places.set([above, Math.min(above + 1, last)], at * 2);
    found.weights.set([1 - (place - above), place - above], at * 2);
  }
  return found;
}

function nearestTaps(length: number, factor: number): Taps {
  const places = Int32Array.from({ length: length * factor }, (_, at) => Math.floor(at / factor));
  return { taps: 1, places, weights: new Float32Array(places.length).fill(1) };
}

function tapsOf(length: number, factor: number, kind: EnlargeKind): Taps {
  if (kind === "cubic") return cubicTaps(length, factor);
  if (kind === "nearest") return nearestTaps(length, factor);
  const made = length * factor;
  if (kind === "bilinear") {
    return linearTaps(length, factor, (at) => Math.min(Math.max((at + 0.5) * (length / made) - 0.5, 0), length - 1));
  }
  return linearTaps(length, factor, (at) => at * ((length - 1) / Math.max(made - 1, 1)));
}

/** The weights of one of Pillow's pixels, in units of 2^-22, and the place of the first. */
function pilTaps(length: number, factor: number, at: number): { first: number; weights: number[] } {
  const centre = (at + 0.5) * (length / (length * factor));
  const first = Math.max(Math.trunc(centre - 1.5), 0);
  const count = Math.min(Math.trunc(centre + 2.5), length) - first;
  const found = Array.from({ length: count }, (_, tap) => cubicWeight(first + tap - centre + 0.5));
  let whole = 0;
  for (const value of found) whole += value;
  return { first, weights: found.map((value) => Math.trunc((value / whole) * 4194304 + Math.sign(value) * 0.5)) };
}

/** Levels `[outer, length, inner]` resized along their middle axis as Pillow does it. */
function pilAlong(levels: Float64Array, length: number, inner: number, factor: number): Float64Array {
  const outer = levels.length / (length * inner);
  const found = new Float64Array(levels.length * factor);
  for (let at = 0; at < length * factor; at++) {
    const { first, weights } = pilTaps(length, factor, at);
    for (let block = 0; block < outer; block++) {
      for (let x = 0; x < inner; x++) {
        let total = 2097152;
        weights.forEach((weight, tap) => {
          total += weight * levels[(block * length + first + tap) * inner + x];
        });
        found[(block * length * factor + at) * inner + x] = Math.min(Math.max(Math.floor(total / 4194304), 0), 255);
      }
    }
  }
  return found;
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

/** `[3, height, width]` float32 to `[3, height * factor, width * factor]`: along rows, then along columns; `none` as it is. */
export function enlarge(values: Float32Array, by: Enlarging): Float32Array {
  if (by.kind === "none") return values;
  if (by.kind === "bicubic_pil") {
    const wide = pilAlong(Float64Array.from(values, levelOf), by.width, 1, by.factor);
    return Float32Array.from(pilAlong(wide, by.height, by.width * by.factor, by.factor), valueOf);
  }
  const wide = along(values, by.width, 1, tapsOf(by.width, by.factor, by.kind));
  return along(wide, by.height, by.width * by.factor, tapsOf(by.height, by.factor, by.kind));
}

/** The enlarged picture at a level of noise of 0 to 1; 0 leaves it as it is. */
export function augment(low: Float32Array, level: number, noise: () => Float32Array, spec: ScheduleSpec): Float32Array {
  if (level === 0) return low;
  const schedule = makeSchedule(spec);
  return weightedSum([schedule.alpha(level), low], [schedule.sigma(level), noise()]);
}
