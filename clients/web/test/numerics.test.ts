// The vectors of docs/reference/vectors/numerics.json, to the bit.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { contextHandle, toFloat16 } from "../src/text/context.js";
import { augment, enlarge } from "../src/diffusion/conditioning.js";
import { direction, estimate, guided, projected, threshold, weightAt } from "../src/diffusion/estimates.js";
import { ancestral, sample } from "../src/diffusion/samplers.js";
import { makeSchedule, type ScheduleSpec } from "../src/diffusion/schedule.js";
import * as elementary from "../src/numerics/elementary.js";
import { bucketLength } from "../src/numerics/lengths.js";
import { AUGMENTATION, normals, normalTable } from "../src/numerics/noise.js";
import { keyOf, philox } from "../src/numerics/philox.js";
import { levelOf, toNetwork } from "../src/picture.js";
import { note } from "./exactness.js";

const vectors = JSON.parse(readFileSync("../../docs/reference/vectors/numerics.json", "utf8"));
const view = new DataView(new ArrayBuffer(8));

function double(hex: string): number {
  view.setBigUint64(0, BigInt(`0x${hex}`));
  return view.getFloat64(0);
}
function hexOfDouble(value: number): string {
  view.setFloat64(0, value);
  return view.getBigUint64(0).toString(16).padStart(16, "0");
}
function singles(hex: string[]): Float32Array {
  return Float32Array.from(hex, (bits) => {
    view.setUint32(0, parseInt(bits, 16));
    return view.getFloat32(0);
  });
}
function hexOf(values: Iterable<number>): string[] {
  return Array.from(values, (value) => {
    view.setFloat32(0, value);
    return view.getUint32(0).toString(16).padStart(8, "0");
  });
}
const sha256 = (data: Uint8Array): string => createHash("sha256").update(data).digest("hex");
const bytes = (values: Float32Array): Uint8Array => new Uint8Array(values.buffer);

