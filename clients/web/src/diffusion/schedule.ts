// Noise schedules: the scale of signal and noise at every time from 0 (clean) to 1 (noise), in float64.

import { ManifestError } from "../errors.js";
import { cos, exp, expm1, log, log1p, sin } from "../numerics/elementary.js";
import { roundHalfEven } from "../numerics/rounding.js";
import { evenly, Flow, type FlowSpec, Ramped, type SigmaRamp, Sigmas, type SigmaSpec } from "./continuous.js";

/** What a run of few steps keeps. */
interface Kept {
  readonly spacing: "leading" | "linspace" | "trailing" | "leading_inside" | "linspace_inside";
  readonly offset?: number;
  readonly ramp?: "steps" | SigmaRamp;
}

/** A schedule written out in a manifest. */
export interface TableSpec extends Kept {
  readonly kind: "table";
  readonly alpha_bar: readonly number[];
}

/** A schedule of training steps by their betas. */
export interface BetaSpec extends Kept {
  readonly kind: "betas";
  readonly rule: "linear" | "scaled_linear" | "squared_cosine" | "sigmoid" | "listed";
  readonly train_steps: number;
  readonly first: number;
  readonly last: number;
  readonly betas: readonly number[];
  readonly zero_terminal_snr: boolean;
}

/** What a manifest's field `schedule` holds. */
export type ScheduleSpec = "cosine" | "linear" | TableSpec | BetaSpec | SigmaSpec | FlowSpec;

/** The scales of `x_t = alpha x_0 + sigma noise`. */
export interface Schedule {
  /** Steps of training; null where time is continuous. */
  readonly trainSteps: number | null;
  alpha(t: number): number;
  sigma(t: number): number;
  logSnr(t: number): number;
  /** Times of a run of so many steps, `steps + 1` numbers that fall to 0; or one stride beyond the cleanest kept step. */
  times(steps: number, isStrided?: boolean): number[];
}

const HALF_PI = 1.5707963267948966; // 0x1.921fb54442d18p+0
const COSINE_LOW = 4.539992973129278e-5; // 0x1.7cd79b51e3f99p-15
const COSINE_HIGH = 1.5707509268651654; // 0x1.921cbb950c2dcp+0

class Cosine implements Schedule {
  readonly trainSteps = null;

  private angle(t: number): number {
    return COSINE_LOW + (COSINE_HIGH - COSINE_LOW) * t;
  }
  alpha(t: number): number {
    return cos(this.angle(t));
  }
  sigma(t: number): number {
    return sin(this.angle(t));
  }
  logSnr(t: number): number {
    return -2 * log(this.sigma(t) / this.alpha(t));
  }
  times(steps: number): number[] {
    return [...Array.from({ length: steps }, (_, index) => 1 + index * (-1 / steps)), 0];
  }
}

class Linear implements Schedule {
  readonly trainSteps = 1000;
  private readonly logs = [0];

  constructor() {
    const step = (0.02 - 1e-4) / 999;
    for (let index = 0; index < 1000; index++) {
      const beta = index < 999 ? index * step + 1e-4 : 0.02;
      this.logs.push(this.logs[index] + log1p(-beta));
    }
  }
  private logPower(t: number): number {
    const place = Math.min(Math.max(t, 0), 1) * 1000;
    const below = Math.min(Math.floor(place), 999);
    return this.logs[below] + (place - below) * (this.logs[below + 1] - this.logs[below]);
  }
  alpha(t: number): number {
    return exp(0.5 * this.logPower(t));
  }
  sigma(t: number): number {
    return Math.sqrt(-expm1(this.logPower(t)));
  }
  logSnr(t: number): number {
    const power = this.logPower(t);
    return power - log(-expm1(power));
  }
  times(steps: number): number[] {
    if (steps === 1) return [1, 0];
    const stride = 999 / (steps - 1);
    const kept = [1];
    for (let index = 1, sum = 0; index < steps; index++) {
      sum += stride;
      kept.push(roundHalfEven(sum) + 1);
    }
    return [...kept.reverse().map((step) => step / 1000), 0];
  }
}

class Table implements Schedule {
  readonly trainSteps: number;
  private readonly powers: number[];

