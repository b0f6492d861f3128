import { expect, test } from "vitest";
import { resourcesIn } from "./dump.ts";
import { readLogLine } from "./process.ts";
import { listenersDown } from "./readiness.ts";

test("a line of Envoy's log keeps its level, its logger and its text, tabs and all", () => {
  expect(readLogLine("warning\tconfig\tgRPC\tstream closed")).toEqual({
    level: "warn",
    logger: "config",
    text: "gRPC\tstream closed",
  });
  expect(readLogLine("  second line of a message")).toEqual({
    level: "info",
    logger: "",
    text: "  second line of a message",
  });
  expect(readLogLine("toString\tx\ty")).toMatchObject({ level: "info" });
});

const stats = (counts: Record<string, number>) =>
  Object.entries(counts)
    .map(([name, count]) => `listener_manager.${name}: ${count}`)
    .join("\n");
const up = { "lds.update_rejected": 0, "lds.update_success": 1, total_listeners_warming: 0, workers_started: 1 };
const rows: ReadonlyArray<{ it: string; counts: Record<string, number>; says: RegExp | undefined }> = [
  { it: "told and warm is up", counts: up, says: undefined },
  { it: "nothing told is not up", counts: { ...up, "lds.update_success": 0 }, says: /no configuration yet/ },
  {
    it: "refused is said as such",
    counts: { ...up, "lds.update_success": 0, "lds.update_rejected": 2 },
    says: /refused the listeners/,
  },
  { it: "warming is not up", counts: { ...up, total_listeners_warming: 2 }, says: /^2 listeners wait/ },
  { it: "without workers it is not up", counts: { ...up, workers_started: 0 }, says: /workers/ },
  { it: "an empty answer is not up", counts: {}, says: /no configuration yet/ },
];
for (const { it, counts, says } of rows) {
  test(`listeners: ${it}`, () => {
    const why = listenersDown(stats(counts));
    if (says) expect(why).toMatch(says);
    else expect(why).toBeUndefined();
  });
}

test("a configuration dump of Envoy's reads like the embedded proxy's, without secrets", () => {
  const listener = {
    "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
    name: "0.0.0.0_15443",
    filter_chains: [{ name: "a" }],
    field_of_a_newer_version: 1,
  };
  const dump = {
    configs: [
      {
        "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
        version_info: "7",
        dynamic_listeners: [
          { name: "0.0.0.0_15443", active_state: { version_info: "8", listener }, warming_state: { listener } },
        ],
      },
      {
        "@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump",
        dynamic_active_secrets: [
          {
            name: "default",
            secret: {
              "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
              name: "default",
            },
          },
        ],
      },
    ],
  };
  const type = listener["@type"];
  const resource = { name: "0.0.0.0_15443", filterChains: [{ name: "a" }] };
  expect(resourcesIn(dump)).toEqual([
    { type, name: "0.0.0.0_15443", version: "8", state: "active", resource },
    { type, name: "0.0.0.0_15443", version: "7", state: "warming", resource },
  ]);
});
