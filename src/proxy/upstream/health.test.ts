import { createServer } from "node:http";
import { create } from "@bufbuild/protobuf";
import { expect, onTestFinished, test } from "vitest";
import { HealthCheckSchema } from "../../proto/gen/envoy/config/core/v3/health_check_pb.js";
import { type HealthRules, readHealthChecks } from "../config/health-check.ts";
import { Place } from "../config/reading.ts";
import { lbEndpoint, listener, milliseconds, staticCluster, tcpProxy } from "../testdata/resources.ts";
import { dial, readAll, scene, server } from "../testdata/scene.ts";
import { type HealthAnswer, nextHealth, nextQuestionMs, unasked } from "./health-state.ts";

const rules = (fields: object): HealthRules => {
  const place = new Place();
  const message = create(HealthCheckSchema, {
    interval: milliseconds(1000),
    timeout: milliseconds(100),
    unhealthyThreshold: 3,
    healthyThreshold: 2,
    healthChecker: { case: "tcpHealthCheck", value: {} },
    ...fields,
  });
  const read = readHealthChecks([message], place);
  expect(place.refusals).toEqual([]);
  return read!;
};

const well: HealthAnswer = { kind: "well" };
const unwell: HealthAnswer = { kind: "unwell", reason: "answered 503" };
const silent: HealthAnswer = { kind: "silent", reason: "no answer" };
const after = (answers: readonly HealthAnswer[]) =>
  answers.reduce((state, answer) => nextHealth(state, answer, rules({})), unasked).health;

const rows: ReadonlyArray<readonly [string, readonly HealthAnswer[], "passing" | "failing"]> = [
  ["the first answer decides for the better", [well], "passing"],
  ["the first answer decides for the worse", [silent], "failing"],
  ["silence is forgiven twice", [well, silent, silent], "passing"],
  ["and not a third time", [well, silent, silent, silent], "failing"],
  ["an answer in between forgets the silence", [well, silent, silent, well, silent, silent], "passing"],
  ["who says that it is not well is believed at once", [well, unwell], "failing"],
  ["one good answer is not enough to come back", [silent, well], "failing"],
  ["two in a row are", [silent, well, well], "passing"],
  ["two that are not in a row are not", [silent, well, silent, well], "failing"],
];
for (const [what, answers, health] of rows) test(what, () => expect(after(answers)).toBe(health));

test("who is not well is asked at a pace of its own", () => {
  const given = rules({ unhealthyInterval: milliseconds(50), unhealthyEdgeInterval: milliseconds(10) });
  const failing = nextHealth(unasked, silent, given);
  expect(nextQuestionMs({ before: unasked, after: failing }, given, () => 0)).toBe(10);
  expect(nextQuestionMs({ before: failing, after: failing }, given, () => 0)).toBe(50);
  const passing = nextHealth(unasked, well, given);
  expect(nextQuestionMs({ before: passing, after: passing }, given, () => 0)).toBe(1000);
});

const refusals: ReadonlyArray<readonly [string, object, string]> = [
  ["a path that is none", { case: "httpHealthCheck", value: { path: "x y" } }, "must begin with"],
  ["a custom question", { case: "customHealthCheck", value: { name: "redis" } }, "is not known"],
  ["nothing", { case: undefined }, "an empty question is not known"],
];
for (const [what, healthChecker, says] of refusals)
  test(`a question is refused that asks ${what}`, () => {
    const place = new Place();
    const thresholds = { unhealthyThreshold: 1, healthyThreshold: 1 };
    const times = { interval: milliseconds(1), timeout: milliseconds(1) };
    readHealthChecks([create(HealthCheckSchema, { ...thresholds, ...times, healthChecker } as never)], place);
    expect(place.refusals.map(({ message }) => message).join()).toContain(says);
  });

/** A server of which the answer to the question of health can be changed. */
async function asked(name: string) {
  let status = 200;
  const questions: string[] = [];
  const http = createServer((request, response) => {
    questions.push(`${request.method} ${request.url} ${request.headers.host}`);
    response.writeHead(status).end();
  });
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void http.close());
  const app = await server((socket) => socket.end(name));
  return {
    app,
    questions,
    health: (http.address() as { port: number }).port,
    says: (next: number) => {
      status = next;
    },
  };
}

test("calls go to who says that it is well, and to nobody when nobody is", async () => {
  const one = await asked("one");
  const cluster = staticCluster("app", [], {
    commonLbConfig: { healthyPanicThreshold: { value: 0 } },
    loadAssignment: { clusterName: "app", endpoints: [{ lbEndpoints: [lbEndpoint(one.app)] }] },
    healthChecks: [
      {
        interval: milliseconds(20),
        timeout: milliseconds(2000),
        unhealthyThreshold: 1,
        healthyThreshold: 1,
        altPort: one.health,
        healthChecker: { case: "httpHealthCheck", value: { path: "/healthz", host: "app.example" } },
      },
    ],
  });
  const chains = [{ filters: [tcpProxy("app")] }];
  const { at, proxy } = await scene({ clusters: [cluster], listeners: [listener("tcp", { filterChains: chains })] });
  const health = () => proxy.clusters()[0]!.endpoints[0]!.health;
  const reached = async () => (await readAll(await dial(at("tcp")))).text;
  await expect.poll(() => one.questions.length).toBeGreaterThan(1);
  expect(one.questions[0]).toBe("GET /healthz app.example");
  expect([health(), await reached()]).toEqual(["healthy", "one"]);
  one.says(503);
  await expect.poll(health).toBe("not well");
  expect(await reached()).toBe("");
  one.says(200);
  await expect.poll(health).toBe("healthy");
  expect(await reached()).toBe("one");
});
