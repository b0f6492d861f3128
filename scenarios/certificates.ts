import { makeKeyPair } from "../src/ca/index.ts";
import { issueCertificate, keyIdOf, type Signer } from "../src/ca/issue.ts";
import { publicKeyOf } from "../src/ca/keys.ts";
import { encodeSubject, type GeneralName, type Subject } from "../src/ca/names.ts";
import { encodePem } from "../src/ca/pem.ts";

/**
 * Certificates for TLS with the world outside the mesh, made when they are first asked for, the same for the whole run.
 * A scenario says `${CERT:shop}`, `${KEY:shop}` and `${CA:public}` in objects (base64 of PEM, as Secrets hold it),
 * and `trusts: public`, `shows: client` in calls. A new one is a row.
 */
const authorities = {
  /** Whom clients outside believe. */
  public: { commonName: "Scenarios Public CA" },
  /** Whom a gateway believes of its clients. */
  clients: { commonName: "Scenarios Client CA" },
  /** Nobody believes it. */
  stranger: { commonName: "Scenarios Unknown CA" },
} satisfies Record<string, Subject>;

type Authority = keyof typeof authorities;

interface Leaf {
  readonly issuer: Authority;
  readonly dns: readonly string[];
  /** Subject's common name; the first DNS name, or the row's. */
  readonly commonName?: string;
  readonly uris?: readonly string[];
  /** Days from now; negative: it is over. */
  readonly days?: number;
}

const leaves: Readonly<Record<string, Leaf>> = {
  shop: { issuer: "public", dns: ["shop.example.com"] },
  blog: { issuer: "public", dns: ["blog.example.com"] },
  wildcard: { issuer: "public", dns: ["*.example.com"] },
  expired: { issuer: "public", dns: ["shop.example.com"], days: -1 },
  client: { issuer: "clients", dns: ["client.example.com"], uris: ["spiffe://example.com/client"] },
  "other-client": { issuer: "clients", dns: ["other.example.com"] },
  "strange-client": { issuer: "stranger", dns: ["client.example.com"] },
  "strange-shop": { issuer: "stranger", dns: ["shop.example.com"] },
};

interface Made {
  readonly cert: string;
  readonly key: string;
  readonly signer: Signer;
}

const made = new Map<string, Made>();

/** A PEM by its part and name. Of a leaf, CA is its issuer's certificate. Throws for a name that is not in the tables. */
export function certificateValue(part: "CERT" | "KEY" | "CA", name: string): string {
  const leaf = Object.hasOwn(leaves, name) ? leaves[name] : undefined;
  if (leaf) {
    const { cert, key } = once(name, () => makeLeaf(name, leaf));
    return part === "CERT" ? cert : part === "KEY" ? key : authority(leaf.issuer).cert;
  }
  if (Object.hasOwn(authorities, name)) {
    const { cert, key } = authority(name as Authority);
    return part === "KEY" ? key : cert;
  }
  const known = [...Object.keys(leaves), ...Object.keys(authorities)].join(", ");
  throw new Error(`there is no certificate "${name}"; there is ${known}`);
}

function once(name: string, make: () => Made): Made {
  const known = made.get(name) ?? make();
  made.set(name, known);
  return known;
}

function authority(name: Authority): Made {
  return once(`ca ${name}`, () =>
    make({ subject: authorities[name], names: [], ca: true, days: 30, signer: undefined }),
  );
}

function makeLeaf(name: string, { issuer, dns, uris = [], commonName, days = 7 }: Leaf): Made {
  return make({
    subject: { organization: "Scenarios", commonName: commonName ?? dns[0] ?? name },
    names: [
      ...dns.map((value): GeneralName => ({ kind: "dns", value })),
      ...uris.map((value): GeneralName => ({ kind: "uri", value })),
    ],
    ca: false,
    days,
    signer: authority(issuer).signer,
  });
}

const dayMs = 24 * 3_600_000;

function make(options: {
  readonly subject: Subject;
  readonly names: readonly GeneralName[];
  readonly ca: boolean;
  readonly days: number;
  /** Itself when undefined. */
  readonly signer: Signer | undefined;
}): Made {
  const { subject, names, ca, days } = options;
  const { privateKey } = makeKeyPair("ec-p256");
  const publicKey = publicKeyOf(privateKey);
  const signer: Signer = { subject: encodeSubject(subject), keyId: keyIdOf(publicKey), privateKey };
  const now = Date.now();
  const der = issueCertificate(
    {
      subject,
      publicKey,
      names,
      notBefore: now - 2 * dayMs,
      notAfter: now + days * dayMs,
      use: ca ? { kind: "ca", pathLength: 0 } : { kind: "leaf" },
    },
    options.signer ?? signer,
  );
  const key = privateKey.export({ type: "pkcs8", format: "pem" }) as string;
  return { cert: encodePem("CERTIFICATE", der), key, signer };
}
