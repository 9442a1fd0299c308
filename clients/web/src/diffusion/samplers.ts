// Samplers: from noise to a picture, a step at a time. They see pictures and times, no network.

import { weightedSum } from "../numerics/arrays.js";
import { exp, expm1, log } from "../numerics/elementary.js";
import { START } from "../numerics/noise.js";
import type { Schedule } from "./schedule.js";

const round = Math.fround;

/** The algorithm of a run. */
export type SamplerKind = "ddim" | "ddpm" | "ddpm_final_noise" | "stochastic";

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
  /** `steps + 1` numbers that fall to 0. */
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
  const fromX = round((1 - added) / (schedule.alpha(t) / schedule.alpha(s)));
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

function next(run: Run, x: Float32Array, found: Estimate, index: number): Float32Array {
  const [t, s] = [run.times[index], run.times[index + 1]];
  if (s === 0) return last(run, found.x0, index);
  if (run.sampler === "ddim") return move(run.schedule, x, found.x0, [t, s]);
  const noise = run.noise(index);
  if (run.sampler === "stochastic") {
    const ahead = run.times[Math.min(index + 2, run.times.length - 1)];
    const reached = ahead > 0 ? move(run.schedule, x, found.x0, [t, ahead]) : found.x0;
    return forward(run.schedule, reached, [ahead, s], noise);
  }
  return ancestral(run.schedule, { x, x0: found.x0, noise, gamma: found.variance ?? run.gamma }, [t, s]);
}

/** The steps of a run; to stop iterating is to stop the run. */
export async function* sample(run: Run): AsyncGenerator<Step> {
  let x = run.noise(START);
  const total = run.times.length - 1;
  for (let index = 0; index < total; index++) {
    const found = await run.denoise(x, run.times[index], index);
    x = next(run, x, found, index);
    yield { index: index + 1, total, x, x0: found.x0 };
  }
}
