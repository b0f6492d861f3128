import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { compareHttp, type HttpSubject } from "./load.ts";
import {
  eventually,
  freePorts,
  missing,
  needProgram,
  newestNode,
  type Program,
  placement,
  scratchDir,
} from "./machine.ts";
import {
  BenchAuthority,
  callingCluster,
  clientSnapshot,
  gatewaySnapshot,
  host,
  serverSnapshot,
  servingCluster,
  sni,
  startIsthmus,
  withoutAccessLogs,
} from "./mesh.ts";
import { answering, startHaproxy, startNginx } from "./rivals.ts";

/**
 * The whole path between clusters: client sidecar (plaintext in, mutual TLS with SNI out) → gateway (passes the TLS on by
 * its SNI, unopened) → server sidecar (mutual TLS in, plaintext out) → application. Three processes share one core, so
 * that the rate is what one core gives to a call. Beside it three HAProxies that do the nearest same.
 */
export async function run(print: (line: string) => void): Promise<void> {
  const nginx = needProgram("nginx", { print });
  const haproxy = needProgram("haproxy", { print });
  if (!needProgram("wrk", { print })) return missing(print, "the path between clusters", "there is no wrk");
  if (!nginx) return missing(print, "the path between clusters", "there is no nginx to answer the requests");
  if (!haproxy) missing(print, "HAProxy", "it is not installed");
  const newest = newestNode();
  if (!newest) missing(print, "the newest Node", "npm run test:lts fetches it");
  const dir = scratchDir();
  const running: Program[] = [];
  const started = (program: Program): Program => {
    running.push(program);
    return program;
  };
  const authority = new BenchAuthority();
  const [app] = await freePorts(1);
  const url = (port: number) => `http://127.0.0.1:${port}/headers`;
  const chain = async (what: string, options: { readonly logs: boolean; readonly node?: string | undefined }) => {
    const [client, gateway, server] = await freePorts(3);
    const serving = servingCluster(server);
    const { node } = options;
    const as = (snapshot: ReturnType<typeof gatewaySnapshot>) =>
      options.logs ? snapshot : withoutAccessLogs(snapshot);
    const programs = [
      await startIsthmus({
        dir,
        name: `${what} client`,
        snapshot: as(clientSnapshot(callingCluster(gateway), client)),
        certificate: authority.issue("foo", "sleep"),
        node,
      }).then(started),
      await startIsthmus({ dir, name: `${what} gateway`, snapshot: as(gatewaySnapshot(serving, gateway)), node }).then(
        started,
      ),
      await startIsthmus({
        dir,
        name: `${what} server`,
        snapshot: as(serverSnapshot(serving, server, app)),
        certificate: authority.issue("bar", "httpbin"),
        node,
      }).then(started),
    ];
    return { what, url: url(client), host: `${host}:8000`, programs } satisfies HttpSubject;
  };
  try {
    started(startNginx({ dir, place: "load", program: nginx, http: answering(app) }));
    const subjects: HttpSubject[] = [await chain("isthmus", { logs: false })];
    if (newest) subjects.push(await chain(`isthmus, Node ${newest.version}`, { logs: false, node: newest.program }));
    if (haproxy) subjects.push(await haproxyChain({ dir, haproxy, authority, app, started, url }));
    subjects.push(await chain("isthmus, access logs", { logs: true }));
    const direct: HttpSubject = { what: "no proxy", url: url(app), programs: [] };
    for (const subject of [direct, ...subjects]) {
      await eventually(`${subject.what} does not answer`, () => answers(subject));
    }
    print(`client sidecar → gateway → server sidecar, mutual TLS; ${placement()}`);
    const results = await compareHttp(print, { direct, subjects });
    const peer = results.find(({ what }) => what.startsWith("HAProxy"));
    if (peer)
      print(`isthmus takes ${(results[0]!.cpuMicros / peer.cpuMicros).toFixed(2)} times the CPU of three HAProxies`);
    for (const subject of subjects.filter(({ what }) => what === "isthmus" || what.startsWith("HAProxy"))) {
      const each = subject.programs.map((program) => program.cpuMicros());
      const all = each.reduce((sum, one) => sum + one, 0);
      const [client, gateway, server] = each.map((one) => `${((one / all) * 100).toFixed(0)} %`);
      print(`${subject.what}: client sidecar ${client}, gateway ${gateway}, server sidecar ${server} of the CPU time`);
    }
  } finally {
    await Promise.all(running.map((program) => program.stop()));
  }
}

async function answers({ what, url, host }: HttpSubject): Promise<void> {
  const { request } = await import("node:http");
  const status = await new Promise<number | undefined>((resolve, reject) => {
    const sent = request(url, { headers: host ? { host } : {}, agent: false }, (response) => {
      response.resume();
      response.once("end", () => resolve(response.statusCode));
    });
    sent.once("error", reject);
    sent.end();
  });
  if (status !== 200) throw new Error(`${what} answers ${status}`);
}

interface HaproxyChain {
  readonly dir: string;
  readonly haproxy: string;
  readonly authority: BenchAuthority;
  readonly app: number;
  readonly started: (program: Program) => Program;
  readonly url: (port: number) => string;
}

async function haproxyChain({ dir, haproxy, authority, app, started, url }: HaproxyChain): Promise<HttpSubject> {
  const [client, gateway, server] = await freePorts(3);
  const pem = (name: string, account: string, namespace: string, dnsNames: readonly string[] = []) => {
    const { chain, key, roots } = authority.issue(namespace, account, dnsNames);
    writeFileSync(join(dir, `${name}.pem`), `${chain}${key}`, { mode: 0o600 });
    writeFileSync(join(dir, "roots.pem"), roots);
    return join(dir, `${name}.pem`);
  };
  const roots = join(dir, "roots.pem");
  const configs = [
    `frontend in
  mode http
  bind 127.0.0.1:${client}
  unique-id-format %{+X}o\\ %ci%cp%fi%fp%Ts%rt%pid
  unique-id-header x-request-id
  default_backend gateway
backend gateway
  mode http
  http-reuse always
  server gateway 127.0.0.1:${gateway} ssl crt ${pem("client", "sleep", "foo")} ca-file ${roots} verify required sni str(${sni})\n`,
    `frontend in
  mode tcp
  bind 127.0.0.1:${gateway}
  tcp-request inspect-delay 5s
  tcp-request content reject unless { req.ssl_hello_type 1 }
  use_backend httpbin if { req.ssl_sni -m str ${sni} }
backend httpbin
  mode tcp
  server httpbin 127.0.0.1:${server}\n`,
    `frontend in
  mode http
  bind 127.0.0.1:${server} ssl crt ${pem("server", "httpbin", "bar", [sni])} ca-file ${roots} verify required
  http-request set-header x-forwarded-client-cert Hash=%[ssl_c_sha1,hex];Subject=\\"%{+Q}[ssl_c_s_dn]\\"
  default_backend app
backend app
  mode http
  http-reuse always
  server app 127.0.0.1:${app}\n`,
  ];
  const programs = configs.map((config) => started(startHaproxy({ dir, program: haproxy, config })));
  return { what: "HAProxy, three of them", url: url(client), host: `${host}:8000`, programs };
}
