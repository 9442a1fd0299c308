// Failures of a call as errors of this package: by the reason that our servers give, else by the code.

import { BinaryReader } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";
import * as errors from "../errors.js";

const DOMAIN = "cascade.v1";

interface Details {
  reason: string;
  domain: string;
  field: string;
  retryAfterS: number | null;
}

/** Every field of a message, as `[number, reader]`; what the caller does not read it must skip. */
function* fields(bytes: Uint8Array): Generator<[field: number, reader: BinaryReader, wire: number]> {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag();
    yield [number, reader, wire];
  }
}

function readDetail(type: string, value: Uint8Array, into: Details): void {
  for (const [number, reader, wire] of fields(value)) {
    if (type === "google.rpc.ErrorInfo" && number === 1) into.reason = reader.string();
    else if (type === "google.rpc.ErrorInfo" && number === 2) into.domain = reader.string();
    else if (type === "google.rpc.BadRequest" && number === 1) readViolation(reader.bytes(), into);
    else if (type === "google.rpc.RetryInfo" && number === 1) into.retryAfterS = readDuration(reader.bytes());
    else reader.skip(wire);
  }
}

function readViolation(value: Uint8Array, into: Details): void {
  for (const [number, reader, wire] of fields(value)) {
    if (number === 1 && !into.field) into.field = reader.string();
    else reader.skip(wire);
  }
}

function readDuration(value: Uint8Array): number {
  let seconds = 0;
  for (const [number, reader, wire] of fields(value)) {
    if (number === 1) seconds += Number(reader.int64());
    else if (number === 2) seconds += reader.int32() / 1e9;
    else reader.skip(wire);
  }
  return seconds;
}

const BY_CODE: Partial<Record<Code, typeof errors.CascadeError>> = {
  [Code.InvalidArgument]: errors.InvalidRequest,
  [Code.DeadlineExceeded]: errors.DeadlineExceeded,
  [Code.ResourceExhausted]: errors.ServerBusy,
  [Code.Unauthenticated]: errors.Unauthenticated,
  [Code.PermissionDenied]: errors.PermissionDenied,
  [Code.Canceled]: errors.Cancelled,
};

/** The error that a failed call means. */
export function errorOf(failure: unknown): errors.CascadeError {
  if (failure instanceof errors.CascadeError) return failure;
  const error = ConnectError.from(failure);
  const found: Details = { reason: "", domain: "", field: "", retryAfterS: null };
  for (const detail of error.details) {
    if ("type" in detail && detail.value instanceof Uint8Array) readDetail(detail.type, detail.value, found);
  }
  const ours = found.domain === DOMAIN ? errors.ERRORS_BY_REASON[found.reason] : undefined;
  // What no server of ours said comes from the network or from a proxy on the way.
  const kind = ours ?? BY_CODE[error.code] ?? errors.TransportError;
  const { field, retryAfterS } = found;
  return new kind(error.rawMessage, { field, retryAfterS, cause: failure });
}
