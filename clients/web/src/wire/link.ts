// The way to one server, by gRPC-Web: the handshake, and calls with one answer.

import { create } from "@bufbuild/protobuf";
import { type Client as ServiceClient, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { BundleMismatch, VersionMismatch } from "../errors.js";
import { errorOf } from "./failures.js";
import {
  CascadeService,
  type GenerateRequest as GenerateMessage,
  type GenerateResponse,
  GetServerInfoRequestSchema,
  type GetServerInfoResponse,
} from "./gen/protos/cascade/v1/cascade_pb.js";

const WIRE_VERSION = 1;
const HANDSHAKE_MS = 20_000;
const CANCEL_MS = 2_000;

/** Where the server is, and who calls. */
export interface LinkOptions {
  /** Address of the gRPC-Web proxy, `http://host:port`. */
  readonly server: string;
  /** A bearer token; only over TLS or on this machine. */
  readonly token?: string;
}

/** Signal and time of a call. */
export interface CallOptions {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

/** The way to one server. */
export class ServerLink {
  private readonly service: ServiceClient<typeof CascadeService>;
  private handshake: Promise<GetServerInfoResponse> | undefined;

  constructor(options: LinkOptions) {
    const withToken: Interceptor = (next) => async (call) => {
      call.header.set("authorization", `Bearer ${options.token}`);
      return next(call);
    };
    const interceptors = options.token ? [withToken] : [];
    this.service = createClient(CascadeService, createGrpcWebTransport({ baseUrl: options.server, interceptors }));
  }

  /** What the server tells of itself; asked once, and again after a failure. */
  info(bundleId?: string): Promise<GetServerInfoResponse> {
    this.handshake ??= this.shakeHands(bundleId).catch((error) => {
      this.handshake = undefined;
      throw error;
    });
    return this.handshake;
  }
  private async shakeHands(bundleId?: string): Promise<GetServerInfoResponse> {
    let info: GetServerInfoResponse;
    try {
      info = await this.service.getServerInfo(create(GetServerInfoRequestSchema), { timeoutMs: HANDSHAKE_MS });
    } catch (failure) {
      throw errorOf(failure);
    }
    if (info.wireVersion !== WIRE_VERSION) {
      throw new VersionMismatch(`wire version: this client has ${WIRE_VERSION}, the server ${info.wireVersion}`);
    }
    if (bundleId !== undefined && ![info.bundleId, ...info.bundleIds].includes(bundleId)) {
      const theirs = `${info.bundleName} ${(info.bundleIds[0] ?? info.bundleId).slice(0, 12)}`;
      throw new BundleMismatch(`the server runs another bundle (${theirs}) than this client (${bundleId.slice(0, 12)})`);
    }
    return info;
  }

  /** One attempt at a request: its events as they come. */
  async *generate(message: GenerateMessage, options: CallOptions): AsyncGenerator<GenerateResponse["event"]> {
    try {
      for await (const response of this.service.generate(message, options)) yield response.event;
    } catch (failure) {
      throw errorOf(failure);
    }
  }

  /** End a request by its id; failures are of no interest: the server ends it by itself. */
  cancel(requestId: string): void {
    this.service.cancel({ requestId }, { timeoutMs: CANCEL_MS }).catch(() => undefined);
  }
}
