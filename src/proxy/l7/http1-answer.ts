import { STATUS_CODES } from "node:http";
import type { Http1Request } from "./head.ts";
import type { Headers } from "./headers.ts";
import { fieldLines } from "./http1-write.ts";
import type { Refusal, ResponseHead } from "./message.ts";

/** The head of an answer on HTTP/1, as it goes over the wire, and what follows from it. */
export interface AnswerHead {
  readonly text: string;
  /** The body goes in chunks. */
  readonly chunked: boolean;
  /** Another request may follow on the connection; where the answer has no length, its end is the connection's. */
  readonly keepAlive: boolean;
}

const startLine = (status: number, reason = "") =>
  `HTTP/1.1 ${status} ${reason !== "" ? reason : (STATUS_CODES[status] ?? "")}\r\n`;

/** How an answer is framed for this request (RFC 9112 §6.3), and whether the connection outlives it. */
export function answerHead(
  head: ResponseHead,
  to: {
    readonly request: Http1Request;
    /** There is no body. */
    readonly end: boolean;
    /** As far as all else goes, another request may follow. */
    readonly keepAlive: boolean;
  },
): AnswerHead {
  const { status, contentLength } = head;
  const { request, end } = to;
  const http10 = request.version === "HTTP/1.0";
  const bodyless = request.method === "HEAD" || status === 204 || status === 304;
  let text = startLine(status, head.reason) + fieldLines(head.headers);
  let chunked = false;
  let untilClose = false;
  if (contentLength >= 0) {
    if (status !== 204) text += `content-length: ${contentLength}\r\n`;
  } else if (!bodyless) {
    if (end) text += "content-length: 0\r\n";
    else if (http10) untilClose = true;
    else {
      chunked = true;
      text += "transfer-encoding: chunked\r\n";
    }
  }
  const keepAlive = to.keepAlive && head.close !== true && !untilClose;
  if (!keepAlive) text += "connection: close\r\n";
  else if (http10) text += "connection: keep-alive\r\n";
  return { text: `${text}\r\n`, chunked, keepAlive };
}

/** The head of a 1xx before the answer itself. */
export function informationalHead(status: number, headers: Headers): string {
  return `${startLine(status)}${fieldLines(headers)}\r\n`;
}

/** 101: from here on the connection speaks another protocol. */
export function upgradeHead({ status, reason, headers }: ResponseHead, protocol: string): string {
  return `${startLine(status, reason)}${fieldLines(headers)}connection: upgrade\r\nupgrade: ${protocol}\r\n\r\n`;
}

/** The answer to what is no request, and the last one on its connection. */
export function refusalAnswer({ status, message }: Refusal): { readonly head: string; readonly body: Buffer } {
  const body = Buffer.from(`${message}\n`);
  const fields = `content-type: text/plain\r\ncontent-length: ${body.length}\r\nconnection: close\r\n`;
  return { head: `${startLine(status)}${fields}\r\n`, body };
}
