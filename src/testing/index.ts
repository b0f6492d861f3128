// Tests only: time that moves when told, streams back to back, folders that go away.
export { type TestAuthority, testAuthority } from "./certificates.ts";
export { FakeClock } from "./fake-clock.ts";
export { accessOf } from "./kube-access.ts";
export { type FakeKubeApi, type FakeWrite, fakeKubeApi } from "./kube-api.ts";
export { FakeCluster } from "./kube-objects.ts";
export { scratchDir } from "./scratch.ts";
