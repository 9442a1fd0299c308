// The client: a request to a picture, its first components here and the rest on a server.

import type { Bundle } from "./bundle/bundle.js";
import { Deadline } from "./deadline.js";
import type { Engines } from "./engines/engine.js";
import { BundleMismatch, CascadeError, InvalidRequest, StageError, TransportError } from "./errors.js";
import { type ClientEvent, type EncodedPicture, type EngineRefused, type GenerateRequest, type GenerateResult, type Handoff, refuseCancelled, seedOf, type StageFinished } from "./request.js";
import type { Stage } from "./stage.js";
import { LocalStages } from "./stages.js";
import type { GetServerInfoResponse, StageResult } from "./wire/gen/protos/cascade/v1/cascade_pb.js";
import { type LinkOptions, ServerLink } from "./wire/link.js";
import { type Call, contextOf, encodedPicture, offered, type PictureFormat, rawPicture } from "./wire/messages.js";
import { type RemoteEvent, remoteRun } from "./wire/remote_run.js";

const DEFAULT_TIMEOUT_MS = 300_000;

/** Where a client's components run, and how it treats its server. */
export interface ClientOptions extends Partial<LinkOptions> {
  /** Needed where any component runs here. */
  readonly bundle?: Bundle;
  readonly engines?: Engines;
  /** How many components run here, from the first one; 2 unless set. */
  readonly cut?: number;
  /** The prompt goes to the server, which returns its embeddings: the text encoder need not be here. */
  readonly encoderOnServer?: boolean;
  /** Where the server is lost, run the rest here. */
  readonly fallback?: boolean;
  /** How long the server works on without a connection, so that a lost one can be resumed; 10 unless set. */
  readonly lingerSeconds?: number;
  /** How long a server that is not there is asked again; 2,000 unless set. */
  readonly patienceMs?: number;
  /** Of the server's pictures; png unless set, and where the server cannot send what is set. */
  readonly format?: PictureFormat;
  /** Previews of each component at most; 0 unless set. */
  readonly previews?: number;
}

/** One request under way. */
interface Work {
  readonly request: GenerateRequest;
  readonly seed: bigint;
  readonly deadline: Deadline;
  readonly stages: StageFinished[];
  readonly requestId: string;
  bytesUp: number;
  bytesDown: number;
  handoff: Handoff;
}

/** Makes pictures of one bundle. Several requests may run at once. */
export class Client {
  private readonly local: LocalStages | undefined;
  private readonly link: ServerLink | undefined;
  private readonly announced = new Set<Stage>();

  constructor(private readonly options: ClientOptions) {
    const { bundle, engines, server, token } = options;
    if (bundle && engines) this.local = new LocalStages(bundle, engines);
    if (server) this.link = new ServerLink({ server, token });
    checkOptions(options, this.cut);
  }

  /** How many components run here. */
  get cut(): number {
    return this.options.cut ?? 2;
  }

  /** Fetch and open what runs here, before the first request. */
  async warm(signal?: AbortSignal): Promise<void> {
    for (let position = this.options.encoderOnServer ? 1 : 0; position < this.cut; position++) {
      await this.local?.at(position, signal);
    }
  }

  /** The finished picture. */
  async generate(request: GenerateRequest): Promise<GenerateResult> {
    for await (const event of this.events(request)) if (event.kind === "finished") return event.result;
    throw new StageError("the run ended without a result");
  }

  /** Everything that happens, in order. To stop iterating ends the work, on the server too. */
  async *events(request: GenerateRequest): AsyncGenerator<ClientEvent> {
    const seed = seedOf(request);
    const deadline = new Deadline(request.timeoutMs ?? DEFAULT_TIMEOUT_MS, request.signal);
    const handoff = { prompt: request.prompt };
    const work: Work = { request, seed, deadline, stages: [], requestId: crypto.randomUUID(), bytesUp: 0, bytesDown: 0, handoff };
    try {
      const first = this.options.encoderOnServer && this.cut > 0 ? 1 : 0;
      if (first) yield* this.onServer(work, 0, 1);
      yield* this.here(work, first, this.cut);
      yield* this.rest(work);
      const { stages, bytesUp, bytesDown } = work;
      const result = { seed: String(seed), stages, bytesUp, bytesDown, totalMs: deadline.elapsedMs() };
      yield { kind: "finished", atMs: deadline.elapsedMs(), result };
    } catch (error) {
      refuseCancelled(deadline.signal);
      throw error;
    } finally {
      deadline.close();
    }
  }

  /** Release engines. */
  async close(): Promise<void> {
    await this.local?.close();
  }

  /** What is left after the cut: on the server, or here where that is lost. */
  private async *rest(work: Work): AsyncGenerator<ClientEvent> {
    const count = this.local?.bundle.components.length;
    if (this.cut === count) return;
    const handoff = work.handoff;
    try {
      yield* this.onServer(work, this.cut, count);
    } catch (error) {
      const mayFall = this.options.fallback && this.local !== undefined && error instanceof TransportError;
      if (!mayFall || work.deadline.signal.aborted) throw error;
      yield { kind: "fellBack", atMs: work.deadline.elapsedMs(), from: this.options.server ?? "", reason: error.message };
      work.handoff = handoff;
      yield* this.here(work, this.cut, count as number);
    }
  }

