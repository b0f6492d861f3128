import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isMap, parseAllDocuments } from "yaml";
import type { DataPlane } from "../../src/lab/index.ts";
import { missingOf } from "../requirements.ts";
import { eventually, root } from "./isthmus.ts";
import { cluster, type TestLab, upLab } from "./lab.ts";

const bookinfo = (file: string) => readFileSync(join(root, "samples/bookinfo", file), "utf8");

/** The objects of Bookinfo but the Deployments that run in the other cluster. */
function without(...deployments: string[]): string {
  return parseAllDocuments(bookinfo("platform/kube/bookinfo.yaml"))
    .filter(({ contents }) => isMap(contents))
    .filter(
      (document) =>
        !(
          document.get("kind") === "Deployment" && deployments.includes(document.getIn(["metadata", "name"]) as string)
        ),
    )
    .map((document) => document.toString())
    .join("---\n");
}

const injected =
  "apiVersion: v1\nkind: Namespace\nmetadata: { name: default, labels: { istio-injection: enabled } }\n---\n";

/** Bookinfo over two clusters: reviews v1 here, v2 and v3 there; one user sees v2, the others v1 and v3 by halves. */
function bookinfoOver(dataPlane: DataPlane): void {
  const missing = missingOf([
    "root",
    "netns",
    "iptables",
    "curl",
    ...(dataPlane === "embedded" ? [] : ["envoy" as const]),
  ]);
  if (missing) {
    test("runs", ({ skip }) => skip(missing));
    return;
  }
  let lab: TestLab;
  beforeAll(async () => {
    lab = await upLab({
      name: `versions-${dataPlane}`,
      args: ["--mode", "netns", "--data-plane", dataPlane, "--egress-gateway", "cluster1"],
    });
    const manifests = {
      cluster1: [without("reviews-v2", "reviews-v3"), bookinfo("networking/reviews-multicluster-cluster1.yaml")],
      cluster2: [
        without("productpage-v1", "details-v1", "reviews-v1"),
        bookinfo("networking/reviews-multicluster-cluster2.yaml"),
      ],
    };
    for (const [name, texts] of Object.entries(manifests)) {
      const applied = await lab.apply(name, injected + texts.join("\n---\n"), "-n", "default");
      expect(applied, applied.stderr).toMatchObject({ code: 0 });
    }
    await eventually(
      async () => (await lab.status()).clusters.map(({ pods }) => pods.filter((pod) => pod.ready).length),
      ([here = 0, there = 0]) => here >= 7 && there >= 5,
      90_000,
    );
    await eventually(
      async () =>
        (await lab.exec("cluster1", "sleep", "curl", "-s", "-m", "5", "productpage.default:9080/productpage")).stdout,
      (page) => page.includes("The Comedy of Errors"),
      60_000,
    );
  }, 360_000);
  afterAll(() => lab?.down(), 60_000);

  /** How often each version of reviews answered the many calls of one program. */
  async function versions(times: number, ...options: string[]): Promise<Record<string, number>> {
    const url = "reviews.default:9080/reviews/0";
    const script = 'i=0; while [ $i -lt "$0" ]; do curl -sS --max-time 15 "$@" || echo; echo; i=$((i+1)); done';
    const ran = await lab.execFor(360, "cluster1", "sleep", "sh", "-c", script, String(times), ...options, url);
    const seen: Record<string, number> = {};
    for (const line of ran.stdout.split("\n").filter((text) => text.trim() !== "")) {
      const version = /"podname":"(reviews-v\d)-/.exec(line.replaceAll('": "', '":"'))?.[1] ?? line;
      seen[version] = (seen[version] ?? 0) + 1;
    }
    expect(ran.stderr).toBe("");
    return seen;
  }

  /** The page, so many times over. */
  async function pages(times: number, ...options: string[]): Promise<readonly string[]> {
    const script = 'i=0; while [ $i -lt "$0" ]; do curl -sS --max-time 15 "$@"; echo "=== page"; i=$((i+1)); done';
    const url = "productpage.default:9080/productpage";
    const ran = await lab.exec("cluster1", "sleep", "sh", "-c", script, String(times), ...options, url);
    return ran.stdout.split("=== page\n").slice(0, times);
  }

  test("jason sees v2, which runs in the other cluster, and nobody else's", async () => {
    expect(await versions(20, "-H", "end-user: jason")).toEqual({ "reviews-v2": 20 });
  });

  test("the others see v1 of this cluster and v3 of the other by halves", async () => {
    const seen = await versions(200);
    expect(Object.keys(seen).sort()).toEqual(["reviews-v1", "reviews-v3"]);
    // Of 200 throws of a coin, 100 ± 35 is five standard deviations.
    expect(Math.abs(seen["reviews-v1"]! - 100)).toBeLessThan(35);
  }, 400_000);

  test("the page that jason gets when he has signed in shows v2's black stars, every time", async () => {
    const login = ["-si", "-d", "username=jason&passwd=", "productpage.default:9080/login"];
    const { stdout } = await lab.exec("cluster1", "sleep", "curl", ...login);
    const session = /^set-cookie: (session=[^;]+)/im.exec(stdout)?.[1];
    for (const page of await pages(5, "-b", session ?? "")) {
      expect(page).toContain('style="color: black"');
      expect(page).not.toContain('style="color: red"');
    }
  });

  test("the page that somebody else gets shows red stars or none, never black ones", async () => {
    const all = await pages(12);
    expect(all.filter((page) => page.includes('style="color: black"'))).toEqual([]);
    const kinds = new Set(all.map((page) => (page.includes('style="color: red"') ? "red" : "none")));
    expect([...kinds].sort()).toEqual(["none", "red"]);
  });

  test("the version stands in the server name that crosses, and the caller is known over there", async () => {
    await versions(1, "-H", "end-user: jason");
    const { seen: logs } = await eventually(
      async () => (await lab.command("logs", "cluster2", "reviews-v2", "-c", "istio-proxy", "--tail", "20")).stdout,
      (text) => text.includes("outbound_.9080_.v2_.reviews.default.global"),
      30_000,
    );
    expect(logs).toContain("spiffe://cluster.local/ns/foo/sa/sleep");
  });

  test("with one line more all of it leaves by the egress gateway", async () => {
    const entry = bookinfo("networking/reviews-multicluster-cluster1.yaml").split("\n---\n")[0]!;
    const through = entry.replace(
      "name: reviews-default",
      'name: reviews-default\n  annotations: { networking.isthmus.dev/egress-gateway: "true" }',
    );
    expect(await lab.apply("cluster1", through, "-n", "default")).toMatchObject({ code: 0 });
    const log = () => lab.command("logs", "cluster1", "isthmus-egressgateway", "-n", "isthmus-system", "--tail", "50");
    await eventually(
      async () => {
        await versions(1, "-H", "end-user: jason");
        return (await log()).stdout;
      },
      (text) => text.includes("outbound_.9080_.v2_.reviews.default.global"),
      60_000,
    );
    expect(await versions(10, "-H", "end-user: jason")).toEqual({ "reviews-v2": 10 });
    expect(cluster(await lab.status(), "cluster1").problems).toEqual([]);
  });
}

for (const dataPlane of ["embedded", "mixed"] as const)
  describe(`Bookinfo over two clusters, ${dataPlane}`, () => bookinfoOver(dataPlane));
