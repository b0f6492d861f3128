import { HeaderValueOption_HeaderAppendAction } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import type { HttpRule } from "../resources/index.ts";

type HeaderChanges = NonNullable<HttpRule["headers"]>;

const isHost = (name: string) => /^(?::authority|host)$/i.test(name);

/** The host that a request's changes set: it is rewritten, not changed like a header. */
export function hostSet(headers: HeaderChanges | undefined): string | undefined {
  return Object.entries(headers?.request?.set ?? {}).find(([name]) => isHost(name))?.[1];
}

/** Changes of headers as fields of a route, or of one of its destinations. */
export function headerFields(headers: HeaderChanges | undefined) {
  if (!headers) return {};
  const options = (change: HeaderChanges["request"]) => {
    const option =
      (appendAction: HeaderValueOption_HeaderAppendAction) =>
      ([key, value]: [string, string]) => ({
        header: { key, value: escaped(value) },
        appendAction,
        ...(value === "" ? { keepEmptyValue: true } : {}),
      });
    return [
      ...Object.entries(change?.set ?? {})
        .filter(([name]) => !isHost(name))
        .map(option(HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD)),
      ...Object.entries(change?.add ?? {}).map(option(HeaderValueOption_HeaderAppendAction.APPEND_IF_EXISTS_OR_ADD)),
    ];
  };
  return {
    requestHeadersToAdd: options(headers.request),
    requestHeadersToRemove: [...(headers.request?.remove ?? [])],
    responseHeadersToAdd: options(headers.response),
    responseHeadersToRemove: [...(headers.response?.remove ?? [])],
  };
}

/** A percent sign that begins no operator means itself. */
const escaped = (value: string) =>
  value.replace(/%%|%[A-Z][A-Z0-9_]*(?:\([^)]*\))?(?::\d+)?%|%/g, (found) => (found === "%" ? "%%" : found));
