// The device's half of the cascade, off the page's thread: networks, sampling, the wire, decoding.

import { Bundle, CacheStore, UrlSource } from "../src/bundle/bundle.js";
import { sha256Hex } from "../src/bundle/manifest.js";
import { Client } from "../src/client.js";
import { CheckedEngines } from "../src/engines/checked.js";
import type { Engines } from "../src/engines/engine.js";
import { OrtWasm } from "../src/engines/ort_wasm.js";
import { CascadeError } from "../src/errors.js";
import type { ClientEvent, StageFinished } from "../src/request.js";
import type { Ask, Settings, Shown, Tell } from "./protocol.js";

/** Pixels across a small picture, on a screen of two pixels to a point. */
const SMALL = 192;
/** Letters of a reason: those of an engine may fill a page. */
const LONGEST = 200;

const here = (name: string): string => new URL(name, self.location.href).href;
const wasm = new OrtWasm({ url: here("ort-wasm-simd-threaded.wasm") });
const opening = Bundle.open(new UrlSource(new URL("bundle/", self.location.href)), new CacheStore());
const clients = new Map<string, Promise<Client>>();
const running = new Map<number, AbortController>();

function tell(message: Tell, transfer: Transferable[] = []): void {
  (self as unknown as DedicatedWorkerGlobalScope).postMessage(message, transfer);
}

function clientOf(settings: Settings): Promise<Client> {
  const key = JSON.stringify(settings);
  const known = clients.get(key);
  if (known) return known;
  const making = makeClient(settings);
  clients.set(key, making);
  making.catch(() => clients.delete(key));
  return making;
}

async function makeClient({ gpu, ...settings }: Settings): Promise<Client> {
  return new Client({ bundle: await opening, engines: gpu ? await checkedGpu() : wasm, server: self.location.origin, ...settings });
}

/** Its build of ONNX Runtime is loaded by those alone who ask for it: 27 MB. */
async function checkedGpu(): Promise<Engines> {
  const { OrtWebGpu } = (await import(here("webgpu.js"))) as typeof import("./webgpu.js");
  return new CheckedEngines(new OrtWebGpu({ url: here("ort-wasm-simd-threaded.asyncify.wasm") }), wasm);
}

/** Made here, so that the page has nothing to make smaller. */
async function shownOf(large: ImageBitmap): Promise<Shown> {
  const width = Math.min(SMALL, large.width);
  const height = Math.round((width * large.height) / large.width);
  return { large, small: await createImageBitmap(large, { resizeWidth: width, resizeHeight: height, resizeQuality: "high" }) };
}

/** What a finished stage looks like, and the sha256 of its pixels. */
async function pictureOf(event: StageFinished): Promise<{ shown?: Shown; sha256: string; file?: Blob }> {
  if (event.picture) {
    const { width, height, data } = event.picture;
    const image = new ImageData(width, height);
    for (let at = 0; at < width * height; at++) {
      image.data.set([data[at * 3], data[at * 3 + 1], data[at * 3 + 2], 255], at * 4);
    }
    const canvas = new OffscreenCanvas(width, height);
    (canvas.getContext("2d") as OffscreenCanvasRenderingContext2D).putImageData(image, 0, 0);
    return { shown: await shownOf(await createImageBitmap(image)), sha256: await sha256Hex(data), file: await canvas.convertToBlob({ type: "image/png" }) };
  }
  if (!event.image) return { sha256: "" };
  const { width, height, type, data } = event.image;
  const file = new Blob([data as BlobPart], { type });
  // Without these two the browser may change pixels.
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true }) as OffscreenCanvasRenderingContext2D;
  context.drawImage(bitmap, 0, 0);
  const rgba = context.getImageData(0, 0, width, height).data;
  const rgb = new Uint8Array(width * height * 3);
  for (let at = 0; at < rgb.length; at++) rgb[at] = rgba[Math.floor(at / 3) * 4 + (at % 3)];
  return { shown: await shownOf(bitmap), sha256: await sha256Hex(rgb), file };
}

async function draw(ask: Ask & { kind: "draw" }): Promise<void> {
  const controller = new AbortController();
  running.set(ask.id, controller);
  const bundle = await opening;
  const client = await clientOf(ask.settings);
  const order: Promise<void>[] = [];
  let file = new Blob();
  for await (const event of client.events({ ...ask.request, signal: controller.signal })) {
    if (event.kind === "stage") {
      // Decoded beside the stream: a stage that is shown must not delay the next one's events.
      order.push(
        pictureOf(event).then((picture) => {
          file = picture.file ?? file;
          const { stage, where, engine, loadMs, ms, atMs } = event;
          const lossy = event.image?.isLossy ? event.image.format : "";
          const row = { stage, where, engine, loadMs, ms, atMs, sha256: picture.sha256, lossy };
          const { shown } = picture;
          tell({ kind: "stage", id: ask.id, row, shown }, shown ? [shown.large, shown.small] : []);
        }),
      );
    } else if (event.kind === "finished") {
      await Promise.all(order);
      const { totalMs, bytesUp, bytesDown } = event.result;
      tell({ kind: "finished", id: ask.id, totals: { totalMs, bytesUp, bytesDown }, file });
    } else note(ask.id, event);
    tell({ kind: "traffic", ...bundle.traffic });
  }
}

function note(id: number, event: ClientEvent): void {
  if (event.kind === "progress") {
    tell({ kind: "progress", id, stage: event.stage, done: event.done, total: event.total });
  } else if (event.kind === "resumed") {
    tell({ kind: "note", id, text: "The connection broke and is resumed." });
  } else if (event.kind === "engineRefused") {
    tell({ kind: "remark", id, text: `${event.stage} runs on ${event.engine}, not on the graphics card: ${event.reason.slice(0, LONGEST)}` });
  } else if (event.kind === "fellBack") {
    tell({ kind: "note", id, text: "The server cannot be reached: the rest is made on this device." });
  } else if (event.kind === "accepted" && event.queuePosition > 0) {
    tell({ kind: "note", id, text: `The server has ${event.queuePosition} requests before this one.` });
  }
}

/** Fetch every file that runs here without a server. */
async function keep(id: number): Promise<void> {
  const bundle = await opening;
  const count = bundle.components.length;
  await (await clientOf({ cut: count, encoderOnServer: false, fallback: false, gpu: false, format: "png" })).warm();
  tell({ kind: "traffic", ...bundle.traffic });
  tell({ kind: "kept", id });
}

self.addEventListener("message", ({ data: ask }: MessageEvent<Ask>) => {
  if (ask.kind === "cancel") {
    running.get(ask.id)?.abort();
    return;
  }
  const work = ask.kind === "draw" ? draw(ask) : keep(ask.id);
  work
    .catch((error: unknown) => {
      const reason = error instanceof CascadeError ? error.reason : "UNKNOWN";
      tell({ kind: "failed", id: ask.id, reason, message: error instanceof Error ? error.message : String(error) });
    })
    .finally(() => running.delete(ask.id));
});

opening.then(
  (bundle) => tell({ kind: "ready", bundle: bundle.manifest.name, components: bundle.components.map(({ name }) => name) }),
  (error: Error) => tell({ kind: "failed", id: 0, reason: "MANIFEST_ERROR", message: error.message }),
);
