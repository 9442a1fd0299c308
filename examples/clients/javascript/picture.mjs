// A picture from a prompt, every component on the server (cut 0): no torch, no bundle, no embeddings.
//
//     node picture.mjs HOST:PORT "a red apple, noto style" apple.png
//
// CASCADE_CA names the PEM file of the authority to trust and switches TLS on; CASCADE_TOKEN is sent
// as the bearer token. cascade.proto lies beside this file.
import { randomUUID } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const MAX_RESUMES = 8;
const DEADLINE_S = 120;
// 8 MiB is the largest message of a server; the default of gRPC is 4.
const OPTIONS = {
  "grpc.max_receive_message_length": 8 * 1024 * 1024,
  "grpc.keepalive_time_ms": 10_000,
  "grpc.keepalive_timeout_ms": 5_000,
};
const FORMATS = { png: "IMAGE_FORMAT_PNG", webp: "IMAGE_FORMAT_WEBP", jpg: "IMAGE_FORMAT_JPEG" };

const proto = fileURLToPath(new URL("cascade.proto", import.meta.url));
const definition = protoLoader.loadSync(proto, { keepCase: true, longs: String, enums: String });
const { CascadeService } = grpc.loadPackageDefinition(definition).cascade.v1;

/** A client of one server: over TLS where CASCADE_CA names an authority, with CASCADE_TOKEN. */
export function connect(address) {
  const { CASCADE_CA: ca, CASCADE_TOKEN: token } = process.env;
  const channel = ca ? grpc.credentials.createSsl(readFileSync(ca)) : grpc.credentials.createInsecure();
  const metadata = new grpc.Metadata();
  if (token) metadata.set("authorization", `Bearer ${token}`);
  return { stub: new CascadeService(address, channel, OPTIONS), metadata };
}

/** Versions, bundle and components of the server. */
function serverInfo({ stub, metadata }, deadline) {
  return new Promise((resolve, reject) => {
    const done = (error, info) => (error ? reject(error) : resolve(info));
    stub.GetServerInfo({}, metadata, { deadline, waitForReady: true }, done);
  });
}

/** The bytes of the last picture; after a broken connection the same request is sent again. */
export async function generate(connection, { prompt, seed = 0, format = "png", onEvent = () => {} }) {
  const deadline = new Date(Date.now() + DEADLINE_S * 1000);
  const info = await serverInfo(connection, deadline);
  if (info.wire_version !== 1) throw new Error(`wire version ${info.wire_version}, expected 1`);
  const request = {
    request_id: randomUUID(),
    bundle_id: info.bundle_ids[0],
    prompt: { prompt },
    seed,
    output: { format: FORMATS[format], previews: 2 },
    linger_seconds: 10,
  };
  const results = [];
  for (let resumes = 0; ; resumes += 1) {
    try {
      const again = { ...request, results_held: results.length };
      const events = connection.stub.Generate(again, connection.metadata, { deadline, waitForReady: true });
      for await (const event of events) {
        if (event.stage_result) results.push(event.stage_result);
        onEvent(event);
      }
      return results.at(-1).image.data;
    } catch (error) {
      if (error.code !== grpc.status.UNAVAILABLE || resumes === MAX_RESUMES) throw error;
      console.log(`resuming with ${results.length} results: ${error.details}`);
    }
  }
}

let finished = "";

function show({ accepted, progress, preview, stage_result: result }) {
  if (accepted) console.log(`accepted, joined: ${accepted.joined ?? false}`);
  // The server repeats the last progress after 4 s in which it has nothing else to send.
  if (progress && progress.step === progress.of && progress.stage !== finished) {
    finished = progress.stage;
    console.log(`${progress.stage}: ${progress.of} steps`);
  }
  if (preview) console.log(`${preview.stage}: preview of ${preview.image.data.length} bytes`);
  if (result?.image) console.log(`${result.stage}: ${result.image.width}x${result.image.height}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [address, prompt, file, seed = 0] = process.argv.slice(2);
  const connection = connect(address);
  try {
    const data = await generate(connection, { prompt, seed, format: file.split(".").at(-1), onEvent: show });
    writeFileSync(file, data);
    console.log(`${file}: ${data.length} bytes`);
  } catch (error) {
    console.error(`error: ${error.message}`);
    process.exitCode = 1;
  } finally {
    connection.stub.close();
  }
}
