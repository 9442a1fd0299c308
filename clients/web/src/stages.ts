// Stages of a bundle that run here: opened when first needed, kept open, only with the files they need.

import type { Bundle } from "./bundle/bundle.js";
import type { ComponentSpec, GraphSpec } from "./bundle/manifest.js";
import { attachWeights } from "./bundle/shared_weights.js";
import { DiffusionStage } from "./diffusion/stage.js";
import type { Engine, Engines } from "./engines/engine.js";
import { UnsupportedModel } from "./errors.js";
import { PixelStage } from "./pixels/stage.js";
import type { Stage } from "./stage.js";
import { TextStage } from "./text/stage.js";

/** Tokens of a usual text: most prompts fill this bucket or a smaller one. */
const USUAL_TOKENS = 16;

/** The stages of one bundle. */
export class LocalStages {
  private readonly opened = new Map<number, Promise<Stage>>();

  constructor(
    readonly bundle: Bundle,
    readonly engines: Engines,
  ) {}

  /** The stage of the component at a position; fetches its files the first time. */
  at(position: number, signal?: AbortSignal): Promise<Stage> {
    const known = this.opened.get(position);
    if (known) return known;
    const opening = this.open(this.bundle.components[position], position, signal);
    this.opened.set(position, opening);
    // A failed download must not be the answer to every later request.
    opening.catch(() => this.opened.delete(position));
    return opening;
  }

  private async open(spec: ComponentSpec, position: number, signal?: AbortSignal): Promise<Stage> {
    const engine = (role: string): Promise<Engine> => this.engine(spec, spec.graphs[role], signal);
    switch (spec.family) {
      case "text_encoder":
        return new TextStage(spec, await this.bundle.file(spec.tokenizer_file, signal), await engine("net"));
      case "diffusion":
        return new DiffusionStage(spec, position, await engine("net"));
      case "pixels":
        return new PixelStage(spec, position, await engine("pass"), await engine("heads"));
      default: {
        const { name, family } = spec as { name: string; family: string };
        throw new UnsupportedModel(`${name}: components of the family ${family} do not run in this client`);
      }
    }
  }
  private async engine({ makes }: ComponentSpec, graph: GraphSpec, signal?: AbortSignal): Promise<Engine> {
    const bytes = await this.bundle.file(graph.file, signal);
    const weights = graph.weights && { name: graph.weights, data: await this.bundle.file(graph.weights, signal) };
    const form = graph.web_form?.file;
    return this.engines.open({
      graph: bytes,
      weights: weights || undefined,
      inputs: graph.inputs,
      // Of every component: an exact stage reads the embeddings too.
      isExact: this.bundle.components.some((spec) => spec.family === "pixels" && spec.arithmetic === "exact"),
      axes: { batch: 1, tokens: USUAL_TOKENS, height: makes.height ?? 1, width: makes.width ?? 1 },
      webForm: form === undefined ? undefined : async () => attachWeights(await this.bundle.file(form, signal), bytes, form),
    });
  }
  /** Release every engine. */
  async close(): Promise<void> {
    const stages = await Promise.allSettled(this.opened.values());
    this.opened.clear();
    for (const stage of stages) if (stage.status === "fulfilled") await stage.value.close();
  }
}
