import { createHash } from "node:crypto";

/**
 * Text that must not be seen, such as a private key. Whoever prints it, logs it or writes it as JSON gets "…"; only who
 * asks by name gets the text. Two that hold the same text have the same `digest`, which gives nothing of it away: what
 * is sealed is long and random.
 */
export class Sealed {
  readonly digest: string;
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
    this.digest = createHash("sha256").update(text).digest("base64url");
    Object.freeze(this);
  }

  reveal(): string {
    return this.#text;
  }

  toJSON(): string {
    return "…";
  }

  toString(): string {
    return "…";
  }
}
