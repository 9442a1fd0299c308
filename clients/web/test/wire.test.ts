// gRPC-Web through Envoy to an unchanged server: pixels, events, cancel, deadline, resume, fallback, errors.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Bundle } from "../src/bundle/bundle.js";
import { Client } from "../src/client.js";
import { OrtWasm } from "../src/engines/ort_wasm.js";
import { BundleMismatch, Cancelled, DeadlineExceeded, InvalidRequest, TransportError } from "../src/errors.js";
import { FolderSource } from "../src/node.js";
import type { Picture } from "../src/picture.js";
import type { ClientEvent } from "../src/request.js";
import { ImageFormat } from "../src/wire/gen/protos/cascade/v1/cascade_pb.js";
import { offered } from "../src/wire/messages.js";
import { note, said } from "./exactness.js";
import { openLink } from "./link.js";
import { BUNDLES, difference, pythonPictures } from "./reference.js";
import { serve, type Served } from "./served.js";

const PROMPT = "a red apple, noto style";
const REQUEST = { prompt: PROMPT, seed: 7 };
const engines = new OrtWasm();
const page = mkdtempSync(join(tmpdir(), "edge-cascade-page-"));
let served: Served;
let bundle: Bundle;

before(async () => {
  writeFileSync(join(page, "index.html"), "<!doctype html><title>page</title>");
  served = await serve(page);
  bundle = await Bundle.open(new FolderSource(`${BUNDLES}/emoji-1`));
});
after(async () => {
  await served.close();
  rmSync(page, { recursive: true });
});

const here = (options = {}): Client => new Client({ bundle, engines, server: served.url, format: "raw", ...options });

test("from the same 64x64 the server's pictures are equal to the byte to those that Python gets", async () => {
  // With the base stage on the server, both sides start it from the same embeddings.
  const expected = await pythonPictures({ bundle: "emoji-1", cut: 4, seed: "7", prompt: PROMPT });
  const client = new Client({ server: served.url, cut: 0, format: "raw" });
  const result = await client.generate(REQUEST);
  assert.deepEqual(result.stages.map((stage) => stage.stage), ["text_encoder", "base", "sr256", "sr1024"]);
  for (const { stage, picture } of result.stages) {
    if (picture) assert.equal(difference(picture, expected.get(stage) as Picture).count, 0, stage);
  }
  note("emoji-1, the server's pictures, the same 64x64", "equal to the byte");
});

test("cut 2: the base stage here, 256 and 1024 there, 70 dB from Python's or better; events in order", async () => {
  const expected = await pythonPictures({ bundle: "emoji-1", cut: 4, seed: "7", prompt: PROMPT });
  const client = here();
  const events: ClientEvent[] = [];
  for await (const event of client.events(REQUEST)) events.push(event);
  await client.close();
  const kinds = events.filter((event) => event.kind !== "progress").map((event) => event.kind);
  assert.deepEqual(kinds, ["stage", "stage", "accepted", "stage", "stage", "finished"]);
  const last = events.at(-1);
  assert.ok(last?.kind === "finished");
  const { stages, bytesUp, bytesDown } = last.result;
  assert.deepEqual(stages.map((stage) => stage.where), ["here", "here", "server", "server"]);
  const made = difference(stages[3].picture as Picture, expected.get("sr1024") as Picture);
  assert.ok(made.decibels >= 70, JSON.stringify(made));
  note("emoji-1, 1024x1024, 64x64 by WebAssembly", said(made));
  assert.ok(bytesUp > 12_288 + 2 * 9 * 384 && bytesDown > 3 * 1024 * 1024);
});

test("pictures come in the format that is asked for, and those that lost pixels are marked", async () => {
  const found = new Map<string, ClientEvent[]>();
  for (const format of ["webp", "webp90", "avif"] as const) {
    const events: ClientEvent[] = [];
    for await (const event of new Client({ server: served.url, cut: 0, format, previews: 1 }).events(REQUEST)) events.push(event);
    found.set(format, events);
  }
  for (const [format, events] of found) {
    const images = events.flatMap((event) => (event.kind === "stage" && event.image ? [event.image] : []));
    const type = format === "avif" ? "image/avif" : "image/webp";
    for (const image of images) assert.deepEqual([image.format, image.type, image.isLossy], [format, type, format !== "webp"]);
    const previews = events.flatMap((event) => (event.kind === "preview" ? [event.image] : []));
    assert.ok(previews.length > 0 && previews.every((image) => image.format === "jpeg" && image.isLossy));
    const share = images[2].data.length / (3 * 1024 * 1024);
    assert.ok(format === "webp" ? share > 0.1 : share < 0.05, `${format}: ${share}`);
  }
  assert.equal(offered("avif", [ImageFormat.PNG, ImageFormat.WEBP]), "png");
  assert.equal(offered("webp90", []), "webp90");
});

