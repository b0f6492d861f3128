import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { coreDnsProgram, findMachinery } from "./machinery.ts";

const programs = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"];
const folder = mkdtempSync(join(tmpdir(), "isthmus-machinery-"));
afterAll(() => rmSync(folder, { recursive: true }));

function fill(name: string, files: readonly string[]): string {
  const place = join(folder, name);
  mkdirSync(place, { recursive: true });
  for (const file of files) writeFileSync(join(place, file), "");
  return place;
}

const cache = fill("cache", []);
fill("cache/isthmus/kubernetes/v1.9.9", programs);
fill("cache/isthmus/kubernetes/v1.33.2", programs);
fill("cache/isthmus/kubernetes/coredns-v1.9.3", ["coredns"]);
fill("cache/isthmus/kubernetes/coredns-v1.12.4", ["coredns"]);
const own = fill("own", programs);
const empty = fill("empty", []);

describe("the programs of a control plane", () => {
  test("are the newest that were built", () => {
    expect(findMachinery({ XDG_CACHE_HOME: cache })).toMatchObject({
      etcd: [join(cache, "isthmus/kubernetes/v1.33.2/etcd")],
    });
    expect(coreDnsProgram({ XDG_CACHE_HOME: cache })).toBe(join(cache, "isthmus/kubernetes/coredns-v1.12.4/coredns"));
  });

  test("are one's own where they are named, one by one or by their folder", () => {
    expect(
      findMachinery({
        XDG_CACHE_HOME: cache,
        KUBEBUILDER_ASSETS: own,
        TEST_ASSET_KUBE_APISERVER: join(cache, "isthmus/kubernetes/v1.9.9/kube-apiserver"),
      }),
    ).toMatchObject({
      etcd: [join(own, "etcd")],
      "kube-apiserver": [join(cache, "isthmus/kubernetes/v1.9.9/kube-apiserver")],
    });
  });

  test("are named when they are missing; a kubectl on the path will do", () => {
    expect(findMachinery({ XDG_CACHE_HOME: empty, PATH: `${empty}:${own}` })).toEqual({
      missing: ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"],
    });
    expect(findMachinery({ XDG_CACHE_HOME: empty, TEST_ASSET_ETCD: join(empty, "etcd"), PATH: "" })).toEqual({
      missing: programs,
    });
    expect(coreDnsProgram({ XDG_CACHE_HOME: empty })).toBeUndefined();
  });
});
