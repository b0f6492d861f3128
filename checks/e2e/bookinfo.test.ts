import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { missingOf } from "../requirements.ts";
import { eventually, root } from "./isthmus.ts";
import { cluster, type TestLab, upLab } from "./lab.ts";

const missing = missingOf(["root", "netns", "iptables", "curl"]);

/** Many small services of one cluster, each behind a sidecar, from the manifests that everybody knows. */
describe("Bookinfo", () => {
  if (missing) {
    test("runs", ({ skip }) => skip(missing));
    return;
  }
  let lab: TestLab;
  beforeAll(async () => {
    lab = await upLab({ name: "bookinfo", args: ["--mode", "netns"] });
    const manifests = readFileSync(join(root, "samples/bookinfo/platform/kube/bookinfo.yaml"), "utf8");
    const applied = await lab.apply("cluster1", manifests, "-n", "foo");
    expect(applied, applied.stderr).toMatchObject({ code: 0 });
    await eventually(
      async () => cluster(await lab.status(), "cluster1").pods,
      (pods) => pods.length >= 8 && pods.every((pod) => pod.ready),
      90_000,
    );
  }, 240_000);
  afterAll(() => lab?.down(), 60_000);

  const curl = (...args: string[]) => lab.exec("cluster1", "sleep", "curl", "-sS", "--max-time", "15", ...args);

  test("shows its page, put together from three other services", async () => {
    const page = await curl("-w", "\n%{http_code}", "productpage:9080/productpage");
    expect(page.stdout, page.stderr).toMatch(/200$/);
    expect(page.stdout).toContain("The Comedy of Errors");
  });

  test("answers with each of the three versions of reviews, in turn", async () => {
    const seen = new Set<string>();
    for (let i = 0; i < 12; i++) {
      const { podname } = JSON.parse((await curl("reviews:9080/reviews/0")).stdout);
      seen.add(/^(reviews-v\d)-/.exec(podname)?.[1] ?? podname);
    }
    expect([...seen].sort()).toEqual(["reviews-v1", "reviews-v2", "reviews-v3"]);
  });

  test("knows its callers: inside the cluster it is mutual TLS too", async () => {
    const logs = await lab.command("logs", "cluster1", "details-v1", "-c", "istio-proxy", "--tail", "50");
    expect(logs.stdout).toContain("spiffe://cluster.local/ns/foo/sa/bookinfo-productpage");
  });
});
