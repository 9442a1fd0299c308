// A diffusion stage: context, and for super-resolution a picture, to a larger picture.

import type { DiffusionSpec } from "../bundle/manifest.js";
import type { Engine, Tensor } from "../engines/engine.js";
import { InvalidRequest, ManifestError, StageError } from "../errors.js";
import { isFinite32 } from "../numerics/arrays.js";
import { AUGMENTATION, normals } from "../numerics/noise.js";
import { fromNetwork, type Picture, toNetwork } from "../picture.js";
import { type Handoff, refuseCancelled, type StageOptions } from "../request.js";
import { contextInputs, doubled, type Stage, type StageRun, type StageStep } from "../stage.js";
import { augment, enlarge } from "./conditioning.js";
import { direction, estimate, guided, projected, threshold, weightAt } from "./estimates.js";
import { type Estimate, sample } from "./samplers.js";
import { listedTimes, makeSchedule, type Schedule } from "./schedule.js";

/** One run with every default filled in. */
interface Plan {
  readonly times: readonly number[];
  readonly level: number;
  weight(step: number): number;
}

type Inputs = Readonly<Record<string, Tensor>>;

const KNOWN: Readonly<Record<string, readonly string[]>> = {
  enlarge: ["nearest", "bilinear", "cubic", "bicubic_pil", "bilinear_corners", "none"],
  sampler: ["ddim", "ddpm", "ddpm_final_noise", "stochastic", "euler", "heun", "dpmpp_2m"],
  prediction: ["epsilon", "v", "x0", "flow"],
  convention: ["uncond + w (cond - uncond)", "cond + (w - 1) orthogonal", "cond + (w - 1) orthogonal to prediction"],
  applied_to: ["enlarged"],
  start: ["noise"],
  makes: ["image"],
};

/** Refuses a word of a newer manifest by name: another one in its place would be another picture. */
function refuseUnknown(spec: DiffusionSpec): void {
  const { enlarge, sampler, prediction, guidance } = spec;
  const convention = guidance.convention ?? KNOWN.convention[0];
  const applied = spec.augmentation?.applied_to ?? KNOWN.applied_to[0];
  const found = { enlarge, sampler, prediction, convention, applied_to: applied, start: spec.start ?? "noise", makes: spec.makes.kind };
  for (const [name, value] of Object.entries(found)) {
    if (KNOWN[name].includes(value)) continue;
    const field = `${spec.name}.${name}`;
    throw new ManifestError(`${field}: this client does not know ${value}: run this stage on the server`, { field });
  }
  if (spec.vectors?.length) {
    const field = `${spec.name}.vectors`;
    throw new ManifestError(`${field}: this client sends no vectors, such as ${spec.vectors[0].name}`, { field });
  }
}

/** Runs a denoising network. */
export class DiffusionStage implements Stage {
  readonly name: string;
  readonly unit = "step";
  private readonly schedule: Schedule;
  private readonly width: number;
  private readonly height: number;

  constructor(
    private readonly spec: DiffusionSpec,
    private readonly position: number,
    readonly engine: Engine,
  ) {
    this.name = spec.name;
    refuseUnknown(spec);
    this.schedule = makeSchedule(spec.schedule);
    this.width = spec.makes.width as number;
    this.height = spec.makes.height as number;
  }

  async *run(run: StageRun, handoff: Handoff): AsyncGenerator<StageStep> {
    const plan = this.plan(run.options);
    const address = { seed: run.seed, image: run.imageIndex, stage: this.position };
    const all = 3 * this.width * this.height;
    const noise = (step: number, count = all): Float32Array => normals(count, { ...address, step });
    const inputs = this.conditioning(handoff, plan, noise);
    const steps = sample({
      sampler: this.spec.sampler,
      schedule: this.schedule,
      times: plan.times,
      gamma: this.spec.gamma,
      noise,
      denoise: (x, t, step) => this.denoise(inputs, x, t, plan.weight(step)),
    });
    for await (const step of steps) {
      refuseCancelled(run.signal);
      const isLast = step.index === step.total;
      const result = isLast ? { ...handoff, picture: fromNetwork(step.x, this.width, this.height) } : undefined;
      yield { done: step.index, total: step.total, result };
    }
  }

