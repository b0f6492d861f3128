import { expect, test } from "vitest";
import { defaultInjectionSettings } from "../admission/index.ts";
import { plainObjects } from "../resources/index.ts";
import { injectText, joinTexts } from "./inject-text.ts";

const settings = defaultInjectionSettings({ cluster: "c", tag: "1" });

function injected(text: string) {
  const [problems, warnings]: [string[], string[]] = [[], []];
  const out = injectText(text, {
    settings,
    serverVersion: { major: 1, minor: 33 },
    namespace: "foo",
    problem: (line) => void problems.push(line),
    warning: (line) => void warnings.push(line),
  });
  return { out, problems, warnings };
}

const pod = { containers: [{ name: "a", image: "b" }] };
const workloads = [
  ["v1", "Pod", pod],
  ...["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"].map((kind) => [
    "apps/v1",
    kind,
    { template: { spec: pod } },
  ]),
  ["v1", "ReplicationController", { template: { spec: pod } }],
  ["batch/v1", "Job", { template: { spec: pod } }],
  ["batch/v1", "CronJob", { jobTemplate: { spec: { template: { spec: pod } } } }],
] as const;

for (const [apiVersion, kind, spec] of workloads) {
  test(`${kind} has a proxy in its pods, and is otherwise the same`, () => {
    const { out, problems } = injected(JSON.stringify({ apiVersion, kind, metadata: { name: "x" }, spec }));
    expect(problems).toEqual([]);
    expect(JSON.parse(out)).toMatchObject({ apiVersion, kind, metadata: { name: "x" } });
    expect(out.match(/"istio-proxy"/g)).toHaveLength(1);
  });
}

test("documents in which nothing changes stay letter by letter, and all in their order", () => {
  const service =
    "# mine\napiVersion: v1\nkind: Service   # a comment\nmetadata: {name: s}\nspec: {ports: [{port: 80}]}\n";
  const other =
    "---\napiVersion: example.org/v1\nkind: Deployment\nmetadata: {name: not-ours}\nspec: {template: {spec: {containers: []}}}\n";
  const deployment = `---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {template: {spec: ${JSON.stringify(pod)}}}\n`;
  const { out } = injected(service + deployment + other + deployment);
  expect(out.startsWith(`${service}---\napiVersion: apps/v1\n`)).toBe(true);
  expect(out).toContain(`${other}---\n`);
  expect(plainObjects(out).map(({ kind }) => kind)).toEqual(["Service", "Deployment", "Deployment", "Deployment"]);
  expect(out.match(/name: istio-proxy/g)).toHaveLength(2);
  expect(injected(out).out).toBe(out);
});

test("lists, and lists in them, keep their form; JSON stays JSON", () => {
  const inner = {
    kind: "List",
    apiVersion: "v1",
    items: [{ apiVersion: "v1", kind: "Pod", metadata: { name: "p" }, spec: pod }],
  };
  const { out } = injected(
    JSON.stringify({ kind: "List", apiVersion: "v1", items: [{ kind: "Secret", apiVersion: "v1" }, inner] }),
  );
  const written = JSON.parse(out);
  expect(written.items[0]).toEqual({ kind: "Secret", apiVersion: "v1" });
  expect(written.items[1].items[0].spec.initContainers).toHaveLength(2);
});

test("what cannot be is said of each object, and odd words are a warning", () => {
  const text = (name: string, annotations: object) =>
    `---\n${JSON.stringify({ apiVersion: "v1", kind: "Pod", metadata: { name, annotations }, spec: pod })}\n`;
  const bad = { "sidecar.istio.io/interceptionMode": "TPROXY", "sidecar.istio.io/proxyCPU": "many" };
  const { problems, warnings } = injected(
    text("a", bad) + text("b", { "sidecar.istio.io/inject": "1" }) + text("c", bad),
  );
  expect(problems.map((line) => line.slice(0, 6))).toEqual(["Pod a:", "Pod a:", "Pod c:", "Pod c:"]);
  expect(warnings).toEqual([expect.stringMatching(/^Pod b: .*"1", which means no/)]);
});

test("nonsense is said or passed on, and never thrown", () => {
  expect(injected("a: [").problems).toHaveLength(1);
  for (const text of [
    "",
    "\n",
    "null",
    "[]",
    "1",
    "kind: Pod",
    '{"kind":"Pod","spec":null,"apiVersion":"v1"}',
    "kind: List\nitems: 1\n",
  ])
    expect(() => injected(text)).not.toThrow();
  expect(injected("kind: Pod\napiVersion: v1\nspec: []\n").problems).toEqual([
    "Pod without a name: the object: spec must be an object",
  ]);
});

test("texts are put together as documents of one", () => {
  expect(joinTexts(["a: 1", "---\nb: 2\n", "c: 3\n"])).toBe("a: 1\n---\nb: 2\n---\nc: 3\n");
});
