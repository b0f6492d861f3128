import type { FakeKubeApi } from "./kube-api.ts";

/** How to reach a fake API server. */
export function accessOf({ url }: Pick<FakeKubeApi, "url">) {
  return {
    name: "test",
    server: url,
    authority: undefined,
    serverName: undefined,
    insecure: false,
    namespace: "default",
    credentials: { kind: "none" },
  } as const;
}
