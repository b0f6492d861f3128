import { inspect } from "node:util";
import { expect, test } from "vitest";
import { freeze, readResources, Sealed } from "./index.ts";

const hidden = "-----BEGIN PRIVATE KEY-----\nhidden\n-----END PRIVATE KEY-----\n";
const base64 = Buffer.from(hidden).toString("base64");

function read(body: string) {
  return readResources(`apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: b}\n${body}`, { cluster: "c" });
}

test("a Secret keeps what TLS needs, decoded, and shows it to nobody who does not ask by name", () => {
  const { resources, violations } = read(
    `type: kubernetes.io/tls\ndata: {tls.key: "${base64}", tls.crt: "${base64}", password: c2VjcmV0}\nstringData: {ca.crt: plain}`,
  );
  expect(violations).toEqual([]);
  const [secret] = resources;
  if (secret?.kind !== "Secret") throw new Error("no Secret");
  expect(secret.data["tls.key"]?.reveal()).toBe(hidden);
  expect(secret.stringData["ca.crt"]?.reveal()).toBe("plain");
  for (const shown of [
    JSON.stringify(secret),
    inspect(secret, { depth: 9, showHidden: true }),
    `${secret.data["tls.key"]}`,
  ])
    expect(shown).not.toMatch(/hidden|c2VjcmV0|secret\b.*password|plain/);
  expect(Object.keys(secret.data)).toEqual(["tls.crt", "tls.key"]);
});

test("two Secrets that say different things are different to who compares their fields", () => {
  const [a, b, c] = [new Sealed("one"), new Sealed("two"), new Sealed("one")];
  expect(a).not.toEqual(b);
  expect(a.digest).toBe(c.digest);
  expect(Object.isFrozen(freeze({ a }).a)).toBe(true);
});

const wrong: ReadonlyArray<readonly [string, string]> = [
  ["data that is text", `data: "${base64}"`],
  ["an entry that is no base64", `data: {tls.key: "${hidden.replaceAll("\n", " ")}"}`],
  ["an entry that is a number", "stringData: {tls.key: 4711}"],
  ["a list in place of entries", `stringData: ["${hidden.replaceAll("\n", " ")}"]`],
];
for (const [it, body] of wrong) {
  test(`a complaint does not quote what it is about: ${it}`, () => {
    const { violations } = read(body);
    expect(violations.length).toBeGreaterThan(0);
    expect(JSON.stringify(violations)).not.toMatch(/hidden|4711|LS0tLS1/);
  });
}

test("what a client wrote into an annotation about the Secret is dropped with all annotations", () => {
  const { resources } = readResources(
    `apiVersion: v1\nkind: Secret\nmetadata: {name: a, annotations: {last-applied: "${base64}"}}\n`,
    { cluster: "c" },
  );
  expect(resources[0]?.metadata.annotations).toEqual({});
});
