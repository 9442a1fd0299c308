// A form of a graph completed by the weights that the graph's own file holds. Knows the wire format of protobuf alone.

import { ManifestError } from "../errors.js";

const LENGTH_DELIMITED = 2;
const [GRAPH, NODE, INITIALIZER, INPUT] = [7, 1, 5, 11];
const [NODE_INPUT, NODE_OUTPUT, TENSOR_NAME, VALUE_NAME] = [1, 2, 8, 1];
const utf8 = new TextDecoder();

/** The form with every weight that it names. Messages written one after the other are merged, repeated fields joined: to attach is to append. */
export function attachWeights(form: Uint8Array, stored: Uint8Array, name: string): Uint8Array {
  const wanted = missing(form);
  const parts: Uint8Array[] = [];
  for (const graph of children(stored, GRAPH)) {
    for (const tensor of children(graph, INITIALIZER)) {
      if (wanted.delete(text(tensor, TENSOR_NAME))) parts.push(header(INITIALIZER, tensor.length), tensor);
    }
  }
  const [absent] = wanted;
  if (absent !== undefined) throw new ManifestError(`${name}: '${absent}' is neither in it nor in the file it belongs to`, { field: name });
  const size = parts.reduce((total, part) => total + part.length, 0);
  return joined([form, header(GRAPH, size), ...parts]);
}

/** Names that nodes of a graph read and nothing in it defines. */
function missing(model: Uint8Array): Set<string> {
  const [read, defined] = [new Set<string>(), new Set([""])];
  for (const graph of children(model, GRAPH)) {
    for (const tensor of children(graph, INITIALIZER)) defined.add(text(tensor, TENSOR_NAME));
    for (const value of children(graph, INPUT)) defined.add(text(value, VALUE_NAME));
    for (const node of children(graph, NODE)) {
      for (const name of children(node, NODE_INPUT)) read.add(utf8.decode(name));
      for (const name of children(node, NODE_OUTPUT)) defined.add(utf8.decode(name));
    }
  }
  for (const name of defined) read.delete(name);
  return read;
}

/** The messages or strings in one field of a message. */
function* children(parent: Uint8Array, field: number): Generator<Uint8Array> {
  let at = 0;
  const varint = (): number => {
    let [value, scale] = [0, 1];
    for (;;) {
      const byte = parent[at++];
      if (byte === undefined) throw new ManifestError("a graph is truncated or not an ONNX file");
      value += (byte & 0x7f) * scale;
      scale *= 128;
      if (byte < 0x80) return value;
    }
  };
  while (at < parent.length) {
    const tag = varint();
    const kind = tag % 8;
    if (kind === 0) varint();
    else if (kind === LENGTH_DELIMITED) {
      const length = varint();
      if (Math.floor(tag / 8) === field) yield parent.subarray(at, at + length);
      at += length;
    } else at += kind === 1 ? 8 : 4;
  }
}

function text(parent: Uint8Array, field: number): string {
  let found = "";
  for (const body of children(parent, field)) found = utf8.decode(body);
  return found;
}

function header(field: number, length: number): Uint8Array {
  const bytes = [(field << 3) | LENGTH_DELIMITED];
  for (; length > 0x7f; length = Math.floor(length / 128)) bytes.push((length % 128) | 0x80);
  return Uint8Array.from([...bytes, length]);
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
