/** One TCP connection towards a port, as far as its first bytes were captured. */
export interface Flow {
  readonly key: string;
  /** Whether everything captured in either direction is TLS records. */
  readonly onlyTlsRecords: boolean;
  readonly sni: string | undefined;
  readonly version: string | undefined;
}

/** The connections to `port` in a classic pcap file of `tcpdump -i any` or of an Ethernet interface. */
export function flowsToPort(file: Buffer, port: number): Flow[] {
  const little = file.readUInt32LE(0) === 0xa1b2c3d4;
  const u32 = (at: number) => (little ? file.readUInt32LE(at) : file.readUInt32BE(at));
  const linkHeader = { 1: 14, 113: 16, 276: 20 }[u32(20)];
  if (linkHeader === undefined) throw new Error(`capture of link type ${u32(20)}`);
  const directions = new Map<string, Map<number, Buffer>>();
  for (let at = 24; at + 16 <= file.length; ) {
    const length = u32(at + 8);
    const packet = file.subarray(at + 16 + linkHeader, at + 16 + length);
    at += 16 + length;
    if (packet.length < 40 || packet[0]! >> 4 !== 4 || packet[9] !== 6) continue;
    const ip = (packet[0]! & 15) * 4;
    const tcp = packet.subarray(ip, packet.readUInt16BE(2));
    const [from, to] = [tcp.readUInt16BE(0), tcp.readUInt16BE(2)];
    if (from !== port && to !== port) continue;
    const payload = tcp.subarray((tcp[12]! >> 4) * 4);
    if (payload.length === 0) continue;
    const key = `${packet.subarray(12, 16).join(".")}:${from}>${packet.subarray(16, 20).join(".")}:${to}`;
    const segments = directions.get(key) ?? new Map<number, Buffer>();
    segments.set(tcp.readUInt32BE(4), payload);
    directions.set(key, segments);
  }
  const flows: Flow[] = [];
  for (const [key, segments] of directions) {
    const [source, destination] = key.split(">") as [string, string];
    if (!destination.endsWith(`:${port}`)) continue;
    const client = joined(segments);
    const back = directions.get(`${destination}>${source}`);
    const server = back ? joined(back) : Buffer.alloc(0);
    flows.push({
      key,
      onlyTlsRecords: tlsRecords(client) && tlsRecords(server),
      sni: client[0] === 22 ? sniOf(client) : undefined,
      version: server[0] === 22 ? versionOf(server) : undefined,
    });
  }
  return flows;
}

function joined(segments: ReadonlyMap<number, Buffer>): Buffer {
  return Buffer.concat([...segments].sort(([a], [b]) => a - b).map(([, bytes]) => bytes));
}

/** Record after record from the first byte on; the last may be cut off. */
function tlsRecords(bytes: Buffer): boolean {
  for (let at = 0; at + 5 <= bytes.length; at += 5 + bytes.readUInt16BE(at + 3)) {
    if (bytes[at]! < 20 || bytes[at]! > 24 || bytes[at + 1] !== 3) return false;
  }
  return true;
}

function sniOf(client: Buffer): string | undefined {
  // Extension 0, list, one name of type 0: enough for a hello that we know to be well-formed.
  for (let at = 0; at + 9 < client.length; at++) {
    if (client.readUInt16BE(at) !== 0 || client[at + 6] !== 0) continue;
    const [extension, list, name] = [
      client.readUInt16BE(at + 2),
      client.readUInt16BE(at + 4),
      client.readUInt16BE(at + 7),
    ];
    if (extension === list + 2 && list === name + 3) return client.toString("latin1", at + 9, at + 9 + name);
  }
  return undefined;
}

function versionOf(server: Buffer): string {
  // supported_versions (43) of a ServerHello is what was agreed; without it, the legacy field is.
  const hello = server.subarray(0, 5 + server.readUInt16BE(3));
  const at = hello.indexOf(Buffer.from([0, 43, 0, 2]));
  const version = at >= 0 ? hello.readUInt16BE(at + 4) : hello.readUInt16BE(9);
  return { 769: "TLSv1.0", 770: "TLSv1.1", 771: "TLSv1.2", 772: "TLSv1.3" }[version] ?? `0x${version.toString(16)}`;
}
