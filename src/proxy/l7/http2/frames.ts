import { Failure } from "../../../base/index.ts";

/** Types of frames (RFC 9113 §6). */
export const frameTypes = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

/** Flags of frames; `ack` is of SETTINGS and PING. */
export const flags = { endStream: 0x1, ack: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

/** Why a stream or a connection ends (RFC 9113 §7). */
export const codes = {
  noError: 0,
  protocolError: 1,
  internalError: 2,
  flowControlError: 3,
  streamClosed: 5,
  frameSizeError: 6,
  refusedStream: 7,
  cancel: 8,
  compressionError: 9,
  enhanceYourCalm: 11,
} as const;

/** Identifiers of settings (RFC 9113 §6.5.2). */
export const settingIds = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
} as const;

/** What each side may assume of the other before it has said otherwise. Sizes in bytes. */
export const defaults = { headerTableSize: 4096, windowSize: 65_535, maxFrameSize: 16_384 } as const;

/** The largest window, and the largest stream identifier: 31 bits. */
export const most31 = 0x7fffffff;

export const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/** Bytes before the payload of each frame. */
export const frameHeadBytes = 9;

/** What the peer did that ends the whole connection, and with which code. */
export class ConnectionError extends Failure {
  readonly errorCode: number;

  constructor(errorCode: number, message: string) {
    super("http2/connection", message);
    this.errorCode = errorCode;
  }
}
