// From a network's prediction to an estimate of the clean picture: parametrisation, guidance, thresholding.

import { weightedSum } from "../numerics/arrays.js";
import type { Schedule } from "./schedule.js";

const round = Math.fround;

/** What a network predicts. */
export type PredictionKind = "epsilon" | "v" | "x0" | "flow";

/** What a weight of guidance means. */
export type GuidanceConvention =
  | "uncond + w (cond - uncond)"
  | "cond + (w - 1) orthogonal"
  | "cond + (w - 1) orthogonal to prediction";

/** What keeps an estimate in range. */
export interface ThresholdSpec {
  readonly kind: "none" | "static" | "dynamic";
  readonly percentile: number;
  readonly cap: number | null;
  /** Static only; absent where it is 1. */
  readonly bound?: number;
}

/** The weight of every step. */
export interface GuidanceSpec {
  readonly kind: "constant" | "oscillating";
  readonly weight: number;
  readonly low_weight: number;
  readonly first_steps: number;
  readonly taught: readonly number[];
  readonly convention?: GuidanceConvention;
}

/** The clean picture that a prediction at a time (a float32) stands for. */
export function estimate(
  kind: PredictionKind,
  prediction: Float32Array,
  x: Float32Array,
  scales: { schedule: Schedule; t: number },
): Float32Array {
  if (kind === "x0") return prediction;
  const t = round(scales.t);
  const [alpha, sigma] = [scales.schedule.alpha(t), scales.schedule.sigma(t)];
  if (kind === "v") return weightedSum([alpha, x], [-sigma, prediction]);
  if (kind === "flow") return weightedSum([1 / (alpha + sigma), x], [-sigma / (alpha + sigma), prediction]);
  return weightedSum([1 / alpha, x], [-sigma / alpha, prediction]);
}

/** Classifier-free guidance, `uncond + w (cond - uncond)`. */
export function guided(cond: Float32Array, uncond: Float32Array, weight: number): Float32Array {
  const w = round(weight);
  const found = new Float32Array(cond.length);
  for (let at = 0; at < found.length; at++) {
    found[at] = uncond[at] + round(w * round(cond[at] - uncond[at]));
  }
  return found;
}

/** A multiple of the prediction that an estimate stands for, or the estimate. */
export function direction(kind: PredictionKind, x0: Float32Array, x: Float32Array, scales: { schedule: Schedule; t: number }): Float32Array {
  const t = round(scales.t);
  const [alpha, sigma] = [scales.schedule.alpha(t), scales.schedule.sigma(t)];
  if (kind === "epsilon") return weightedSum([1, x], [-alpha, x0]);
  if (kind === "v") return weightedSum([alpha, x], [-1, x0]);
  return kind === "flow" ? weightedSum([1, x], [-(alpha + sigma), x0]) : x0;
}

function dot(one: Float32Array, other: Float32Array): number {
  let total = 0;
  for (let at = 0; at < one.length; at++) total += one[at] * other[at];
  return total;
}

/** Guidance without the part of the difference that is parallel to `along`. */
export function projected(cond: Float32Array, uncond: Float32Array, weight: number, along: Float32Array): Float32Array {
  const difference = cond.map((value, at) => value - uncond[at]);
  const length = dot(along, along);
  const share = length > 0 ? dot(difference, along) / length : 0;
  const w = round(weight) - 1;
  return weightedSum([1, cond], [w, difference], [-w * share, along]);
}

/** The weight of a step by the manifest. */
export function weightAt(spec: GuidanceSpec, step: number): number {
  if (spec.kind === "constant" || step < spec.first_steps) return spec.weight;
  return (step - spec.first_steps) % 2 ? spec.weight : spec.low_weight;
}

function dynamicLimit(x0: Float32Array, spec: ThresholdSpec): number {
  const ordered = x0.map(Math.abs).sort();
  const rank = spec.percentile * (x0.length - 1);
  const below = Math.floor(rank);
  const [low, high] = [ordered[below], ordered[Math.min(below + 1, x0.length - 1)]];
  const limit = Math.max(1, low + (rank - below) * (high - low));
  return round(spec.cap === null ? limit : Math.min(limit, spec.cap));
}

/** The estimate of one picture kept in range. */
export function threshold(x0: Float32Array, spec: ThresholdSpec): Float32Array {
  if (spec.kind === "none") return x0;
  if (spec.kind === "static") {
    const bound = spec.bound ?? 1;
    return x0.map((value) => Math.min(Math.max(value, -bound), bound));
  }
  const limit = dynamicLimit(x0, spec);
  return x0.map((value) => Math.min(Math.max(value, -limit), limit) / limit);
}
