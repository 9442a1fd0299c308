// What only pages with WebGPU use; apart from the rest, for it brings another build of ONNX Runtime.

export { OrtWebGpu, type WebGpuOptions } from "./engines/ort_webgpu.js";
