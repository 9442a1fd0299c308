// A bundle's table of contents, format 3: the fields that this client reads. Knows no files.

import type { EnlargeKind } from "../diffusion/conditioning.js";
import type { GuidanceSpec, PredictionKind, ThresholdSpec } from "../diffusion/estimates.js";
import type { SamplerKind } from "../diffusion/samplers.js";
import type { ScheduleSpec } from "../diffusion/schedule.js";
import { ManifestError } from "../errors.js";
import type { PassScheme } from "../pixels/scheme.js";

/** Version of the format that this client reads. */
export const FORMAT_VERSION = 3;

/** A file of the bundle. */
export interface FileEntry {
  readonly name: string;
  readonly sha256: string;
  readonly size_bytes: number;
}

/** A tensor of a graph; an axis is free where its length is a name. */
export interface TensorSpec {
  readonly name: string;
  readonly dtype: "float32" | "int64";
  readonly shape: readonly (number | string)[];
}

/** An exported graph; its float32 file runs here, or its form for browsers. */
export interface GraphSpec {
  readonly file: string;
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  /** Name of the file that holds the large weights; absent where the graph does. */
  readonly weights?: string | null;
  /** Right on WebGPU too; absent where the file itself is, or the bundle was exported without. */
  readonly web_form?: { readonly file: string } | null;
}

/** What crosses the boundary of a component. */
export interface Boundary {
  readonly kind: "prompt" | "label" | "context" | "image" | "tensor";
  readonly width?: number;
  readonly height?: number;
}

interface Component {
  readonly name: string;
  readonly graphs: Readonly<Record<string, GraphSpec>>;
  readonly starts_from: readonly Boundary[];
  readonly makes: Boundary;
}

/** Turns a prompt into a context. */
export interface TextEncoderSpec extends Component {
  readonly family: "text_encoder";
  readonly tokenizer_file: string;
  readonly max_tokens: number;
  /** Widths by name of what it makes beside its context; absent where that is nothing. */
  readonly vectors?: Readonly<Record<string, number>>;
  readonly pad_token: number | null;
}

/** Denoises: a base stage, or super-resolution if it starts from a picture. */
export interface DiffusionSpec extends Component {
  readonly family: "diffusion";
  readonly schedule: ScheduleSpec;
  readonly prediction: PredictionKind;
  readonly sampler: SamplerKind;
  readonly steps: number;
  readonly timesteps: readonly number[];
  readonly gamma: number;
  readonly guidance: GuidanceSpec;
  readonly null_context: "mask" | { readonly file: string; readonly tokens: number };
  readonly threshold: ThresholdSpec;
  readonly enlarge: EnlargeKind;
  /** What it reads beside words and picture; absent where that is nothing. */
  readonly vectors?: readonly { readonly name: string }[];
  /** `noise` where left out. */
  readonly start?: string;
  readonly augmentation: null | {
    readonly default: number;
    readonly lowest: number;
    readonly highest: number;
    readonly schedule: ScheduleSpec;
    /** What the noise is added to; absent for the enlarged picture. */
    readonly applied_to?: string;
  };
}

/** Makes its picture by groups of pixels. */
export interface PixelSpec extends Component {
  readonly family: "pixels";
  readonly scheme: PassScheme;
  readonly arithmetic: "exact" | "float";
  readonly temperature_16: number;
  readonly floor_16: number;
  readonly guidance_16: number;
  readonly augmentation: null | { readonly default: number; readonly lowest: number; readonly highest: number };
}

/** A component of a family that this client runs. */
export type ComponentSpec = TextEncoderSpec | DiffusionSpec | PixelSpec;

/** The whole table. */
export interface Manifest {
  readonly format_version: number;
  readonly name: string;
  readonly licence: string;
  readonly components: readonly ComponentSpec[];
  readonly files: readonly FileEntry[];
}

/** The manifest of bytes of `manifest.json`. */
export function readManifest(bytes: Uint8Array): Manifest {
  let found: Manifest;
  try {
    found = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new ManifestError("manifest.json: not JSON in UTF-8", { cause });
  }
  if (found.format_version !== FORMAT_VERSION) {
    const message = `manifest.format_version: expected ${FORMAT_VERSION}, got ${found.format_version}`;
    throw new ManifestError(`${message}; \`cascade upgrade\` converts older bundles`, { field: "format_version" });
  }
  return found;
}

/** Lower-case hexadecimal of the sha256. */
export async function sha256Hex(bytes: Uint8Array): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as BufferSource));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The id of a bundle whose manifest this project wrote: the sha256 without white space outside strings. */
export async function bundleId(bytes: Uint8Array): Promise<string> {
  const text = new TextDecoder().decode(bytes);
  const canonical = text.replace(/("(?:[^"\\]|\\.)*")|\s+/g, (_, quoted: string | undefined) => quoted ?? "");
  return sha256Hex(new TextEncoder().encode(canonical));
}
