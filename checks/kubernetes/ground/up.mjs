// Throwaway Kubernetes control planes: node checks/kubernetes/ground/up.mjs [--clusters N] [--kubeconfig FILE]
// [--no-controllers]. Prints `export KUBECONFIG=…` when they are ready, and runs until it is ended; nothing is left.
import "../typescript.mjs";

await import("./up.ts");
