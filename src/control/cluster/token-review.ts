import type { ReviewToken, TokenReviewStatus } from "../../ca/index.ts";
import type { KubeClient } from "../../kube/index.ts";

/** Callers wait for the answer, so it has to come soon or not at all. */
const timeoutMs = 5_000;

/** Asks the API server by a TokenReview (authentication.k8s.io/v1), which nobody keeps. */
export function reviewBy(client: KubeClient): ReviewToken {
  return async (token, audience) => {
    const answer = await client.json<{ readonly status?: TokenReviewStatus }>({
      method: "POST",
      path: "/apis/authentication.k8s.io/v1/tokenreviews",
      body: {
        apiVersion: "authentication.k8s.io/v1",
        kind: "TokenReview",
        spec: { token, audiences: [audience] },
      },
      timeoutMs,
    });
    return answer?.status;
  };
}