  private plan(options: StageOptions): Plan {
    const { guidance, augmentation, timesteps } = this.spec;
    const steps = options.steps ?? this.spec.steps;
    const known = this.schedule.trainSteps;
    if (!Number.isInteger(steps) || steps < 1 || steps > (known ?? 1000)) {
      throw this.refused("steps", `expected 1 to ${known ?? 1000}, got ${steps}`);
    }
    const level = options.augmentation ?? augmentation?.default ?? 0;
    if (augmentation === null && options.augmentation !== undefined) {
      throw this.refused("augmentation", `${this.name} starts from no image`);
    }
    if (augmentation !== null && !(level >= augmentation.lowest && level <= augmentation.highest)) {
      throw this.refused("augmentation", `expected ${augmentation.lowest} to ${augmentation.highest}, got ${level}`);
    }
    const isListed = known !== null && timesteps.length === steps;
    const weight = options.guidance;
    return {
      times: isListed ? listedTimes(known, timesteps) : this.schedule.times(steps, this.spec.sampler === "ddim"),
      level,
      weight: (step) => weight ?? weightAt(guidance, step),
    };
  }
  private refused(option: string, message: string): InvalidRequest {
    const field = `options.${this.name}.${option}`;
    return new InvalidRequest(`${field}: ${message}`, { field });
  }

  private conditioning(handoff: Handoff, plan: Plan, noise: (step: number, count?: number) => Float32Array): Inputs {
    const text = contextInputs(this.name, this.spec.graphs.net, handoff.context);
    const low = this.spec.starts_from.find((value) => value.kind === "image");
    if (low === undefined) return text;
    const picture = this.lowPicture(handoff.picture, low.width as number, low.height as number);
    const by = { width: picture.width, height: picture.height, factor: this.width / picture.width, kind: this.spec.enlarge };
    const large = enlarge(toNetwork(picture), by);
    const isSmall = by.kind === "none";
    const shape = [1, 3, isSmall ? picture.height : this.height, isSmall ? picture.width : this.width];
    const schedule = this.spec.augmentation?.schedule ?? "cosine";
    const shown = augment(large, plan.level, () => noise(AUGMENTATION, large.length), schedule);
    return {
      ...text,
      low_res: { shape, data: shown },
      aug_level: { shape: [1], data: Float32Array.of(plan.level) },
    };
  }
  private lowPicture(picture: Picture | undefined, width: number, height: number): Picture {
    if (picture?.width === width && picture.height === height) return picture;
    const got = picture ? `, got ${picture.width}x${picture.height}` : "";
    throw new InvalidRequest(`image: ${this.name} starts from ${width}x${height} RGB${got}`, { field: "image" });
  }

  private async denoise(inputs: Inputs, x: Float32Array, t: number, weight: number): Promise<Estimate> {
    if (!isFinite32(x)) throw this.overflow("x_t");
    const shape = [1, 3, this.height, this.width];
    const fed = { ...inputs, x_t: { shape, data: x }, t: { shape: [1], data: Float32Array.of(t) } };
    const isTaught = this.spec.guidance.taught.length > 0;
    const isGuided = weight !== 1 && !isTaught;
    const asked = isTaught ? { ...fed, guidance: { shape: [1], data: Float32Array.of(weight) } } : fed;
    const outputs = await this.engine.run(isGuided ? this.withNullHalf(fed) : asked);
    const half = (values: Float32Array, row: number): Float32Array => values.slice(row * x.length, (row + 1) * x.length);
    const estimated = (row: number): Float32Array => {
      return estimate(this.spec.prediction, half(outputs.prediction, row), x, { schedule: this.schedule, t });
    };
    const found = isGuided ? this.combined([estimated(0), estimated(1)], weight, x, t) : estimated(0);
    if (!isFinite32(found)) throw this.overflow("prediction");
    const variance = outputs.variance && half(outputs.variance, 0);
    return { x0: threshold(found, this.spec.threshold), variance };
  }
  private combined([cond, uncond]: [Float32Array, Float32Array], weight: number, x: Float32Array, t: number): Float32Array {
    const convention = this.spec.guidance.convention ?? "uncond + w (cond - uncond)";
    if (convention === "uncond + w (cond - uncond)") return guided(cond, uncond, weight);
    const kind = convention === "cond + (w - 1) orthogonal" ? "x0" : this.spec.prediction;
    return projected(cond, uncond, weight, direction(kind, cond, x, { schedule: this.schedule, t }));
  }
  /** Two rows: the text's, and the same with every token masked out. */
  private withNullHalf(inputs: Inputs): Inputs {
    if (this.spec.null_context !== "mask") {
      throw this.refused("guidance", "this client guides away from masked words alone: run this stage on the server");
    }
    const both = doubled(inputs);
    both.context_mask.data.fill(0 as never, both.context_mask.data.length / 2);
    return both;
  }
  private overflow(name: string): StageError {
    return new StageError(`${name}: holds NaN or infinity: the network overflowed`, { field: name });
  }
  async close(): Promise<void> {
    await this.engine.close();
  }
}
