// The face of the package, for pages, workers and Node.js.

export { Bundle, CacheStore, MemoryStore, type Source, type Store, type Traffic, UrlSource } from "./bundle/bundle.js";
export { bundleId, type Manifest } from "./bundle/manifest.js";
export { Client, type ClientOptions, isCascadeError } from "./client.js";
export { CheckedEngines } from "./engines/checked.js";
export type { Engine, Engines, GraphFiles, Tensor } from "./engines/engine.js";
export { OrtWasm, type WasmOptions } from "./engines/ort_wasm.js";
export * from "./errors.js";
export type { Picture } from "./picture.js";
export type { ClientEvent, EncodedPicture, EngineRefused, GenerateRequest, GenerateResult, StageFinished, StageOptions } from "./request.js";
export type { PictureFormat } from "./wire/messages.js";
