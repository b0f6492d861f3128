import { spawnSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { main } from "./isthmus.ts";

const isthmus = [process.execPath, main];

/** A pod's network namespace of its own, with a neighbour behind a pair of interfaces, and somebody else's rule. */
const pod = `
ip link set lo up
ip link add eth0 type veth peer name far
ip addr add 10.1.2.3/24 dev eth0
ip link set eth0 up; ip link set far up
ip route add default via 10.1.2.1
iptables -t nat -A OUTPUT -d 192.0.2.77 -j RETURN
`;

/** What a script does in there, `capture` standing for the command. */
function inPod(script: string): { readonly status: number | null; readonly stdout: string; readonly stderr: string } {
  const capture = `capture() { ${isthmus.map((word) => `'${word}'`).join(" ")} capture "$@"; }`;
  return spawnSync("unshare", ["--net", "sh", "-c", `${pod}\n${capture}\n${script}`], { encoding: "utf8" });
}

const able = inPod("true").status === 0 && spawnSync("unshare", ["--net", "iptables-save", "-t", "nat"]).status === 0;
describe.skipIf(!able)("in a pod's network namespace, as root", () => {
  test("rules are written, tried out, and the same when written again, beside those of others", () => {
    const { stdout, stderr, status } = inPod(`
      capture --exclude-outbound-ports 3306 && iptables-save -t nat | grep '^-A'; echo ---
      capture --exclude-outbound-ports 3306 && iptables-save -t nat | grep '^-A'`);
    expect(`${status} ${stderr}`).toBe("0 ");
    const [first, second] = stdout.split("---\n");
    expect(first).toMatch(/rules written by iptables\S* and read back; a connection came out at the proxy's port/);
    expect(first).toContain("-A OUTPUT -d 192.0.2.77/32 -j RETURN");
    expect(first).toContain("-A ISTHMUS_OUTPUT -p tcp -m tcp --dport 3306 -j RETURN");
    expect(second).toBe(first);
  });

  test("what is not captured any more is taken away", () => {
    const { stdout, status } = inPod(
      `capture && capture --include-outbound-ranges '' --dns off && iptables-save -t nat`,
    );
    expect(status).toBe(0);
    expect(stdout).toContain("not tried out: nothing that could be connected to is captured");
    expect(stdout).not.toContain("--dport 53 ");
    expect(stdout).not.toContain("-j ISTHMUS_REDIRECT");
  });

  test("IPv6 has rules of its own where the pod has addresses of it and they are asked for", () => {
    const { stdout, stderr } = inPod(`
      ip addr add fd00:1::3/64 dev eth0 nodad; ip -6 route add default via fd00:1::1
      capture --ipv6 on --exclude-outbound-ranges fd00:2::/64,10.9.0.0/16; ip6tables-save -t nat; iptables-save -t nat`);
    expect(stderr).toBe("");
    expect(stdout).toMatch(/^IPv6: \d+ rules written by ip6tables/m);
    expect(stdout).toContain("-A ISTHMUS_OUTPUT -d fd00:2::/64 -j RETURN");
    expect(stdout).toContain("-A ISTHMUS_OUTPUT -d 10.9.0.0/16 -j RETURN");
  });

  test("the proxy asks the application past the rules from 127.0.0.6, and any other way comes in like a caller", () => {
    const dial = (from: string) =>
      `const s = require("net").connect({ host: "10.1.2.3", port: 8080, localAddress: ${from} });
       s.on("connect", () => { console.log("connected"); s.destroy(); }); s.on("error", (e) => console.log(e.code));`;
    const asProxy = `setpriv --reuid 1337 --regid 1337 --clear-groups ${process.execPath} -e`;
    const { stdout } = inPod(`
      capture >&2
      log=$(mktemp)
      ${process.execPath} -e 'require("net").createServer((s) => s.destroy()).listen(8080, () => console.log("up"))' >$log & app=$!
      for _ in $(seq 600); do [ -s $log ] && break; sleep 0.1; done
      cat $log; rm $log
      ${asProxy} '${dial('"127.0.0.6"')}'
      ${asProxy} '${dial("undefined")}'
      kill $app`);
    expect(stdout.trim().split("\n")).toEqual(["up", "connected", "ECONNREFUSED"]);
  });

  test("without rights, and without iptables, it says what is missing", () => {
    const { stderr } = inPod(`
      setpriv --reuid 12345 --regid 12345 --clear-groups sh -c '"$@"' -- ${isthmus.join(" ")} capture
      PATH=/nowhere ${isthmus.join(" ")} capture`);
    const [first, second] = stderr.trim().split("\n");
    expect(first).toMatch(/NET_ADMIN.*\(capture\/no-right\)$/);
    expect(second).toMatch(/no iptables on PATH.*\(capture\/no-iptables\)$/);
  });
});

test("a dry run prints the rules and changes nothing", () => {
  const [program, ...args] = isthmus;
  const { stdout, status } = spawnSync(program!, [...args, "capture", "--dry-run", "--include-inbound-ports", "80"], {
    encoding: "utf8",
  });
  expect(status).toBe(0);
  expect(stdout).toMatch(/^# IPv4\n\*nat\n/);
  expect(stdout).toContain("-A ISTHMUS_INBOUND -p tcp --dport 80 -j ISTHMUS_IN_REDIRECT");
});

test("what cannot be is said by the option's name", () => {
  const [program, ...args] = isthmus;
  const { stderr, status } = spawnSync(program!, [...args, "capture", "--exclude-inbound-ports", "80,http"], {
    encoding: "utf8",
  });
  expect(status).toBe(64);
  expect(stderr).toContain('--exclude-inbound-ports: "http" is no port');
});
