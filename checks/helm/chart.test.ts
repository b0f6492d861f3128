import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { byName, installed, namespace, version } from "../../src/install/helm/testdata/installed.ts";
import { writeChart } from "../../src/install/helm/write.ts";
import { plainObjects } from "../../src/resources/index.ts";
import { builtProgram } from "../built-program.ts";
import { missingOf } from "../requirements.ts";

const missing = missingOf(["helm"]);
describe.skipIf(missing !== undefined)(
  `the chart in Helm's own eyes${missing === undefined ? "" : ` (${missing})`}`,
  () => {
    const helm = builtProgram(process.env, "HELM", "helm")!;
    let dir: string;
    beforeAll(() => {
      dir = mkdtempSync(join(tmpdir(), "isthmus-chart-"));
      writeChart(dir, version);
    });
    afterAll(() => rmSync(dir, { recursive: true }));

    const run = (...args: readonly string[]) =>
      execFileSync(helm, [...args], { encoding: "utf8", stdio: "pipe", maxBuffer: 64 * 1024 * 1024 });
    const template = (...sets: readonly string[]) =>
      run(
        ...["template", "isthmus", dir, "--namespace", namespace, "--include-crds"],
        // A Helm that was built by go install takes itself for one of Kubernetes 1.20.
        ...["--kube-version", "1.33.0"],
        ...sets.flatMap((set) => ["--set", set]),
      );

    const sets: readonly (readonly string[])[] = [
      [],
      ["controlPlane.replicas=3", "gateways.ingress.replicas=2"],
      ["hub=images.example.com/mesh", "tag=1.10", "imagePullPolicy=Always"],
      ["gateways.egress.enabled=false", "gateways.ingress.annotations.a=b", "controlPlane.resources.requests.cpu=500m"],
      ["dataPlane=envoy", "clusterDomain=example.internal"],
      ["image=images.example.com/mesh:1", "dataPlane=envoy"],
      ["image=images.example.com/mesh@sha256:0a", "dataPlane=envoy"],
      ["revision=canary", "image=images.example.com/mesh:1"],
      ["multicluster.enabled=false", "dns.enabled=false", "trustDomain=example.com", "validation.enabled=false"],
    ];
    test.each(sets.map((set) => [set.join(" ") || "nothing set", set] as const))(
      "is what is installed: %s",
      (_, set) => {
        expect(byName(plainObjects(template("cluster=c1", ...set)))).toEqual(installed(...set));
      },
    );

    test("wants a name for the cluster", () => expect(() => template()).toThrow(/say --set cluster=NAME/));

    test.each(["profile=demo", "network=n1", "dns.clusterIP=10.96.7.7", "gateways.ingress.replica=2"])(
      "refuses what it does not read: %s",
      (set) => expect(() => template("cluster=c1", set)).toThrow(/additional propert/i),
    );

    test.each([
      ["controlPlane.replicas=many", /replicas.*(integer|string)/i],
      ["controlPlane.replicas=0", /replicas.*(0|1)/i],
      ["revision=Canary_1", /revision.*pattern/i],
      ["image=mesh", /image.*pattern/i],
      ["dataPlane=nginx", /dataPlane.*(embedded|enum)/i],
      ["revision=dns", /revision cannot be dns: isthmus-dns is a part of the mesh/],
    ])("refuses what no setting can be: %s", (set, says) => expect(() => template("cluster=c1", set)).toThrow(says));

    test("is clean to helm lint, and packs", () => {
      expect(run("lint", "--strict", dir, "--set", "cluster=c1")).toContain("0 chart(s) failed");
      expect(run("package", dir, "--destination", dir)).toContain(`isthmus-${version}.tgz`);
    });
  },
);
