import type { AccessLog } from "../../proto/gen/envoy/config/accesslog/v3/accesslog_pb.js";
import type { SubstitutionFormatString } from "../../proto/gen/envoy/config/core/v3/substitution_format_string_pb.js";
import { FileAccessLogSchema } from "../../proto/gen/envoy/extensions/access_loggers/file/v3/file_pb.js";
import {
  StderrAccessLogSchema,
  StdoutAccessLogSchema,
} from "../../proto/gen/envoy/extensions/access_loggers/stream/v3/stream_pb.js";
import { isPacked } from "../../proto/index.ts";
import { type Place, readAny } from "./reading.ts";

export type JsonFormat =
  | string
  | number
  | boolean
  | null
  | readonly JsonFormat[]
  | { readonly [key: string]: JsonFormat };

/** Where lines go and how one is written, with Envoy's command operators in the strings. */
export interface AccessLogConfig {
  /** A file's path; `/dev/stdout` and `/dev/stderr` are the process's own. */
  readonly path: string;
  readonly format:
    | { readonly kind: "json"; readonly template: JsonFormat; readonly omitEmpty: boolean }
    | { readonly kind: "text"; readonly template: string; readonly omitEmpty: boolean };
  /** Only records that ended with one of these flags; undefined writes all. */
  readonly onlyFlags: ReadonlySet<string> | undefined;
  /** Only answers whose status satisfies this. */
  readonly onlyStatus: { readonly op: "=" | "≥" | "≤"; readonly value: number } | undefined;
}

const defaultText =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n';

export function readAccessLogs(messages: readonly AccessLog[], place: Place): readonly AccessLogConfig[] {
  return messages.flatMap((message, index) => readAccessLog(message, place.item(index)) ?? []);
}

function readAccessLog(message: AccessLog, place: Place): AccessLogConfig | undefined {
  const typed = message.configType.value;
  const at = place.field("typed_config");
  const filter = readFilter(message, place.field("filter"));
  if (isPacked(typed, StdoutAccessLogSchema) || isPacked(typed, StderrAccessLogSchema)) {
    const stdout = isPacked(typed, StdoutAccessLogSchema);
    const stream = readAny(typed, stdout ? StdoutAccessLogSchema : StderrAccessLogSchema, at);
    const format = stream && readFormat(stream.accessLogFormat.value, at.field("log_format"));
    return format && { path: stdout ? "/dev/stdout" : "/dev/stderr", format, ...filter };
  }
  const file = readAny(typed, FileAccessLogSchema, at);
  if (!file) return undefined;
  if (file.path === "") return at.field("path").refuse("is missing");
  const given = file.accessLogFormat;
  const format = ((): AccessLogConfig["format"] | undefined => {
    switch (given.case) {
      case "format":
        return { kind: "text", template: given.value, omitEmpty: false };
      case "jsonFormat":
      case "typedJsonFormat":
        return { kind: "json", template: given.value as JsonFormat, omitEmpty: false };
      default:
        return readFormat(given.value, at.field("log_format"));
    }
  })();
  return format && { path: file.path, format, ...filter };
}

function readFormat(
  message: SubstitutionFormatString | undefined,
  place: Place,
): AccessLogConfig["format"] | undefined {
  const omitEmpty = message?.omitEmptyValues ?? false;
  switch (message?.format.case) {
    case undefined:
      return { kind: "text", template: defaultText, omitEmpty };
    case "jsonFormat":
      return { kind: "json", template: message.format.value as JsonFormat, omitEmpty };
    case "textFormat":
      return { kind: "text", template: message.format.value, omitEmpty };
    case "textFormatSource": {
      const source = message.format.value.specifier;
      if (source.case === "inlineString") return { kind: "text", template: source.value, omitEmpty };
      return place.field("text_format_source").refuse("must be an inline_string");
    }
  }
}

function readFilter(message: AccessLog, place: Place): Pick<AccessLogConfig, "onlyFlags" | "onlyStatus"> {
  const filter = message.filter?.filterSpecifier;
  switch (filter?.case) {
    case undefined:
      return { onlyFlags: undefined, onlyStatus: undefined };
    case "responseFlagFilter":
      return { onlyFlags: new Set(filter.value.flags), onlyStatus: undefined };
    case "statusCodeFilter": {
      const { op, value } = filter.value.comparison ?? {};
      return {
        onlyFlags: undefined,
        onlyStatus: { op: (["=", "≥", "≤"] as const)[op ?? 0] ?? "=", value: value?.defaultValue ?? 0 },
      };
    }
    default:
      place.refuse(`${filter?.case} is not known; use response_flag_filter or status_code_filter`);
      return { onlyFlags: undefined, onlyStatus: undefined };
  }
}
