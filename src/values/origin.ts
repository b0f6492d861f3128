/** Which object of which cluster something came from, and where it is written. */
export interface Origin {
  readonly cluster: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  /** The file, when it came from one. Lines count from 1. */
  readonly file?: string;
  readonly line?: number;
}

/** `ServiceEntry foo/httpbin-bar (mesh.yaml:3)`. */
export function formatOrigin(origin: Origin): string {
  const name = origin.namespace ? `${origin.namespace}/${origin.name}` : origin.name;
  const place = origin.file ? ` (${origin.file}${origin.line === undefined ? "" : `:${origin.line}`})` : "";
  return `${origin.kind} ${name}${place}`;
}
