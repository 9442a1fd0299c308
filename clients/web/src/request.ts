// What a caller asks for, what components hand to one another, and what happens meanwhile: as values.

import { Cancelled, CascadeError, InvalidRequest } from "./errors.js";
import { MAX_SEED } from "./numerics/philox.js";
import type { Picture } from "./picture.js";
import type { Context } from "./text/context.js";
import type { PictureFormat } from "./wire/messages.js";

/** Choices for one component by its name; what is not set takes the bundle's default. */
export interface StageOptions {
  /** Of a diffusion stage. */
  readonly steps?: number;
  /** Of a diffusion stage: weight w of uncond + w (cond - uncond); 1 is no guidance. */
  readonly guidance?: number;
  readonly augmentation?: number;
  /** Of a pixel stage, in sixteenths, as the following two. */
  readonly temperature16?: number;
  readonly floor16?: number;
  readonly guidance16?: number;
}

/** One picture to be made. */
export interface GenerateRequest {
  readonly prompt: string;
  /** 0 to 2^64 - 1; a number only up to 2^53, above it a bigint or its decimal text. */
  readonly seed?: number | bigint | string;
  readonly imageIndex?: number;
  readonly options?: Readonly<Record<string, StageOptions>>;
  /** Ends the work, here and on the server. */
  readonly signal?: AbortSignal;
  /** Milliseconds for everything; 300,000 unless set. */
  readonly timeoutMs?: number;
}

/** What a component leaves to the next. */
export interface Handoff {
  readonly prompt?: string;
  readonly context?: Context;
  readonly picture?: Picture;
}

/** A picture as the server encoded it. */
export interface EncodedPicture {
  readonly width: number;
  readonly height: number;
  readonly type: "image/png" | "image/webp" | "image/jpeg" | "image/avif" | "raw";
  readonly format: PictureFormat;
  /** Whether it lost pixels on its way; previews always have. */
  readonly isLossy: boolean;
  readonly data: Uint8Array;
}

/** What happens while a picture is made, in order. `atMs` counts from the call. */
export type ClientEvent =
  | { readonly kind: "accepted"; readonly atMs: number; readonly queuePosition: number; readonly joined: boolean }
  | { readonly kind: "progress"; readonly atMs: number; readonly stage: string; readonly done: number; readonly total: number; readonly unit: string }
  | { readonly kind: "preview"; readonly atMs: number; readonly stage: string; readonly done: number; readonly image: EncodedPicture }
  | StageFinished
  | { readonly kind: "resumed"; readonly atMs: number; readonly reason: string }
  | EngineRefused
  | { readonly kind: "fellBack"; readonly atMs: number; readonly from: string; readonly reason: string }
  | { readonly kind: "finished"; readonly atMs: number; readonly result: GenerateResult };

/** An engine that was asked for computes a component wrongly on this device, or not at all: another one runs it. */
export interface EngineRefused {
  readonly kind: "engineRefused";
  readonly atMs: number;
  readonly stage: string;
  /** What runs it instead. */
  readonly engine: string;
  readonly reason: string;
}

/** A component is done. */
export interface StageFinished {
  readonly kind: "stage";
  readonly atMs: number;
  readonly stage: string;
  readonly where: "here" | "server";
  /** Milliseconds until its files were there and its networks open; 0 on a server. */
  readonly loadMs: number;
  /** Milliseconds of the component itself. */
  readonly ms: number;
  /** Made here, or sent raw. */
  readonly picture?: Picture;
  /** Made on the server. */
  readonly image?: EncodedPicture;
  readonly engine: string;
}

/** What a finished request comes to. */
export interface GenerateResult {
  readonly seed: string;
  readonly stages: readonly StageFinished[];
  readonly bytesUp: number;
  readonly bytesDown: number;
  readonly totalMs: number;
}

/** The seed of a request, checked. */
export function seedOf(request: GenerateRequest): bigint {
  const given = request.seed ?? 0;
  const isRounded = typeof given === "number" && !Number.isSafeInteger(given);
  const isDecimal = typeof given !== "string" || /^\d{1,20}$/.test(given);
  const seed = isRounded || !isDecimal ? -1n : BigInt(given);
  if (seed < 0n || seed > MAX_SEED) {
    const hint = isRounded ? "; above 2^53 give a bigint or text" : "";
    throw new InvalidRequest(`seed: expected 0 to 2^64 - 1, got ${given}${hint}`, { field: "seed" });
  }
  return seed;
}

/** Raise the reason of a request that has ended: its time is over, or its caller gave up. */
export function refuseCancelled(signal: AbortSignal | undefined): void {
  if (!signal?.aborted) return;
  throw signal.reason instanceof CascadeError ? signal.reason : new Cancelled("the caller gave up", { cause: signal.reason });
}