  private async *here(work: Work, first: number, end: number): AsyncGenerator<ClientEvent> {
    for (let position = first; position < end; position++) {
      const { deadline, request, seed } = work;
      const asked = performance.now();
      const stage = await (this.local as LocalStages).at(position, deadline.signal);
      refuseCancelled(deadline.signal);
      yield* this.refusals(stage, deadline);
      const begun = performance.now();
      const run = { seed, imageIndex: request.imageIndex ?? 0, options: request.options?.[stage.name] ?? {}, signal: deadline.signal };
      for await (const { done, total, result } of stage.run(run, work.handoff)) {
        yield { kind: "progress", atMs: deadline.elapsedMs(), stage: stage.name, done, total, unit: stage.unit };
        work.handoff = result ?? work.handoff;
      }
      const { name: engine } = stage.engine;
      const made = { where: "here" as const, loadMs: begun - asked, ms: performance.now() - begun, picture: work.handoff.picture, engine };
      yield* this.finish(work, { kind: "stage", atMs: deadline.elapsedMs(), stage: stage.name, ...made });
    }
  }

  /** Told once of each component that is open. */
  private *refusals(stage: Stage, deadline: Deadline): Generator<EngineRefused> {
    const { refused: reason, name: engine } = stage.engine;
    if (reason === undefined || this.announced.has(stage)) return;
    this.announced.add(stage);
    yield { kind: "engineRefused", atMs: deadline.elapsedMs(), stage: stage.name, engine, reason };
  }

  /** A component that was done on the server before it was lost is not told of twice. */
  private *finish(work: Work, event: StageFinished): Generator<ClientEvent> {
    if (work.stages.some((stage) => stage.stage === event.stage)) return;
    work.stages.push(event);
    yield event;
  }

  private async *onServer(work: Work, first: number, end: number | undefined): AsyncGenerator<ClientEvent> {
    const link = this.link as ServerLink;
    const bundleId = this.local?.bundle.id;
    const info = await link.info(bundleId);
    const call = this.call(work, info, [first, end ?? info.components.length]);
    const { deadline } = work;
    const limits = { signal: deadline.signal, remainingMs: () => deadline.remainingMs(), patienceMs: this.options.patienceMs ?? 2_000 };
    for await (const event of remoteRun(link, call, limits)) yield* this.told(work, event);
  }

  private call(work: Work, info: GetServerInfoResponse, [first, end]: [number, number]): Call {
    const hosted = [...info.components].sort((a, b) => a.position - b.position);
    const names = hosted.filter(({ position }) => position >= first && position < end).map(({ name }) => name);
    if (names.length !== end - first) {
      throw new BundleMismatch(`the server hosts ${names.join(", ") || "none"} of components ${first} to ${end - 1}`);
    }
    const families = new Map(hosted.map(({ name, family }) => [name, family]));
    for (const spec of this.local?.bundle.components ?? []) families.set(spec.name, spec.family);
    const chosen = Object.entries(work.request.options ?? {});
    return {
      requestId: `${work.requestId}${end === 1 ? "-text" : ""}`,
      bundleId: this.local?.bundle.id ?? info.bundleIds[0] ?? info.bundleId,
      handoff: work.handoff,
      seed: work.seed,
      imageIndex: work.request.imageIndex ?? 0,
      firstStage: names[0],
      lastStage: names[names.length - 1],
      options: chosen.map(([name, options]) => ({ name, family: families.get(name) ?? "diffusion", chosen: options })),
      format: offered(this.options.format ?? "png", info.imageFormats),
      previews: this.options.previews ?? 0,
      lingerSeconds: Math.min(this.options.lingerSeconds ?? 10, info.limits?.maxLingerSeconds ?? 0),
    };
  }

  private *told(work: Work, event: RemoteEvent): Generator<ClientEvent> {
    const atMs = work.deadline.elapsedMs();
    switch (event.case) {
      case "accepted":
        yield { kind: "accepted", atMs, queuePosition: event.value.queuePosition, joined: event.value.joined };
        return;
      case "progress":
        yield { kind: "progress", atMs, stage: event.value.stage, done: event.value.step, total: event.value.of, unit: event.value.unit || "step" };
        return;
      case "preview":
        if (event.value.image) yield { kind: "preview", atMs, stage: event.value.stage, done: event.value.step, image: encodedPicture(event.value.image) };
        return;
      case "stageResult":
        yield* this.finish(work, this.finished(work, event.value, atMs));
        return;
      case "resumed":
        yield { kind: "resumed", atMs, reason: event.value };
        return;
      case "done":
        work.bytesUp += Number(event.value.bytesReceived);
        work.bytesDown += Number(event.value.bytesSent);
    }
  }

  private finished(work: Work, result: StageResult, atMs: number): StageFinished {
    const image: EncodedPicture | undefined = result.image && encodedPicture(result.image);
    const picture = image && rawPicture(image);
    if (result.context) work.handoff = { ...work.handoff, context: contextOf(result.context) };
    if (picture) work.handoff = { ...work.handoff, picture };
    const seconds = result.seconds[result.stage] ?? (result.seconds.tokenise ?? 0) + (result.context ? (result.seconds.encode ?? 0) : 0);
    return { kind: "stage", atMs, stage: result.stage, where: "server", loadMs: 0, ms: seconds * 1000, picture, image, engine: result.engine };
  }
}

/** Refuse options that contradict each other. */
function checkOptions({ bundle, engines, server, encoderOnServer }: ClientOptions, cut: number): void {
  const count = bundle?.components.length;
  if (cut > 0 && (bundle === undefined || engines === undefined)) {
    throw new InvalidRequest("bundle: a cut above 0 needs `bundle` and `engines`", { field: "bundle" });
  }
  if (!Number.isInteger(cut) || cut < 0 || cut > (count ?? 0)) {
    throw new InvalidRequest(`cut: expected 0 to ${count ?? 0}, got ${cut}`, { field: "cut" });
  }
  if (server === undefined && (cut !== count || encoderOnServer)) {
    throw new InvalidRequest("server: what does not run here needs one", { field: "server" });
  }
}

/** Whether an error is one of this package. */
export function isCascadeError(error: unknown): error is CascadeError {
  return error instanceof CascadeError;
}
