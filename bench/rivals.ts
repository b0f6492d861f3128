import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Place, type Program, startProgram } from "./machine.ts";

// nginx and HAProxy with one worker each, set up for the same work as ours.

let serial = 0;

export interface NginxOptions {
  readonly dir: string;
  readonly place: Place;
  readonly program: string;
  /** What stands inside `http { … }`. */
  readonly http: string;
}

export function startNginx({ dir, place, program, http }: NginxOptions): Program {
  const home = join(dir, `nginx-${serial++}`);
  mkdirSync(home);
  const file = join(home, "nginx.conf");
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (name) => `${name}_temp_path ${home}/${name};`,
  );
  writeFileSync(
    file,
    `daemon off; master_process off; worker_processes 1; pid ${home}/pid; error_log stderr crit;
events { worker_connections 8192; }
http { access_log off; keepalive_requests 1000000000; keepalive_timeout 600; ${temporary.join(" ")}
${http} }\n`,
  );
  return startProgram(place, [program, "-p", home, "-c", file, "-e", "stderr"]);
}

/** A small answer, as fast as it gets. */
export function answering(port: number): string {
  return `server { listen 127.0.0.1:${port}; location / { return 200 "hello, a small answer\\n"; } }`;
}

/** A reverse proxy with connections that stay open, and the request id that ours makes too. */
export function reverseProxy(port: number, upstream: number, log = ""): string {
  return `upstream app_${port} { server 127.0.0.1:${upstream}; keepalive 256; keepalive_requests 1000000000; }
server { listen 127.0.0.1:${port}; ${log}
  location / { proxy_pass http://app_${port}; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
    proxy_set_header X-Request-Id $request_id; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; } }`;
}

/** A JSON line a request, about the fields that ours writes, to where nobody reads it. */
export const jsonLog = `log_format mesh escape=json '{"start_time":"$time_iso8601","duration":"$request_time","bytes_received":"$request_length","bytes_sent":"$bytes_sent","upstream_host":"$upstream_addr","downstream_local_address":"$server_addr:$server_port","downstream_remote_address":"$remote_addr:$remote_port","method":"$request_method","path":"$request_uri","authority":"$host","protocol":"$server_protocol","response_code":"$status","x_request_id":"$request_id","user_agent":"$http_user_agent"}';`;
export const jsonLogUse = "access_log /dev/null mesh buffer=64k flush=1s;";

export function startHaproxy(options: {
  readonly place?: Place;
  readonly dir: string;
  readonly program: string;
  readonly config: string;
}): Program {
  const file = join(options.dir, `haproxy-${serial++}.cfg`);
  const text = `global
  nbthread 1
  maxconn 4000
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  timeout http-keep-alive 600s
${options.config}`;
  writeFileSync(file, text);
  return startProgram(options.place ?? "measured", [options.program, "-db", "-f", file]);
}
