import { askAdmin } from "./admin-client.ts";

export interface GatewayProof {
  readonly says: string;
  readonly holds: boolean;
}

/** What a gateway's own process says of the keys that it has and of what it does with connections. */
export async function gatewayProofs(adminSocket: string, identity: string): Promise<readonly GatewayProof[]> {
  const [certs, dump] = await Promise.all([askAdmin(adminSocket, "/certs"), askAdmin(adminSocket, "/config_dump")]);
  return judgeGateway({ certs: certs.text, dump: dump.text, identity });
}

/** The same, from the texts of `/certs` and `/config_dump`. What cannot be read proves nothing. */
export function judgeGateway(said: {
  readonly certs: string;
  readonly dump: string;
  readonly identity: string;
}): readonly GatewayProof[] {
  const certificates = arrayOf((parse(said.certs) as { certificates?: unknown } | undefined)?.certificates);
  const identities = certificates.map((one) => String((one as { identity?: unknown } | null)?.identity));
  const resources = arrayOf(parse(said.dump)) as readonly { type?: unknown; resource?: unknown }[];
  const listeners = resources.filter(({ type }) => String(type).endsWith(".Listener"));
  const passing = listeners.flatMap(({ resource }) => chainsOf(resource));
  const secrets = resources.filter(({ type }) => String(type).endsWith(".Secret"));
  return [
    {
      says: `the gateway has one identity, its own: ${identities.join(", ") || "none"}`,
      holds: identities.length === 1 && identities[0] === said.identity,
    },
    {
      says: "the gateway was told no key, and none of its listeners ends TLS",
      holds:
        passing.length > 0 &&
        passing.every((chain) => !(typeof chain === "object" && chain !== null && "transportSocket" in chain)) &&
        secrets.length === 0 &&
        !/PRIVATE KEY|inlineBytes|inline_bytes/.test(said.dump),
    },
  ];
}

function chainsOf(listener: unknown): readonly unknown[] {
  const { filterChains, defaultFilterChain } = (listener ?? {}) as {
    filterChains?: unknown;
    defaultFilterChain?: unknown;
  };
  return [...arrayOf(filterChains), ...(defaultFilterChain === undefined ? [] : [defaultFilterChain])];
}

function arrayOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
