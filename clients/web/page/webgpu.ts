// Loaded by the worker when the graphics card is asked for.

export { OrtWebGpu } from "../src/engines/ort_webgpu.js";
