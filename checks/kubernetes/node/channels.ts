import type { WebSocket } from "ws";

/** The streams of one command over a WebSocket: the first byte of a message is the stream's number. */
export interface Channels {
  write(channel: number, bytes: Buffer, sent?: () => void): void;
  onData(channel: number, take: (bytes: Buffer) => void): void;
  /** The caller closes a stream (`v5` only): its standard input is at its end. */
  onEnd(channel: number, ended: () => void): void;
  onClose(closed: () => void): void;
  /** Tells how the command ended, and closes. */
  exit(code: number): void;
  fail(message: string): void;
}

const errorChannel = 3;
const closeChannel = 255;

export function serveChannels(socket: WebSocket): Channels {
  const takers = new Map<number, (bytes: Buffer) => void>();
  const enders = new Map<number, () => void>();
  socket.on("error", () => {});
  socket.on("message", (data) => {
    const bytes = data as Buffer;
    if (bytes.length === 0) return;
    const [channel] = bytes;
    if (channel === closeChannel) enders.get(bytes[1] ?? 0)?.();
    else takers.get(channel!)?.(bytes.subarray(1));
  });
  const write = (channel: number, bytes: Buffer, sent?: () => void) => {
    socket.send(Buffer.concat([Buffer.from([channel]), bytes]), { binary: true }, () => sent?.());
  };
  const end = (status: object) => {
    write(errorChannel, Buffer.from(JSON.stringify({ metadata: {}, ...status })));
    socket.close(1000);
  };
  // The caller waits for the first message to know that it is connected.
  write(1, Buffer.alloc(0));
  return {
    write,
    onData: (channel, take) => takers.set(channel, take),
    onEnd: (channel, ended) => enders.set(channel, ended),
    onClose: (closed) => socket.on("close", closed),
    exit: (code) => end(exitStatus(code)),
    fail: (message) => end({ status: "Failure", reason: "InternalError", message, code: 500 }),
  };
}

/** How a command's end is told to kubectl (remotecommand's v4 and v5). */
export function exitStatus(code: number): object {
  if (code === 0) return { status: "Success" };
  return {
    status: "Failure",
    reason: "NonZeroExitCode",
    message: `command terminated with non-zero exit code: exit status ${code}`,
    details: { causes: [{ reason: "ExitCode", message: String(code) }] },
  };
}