  constructor(
    powers: readonly number[],
    private readonly spec: Kept,
  ) {
    this.trainSteps = powers.length;
    this.powers = [1, ...powers];
  }
  private power(t: number): number {
    return this.powers[Math.min(Math.max(roundHalfEven(t * this.trainSteps), 0), this.trainSteps)];
  }
  alpha(t: number): number {
    return Math.sqrt(this.power(t));
  }
  sigma(t: number): number {
    return Math.sqrt(1 - this.power(t));
  }
  logSnr(t: number): number {
    return log(this.power(t)) - log1p(-this.power(t));
  }
  times(steps: number, isStrided = false): number[] {
    const { spacing, offset } = this.spec;
    const found = listedTimes(this.trainSteps, this.kept(steps));
    if (isStrided && spacing === "leading") {
      found[steps] = Math.max(0, (offset ?? 0) + 1 - Math.floor(this.trainSteps / steps)) / this.trainSteps;
    }
    return found;
  }
  private kept(steps: number): number[] {
    const total = this.trainSteps;
    const { spacing, offset } = this.spec;
    const more = spacing.endsWith("_inside") ? steps + 1 : steps;
    const each = (place: (index: number) => number): number[] => Array.from({ length: more }, (_, j) => place(j));
    if (spacing.startsWith("leading")) {
      return each((j) => (more - 1 - j) * Math.floor(total / more) + (offset ?? 0)).slice(0, steps);
    }
    if (spacing === "trailing") {
      const stride = total - total / steps - total;
      return each((j) => roundHalfEven(total + j * stride) - 1);
    }
    const stride = (total - 1) / Math.max(more - 1, 1);
    const rising = each((j) => roundHalfEven(j * stride));
    return (more > 1 ? [total - 1, ...rising.slice(0, -1).reverse()] : [0]).slice(0, steps);
  }
}

function betasOf(spec: BetaSpec): readonly number[] {
  const { first, last, train_steps: steps } = spec;
  if (spec.rule === "listed") return spec.betas;
  if (spec.rule === "squared_cosine") {
    const squares = Array.from({ length: steps + 1 }, (_, index) => cos(((index / steps + 0.008) / 1.008) * HALF_PI)).map((c) => c * c);
    return squares.slice(1).map((power, index) => Math.min(1 - power / squares[index], 0.999));
  }
  if (spec.rule === "scaled_linear") return evenly(Math.sqrt(first), Math.sqrt(last), steps).map((root) => root * root);
  if (spec.rule === "sigmoid") return evenly(-6, 6, steps).map((x) => (1 / (1 + exp(-x))) * (last - first) + first);
  return evenly(first, last, steps);
}

function betaPowers(spec: BetaSpec): number[] {
  let total = 0;
  const powers = betasOf(spec).map((beta) => exp((total += log1p(-beta))));
  if (!spec.zero_terminal_snr) return powers;
  const roots = powers.map(Math.sqrt);
  const end = roots[roots.length - 1];
  const share = roots[0] / (roots[0] - end);
  return roots.map((root) => {
    const moved = (root - end) * share;
    return moved * moved;
  });
}

/** The times of kept training steps, the noisiest first. */
export function listedTimes(trainSteps: number, kept: readonly number[]): number[] {
  return [...kept.map((step) => (step + 1) / trainSteps), 0];
}

/** The schedule that a manifest names. */
export function makeSchedule(spec: ScheduleSpec): Schedule {
  if (spec === "cosine") return new Cosine();
  if (spec === "linear") return new Linear();
  if (typeof spec !== "string" && spec.kind === "sigmas") return new Sigmas(spec);
  if (typeof spec !== "string" && spec.kind === "flow") return new Flow(spec);
  if (typeof spec !== "string" && (spec.kind === "table" || spec.kind === "betas")) {
    const ramp: string = spec.ramp ?? "steps";
    if (!["steps", "karras", "exponential"].includes(ramp)) {
      throw new ManifestError(`schedule.ramp: this client does not know ${ramp}: run this stage on the server`, { field: "schedule.ramp" });
    }
    const powers = spec.kind === "table" ? spec.alpha_bar : betaPowers(spec);
    return spec.ramp && spec.ramp !== "steps" ? new Ramped(powers, spec.ramp) : new Table(powers, spec);
  }
  const name = typeof spec === "string" ? spec : (spec as { kind: string }).kind;
  throw new ManifestError(`schedule: this client does not know ${name}: run this stage on the server`, { field: "schedule" });
}
