// The page: a form, the pictures as they come, and where every millisecond and byte went.

import type { GenerateRequest } from "../src/request.js";
import type { Ask, Settings, Shown, StageRow, Tell } from "./protocol.js";

interface Drawn {
  readonly settings: Settings;
  readonly request: Omit<GenerateRequest, "signal">;
  readonly hashes: Map<string, string>;
}

const worker = new Worker(new URL("worker.js", location.href), { type: "module" });
let components: readonly string[] = [];
let id = 0;
let now: Drawn | undefined;
let before: Drawn | undefined;
let longestMs = 0;
let isBusy = false;
let hasDrawn = false;
const LOADING = "Loading networks, then drawing";

function element<T extends HTMLElement>(name: string): T {
  return document.getElementById(name) as T;
}
function input(name: string): HTMLInputElement {
  return element<HTMLInputElement>(name);
}
function send(ask: Ask): void {
  worker.postMessage(ask);
}
function say(text: string): void {
  element("status").textContent = text;
}
function bytes(count: number): string {
  return count < 1e6 ? `${(count / 1e3).toFixed(1)} kB` : `${(count / 1e6).toFixed(2)} MB`;
}

function setBusy(busy: boolean): void {
  isBusy = busy;
  element<HTMLButtonElement>("draw").disabled = busy;
  element<HTMLButtonElement>("cancel").disabled = !busy;
  element<HTMLButtonElement>("again").disabled = busy || now === undefined;
  element<HTMLButtonElement>("keep").disabled = busy;
}

function settings(): Settings {
  const [words, fallback, gpu] = ["words", "fallback", "gpu"].map((name) => input(name).checked);
  const format = input("format").value as Settings["format"];
  return { cut: Number(input("cut").value), encoderOnServer: words, fallback, gpu, format };
}

function draw(asked: Drawn): void {
  before = now?.request === asked.request ? now : undefined;
  now = asked;
  id += 1;
  longestMs = 0;
  for (const name of ["rows", "bars", "small", "totals", "remarks"]) element(name).replaceChildren();
  element("download").removeAttribute("href");
  element("download").setAttribute("aria-disabled", "true");
  setBusy(true);
  // The first time megabytes come before any progress does.
  say(hasDrawn ? "Drawing" : LOADING);
  send({ kind: "draw", id, settings: asked.settings, request: asked.request });
}

function bar(stage: string): HTMLProgressElement {
  const known = document.getElementById(`bar-${stage}`);
  if (known) return known as HTMLProgressElement;
  const label = document.createElement("label");
  const made = document.createElement("progress");
  made.id = `bar-${stage}`;
  made.value = 0;
  label.append(stage, made);
  element("bars").append(label);
  return made;
}

function cell(text: string): HTMLTableCellElement {
  const made = document.createElement("td");
  made.textContent = text;
  return made;
}

function addRow(row: StageRow): void {
  const line = document.createElement("tr");
  line.dataset.stage = row.stage;
  line.dataset.sha256 = row.sha256;
  line.dataset.lossy = row.lossy;
  line.append(cell(row.stage), cell(row.where === "here" ? `here, ${row.engine}` : `server, ${row.engine}`));
  line.append(cell(row.loadMs.toFixed(0)), cell(row.ms.toFixed(1)), cell(`${(row.atMs / 1000).toFixed(2)} s`), cell(row.lossy ? `${row.lossy}, with loss` : row.sha256.slice(0, 8)));
  element("rows").append(line);
  const made = bar(row.stage);
  made.max = 1;
  made.value = 1;
  if (row.sha256) now?.hashes.set(row.stage, row.sha256);
}

/** Hands the pixels over: to draw them would copy a large picture on this thread. */
function paint(canvas: HTMLCanvasElement, bitmap: ImageBitmap, isCoarse: boolean): void {
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  // Pixels of the first picture are to be seen; a large one is made smaller smoothly.
  canvas.classList.toggle("coarse", isCoarse);
  canvas.getContext("bitmaprenderer")?.transferFromImageBitmap(bitmap);
}

function show(stage: string, shown: Shown): void {
  const { width, height } = shown.large;
  const words = `${now?.request.prompt}, ${width} by ${height} pixels`;
  const large = element<HTMLCanvasElement>("large");
  paint(large, shown.large, width <= 256);
  large.setAttribute("aria-label", words);
  const item = document.createElement("li");
  const small = document.createElement("canvas");
  paint(small, shown.small, width <= 256);
  small.setAttribute("role", "img");
  small.setAttribute("aria-label", words);
  item.append(small, stage);
  element("small").append(item);
}

