// Samplers: from noise to a picture, a step at a time. They see pictures and times, no network.

import { weightedSum } from "../numerics/arrays.js";
import { exp, expm1, log } from "../numerics/elementary.js";
import { START } from "../numerics/noise.js";
import type { Schedule } from "./schedule.js";

const round = Math.fround;

/** The algorithm of a run. */
export type SamplerKind = "ddim" | "ddpm" | "ddpm_final_noise" | "stochastic" | "euler" | "heun" | "dpmpp_2m";

/** What a denoiser finds in a noisy picture. */
export interface Estimate {
  readonly x0: Float32Array;
  /** Of a network that learned it, -1 to 1 per value. */
  readonly variance?: Float32Array;
}

/** Everything of a run. */
export interface Run {
  readonly sampler: SamplerKind;
  readonly schedule: Schedule;
  /** `steps + 1` numbers that fall, to 0 but for some runs of `ddim`. */
  readonly times: readonly number[];
  readonly gamma: number;
  noise(step: number): Float32Array;
  denoise(x: Float32Array, t: number, step: number): Promise<Estimate>;
}

/** What is known after a step. */
export interface Step {
  /** From 1 to `total`. */
  readonly index: number;
  readonly total: number;
  readonly x: Float32Array;
  readonly x0: Float32Array;
}

/** Along the line through the estimate, from `t` to the earlier `s`. */
export function move(schedule: Schedule, x: Float32Array, x0: Float32Array, [t, s]: [number, number]): Float32Array {
  const kept = schedule.sigma(s) / schedule.sigma(t);
  return weightedSum([kept, x], [schedule.alpha(s) - kept * schedule.alpha(t), x0]);
}

function forward(schedule: Schedule, x: Float32Array, [a, s]: [number, number], noise: Float32Array): Float32Array {
  const added = -expm1(schedule.logSnr(s) - schedule.logSnr(a));
  return weightedSum([schedule.alpha(s) / schedule.alpha(a), x], [schedule.sigma(s) * Math.sqrt(added), noise]);
}

/** What an ancestral step is made of. */
export interface Ancestral {
  readonly x: Float32Array;
  readonly x0: Float32Array;
  readonly noise: Float32Array;
  /** One number, or a network's own between -1 and 1 for every value. */
  readonly gamma: number | Float32Array;
}

/** A step of `ddpm` from `t` to the earlier `s`. */
export function ancestral(schedule: Schedule, from: Ancestral, [t, s]: [number, number]): Float32Array {
  const added = -expm1(schedule.logSnr(t) - schedule.logSnr(s));
  const upper = log(schedule.sigma(t) ** 2 * added);
  const lower = log(schedule.sigma(s) ** 2 * added);
  const fromX0 = round(schedule.alpha(s) * added);
  const ratio = schedule.alpha(t) / schedule.alpha(s);
  const fromX = round(ratio > 0 ? (1 - added) / ratio : 0);
  const deviation = (share: number, rest: number): number => round(exp(0.5 * (share * upper + rest * lower)));
  const { gamma } = from;
  const constant = typeof gamma === "number" ? deviation(gamma, 1 - gamma) : 0;
  const found = new Float32Array(from.x.length);
  for (let at = 0; at < found.length; at++) {
    let spread = constant;
    if (typeof gamma !== "number") {
      const share = round(round(gamma[at] + 1) / 2);
      spread = deviation(share, round(1 - share));
    }
    const mean = round(round(from.x0[at] * fromX0) + round(fromX * from.x[at]));
    found[at] = mean + round(spread * from.noise[at]);
  }
  return found;
}

function last(run: Run, x0: Float32Array, index: number): Float32Array {
  const t = run.times[index];
  const first = run.schedule.trainSteps === null ? 0 : 1 / run.schedule.trainSteps;
  if (run.sampler !== "ddpm_final_noise" || t <= first) return x0;
  return weightedSum([1, x0], [run.schedule.sigma(t), run.noise(index)]);
}

/** Of `dpmpp_2m`: along the estimate carried on from the one before. */
function carriedOn(schedule: Schedule, x: Float32Array, [before, x0]: [Float32Array, Float32Array], times: readonly number[]): Float32Array {
  const [first, t, s] = times;
  const ahead = (0.5 * (schedule.logSnr(s) - schedule.logSnr(t))) / (schedule.logSnr(t) - schedule.logSnr(first));
  const kept = schedule.sigma(s) / schedule.sigma(t);
  const toward = schedule.alpha(s) - kept * schedule.alpha(t);
  return weightedSum([kept, x], [toward * (1 + ahead), x0], [-toward * ahead, before]);
}

/** Of `heun`: the later estimate's weight. */
function correction(schedule: Schedule, t: number, s: number): number {
  if (schedule.alpha(t) === 0) return 0;
  const ratio = (schedule.sigma(t) * schedule.alpha(s)) / (schedule.alpha(t) * schedule.sigma(s));
  return 0.5 * schedule.alpha(s) * (ratio - 1);
}

function next(run: Run, x: Float32Array, found: Estimate, { index, before }: { index: number; before?: Float32Array }): Float32Array {
  const [t, s] = [run.times[index], run.times[index + 1]];
  if (s === 0) return last(run, found.x0, index);
  if (run.sampler === "stochastic") {
    const ahead = run.times[Math.min(index + 2, run.times.length - 1)];
    const reached = ahead > 0 ? move(run.schedule, x, found.x0, [t, ahead]) : found.x0;
    return forward(run.schedule, reached, [ahead, s], run.noise(index));
  }
  if (run.sampler === "ddpm" || run.sampler === "ddpm_final_noise") {
    const from = { x, x0: found.x0, noise: run.noise(index), gamma: found.variance ?? run.gamma };
    return ancestral(run.schedule, from, [t, s]);
  }
  if (run.sampler === "dpmpp_2m" && before !== undefined) {
    return carriedOn(run.schedule, x, [before, found.x0], run.times.slice(index - 1, index + 2));
  }
  return move(run.schedule, x, found.x0, [t, s]);
}

/** How often a run of so many steps asks the network; guidance counts once. */
export function evaluations(sampler: SamplerKind, steps: number): number {
  return sampler === "heun" ? 2 * steps - 1 : steps;
}

/** The evaluations of a run; to stop iterating is to stop the run. */
export async function* sample(run: Run): AsyncGenerator<Step> {
  let x = run.noise(START);
  let before: Float32Array | undefined;
  const steps = run.times.length - 1;
  const total = evaluations(run.sampler, steps);
  for (let index = 0, done = 0; index < steps; index++) {
    const [t, s] = [run.times[index], run.times[index + 1]];
    const found = await run.denoise(x, t, index);
    x = next(run, x, found, { index, before });
    yield { index: ++done, total, x, x0: found.x0 };
    if (run.sampler === "heun" && s > 0) {
      const { x0 } = await run.denoise(x, s, index);
      const weight = correction(run.schedule, t, s);
      x = weightedSum([1, x], [weight, x0], [-weight, found.x0]);
      yield { index: ++done, total, x, x0 };
    }
    before = found.x0;
  }
}
