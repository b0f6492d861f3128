import { compareHttp, type HttpSubject } from "./load.ts";
import {
  benchFile,
  eventually,
  freePorts,
  missing,
  needProgram,
  newestNode,
  type Program,
  placement,
  scratchDir,
  startProgram,
} from "./machine.ts";
import { serverSnapshot, servingCluster, startIsthmus, withoutAccessLogs } from "./mesh.ts";
import { answering, jsonLog, jsonLogUse, reverseProxy, startHaproxy, startNginx } from "./rivals.ts";

/**
 * Small plaintext requests through one proxy, one worker and one core each, before one nginx that answers. Ours runs what
 * the compiler makes for the sidecar of a serving workload.
 */
export async function run(print: (line: string) => void): Promise<void> {
  const nginx = needProgram("nginx", { print });
  const haproxy = needProgram("haproxy", { print });
  if (!needProgram("wrk", { print })) return missing(print, "the data path", "there is no wrk");
  if (!nginx) return missing(print, "the data path", "there is no nginx to answer the requests");
  if (!haproxy) missing(print, "HAProxy", "it is not installed");
  const newest = newestNode();
  if (!newest) missing(print, "the newest Node", "npm run test:lts fetches it");
  const dir = scratchDir();
  const running: Program[] = [];
  const started = <T extends Program>(program: T): T => {
    running.push(program);
    return program;
  };
  try {
    const [app, ours, oursNewest, oursLogging, bare, front, frontLogging, other] = await freePorts(8);
    const url = (port: number) => `http://127.0.0.1:${port}/headers`;
    started(startNginx({ dir, place: "load", program: nginx, http: answering(app) }));
    const subjects: HttpSubject[] = [];
    const isthmus = async (what: string, port: number, options: { readonly logs: boolean; readonly node?: string }) => {
      const snapshot = serverSnapshot(servingCluster(port), port, app);
      const program = started(
        await startIsthmus({
          dir,
          name: what,
          snapshot: options.logs ? snapshot : withoutAccessLogs(snapshot),
          node: options.node,
        }),
      );
      subjects.push({ what, url: url(port), programs: [program] });
    };
    const rival = (what: string, port: number, program: Program) =>
      subjects.push({ what, url: url(port), programs: [started(program)] });
    await isthmus("isthmus", ours, { logs: false });
    if (newest) await isthmus(`isthmus, Node ${newest.version}`, oursNewest, { logs: false, node: newest.program });
    rival("nginx", front, startNginx({ dir, place: "measured", program: nginx, http: reverseProxy(front, app) }));
    if (haproxy) {
      const config = `frontend in
  mode http
  bind 127.0.0.1:${other}
  unique-id-format %{+X}o\\ %ci%cp%fi%fp%Ts%rt%pid
  unique-id-header x-request-id
  option forwardfor
  default_backend app
backend app
  mode http
  http-reuse always
  server app 127.0.0.1:${app}\n`;
      rival("HAProxy", other, startHaproxy({ dir, program: haproxy, config }));
    }
    await isthmus("isthmus, access log", oursLogging, { logs: true });
    rival(
      "nginx, access log",
      frontLogging,
      startNginx({
        dir,
        place: "measured",
        program: nginx,
        http: `${jsonLog}\n${reverseProxy(frontLogging, app, jsonLogUse)}`,
      }),
    );
    rival(
      "bytes passed on in Node",
      bare,
      startProgram("measured", [process.execPath, benchFile("bare-process.js"), String(bare), String(app)]),
    );
    const direct: HttpSubject = { what: "no proxy", url: url(app), programs: [] };
    for (const subject of [direct, ...subjects]) {
      await eventually(`${subject.what} does not answer`, () => fetch(subject.url).then((response) => response.text()));
    }
    print(`one hop, plaintext; ${placement()}`);
    const results = await compareHttp(print, { direct, subjects });
    const [own] = results;
    const named = (what: string) => results.find((result) => result.what === what);
    for (const what of ["nginx", "HAProxy", "bytes passed on in Node"]) {
      const peer = named(what);
      if (peer) print(`isthmus takes ${(own!.cpuMicros / peer.cpuMicros).toFixed(2)} times the CPU of ${what}`);
    }
    print(
      `CPU for 1,000 requests: ${results.map(({ what, cpuMicros }) => `${what} ${cpuMicros.toFixed(0)} ms`).join(" · ")}`,
    );
  } finally {
    await Promise.all(running.map((program) => program.stop()));
  }
}
