// What the page and its worker send each other.

import type { GenerateRequest } from "../src/request.js";
import type { PictureFormat } from "../src/wire/messages.js";

/** How the worker's client is made. */
export interface Settings {
  readonly cut: number;
  readonly encoderOnServer: boolean;
  readonly fallback: boolean;
  /** Whether the graphics card is tried. */
  readonly gpu: boolean;
  /** Of the server's pictures. */
  readonly format: PictureFormat;
}

/** To the worker. */
export type Ask =
  | { readonly kind: "draw"; readonly id: number; readonly settings: Settings; readonly request: Omit<GenerateRequest, "signal"> }
  | { readonly kind: "cancel"; readonly id: number }
  | { readonly kind: "keep"; readonly id: number };

/** A component that is done. */
export interface StageRow {
  readonly stage: string;
  readonly where: "here" | "server";
  readonly engine: string;
  readonly loadMs: number;
  readonly ms: number;
  readonly atMs: number;
  /** Of its pixels, RGB; empty where it makes no picture. */
  readonly sha256: string;
  /** The format that lost pixels on the way from the server; empty where none did. */
  readonly lossy: string;
}

/** A picture to look at, and the same small. */
export interface Shown {
  readonly large: ImageBitmap;
  readonly small: ImageBitmap;
}

/** What the whole picture took. */
export interface Totals {
  readonly totalMs: number;
  readonly bytesUp: number;
  readonly bytesDown: number;
}

/** From the worker; of request `id` but for `ready` and `traffic`. */
export type Tell =
  | { readonly kind: "ready"; readonly bundle: string; readonly components: readonly string[] }
  | { readonly kind: "traffic"; readonly fetchedBytes: number; readonly storedBytes: number }
  | { readonly kind: "progress"; readonly id: number; readonly stage: string; readonly done: number; readonly total: number }
  | { readonly kind: "stage"; readonly id: number; readonly row: StageRow; readonly shown?: Shown }
  | { readonly kind: "note"; readonly id: number; readonly text: string }
  | { readonly kind: "remark"; readonly id: number; readonly text: string }
  | { readonly kind: "finished"; readonly id: number; readonly totals: Totals; readonly file: Blob }
  | { readonly kind: "kept"; readonly id: number }
  | { readonly kind: "failed"; readonly id: number; readonly reason: string; readonly message: string };
