// How Chromium is started by tests.

/** Without the last five Chromium asks hosts of its maker at every start. */
export const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
