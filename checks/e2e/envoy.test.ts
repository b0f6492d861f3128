import { expect, test } from "vitest";
import { dataPlanes } from "../../src/lab/index.ts";
import { needs } from "../requirements.ts";
import { isthmus } from "./isthmus.ts";
import { upLab } from "./lab.ts";

test("where applications name their proxy, Envoy leads them as well, by HTTP and by SOCKS", async (context) => {
  needs(context, "envoy", "curl");
  const lab = await upLab({
    name: "envoy-explicit",
    args: ["--explicit", "--data-plane", "envoy"],
    timeoutMs: 170_000,
  });
  try {
    const url = "http://httpbin.bar.global:8000/headers";
    // The environment names the proxy; CONNECT and SOCKS are asked for in words.
    for (const how of [[], ["--proxytunnel"], ["--socks5-hostname", ""]] as const) {
      const proxy = (await lab.exec("cluster1", "sleep", "sh", "-c", "echo $HTTP_PROXY")).stdout.trim();
      const words = how[0] === "--socks5-hostname" ? ["--noproxy", "", how[0], proxy.replace("http://", "")] : how;
      const { stdout, stderr } = await lab.exec("cluster1", "sleep", "curl", "-sS", "-m", "10", ...words, url);
      expect(stdout, `${words.join(" ")}: ${stderr}`).toContain(caller);
    }
    const gone = await lab.exec("cluster1", "sleep", "curl", "-s", "-m", "10", "-i", "http://nobody.bar.global:8000/");
    expect(gone.stdout).toMatch(/^HTTP\/1\.1 502 .*"nobody\.bar\.global"/s);
  } finally {
    await lab.down();
  }
});

const caller = "URI=spiffe://cluster.local/ns/foo/sa/sleep";

for (const dataPlane of dataPlanes.filter((one) => one !== "embedded")) {
  test(`the walkthrough's call works with the data plane ${dataPlane}, and its hops can be told`, async (context) => {
    needs(context, "envoy", "root", "netns", "iptables", "curl");
    const name = `envoy-${dataPlane}-${process.pid}`;
    const demo = await isthmus(["demo", "--once", "--data-plane", dataPlane, "--mode", "netns", "--name", name], {
      timeoutMs: 170_000,
    });
    expect(demo, `${demo.stdout}\n${demo.stderr}`).toMatchObject({ code: 0 });
    expect(demo.stdout).toMatch(/^ *HTTP\/1\.1 200 OK$/m);
    expect(demo.stdout).toContain(caller);
    expect(demo.stdout).toContain("what crosses is TLSv1.3");
    expect(demo.stdout).not.toMatch(/^ *no {2}/m);
  });
}
