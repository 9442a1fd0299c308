// Requests as messages of the wire, and pictures of the wire as values.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Handoff, EncodedPicture, StageOptions } from "../request.js";
import type { Picture } from "../picture.js";
import type { Context } from "../text/context.js";
import {
  type ContextReferenceSchema,
  Dtype,
  type GenerateRequest as GenerateMessage,
  GenerateRequestSchema,
  type Image,
  ImageFormat,
  type StageOptionsSchema,
  type Tensor,
} from "./gen/protos/cascade/v1/cascade_pb.js";

/** How results are sent; png, webp and raw keep every pixel, the others do not. */
export type PictureFormat = "png" | "webp" | "raw" | "jpeg" | "webp90" | "avif";

const FORMATS: Record<PictureFormat, ImageFormat> = {
  png: ImageFormat.PNG,
  webp: ImageFormat.WEBP,
  raw: ImageFormat.RAW,
  jpeg: ImageFormat.JPEG,
  webp90: ImageFormat.WEBP90,
  avif: ImageFormat.AVIF,
};
const NAMES = new Map(Object.entries(FORMATS).map(([name, number]) => [number, name as PictureFormat]));
const LOSSY: readonly PictureFormat[] = ["jpeg", "webp90", "avif"];
const TYPES: Record<PictureFormat, EncodedPicture["type"]> = {
  png: "image/png",
  webp: "image/webp",
  raw: "raw",
  jpeg: "image/jpeg",
  webp90: "image/webp",
  avif: "image/avif",
};

/** What is asked of a server. */
export interface Call {
  readonly requestId: string;
  readonly bundleId: string;
  readonly handoff: Handoff;
  readonly seed: bigint;
  readonly imageIndex: number;
  readonly firstStage: string;
  readonly lastStage: string;
  /** By component: its family and what was chosen. */
  readonly options: readonly { name: string; family: string; chosen: StageOptions }[];
  readonly format: PictureFormat;
  readonly previews: number;
  readonly lingerSeconds: number;
}

function reference(context: Context): MessageInitShape<typeof ContextReferenceSchema> {
  const tensor = { shape: [context.tokens, context.width], dtype: Dtype.FLOAT16, data: context.data };
  return { reference: { case: "tensor", value: tensor } };
}

function start(handoff: Handoff): MessageInitShape<typeof GenerateRequestSchema>["start"] {
  const context = handoff.context && reference(handoff.context);
  if (handoff.picture) {
    const { width, height, data } = handoff.picture;
    return { case: "image", value: { context, image: { width, height, format: ImageFormat.RAW, data } } };
  }
  if (context) return { case: "context", value: { context } };
  return { case: "prompt", value: { prompt: handoff.prompt ?? "" } };
}

function stageOptions(family: string, chosen: StageOptions): MessageInitShape<typeof StageOptionsSchema> {
  const { steps, guidance, augmentation, temperature16, floor16, guidance16 } = chosen;
  if (family === "pixels") {
    return { family: { case: "pixels", value: { temperature16, floor16, guidance16, augmentation } } };
  }
  const value = { steps, guidance, augmentation };
  // Said twice: servers from before families know only the fields beside.
  return { ...value, family: { case: "diffusion", value } };
}

/** The message of a call. */
export function generateMessage(call: Call): GenerateMessage {
  return create(GenerateRequestSchema, {
    requestId: call.requestId,
    bundleId: call.bundleId,
    start: start(call.handoff),
    seed: call.seed,
    imageIndex: call.imageIndex,
    firstStage: call.firstStage,
    lastStage: call.lastStage,
    options: Object.fromEntries(call.options.map(({ name, family, chosen }) => [name, stageOptions(family, chosen)])),
    output: { format: FORMATS[call.format], previews: call.previews },
    lingerSeconds: call.lingerSeconds,
  });
}

/** The format that is wanted, or png where a server cannot send it; servers from before they told can send all but the last. */
export function offered(wanted: PictureFormat, formats: readonly ImageFormat[]): PictureFormat {
  const isKnown = formats.length ? formats.includes(FORMATS[wanted]) : wanted !== "avif";
  return isKnown ? wanted : "png";
}

/** A picture as it came. */
export function encodedPicture(image: Image): EncodedPicture {
  const format = NAMES.get(image.format) ?? "raw";
  const { width, height, data } = image;
  return { width, height, type: TYPES[format], format, isLossy: LOSSY.includes(format), data };
}

/** The pixels of a picture that came raw; undefined for one that has to be decoded. */
export function rawPicture(image: EncodedPicture): Picture | undefined {
  return image.type === "raw" ? { width: image.width, height: image.height, data: image.data } : undefined;
}

/** A context as it came. */
export function contextOf(tensor: Tensor): Context {
  return { tokens: tensor.shape[0], width: tensor.shape[1], data: tensor.data };
}