test("the encoder on the server: its files are not fetched, and the base stage is the same", async () => {
  const client = here();
  const expected = await client.generate(REQUEST);
  const small = await Bundle.open(new FolderSource(`${BUNDLES}/emoji-1`));
  const other = new Client({ bundle: small, engines, server: served.url, format: "raw", encoderOnServer: true });
  const found = await other.generate(REQUEST);
  const { size_bytes: size } = small.manifest.files.find((file) => file.name === "base.onnx") ?? { size_bytes: 0 };
  assert.ok(small.traffic.fetchedBytes < size + 20_000);
  assert.deepEqual(found.stages.map((stage) => stage.where), ["server", "here", "server", "server"]);
  const base = difference(found.stages[1].picture as Picture, expected.stages[1].picture as Picture);
  assert.ok(base.most <= 1 && base.count <= base.values / 1000, JSON.stringify(base));
  await Promise.all([client.close(), other.close()]);
});

test("an aborted request ends as Cancelled, and the server sees it", async () => {
  const controller = new AbortController();
  const client = new Client({ server: served.url, cut: 0 });
  const run = (async () => {
    for await (const event of client.events({ ...REQUEST, seed: 99, signal: controller.signal })) {
      if (event.kind === "progress" && event.stage === "base") controller.abort();
    }
  })();
  await assert.rejects(run, Cancelled);
  assert.match(await served.logged("cancelled"), /cancelled/);
});

test("a deadline that cannot be met is refused by the server in its own words", async () => {
  const client = new Client({ server: served.url, cut: 0 });
  await assert.rejects(client.generate({ ...REQUEST, seed: 5, timeoutMs: 60 }), DeadlineExceeded);
});

test("errors are typed and name the field, whichever side finds them", async () => {
  const options = { base: { steps: 0 } };
  for (const client of [here(), new Client({ server: served.url, cut: 0 })]) {
    await assert.rejects(client.generate({ ...REQUEST, options }), (error: InvalidRequest) => {
      assert.ok(error instanceof InvalidRequest);
      assert.equal(error.field, "options.base.steps");
      return true;
    });
  }
  await assert.rejects(here().generate({ ...REQUEST, seed: 2 ** 53 + 2 }), InvalidRequest);
  const other = await Bundle.open(new FolderSource(`${BUNDLES}/emoji-pixels-1`));
  const client = new Client({ bundle: other, engines, server: served.url });
  await assert.rejects(client.generate(REQUEST), BundleMismatch);
});

test("options that contradict each other are refused before any work", () => {
  const refused = (options: object, field: string): void => {
    assert.throws(() => new Client(options), (error: InvalidRequest) => error instanceof InvalidRequest && error.field === field);
  };
  refused({ server: served.url, cut: 1 }, "bundle");
  refused({ server: served.url, bundle, engines, cut: 5 }, "cut");
  refused({ bundle, engines, cut: 2 }, "server");
  refused({ bundle, engines, cut: 4, encoderOnServer: true }, "server");
});

test("a broken connection is resumed: no result comes twice, and the pictures are the same", async () => {
  const expected = await new Client({ server: served.url, cut: 0, format: "raw" }).generate(REQUEST);
  const link = await openLink(served.url);
  const client = new Client({ server: link.url, cut: 0, format: "raw" });
  const events: ClientEvent[] = [];
  for await (const event of client.events({ ...REQUEST, imageIndex: 0 })) {
    events.push(event);
    if (event.kind === "stage" && event.stage === "base") link.breakNow();
  }
  link.close();
  assert.equal(events.filter((event) => event.kind === "resumed").length, 1);
  const pictures = events.flatMap((event) => (event.kind === "stage" && event.picture ? [event.picture] : []));
  assert.equal(pictures.length, 3);
  pictures.forEach((picture, at) => assert.equal(difference(picture, expected.stages[at + 1].picture as Picture).count, 0));
});

test("where the server is lost the rest is made here, or the error says so", async () => {
  const pixels = await Bundle.open(new FolderSource(`${BUNDLES}/emoji-pixels-1`));
  const lost = { bundle: pixels, engines, server: "http://127.0.0.1:9", patienceMs: 0, cut: 2 };
  await assert.rejects(new Client(lost).generate({ ...REQUEST, seed: 1 }), TransportError);
  const expected = await pythonPictures({ bundle: "emoji-pixels-1", cut: 7, seed: "1", prompt: PROMPT });
  const client = new Client({ ...lost, fallback: true });
  const result = await client.generate({ ...REQUEST, seed: 1 });
  await client.close();
  assert.ok(result.stages.every((stage) => stage.where === "here"));
  assert.equal(difference(result.stages.at(-1)?.picture as Picture, expected.get("px256") as Picture).count, 0);
});
