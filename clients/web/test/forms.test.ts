// The form for browsers on WebAssembly, and engines that are checked before they are used.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { Bundle } from "../src/bundle/bundle.js";
import { attachWeights } from "../src/bundle/shared_weights.js";
import { Client } from "../src/client.js";
import { CheckedEngines, disagreement, LIMIT } from "../src/engines/checked.js";
import type { Engine, Engines, GraphFiles } from "../src/engines/engine.js";
import { OrtWasm } from "../src/engines/ort_wasm.js";
import { EngineError, ManifestError } from "../src/errors.js";
import { FolderSource } from "../src/node.js";
import type { ClientEvent } from "../src/request.js";
import { note } from "./exactness.js";
import { BUNDLES, difference } from "./reference.js";

const REQUEST = { prompt: "a red apple, noto style", seed: 7, options: { base: { steps: 1 } } };
const wasm = new OrtWasm();
let bundle: Bundle;

before(async () => {
  bundle = await Bundle.open(new FolderSource(`${BUNDLES}/emoji-1`));
});

/** The form for browsers on WebAssembly, its answers times a factor: what a wrong card would give. */
class Other implements Engines {
  opened = 0;
  constructor(private readonly factor: number) {}

  async open(files: GraphFiles): Promise<Engine> {
    this.opened += 1;
    const engine = await wasm.open({ ...files, graph: files.webForm ? await files.webForm() : files.graph });
    const run: Engine["run"] = async (inputs) => {
      const found = await engine.run(inputs);
      for (const values of Object.values(found)) values.forEach((value, at) => (values[at] = value * this.factor));
      return found;
    };
    return { name: "other", run, close: () => engine.close() };
  }
}

/** What happens while the first two components run here, without a server. */
async function drawn(engines: Engines, of = bundle): Promise<ClientEvent[]> {
  const client = new Client({ bundle: of, engines, server: "http://127.0.0.1:9", patienceMs: 0, cut: 2 });
  const events: ClientEvent[] = [];
  await assert.rejects(async () => {
    for await (const event of client.events(REQUEST)) events.push(event);
  });
  await client.close();
  return events;
}
const stages = (events: ClientEvent[]) => events.flatMap((event) => (event.kind === "stage" ? [event] : []));
const refusals = (events: ClientEvent[]) => events.flatMap((event) => (event.kind === "engineRefused" ? [event] : []));

test("the form for browsers on WebAssembly makes the picture of the graph that lends it the weights", async () => {
  const [plain, form] = [stages(await drawn(wasm))[1], stages(await drawn(new Other(1)))[1]];
  const found = difference(form.picture!, plain.picture!);
  note("base on WebAssembly, form for browsers, by its file", found.count ? `${found.count} of ${found.values} values, by ${found.most}` : "equal to the byte");
  assert.ok(found.most <= 1 && found.count <= found.values / 1000, JSON.stringify(found));
});

test("an engine that agrees is used, and nothing is said", async () => {
  const events = await drawn(new CheckedEngines(new Other(1), wasm));
  assert.deepEqual(stages(events).map((stage) => stage.engine), ["other", "other"]);
  assert.deepEqual(refusals(events), []);
});

test("an engine that is off is refused stage by stage, in an event with its reason", async () => {
  const events = await drawn(new CheckedEngines(new Other(1 + 20 * LIMIT), wasm));
  assert.deepEqual(stages(events).map((stage) => stage.engine), ["ort wasm", "ort wasm"]);
  assert.deepEqual(refusals(events).map(({ stage, engine }) => [stage, engine]), [["text_encoder", "ort wasm"], ["base", "ort wasm"]]);
  assert.equal(refusals(events)[1].reason, "prediction is 2.0 % off, at most 0.1 % passes");
});

test("an engine that fails is refused, and a cascade that is exact is not tried on it", async () => {
  const failing: Engines = { open: () => Promise.reject(new EngineError("no adapter")) };
  assert.equal(refusals(await drawn(new CheckedEngines(failing, wasm)))[0].reason, "no adapter");
  const pixels = await Bundle.open(new FolderSource(`${BUNDLES}/emoji-pixels-1`));
  const other = new Other(1);
  const events = await drawn(new CheckedEngines(other, wasm), pixels);
  assert.equal(other.opened, 0);
  assert.match(refusals(events)[0].reason, /exact to the bit/);
});

test("no number is no agreement", () => {
  const of = (...values: number[]): Record<string, Float32Array> => ({ out: Float32Array.from(values) });
  assert.equal(disagreement(of(1, -2), of(1, -2.001)), "");
  assert.match(disagreement(of(1, -2), of(1, NaN)), /^out is Infinity % off/);
  assert.match(disagreement(of(1, -2), of(1)), /^out is/);
});

test("a form without its graph's weights is refused by the name of one", async () => {
  const form = await bundle.file("base.web.onnx");
  assert.throws(() => attachWeights(form, new Uint8Array(), "base.web.onnx"), (error: ManifestError) => error instanceof ManifestError && error.field === "base.web.onnx");
});
