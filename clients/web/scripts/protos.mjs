// Generates src/wire/gen from the contract, with protoc of the Python package grpcio-tools.

import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";

/** Exits with an error that names what is missing. */
export function generateProtos() {
  const python = process.env.PYTHON ?? "../../.venv/bin/python";
  mkdirSync("src/wire/gen", { recursive: true });
  const program = "import sys, grpc_tools.protoc as p; sys.exit(p.main(['protoc', *sys.argv[1:]]))";
  const words = ["--plugin=protoc-gen-es=node_modules/.bin/protoc-gen-es", "--es_out=src/wire/gen", "--es_opt=target=ts"];
  const run = spawnSync(python, ["-c", program, "-I../..", ...words, "protos/cascade/v1/cascade.proto"], { stdio: "inherit" });
  if (run.status !== 0) {
    console.error(`${python} has no grpcio-tools, or failed: set PYTHON to an interpreter that has them`);
    process.exit(1);
  }
}
