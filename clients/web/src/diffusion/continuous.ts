// Schedules in continuous time: sigmas by formula, rectified flow, and what lies between training steps.

import { exp, log, log1p } from "../numerics/elementary.js";
import type { Schedule } from "./schedule.js";

/** What is spaced evenly: roots of sigma, or its logarithms. */
export type SigmaRamp = "karras" | "exponential";

/** A schedule by its lowest and highest sigma. */
export interface SigmaSpec {
  readonly kind: "sigmas";
  readonly rule: SigmaRamp;
  readonly lowest: number;
  readonly highest: number;
  readonly rho: number;
}

/** Rectified flow. */
export interface FlowSpec {
  readonly kind: "flow";
  readonly shift: number;
}

const CLEANEST = 1 / 1000;
const clip = (value: number, low: number, high: number): number => Math.min(Math.max(value, low), high);

/** So many numbers from one to another, the last exactly. */
export function evenly(first: number, last: number, count: number): number[] {
  if (count === 1) return [first];
  const stride = (last - first) / (count - 1);
  return Array.from({ length: count }, (_, index) => (index < count - 1 ? index * stride + first : last));
}

interface Ends {
  readonly low: number;
  readonly high: number;
  readonly rho: number;
}

function between(ramp: SigmaRamp, { low, high, rho }: Ends, share: number): number {
  if (ramp === "exponential") return low + share * (high - low);
  const [least, most] = [exp(low / rho), exp(high / rho)];
  return rho * log(least + share * (most - least));
}

abstract class ByLogSigma implements Schedule {
  abstract readonly trainSteps: number | null;
  protected abstract logSigma(t: number): number;
  abstract times(steps: number): number[];

  alpha(t: number): number {
    const ratio = exp(this.logSigma(t));
    return t > 0 ? 1 / Math.sqrt(1 + ratio * ratio) : 1;
  }
  sigma(t: number): number {
    return t > 0 ? exp(this.logSigma(t)) * this.alpha(t) : 0;
  }
  logSnr(t: number): number {
    return t > 0 ? -2 * this.logSigma(t) : Infinity;
  }
}

/** Sigmas by formula. */
export class Sigmas extends ByLogSigma {
  readonly trainSteps = null;
  private readonly ends: Ends;

  constructor(private readonly spec: SigmaSpec) {
    super();
    this.ends = { low: log(spec.lowest), high: log(spec.highest), rho: spec.rho };
  }
  protected logSigma(t: number): number {
    return between(this.spec.rule, this.ends, clip((t - CLEANEST) / (1 - CLEANEST), 0, 1));
  }
  times(steps: number): number[] {
    return [...evenly(1, CLEANEST, steps), 0];
  }
}

/** Training steps, and straight lines of the logarithm of sigma between them. */
export class Ramped extends ByLogSigma {
  readonly trainSteps: number;
  private readonly logs: readonly number[];

  constructor(
    powers: readonly number[],
    private readonly ramp: SigmaRamp,
  ) {
    super();
    this.trainSteps = powers.length;
    this.logs = powers.map((power) => 0.5 * (log1p(-power) - log(power)));
  }
  protected logSigma(t: number): number {
    const last = this.logs.length - 1;
    const place = clip(t * (last + 1) - 1, 0, last);
    const below = Math.min(Math.floor(place), Math.max(last - 1, 0));
    const above = Math.min(below + 1, last);
    return this.logs[below] + (place - below) * (this.logs[above] - this.logs[below]);
  }
  times(steps: number): number[] {
    return [...evenly(1, 0, steps).map((share) => this.timeAt(share)), 0];
  }
  private timeAt(share: number): number {
    const { logs } = this;
    const last = logs.length - 1;
    const wanted = between(this.ramp, { low: logs[0], high: logs[last], rho: 7 }, share);
    const below = clip(logs.filter((value) => value <= wanted).length - 1, 0, Math.max(last - 1, 0));
    const above = Math.min(below + 1, last);
    const width = above > below ? logs[above] - logs[below] : 1;
    return (below + clip((wanted - logs[below]) / width, 0, 1) + 1) / (last + 1);
  }
}

/** The picture fades into noise in a straight line. */
export class Flow implements Schedule {
  readonly trainSteps = null;

  constructor(private readonly spec: FlowSpec) {}
  alpha(t: number): number {
    return 1 - t;
  }
  sigma(t: number): number {
    return t;
  }
  logSnr(t: number): number {
    return 2 * (log(this.alpha(t)) - log(this.sigma(t)));
  }
  times(steps: number): number[] {
    const { shift } = this.spec;
    return evenly(1, 0, steps + 1).map((t) => (shift * t) / (1 + (shift - 1) * t));
  }
}
