// The text encoder as a stage: prompt to context.

import { Tokenizer } from "@huggingface/tokenizers";
import type { TextEncoderSpec } from "../bundle/manifest.js";
import type { Engine } from "../engines/engine.js";
import { InvalidRequest, ManifestError, StageError } from "../errors.js";
import { bucketLength } from "../numerics/lengths.js";
import { type Handoff, refuseCancelled } from "../request.js";
import type { Stage, StageRun, StageStep } from "../stage.js";
import { toFloat16 } from "./context.js";

/** Runs a text encoder. */
export class TextStage implements Stage {
  readonly name: string;
  readonly unit = "prompt";
  private readonly tokenizer: Tokenizer;

  constructor(
    private readonly spec: TextEncoderSpec,
    definition: Uint8Array,
    readonly engine: Engine,
  ) {
    this.name = spec.name;
    const made = Object.keys(spec.vectors ?? {});
    if (made.length) {
      const field = `${spec.name}.vectors`;
      throw new ManifestError(`${field}: this client sends no vectors, such as ${made[0]}`, { field });
    }
    this.tokenizer = new Tokenizer(JSON.parse(new TextDecoder().decode(definition)), {});
  }

  async *run(run: StageRun, handoff: Handoff): AsyncGenerator<StageStep> {
    if (handoff.prompt === undefined) throw new InvalidRequest("prompt: the text encoder needs one", { field: "prompt" });
    const ids = this.tokens(handoff.prompt);
    const { pad_token: padding, max_tokens: most } = this.spec;
    const length = padding === null ? Math.min(bucketLength(ids.length), most) : most;
    const filled = new BigInt64Array(length).fill(BigInt(padding ?? 0));
    ids.forEach((id, at) => (filled[at] = BigInt(id)));
    const outputs = await this.engine.run({
      token_ids: { shape: [1, length], data: filled },
      token_mask: { shape: [1, length], data: new Float32Array(length).fill(1, 0, ids.length) },
    });
    refuseCancelled(run.signal);
    const width = this.spec.makes.width as number;
    if (outputs.context.length !== length * width) throw new StageError(`context: ${outputs.context.length} unexpected values`);
    const kept = outputs.context.subarray(0, (padding === null ? ids.length : length) * width);
    yield { done: 1, total: 1, result: { ...handoff, context: toFloat16(kept, width) } };
  }

  /** Token numbers of a prompt; never cut. */
  tokens(prompt: string): number[] {
    const ids = this.tokenizer.encode(prompt).ids;
    if (ids.length > this.spec.max_tokens) {
      const message = `prompt: ${ids.length} tokens, at most ${this.spec.max_tokens} are accepted: shorten it`;
      throw new InvalidRequest(message, { field: "prompt" });
    }
    return ids;
  }
  async close(): Promise<void> {
    await this.engine.close();
  }
}
