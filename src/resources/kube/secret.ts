import { z } from "zod";
import type { Report } from "../schema.ts";
import { rule, text } from "../schema.ts";
import { Sealed } from "../sealed.ts";

/** The entries that TLS is made from, in the words of `kubernetes.io/tls` and of generic Secrets. Others are not kept. */
const words = ["tls.crt", "tls.key", "ca.crt", "ca.crl", "cert", "key", "cacert", "crl"] as const;

type Entries<T extends z.ZodType> = z.ZodObject<Record<(typeof words)[number], z.ZodOptional<T>>>;

function entries<T extends z.ZodType>(value: T): Entries<T> {
  return z.object(Object.fromEntries(words.map((word) => [word, value.optional()]))) as Entries<T>;
}

const sealed = z.string().transform((written) => new Sealed(written));

/** RFC 4648 §4. Never says what was written: it may be a key with a character too many. */
const base64 = z.string().transform((written, context): Sealed => {
  const compact = written.replaceAll(/\s/g, "");
  if (/^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(compact))
    return new Sealed(Buffer.from(compact, "base64").toString("utf8"));
  context.issues.push({
    code: "custom",
    message: "must be base64; write plain text under stringData instead",
    params: { code: "ISM0805" },
    input: undefined,
  });
  return z.NEVER;
});

const fields = z.object({
  type: text.default("Opaque"),
  data: entries(base64).default({}),
  stringData: entries(sealed).default({}),
});

/** What a TLS Secret must have, as an API server judges it. Whether the two fit together is looked at where they are used. */
export const secret = rule(fields, ["type", "data", "stringData"], (value, report: Report) => {
  if (value.type !== "kubernetes.io/tls") return;
  for (const word of ["tls.crt", "tls.key"] as const)
    if (!value.data[word] && !value.stringData[word])
      report(["data", word], "ISM0806", "is required in a Secret of type kubernetes.io/tls");
});
