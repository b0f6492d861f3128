import { Cell, Metrics, Scope, silentLogger, systemClock } from "../src/base/index.ts";
import { buildZone, startDnsServer, type ZoneName } from "../src/dns/index.ts";
import { type Ip, ipv4FromNumber, parseHostname } from "../src/values/index.ts";

// The DNS server as a process of its own, with as many names as it is told.

export function namesOf(count: number): readonly ZoneName[] {
  return Array.from({ length: count }, (_, i) => ({
    name: parseHostname(`service-${i}.ns-${i % 20}.global`)!,
    addresses: [ipv4FromNumber(0xf0f00001 + i)],
  }));
}

if (process.send) {
  const [, , port, count] = process.argv;
  const scope = new Scope();
  await startDnsServer(
    {
      listen: [{ ip: "127.0.0.1" as Ip, port: Number(port) }],
      zone: new Cell(buildZone({ names: namesOf(Number(count)), suffixes: [parseHostname("global")!] })),
      log: silentLogger,
      metrics: new Metrics(),
      clock: systemClock,
    },
    scope,
  );
  const stop = () => void scope.close().finally(() => process.exit(0));
  process.once("SIGTERM", stop);
  process.once("disconnect", stop);
}
