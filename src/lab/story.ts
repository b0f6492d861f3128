/** A line of a proxy's access log: field to value, as text. A dash is what the log writes for nothing. */
export type AccessLine = Readonly<Record<string, string>>;

/** The lines of a log that are access log entries; others are the proxy's own events. */
export function accessLines(text: string): readonly AccessLine[] {
  const lines: AccessLine[] = [];
  for (const line of text.split("\n")) {
    if (!line.startsWith("{")) continue;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      continue; // The last line may be half written.
    }
    if (typeof value !== "object" || value === null || !("upstream_cluster" in value)) continue;
    lines.push(
      Object.fromEntries(Object.entries(value).map(([key, field]) => [key, field === null ? "-" : String(field)])),
    );
  }
  return lines;
}

/** One call as three proxies saw it. */
export interface Crossing {
  readonly client: AccessLine;
  /** Absent while the connection that carried the call is still open: a gateway writes its line at the end of it. */
  readonly gateway: AccessLine | undefined;
  readonly server: AccessLine;
}

/**
 * Finds one call in the logs. Both sidecars know the request's id; the gateway knows no requests, so its line is the
 * connection that came from the port that the client's sidecar sent from.
 */
export function findCrossing(options: {
  readonly requestId: string;
  readonly client: readonly AccessLine[];
  readonly gateway: readonly AccessLine[];
  readonly server: readonly AccessLine[];
}): Crossing | { readonly missing: string } {
  const { requestId } = options;
  const client = options.client.find((line) => line["x_request_id"] === requestId);
  if (!client) return { missing: `the client's sidecar has no line for request ${requestId}` };
  const server = options.server.find((line) => line["x_request_id"] === requestId);
  if (!server) return { missing: `the server's sidecar has no line for request ${requestId}` };
  const port = portOf(client["upstream_local_address"]);
  const gateway = options.gateway.findLast(
    (line) =>
      portOf(line["downstream_remote_address"]) === port &&
      line["requested_server_name"] === server["requested_server_name"],
  );
  return { client, gateway, server };
}

function portOf(address: string | undefined): string | undefined {
  return address?.slice(address.lastIndexOf(":") + 1);
}

/** What the demo promises, each checked against what the proxies wrote down. */
export function promises(
  crossing: Crossing,
  expected: { readonly sni: string; readonly caller: string; readonly server: string },
) {
  const { client, gateway, server } = crossing;
  const version = server["downstream_tls_version"] ?? "-";
  return [
    {
      says: `what crosses is ${version === "-" ? "TLS" : version}, at least 1.2`,
      holds: /^TLSv1\.[23]$/.test(version),
    },
    {
      says: `its server name is ${expected.sni}`,
      holds:
        server["requested_server_name"] === expected.sni &&
        (!gateway || gateway["requested_server_name"] === expected.sni),
    },
    {
      says: `the server knows the caller: ${expected.caller}`,
      holds: server["downstream_peer_uri_san"] === expected.caller,
    },
    {
      says: `the caller knows the server: ${expected.server}`,
      holds: client["upstream_peer_uri_san"] === expected.server,
    },
    {
      says: "the gateway opened nothing: it knows no identity and no request",
      holds:
        gateway !== undefined &&
        ["downstream_peer_uri_san", "downstream_local_uri_san", "method", "path"].every((key) =>
          [undefined, "-", ""].includes(gateway[key]),
        ),
    },
  ] as const;
}

/** The hops of the call, a line each, from the name to the application. */
export function hopLines(
  crossing: Crossing,
  names: { readonly host: string; readonly vip: string; readonly app: string },
): readonly string[] {
  const { client, gateway, server } = crossing;
  const of = (line: AccessLine, key: string) => line[key] ?? "-";
  return [
    `name      ${names.host} is ${names.vip}, by the mesh's DNS of cluster1`,
    `sidecar   sleep's, in cluster1: ${of(client, "downstream_remote_address")} asked for ${of(client, "method")} ${of(client, "path")}; ` +
      `cluster ${of(client, "upstream_cluster")}; to ${of(client, "upstream_host")} as ${of(server, "downstream_peer_uri_san")}`,
    gateway
      ? `gateway   cluster2's: from ${of(gateway, "downstream_remote_address")}, SNI ${of(gateway, "requested_server_name")}, unopened; to ${of(gateway, "upstream_host")}`
      : `gateway   cluster2's: ${of(client, "upstream_host")}; it writes its line when the connection ends`,
    `sidecar   httpbin's, in cluster2: ${of(server, "downstream_tls_version")} ends here; it is ${of(server, "downstream_local_uri_san")}, ` +
      `the caller is ${of(server, "downstream_peer_uri_san")}; cluster ${of(server, "upstream_cluster")}`,
    `app       ${names.app} at ${of(server, "upstream_host")} answered ${of(server, "response_code")} in ${of(server, "duration")} ms`,
  ];
}
