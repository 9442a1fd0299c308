// How Chromium is started by tests.

/** Without the last five Chromium asks hosts of its maker at every start. */
export const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

/** A software adapter for WebGPU: right and slow. */
export const GPU_FLAGS = [...FLAGS.filter((flag) => flag !== "--disable-gpu"), "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"];
