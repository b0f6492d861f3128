import { describe, expect, test } from "vitest";
import { readKubeconfig } from "./kubeconfig.ts";

const pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
const data = Buffer.from(pem).toString("base64");

function file(text: string, path = "/home/me/.kube/config") {
  return { path, dir: "/home/me/.kube", text };
}

const two = file(`
current-context: c1
clusters:
- {name: one, cluster: {server: "https://10.0.0.1:6443/", certificate-authority-data: ${data}}}
- {name: two, cluster: {server: "https://10.0.0.2:6443/k8s/clusters/2", certificate-authority: ca.pem, tls-server-name: kubernetes}}
contexts:
- {name: c1, context: {cluster: one, user: admin, namespace: foo}}
- {name: c2, context: {cluster: two, user: robot}}
users:
- {name: admin, user: {client-certificate-data: ${data}, client-key: /keys/admin.pem}}
- {name: robot, user: {token: old, tokenFile: token}}
`);

describe("a kubeconfig", () => {
  test("gives what its current context stands for", () => {
    expect(readKubeconfig([two])).toEqual({
      name: "c1",
      cluster: "one",
      server: "https://10.0.0.1:6443",
      authority: { kind: "pem", pem },
      serverName: undefined,
      insecure: false,
      namespace: "foo",
      credentials: { kind: "certificate", cert: { kind: "pem", pem }, key: { kind: "file", path: "/keys/admin.pem" } },
    });
  });

  test("gives the named context; relative paths stand beside the file, and a token's file goes before a token", () => {
    expect(readKubeconfig([two], "c2")).toMatchObject({
      server: "https://10.0.0.2:6443/k8s/clusters/2",
      authority: { kind: "file", path: "/home/me/.kube/ca.pem" },
      serverName: "kubernetes",
      namespace: "default",
      credentials: { kind: "token-file", path: "/home/me/.kube/token" },
    });
  });

  test("of several files the first that has a name wins", () => {
    const other = file("clusters:\n- {name: one, cluster: {server: 'https://elsewhere'}}\ncurrent-context: c2\n", "/b");
    expect(readKubeconfig([other, two], "c1").server).toBe("https://elsewhere");
    expect(readKubeconfig([other, two]).name).toBe("c2");
  });

  test("asks a program for credentials, as its author wrote it down", () => {
    const exec = `{apiVersion: client.authentication.k8s.io/v1, command: ./login, args: [a, 1], env: [{name: A, value: b}], installHint: get it}`;
    const config = file(`
clusters: [{name: c, cluster: {server: "https://h"}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
users: [{name: u, user: {exec: ${exec}}}]
`);
    expect(readKubeconfig([config], "x").credentials).toEqual({
      kind: "exec",
      apiVersion: "client.authentication.k8s.io/v1",
      command: "/home/me/.kube/./login",
      args: ["a", "1"],
      env: { A: "b" },
      installHint: "get it",
    });
  });

  test("says everything that is wrong with a context at once", () => {
    const config = file(`
clusters: [{name: c, cluster: {server: "ftp://h", proxy-url: "http://p", certificate-authority-data: eHg=}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
users: [{name: u, user: {client-key: k.pem}}]
`);
    const failure = catchFailure(() => readKubeconfig([config], "x"));
    expect(failure.message).toContain('server "ftp://h" of cluster "c" is no http or https URL');
    expect(failure.message).toContain("proxy-url");
    expect(failure.message).toContain("certificate-authority-data is not PEM in base64");
    expect(failure.message).toContain('user "u" has a client key without a certificate');
  });

  test.each([
    ["no such context", two.text, "c9", 'there is no context "c9"', "there are: c1, c2"],
    [
      "no current context",
      "contexts: [{name: a, context: {}}]",
      undefined,
      "names no current context",
      "name one of: a",
    ],
    ["no YAML", "a: [", "x", "line 1", undefined],
    ["no object", "- a", "x", "must be an object", undefined],
    [
      "a cluster that is not there",
      "contexts: [{name: x, context: {cluster: c}}]",
      "x",
      'cluster "c" is not defined',
      undefined,
    ],
  ])("is refused with the reason: %s", (_name, text, context, message, hint) => {
    const failure = catchFailure(() => readKubeconfig([file(text)], context));
    expect(failure.message).toContain(message);
    if (hint !== undefined) expect(failure.hint).toBe(hint);
  });
});

function catchFailure(run: () => unknown): { readonly message: string; readonly hint?: string } {
  try {
    run();
  } catch (caught) {
    return caught as { message: string };
  }
  throw new Error("nothing was thrown");
}
