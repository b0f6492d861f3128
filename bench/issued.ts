import { certificateSecret, type Secrets, trustSecret } from "../src/proxy/index.ts";

/** A certificate, its key and the roots, in PEM. */
export interface Issued {
  readonly chain: string;
  readonly key: string;
  readonly roots: string;
}

export function secretsOf({ chain, key, roots }: Issued): Secrets {
  return new Map([
    ["default", certificateSecret(chain, key)],
    ["ROOTCA", trustSecret(roots)],
  ]);
}