function total(name: string, text: string): void {
  const known = document.getElementById(`total-${name}`);
  if (known) {
    known.textContent = text;
    return;
  }
  const [term, value] = [document.createElement("dt"), document.createElement("dd")];
  term.textContent = name;
  value.id = `total-${name}`;
  value.textContent = text;
  element("totals").append(term, value);
}

function finish(tell: Tell & { kind: "finished" }): void {
  const { totalMs, bytesUp, bytesDown } = tell.totals;
  total("total", `${(totalMs / 1000).toFixed(2)} s`);
  total("to the server", bytes(bytesUp));
  total("from the server", bytes(bytesDown));
  total("longest block of this page", longestMs ? `${longestMs.toFixed(0)} ms` : "under 50 ms");
  const link = element<HTMLAnchorElement>("download");
  if (link.href) URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(tell.file);
  link.download = `${now?.request.prompt.replace(/\W+/g, "-")}-${now?.request.seed}.${tell.file.type.split("/")[1]}`;
  link.removeAttribute("aria-disabled");
  setBusy(false);
  hasDrawn = true;
  const lossy = new Set([...element("rows").children].map((row) => (row as HTMLElement).dataset.lossy).filter(Boolean));
  say(lossy.size ? `${verdict()}; ${[...lossy].join(", ")} lost pixels on the way` : verdict());
}

function verdict(): string {
  if (before === undefined) return "Done";
  const changed = [...(now?.hashes ?? [])].filter(([stage, sha256]) => before?.hashes.get(stage) !== sha256);
  return changed.length ? `Done: other pixels in ${changed.map(([stage]) => stage).join(", ")}` : "Done: the same pixels again";
}

/** What stays to be read beside the pictures. */
function remark(text: string): void {
  const item = document.createElement("li");
  item.textContent = text;
  element("remarks").append(item);
}

function fillCuts(): void {
  const options = Array.from({ length: components.length + 1 }, (_, cut) => {
    const made = document.createElement("option");
    made.value = String(cut);
    const here = components.slice(0, cut).join(", ");
    made.textContent = cut === 0 ? "none" : cut === components.length ? "all" : here;
    made.selected = cut === Math.min(2, components.length);
    return made;
  });
  element("cut").replaceChildren(...options);
}

function fail(tell: Tell & { kind: "failed" }): void {
  setBusy(false);
  say(tell.reason === "CANCELLED" ? "Cancelled" : `${tell.reason}: ${tell.message}`);
}

worker.addEventListener("message", ({ data: tell }: MessageEvent<Tell>) => {
  if (tell.kind === "ready") {
    components = tell.components;
    fillCuts();
    setBusy(false);
    say(`Ready: ${tell.bundle}`);
  } else if (tell.kind === "traffic") {
    total("networks loaded", `${bytes(tell.fetchedBytes)}, kept before ${bytes(tell.storedBytes)}`);
  } else if (tell.id !== id) return;
  else if (tell.kind === "progress") {
    const made = bar(tell.stage);
    made.max = tell.total;
    made.value = tell.done;
    if (element("status").textContent === LOADING) say("Drawing");
  } else if (tell.kind === "stage") {
    addRow(tell.row);
    if (tell.shown) show(tell.row.stage, tell.shown);
  } else if (tell.kind === "note") say(tell.text);
  else if (tell.kind === "remark") remark(tell.text);
  else if (tell.kind === "finished") finish(tell);
  else if (tell.kind === "kept") {
    setBusy(false);
    say("Saved: this page works without a network now");
  } else fail(tell);
});

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (isBusy) return;
  const prompt = `${input("prompt").value}, ${input("style").value} style`;
  const base = components[1];
  const steps = Number(input("steps").value);
  const options: GenerateRequest["options"] = base === "base" && steps ? { base: { steps } } : {};
  draw({ settings: settings(), request: { prompt, seed: input("seed").value || "0", options }, hashes: new Map() });
});
element("again").addEventListener("click", () => {
  if (now) draw({ ...now, hashes: new Map() });
});
element("cancel").addEventListener("click", () => send({ kind: "cancel", id }));
element("keep").addEventListener("click", () => {
  id += 1;
  setBusy(true);
  say("Saving");
  send({ kind: "keep", id });
});

// The browser reports what blocks the page for more than 50 ms.
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) longestMs = Math.max(longestMs, entry.duration);
}).observe({ type: "longtask" });

setBusy(true);
navigator.serviceWorker?.register("service_worker.js");
