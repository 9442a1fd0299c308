// A stage of pixels by groups: one run of the body per pass and one of the heads per channel;
// between them every value is decided here, in whole numbers.

import type { PixelSpec } from "../bundle/manifest.js";
import type { Engine, Tensor } from "../engines/engine.js";
import { InvalidRequest } from "../errors.js";
import { wordsAt } from "../numerics/philox.js";
import type { Picture } from "../picture.js";
import { type Handoff, refuseCancelled, type StageOptions } from "../request.js";
import { contextInputs, doubled, type Stage, type StageRun, type StageStep } from "../stage.js";
import { type Answers, Logits } from "./logits.js";
import type { Sharpness } from "./mixture.js";
import { PictureWalk } from "./pictures.js";
import { planesOf } from "./planes.js";
import type { Pass } from "./scheme.js";
import { SIXTEENTHS } from "./weights.js";

interface Plan extends Sharpness {
  readonly guidance16: number;
  readonly level: number;
}

type Inputs = Readonly<Record<string, Tensor>>;

/** Runs the two networks of a pixel component. */
export class PixelStage implements Stage {
  readonly name: string;
  readonly unit = "pass";
  private readonly width: number;
  private readonly height: number;

  constructor(
    private readonly spec: PixelSpec,
    private readonly position: number,
    readonly engine: Engine,
    private readonly heads: Engine,
  ) {
    this.name = spec.name;
    this.width = spec.makes.width as number;
    this.height = spec.makes.height as number;
  }

  async *run(run: StageRun, handoff: Handoff): AsyncGenerator<StageStep> {
    const plan = this.plan(run.options);
    const parent = this.parent(handoff.picture);
    const walk = new PictureWalk(this.spec.scheme, { width: this.width, height: this.height }, parent);
    const shared = this.shared(handoff, plan, parent);
    const words = this.words(run);
    for (const pass of walk.passes) {
      const features = await this.features(walk, pass, shared, plan);
      refuseCancelled(run.signal);
      for (const channel of pass.channels) {
        walk.decide(channel, await this.logits(walk, features, plan), words, plan);
      }
      const isLast = pass.index + 1 === walk.passes.length;
      const result = isLast ? { ...handoff, picture: walk.canvas.picture() } : undefined;
      yield { done: pass.index + 1, total: walk.passes.length, result };
    }
  }

  private plan(options: StageOptions): Plan {
    const { augmentation } = this.spec;
    const chosen = (name: "temperature16" | "floor16" | "guidance16", given: number, [least, most]: [number, number]): number => {
      const value = options[name] ?? given;
      if (Number.isInteger(value) && value >= least && value <= most) return value;
      throw this.refused(name, `expected ${least} to ${most}, got ${value}`);
    };
    const level = options.augmentation ?? augmentation?.default ?? 0;
    if (augmentation === null ? options.augmentation !== undefined : level < augmentation.lowest || level > augmentation.highest) {
      throw this.refused("augmentation", augmentation ? `expected ${augmentation.lowest} to ${augmentation.highest}, got ${level}` : "none is taken");
    }
    return {
      temperature16: chosen("temperature16", this.spec.temperature_16, [1, 64]),
      floor16: chosen("floor16", this.spec.floor_16, [0, 16]),
      guidance16: chosen("guidance16", this.spec.guidance_16, [0, 160]),
      level,
    };
  }
  private refused(option: string, message: string): InvalidRequest {
    const field = `options.${this.name}.${option}`;
    return new InvalidRequest(`${field}: ${message}`, { field });
  }
  private parent(picture: Picture | undefined): Picture | null {
    const low = this.spec.starts_from.find((value) => value.kind === "image");
    if (low === undefined) return null;
    if (picture?.width === low.width && picture?.height === low.height && picture !== undefined) return picture;
    throw new InvalidRequest(`image: ${this.name} starts from ${low.width}x${low.height} RGB`, { field: "image" });
  }

  /** The body's inputs that stay the same in every pass. */
  private shared(handoff: Handoff, plan: Plan, parent: Picture | null): Inputs {
    const text = contextInputs(this.name, this.spec.graphs.pass, handoff.context);
    const given: Record<string, Tensor> = { ...text, aug_level: { shape: [1], data: Float32Array.of(plan.level) } };
    if (parent !== null) {
      const pixels = parent.width * parent.height;
      const data = new Float32Array(pixels * 3);
      for (let at = 0; at < data.length; at++) data[at] = parent.data[(at % pixels) * 3 + Math.floor(at / pixels)];
      given.low_res = { shape: [1, 3, parent.height, parent.width], data };
    }
    const both = this.rows(given, plan);
    if (plan.guidance16 !== SIXTEENTHS) {
      if (!text.context_mask) throw this.refused("guidance16", `${this.name} takes no words to be guided by: expected 16`);
      both.context_mask.data.fill(0 as never, both.context_mask.data.length / 2);
    }
    return both;
  }
  private rows(inputs: Inputs, plan: Plan): Record<string, Tensor> {
    return plan.guidance16 === SIXTEENTHS ? { ...inputs } : doubled(inputs);
  }
  private words(run: StageRun): Uint32Array[] {
    const digits = planesOf(this.spec.scheme.planes).reduce((sum, plane) => sum + plane.digitBits.length, 0);
    const address = { seed: run.seed, image: run.imageIndex, stage: this.position };
    return Array.from({ length: digits }, (_, step) => wordsAt(this.width * this.height * 3, { ...address, step }));
  }

  private async features(walk: PictureWalk, pass: Pass, shared: Inputs, plan: Plan): Promise<Float32Array> {
    const { canvas, known, targets } = walk.begin(pass);
    const pixels = this.width * this.height;
    const asked = this.rows(
      {
        canvas: { shape: [1, 3, this.height, this.width], data: canvas },
        known: { shape: [1, known.length / pixels, this.height, this.width], data: known },
        pass_index: { shape: [1], data: BigInt64Array.of(BigInt(pass.index)) },
        targets: { shape: [1, walk.most], data: BigInt64Array.from(targets, BigInt) },
      },
      plan,
    );
    return (await this.engine.run({ ...shared, ...asked })).features;
  }
  private async logits(walk: PictureWalk, features: Float32Array, plan: Plan): Promise<Logits> {
    const isGuided = plan.guidance16 !== SIXTEENTHS;
    const rows = isGuided ? 2 : 1;
    const asked = this.rows(
      {
        earlier: { shape: [1, walk.most, 2], data: BigInt64Array.from(walk.earlierSymbols(), BigInt) },
        match: { shape: [1, walk.most, walk.candidates], data: walk.matches() },
      },
      plan,
    );
    const shape = [rows, walk.most, features.length / rows / walk.most];
    const answers = await this.heads.run({ ...asked, features: { shape, data: features } });
    const row = (at: number): Answers => {
      const part = (values: Float32Array): Float32Array => values.subarray((values.length / rows) * at, (values.length / rows) * (at + 1));
      return {
        high: part(answers.high),
        low: answers.low && part(answers.low),
        copy: answers.copy && part(answers.copy),
      };
    };
    const guidance = isGuided ? { without: row(1), weight16: plan.guidance16 } : null;
    return new Logits(walk.most, row(0), this.spec.arithmetic, guidance);
  }
  async close(): Promise<void> {
    await Promise.all([this.engine.close(), this.heads.close()]);
  }
}
