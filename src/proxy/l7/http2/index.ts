export { type Counted, Http2Connection, type Http2Events } from "./connection.ts";
export { codes } from "./frames.ts";
export type { FieldBlock } from "./hpack-decoder.ts";
export type { Http2Stream, StreamEnd, StreamHandler } from "./stream.ts";
