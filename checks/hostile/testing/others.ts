import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { dial, eventually, freePorts } from "./mesh.ts";

/** Another proxy that passes all requests on to `backend`. */
export interface Other {
  readonly name: string;
  readonly port: number;
  close(): Promise<void>;
}

const paths = `${process.env["PATH"]}:/usr/sbin:/sbin`;

export async function startHaproxy(backend: number): Promise<Other> {
  const [port] = (await freePorts(1)) as [number];
  return start("haproxy", port, (dir) => {
    writeFileSync(
      join(dir, "haproxy.cfg"),
      `global
  maxconn 100
defaults
  mode http
  timeout connect 2s
  timeout client 5s
  timeout server 5s
  timeout http-request 2s
frontend in
  bind 127.0.0.1:${port}
  default_backend app
backend app
  server app 127.0.0.1:${backend}
`,
    );
    return ["-db", "-f", join(dir, "haproxy.cfg")];
  });
}

export async function startNginx(backend: number): Promise<Other> {
  const [port] = (await freePorts(1)) as [number];
  return start("nginx", port, (dir) => {
    writeFileSync(
      join(dir, "nginx.conf"),
      `daemon off; worker_processes 1; pid ${dir}/pid; error_log ${dir}/error.log; user root;
events { worker_connections 200; }
http {
  access_log off;
  client_body_temp_path ${dir}; proxy_temp_path ${dir}; fastcgi_temp_path ${dir}; uwsgi_temp_path ${dir}; scgi_temp_path ${dir};
  client_header_timeout 2s; client_body_timeout 2s;
  server {
    listen 127.0.0.1:${port};
    location / { proxy_pass http://127.0.0.1:${backend}; proxy_http_version 1.1; proxy_set_header Host $http_host; }
  }
}
`,
    );
    return ["-e", join(dir, "start.log"), "-p", dir, "-c", join(dir, "nginx.conf")];
  });
}

async function start(name: string, port: number, configure: (dir: string) => readonly string[]): Promise<Other> {
  const dir = mkdtempSync(join(tmpdir(), `isthmus-${name}-`));
  const child: ChildProcess = spawn(name, configure(dir), { stdio: "ignore", env: { PATH: paths } });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()).once("error", () => resolve()));
  await eventually(
    () =>
      dial(port).then(
        (socket) => {
          socket.destroy();
          return true;
        },
        () => false,
      ),
    Boolean,
    { what: `${name} does not listen` },
  );
  return {
    name,
    port,
    close: async () => {
      child.kill("SIGTERM");
      await exited;
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