test("words of Philox", () => {
  const out = new Uint32Array(4);
  const { counter, key, words } = vectors.noise.philox;
  philox(counter, key, out, 0);
  assert.deepEqual([...out], words);
  philox([0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff], [0xffffffff, 0xffffffff], out, 0);
  assert.deepEqual([...out], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
  assert.deepEqual(keyOf(2n ** 64n - 2n), [0xfffffffe, 0xffffffff]);
});

test("the table of normals has the sha256 of the reference page", () => {
  assert.equal(sha256(bytes(normalTable())), "1cfbba1e07e34386a57626f82aeb43e6ed54ba70a3ea6b7d964dc66a841074a8");
  note("table of normals", "equal to the bit");
});

test("normals at an address", () => {
  for (const entry of vectors.noise.normals) {
    const values = normals(192, { seed: BigInt(entry.seed), image: entry.image, stage: entry.stage, step: entry.step });
    assert.deepEqual(hexOf(values.slice(0, 9)), entry.first);
    assert.equal(sha256(bytes(values)), entry.sha256);
  }
  note("noise", "equal to the bit");
});

test("elementary functions", () => {
  for (const entry of vectors.elementary) {
    const call = elementary[entry.function as keyof typeof elementary];
    assert.deepEqual(entry.x.map((x: string) => hexOfDouble(call(double(x)))), entry.y, entry.function);
  }
});

const scheduleOf = (entry: { schedule: unknown }) => makeSchedule(entry.schedule as ScheduleSpec);

test("schedules and their times", () => {
  for (const entry of vectors.schedules) {
    const schedule = scheduleOf(entry);
    const times = schedule.times(entry.steps);
    assert.deepEqual(times.map(hexOfDouble), entry.times, JSON.stringify(entry.schedule));
    const called = times.slice(0, -1);
    assert.deepEqual(called.map((t) => hexOfDouble(schedule.alpha(t))), entry.alpha);
    assert.deepEqual(called.map((t) => hexOfDouble(schedule.sigma(t))), entry.sigma);
    assert.deepEqual(called.map((t) => hexOfDouble(schedule.logSnr(t))), entry.log_snr);
  }
});

test("a strided run ends one stride beyond its cleanest step", () => {
  const schedule = makeSchedule({ kind: "table", alpha_bar: [0.9, 0.8, 0.6, 0.4, 0.2], spacing: "leading", offset: 1 });
  assert.deepEqual(schedule.times(4, true), [1, 0.8, 0.6, 0.4, 0.2]);
  assert.deepEqual(schedule.times(4), [1, 0.8, 0.6, 0.4, 0]);
  assert.deepEqual(schedule.times(2, true), [0.8, 0.4, 0]);
});

test("runs of every sampler", async () => {
  for (const entry of vectors.samplers) {
    const schedule = scheduleOf(entry);
    const address = { seed: BigInt(entry.seed), image: entry.image, stage: entry.stage };
    const found: { x0: string[]; x_t: string[] }[] = [];
    const run = {
      sampler: entry.sampler,
      schedule,
      times: schedule.times(entry.run_steps),
      gamma: entry.gamma,
      noise: (step: number) => normals(12, { ...address, step }),
      denoise: async (x: Float32Array, t: number) => ({
        x0: threshold(estimate(entry.prediction, x.map((value) => 0.5 * value), x, { schedule, t }), entry.threshold),
      }),
    };
    for await (const step of sample(run)) found.push({ x0: hexOf(step.x0), x_t: hexOf(step.x) });
    assert.deepEqual(found, entry.steps, entry.sampler);
  }
  note("schedules and samplers", "equal to the bit");
});

test("a step whose network learned the variance", () => {
  const entry = vectors.learned_variance;
  const result = ancestral(
    scheduleOf(entry),
    { x: singles(entry.x_t), x0: singles(entry.x0), noise: singles(entry.noise), gamma: singles(entry.variance) },
    [double(entry.t), double(entry.s)],
  );
  assert.deepEqual(hexOf(result), entry.result);
});

test("thresholds and guidance", () => {
  for (const entry of vectors.thresholds) {
    assert.deepEqual(hexOf(threshold(singles(entry.x0), entry)), entry.result);
  }
  const { conditional, unconditional, weight, result, oscillating, weights } = vectors.guidance;
  assert.deepEqual(hexOf(guided(singles(conditional), singles(unconditional), weight)), result);
  const spec = { kind: "oscillating" as const, weight: oscillating.high, low_weight: oscillating.low, first_steps: oscillating.first_steps, taught: [] };
  assert.deepEqual(weights, [0, 1, 2, 3, 4, 5].map((step) => weightAt(spec, step)));
});

test("guidance without the parallel part", () => {
  for (const entry of vectors.projected_guidance) {
    const [cond, uncond, x] = [singles(entry.conditional), singles(entry.unconditional), singles(entry.x_t)];
    const along = direction(entry.prediction, cond, x, { schedule: scheduleOf(entry), t: entry.t });
    assert.deepEqual(hexOf(projected(cond, uncond, entry.weight, along)), entry.result, entry.prediction);
  }
});

test("a schedule of a newer manifest is refused by name", () => {
  assert.throws(() => scheduleOf({ schedule: "spiral" }), /does not know spiral/);
  assert.throws(() => scheduleOf({ schedule: { kind: "spiral" } }), /does not know spiral/);
});

test("pictures: values, enlarging, augmentation, rounding", () => {
  const { height, width, pixels, network, enlarged, augmented, rounding } = vectors.pictures;
  const low = toNetwork({ height, width, data: Uint8Array.from(pixels) });
  assert.deepEqual(hexOf(low), network);
  for (const { kind, factor, result } of enlarged) {
    assert.deepEqual(hexOf(enlarge(low, { width, height, factor, kind })), result, `${kind} ${factor}`);
  }
  const noise = () => normals(low.length, { seed: BigInt(augmented.seed), image: augmented.image, stage: augmented.stage, step: AUGMENTATION });
  assert.deepEqual(hexOf(augment(low, double(augmented.level), noise, "cosine")), augmented.result);
  assert.deepEqual(Array.from(singles(rounding.x0), levelOf), rounding.levels);
  note("enlarging, augmentation, rounding", "equal to the bit");
});

test("contexts, their handles, and the lengths of texts", async () => {
  for (const { rows, data, handle } of vectors.contexts) {
    const context = toFloat16(Float32Array.from(rows.flat()), rows[0].length);
    assert.equal(Buffer.from(context.data).toString("hex"), data);
    assert.equal(Buffer.from(await contextHandle(context)).toString("hex"), handle);
  }
  for (const [tokens, length] of vectors.lengths) assert.equal(bucketLength(tokens), length);
  note("context and its handle", "equal to the bit");
});
