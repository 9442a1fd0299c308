// A page of the tests: every graph of a bundle on WebGPU against WebAssembly, in either form.

import { Bundle, UrlSource } from "../src/bundle/bundle.js";
import { attachWeights } from "../src/bundle/shared_weights.js";
import { disagreement, madeUp } from "../src/engines/checked.js";
import type { GraphFiles } from "../src/engines/engine.js";
import { OrtWasm } from "../src/engines/ort_wasm.js";
import { OrtWebGpu } from "../src/engines/ort_webgpu.js";

/** Of the stage whose size is free: a software adapter computes no larger ones in a test. */
const SIDE = 128;
const here = (name: string): string => new URL(name, location.href).href;
const wasm = new OrtWasm({ url: here("ort-wasm-simd-threaded.wasm") });
const gpu = new OrtWebGpu({ url: here("ort-wasm-simd-threaded.asyncify.wasm") });

/** How far WebGPU is off for the graph of a component, in words; empty where it is right. */
async function parity(name: string, isWebForm: boolean): Promise<string> {
  const bundle = await Bundle.open(new UrlSource(here("bundle/")));
  const spec = bundle.components.find((component) => component.name === name)?.graphs.net;
  if (!spec) throw new Error(name);
  const graph = await bundle.file(spec.file);
  const form = isWebForm ? spec.web_form?.file : undefined;
  const files: GraphFiles = {
    graph,
    inputs: spec.inputs,
    isExact: false,
    axes: { batch: 1, tokens: 16, height: SIDE, width: SIDE },
    webForm: form === undefined ? undefined : async () => attachWeights(await bundle.file(form), graph, form),
  };
  const inputs = madeUp(files.inputs, files.axes);
  const trusted = await wasm.open(files);
  const wanted = await trusted.run(inputs);
  await trusted.close();
  try {
    const fast = await gpu.open(files);
    const found = await fast.run(inputs);
    await fast.close();
    return disagreement(wanted, found);
  } catch (error) {
    return String(error);
  }
}

Object.assign(window, { parity });
