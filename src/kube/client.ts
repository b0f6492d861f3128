import { Agent as HttpAgent, request as httpRequest, type IncomingMessage, type RequestOptions } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { type Clock, Failure, type Scope } from "../base/index.ts";
import { materialText, type Proof, proofSource } from "./credentials.ts";
import type { KubeAccess } from "./kubeconfig.ts";
import { refusal } from "./refusal.ts";

export interface KubeRequest {
  readonly method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Begins with a slash: `/api/v1/namespaces`. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly body?: unknown;
  readonly contentType?: string;
  readonly signal?: AbortSignal;
  /** Until the whole answer is there, in milliseconds; 30 s unless told otherwise. For a stream: until it begins. */
  readonly timeoutMs?: number;
}

/** An API server, as one caller sees it. Every failure is a `Failure` with a `kube/…` code. */
export interface KubeClient {
  readonly access: KubeAccess;
  /** The answer's JSON. Throws for any status from 400. */
  json<T = unknown>(request: KubeRequest): Promise<T>;
  /** The answer's bytes as they come. Throws for any status from 400. Destroy it to end it. */
  stream(request: KubeRequest): Promise<IncomingMessage>;
}

export interface KubeClientOptions {
  readonly access: KubeAccess;
  readonly clock: Clock;
  /** What programs that give credentials start with. */
  readonly env: NodeJS.ProcessEnv;
  /** `User-Agent`, by which an administrator finds the caller in the audit log. */
  readonly userAgent: string;
}

const defaultTimeoutMs = 30_000;
/** Longest answer that is read whole. An object has 1.5 MiB at most (etcd's limit); a page has several hundred. */
const longestAnswer = 256 * 1024 * 1024;
/** Dead peers are found by the kernel this soon. */
const keepAliveMs = 15_000;
/** Kubernetes' own clients keep this many idle connections or fewer. */
const idleSockets = 16;

export function createKubeClient(options: KubeClientOptions, scope: Scope): KubeClient {
  const { access, clock, env, userAgent } = options;
  const proofs = proofSource(access.credentials, { clock, env });
  const secure = access.server.startsWith("https:");
  const agentOptions = { keepAlive: true, keepAliveMsecs: keepAliveMs, maxFreeSockets: idleSockets };
  const agent = secure ? new HttpsAgent(agentOptions) : new HttpAgent(agentOptions);
  scope.defer(() => agent.destroy());
  let authority: Promise<string | undefined> | undefined;

  /** Headers arrived, whatever the status. */
  async function send(request: KubeRequest, proof: Proof): Promise<IncomingMessage> {
    authority ??= access.authority ? materialText(access.authority) : Promise.resolve(undefined);
    const ca = await authority.catch((caught) => {
      authority = undefined;
      throw caught;
    });
    const body = request.body === undefined ? undefined : Buffer.from(JSON.stringify(request.body));
    const tls = {
      ...(ca === undefined ? {} : { ca }),
      ...(access.serverName === undefined ? {} : { servername: access.serverName }),
      rejectUnauthorized: !access.insecure,
      ...proof.certificate,
    };
    const requestOptions: RequestOptions = {
      method: request.method ?? "GET",
      agent,
      headers: {
        accept: "application/json",
        "user-agent": userAgent,
        ...(proof.authorization === undefined ? {} : { authorization: proof.authorization }),
        ...(body ? { "content-type": request.contentType ?? "application/json", "content-length": body.length } : {}),
      },
      ...(request.signal ? { signal: request.signal } : {}),
      ...(secure ? tls : {}),
    };
    return await new Promise((resolve, reject) => {
      const sent = (secure ? httpsRequest : httpRequest)(urlOf(access, request), requestOptions);
      const timer = clock.after(request.timeoutMs ?? defaultTimeoutMs, () =>
        sent.destroy(new Error("no answer in time")),
      );
      sent.once("response", (response) => {
        timer.cancel();
        resolve(response);
      });
      sent.once("error", (error) => {
        timer.cancel();
        reject(unreachable(access, error));
      });
      sent.end(body);
    });
  }

  /** A good answer's head. Credentials that were refused are made anew, once. */
  async function answered(request: KubeRequest): Promise<IncomingMessage> {
    for (let attempt = 1; ; attempt++) {
      const response = await send(request, await proofs.current());
      if ((response.statusCode ?? 0) < 400) return response;
      const text = await textOf(response, request).catch(() => "");
      if (response.statusCode === 401 && attempt === 1) {
        proofs.refused();
        continue;
      }
      throw refusal({
        status: response.statusCode ?? 0,
        text,
        method: request.method ?? "GET",
        path: request.path,
        access,
      });
    }
  }

  async function textOf(response: IncomingMessage, request: KubeRequest): Promise<string> {
    const timer = clock.after(request.timeoutMs ?? defaultTimeoutMs, () =>
      response.destroy(new Error("the answer did not end in time")),
    );
    const chunks: Buffer[] = [];
    let length = 0;
    try {
      for await (const chunk of response) {
        length += (chunk as Buffer).length;
        if (length > longestAnswer) throw new Error(`the answer is longer than ${longestAnswer} bytes`);
        chunks.push(chunk as Buffer);
      }
    } catch (caught) {
      throw unreachable(access, caught as Error);
    } finally {
      timer.cancel();
    }
    return Buffer.concat(chunks).toString("utf8");
  }

  return {
    access,
    async json<T>(request: KubeRequest) {
      const text = await textOf(await answered(request), request);
      try {
        return JSON.parse(text) as T;
      } catch (cause) {
        const message = `"${access.server}" answered ${request.path} with something that is no JSON`;
        throw new Failure("kube/not-kubernetes", message, { hint: "is this the address of an API server?", cause });
      }
    },
    stream: answered,
  };
}

function urlOf(access: KubeAccess, { path, query = {} }: KubeRequest): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) search.set(name, String(value));
  const text = search.toString();
  return `${access.server}${path}${text === "" ? "" : `?${text}`}`;
}

/** Node's codes for a certificate that does not hold (they come from OpenSSL). */
const certificateCodes = /^(UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|CERT_|ERR_TLS_CERT_)/;

function unreachable(access: KubeAccess, cause: Error): Failure {
  const { code = "" } = cause as NodeJS.ErrnoException;
  const where = `the API server "${access.server}" (${access.name})`;
  if (certificateCodes.test(code)) {
    return new Failure("kube/certificate", `${where} showed a certificate that does not hold: ${cause.message}`, {
      hint: "the kubeconfig's certificate-authority must be the one that signed it",
      cause,
    });
  }
  return new Failure("kube/unreachable", `cannot reach ${where}: ${cause.message || code}`, { cause });
}
