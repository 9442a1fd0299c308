// Components run here against the same components in Python: pixels to the bit, diffusion to rounding.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Bundle, MemoryStore, type Source } from "../src/bundle/bundle.js";
import { OrtWasm } from "../src/engines/ort_wasm.js";
import { ManifestError } from "../src/errors.js";
import { FolderSource, FolderStore } from "../src/node.js";
import type { Picture } from "../src/picture.js";
import type { Handoff } from "../src/request.js";
import { LocalStages } from "../src/stages.js";
import { note, said } from "./exactness.js";
import { BUNDLES, difference, pythonPictures } from "./reference.js";

const PROMPT = "a red apple, noto style";
const engines = new OrtWasm();
const folder = mkdtempSync(join(tmpdir(), "edge-cascade-"));
after(() => rmSync(folder, { recursive: true }));

async function pictures(stages: LocalStages, count: number, seed: bigint): Promise<Map<string, Picture>> {
  const found = new Map<string, Picture>();
  let handoff: Handoff = { prompt: PROMPT };
  for (let position = 0; position < count; position++) {
    const stage = await stages.at(position);
    for await (const step of stage.run({ seed, imageIndex: 0, options: {} }, handoff)) handoff = step.result ?? handoff;
    if (handoff.picture) found.set(stage.name, handoff.picture);
  }
  return found;
}

test("the base stage of emoji-1 differs from Python's in at most 0.1 % of the values, by 1", async () => {
  const expected = await pythonPictures({ bundle: "emoji-1", cut: 4, seed: "7", prompt: PROMPT });
  const stages = new LocalStages(await Bundle.open(new FolderSource(`${BUNDLES}/emoji-1`)), engines);
  const found = await pictures(stages, 3, 7n);
  await stages.close();
  const base = difference(found.get("base") as Picture, expected.get("base") as Picture);
  const large = difference(found.get("sr256") as Picture, expected.get("sr256") as Picture);
  assert.ok(base.most <= 1 && base.count <= base.values / 1000, JSON.stringify(base));
  assert.ok(large.decibels >= 70, JSON.stringify(large));
  note("emoji-1, 64x64 by WebAssembly", said(base));
  note("emoji-1, 256x256 by WebAssembly", said(large));
});

test("every stage of emoji-pixels-1 is equal to Python's to the bit", async () => {
  const expected = await pythonPictures({ bundle: "emoji-pixels-1", cut: 7, seed: "1", prompt: PROMPT });
  const bundle = await Bundle.open(new FolderSource(`${BUNDLES}/emoji-pixels-1`));
  const stages = new LocalStages(bundle, engines);
  const found = await pictures(stages, bundle.components.length, 1n);
  await stages.close();
  assert.deepEqual([...found.keys()], [...expected.keys()]);
  for (const [stage, picture] of found) assert.deepEqual(difference(picture, expected.get(stage) as Picture).count, 0, stage);
  note("emoji-pixels-1, 8x8 to 256x256 by WebAssembly", "equal to the bit");
});

test("a second opening takes every file from the store, and only those of the components run here", async () => {
  const store = new FolderStore(folder);
  const load = async (): Promise<Bundle> => {
    const bundle = await Bundle.open(new FolderSource(`${BUNDLES}/emoji-pixels-1`), store);
    const stages = new LocalStages(bundle, engines);
    await stages.at(0);
    await stages.close();
    return bundle;
  };
  const [first, second] = [await load(), await load()];
  const files = first.manifest.files.filter((file) => ["text_encoder.onnx", "tokenizer.json"].includes(file.name));
  const size = files.reduce((total, file) => total + file.size_bytes, 0);
  const manifest = second.traffic.fetchedBytes;
  assert.deepEqual(first.traffic, { fetchedBytes: manifest + size, storedBytes: 0 });
  assert.deepEqual(second.traffic, { fetchedBytes: manifest, storedBytes: size });
});

test("a file that is not what the manifest says is refused and not kept", async () => {
  const folder = new FolderSource(`${BUNDLES}/emoji-pixels-1`);
  const altered: Source = {
    read: async (name) => {
      const bytes = await folder.read(name);
      if (name === "tokenizer.json") bytes[0] ^= 1;
      return bytes;
    },
  };
  const store = new MemoryStore();
  const bundle = await Bundle.open(altered, store);
  const entry = bundle.manifest.files.find((file) => file.name === "tokenizer.json");
  await assert.rejects(bundle.file("tokenizer.json"), ManifestError);
  assert.equal(await store.get(entry?.sha256 ?? ""), undefined);
});
