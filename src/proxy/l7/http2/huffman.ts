/**
 * How many bits stand for each byte, and last for the end of a string (RFC 7541, Appendix B). The code is canonical: codes of
 * one length follow each other in the order of their bytes, and go on where the shorter ones ended.
 */
// biome-ignore format: sixteen in a row
const lengths = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
  28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
  5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
  7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
  6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
  24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
  21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
  26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
  20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
  26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
  30,
];
const endOfString = 256;

/*
 * Decoded four bits at a time. A state is what has been read of a code, 0 nothing; from a state and four bits come the next
 * state and at most one byte, because no code is shorter than five bits.
 */
const nextState = new Uint8Array(256 * 16);
/** The byte that is whole with these four bits; −1 for none, −2 for what no code begins with. */
const emitted = new Int16Array(256 * 16);
/** Whether a string may end here: all that has been read of a code is ones, fewer than eight. */
const mayEnd = new Uint8Array(256);

makeTables();

function makeTables(): void {
  type Node = { zero?: Node | number; one?: Node | number; readonly state: number };
  const nodes: Node[] = [{ state: 0 }];
  let code = 0;
  let length = 0;
  for (const [symbol, bits] of [...lengths.entries()].sort(([a, la], [b, lb]) => la - lb || a - b)) {
    code *= 2 ** (bits - length);
    length = bits;
    let node = nodes[0]!;
    for (let bit = bits - 1; bit >= 0; bit--) {
      const side = Math.floor(code / 2 ** bit) % 2 === 1 ? "one" : "zero";
      if (bit === 0) node[side] = symbol;
      else {
        if (node[side] === undefined) {
          node[side] = { state: nodes.length };
          nodes.push(node[side]);
        }
        node = node[side] as Node;
      }
    }
    code++;
  }
  for (const start of nodes) {
    for (let four = 0; four < 16; four++) {
      let node = start;
      let byte = -1;
      for (let bit = 3; bit >= 0; bit--) {
        const next = (four >> bit) % 2 === 1 ? node.one! : node.zero!;
        if (typeof next !== "number") node = next;
        else {
          byte = next === endOfString ? -2 : byte === -2 ? -2 : next;
          node = nodes[0]!;
        }
      }
      nextState[start.state * 16 + four] = node.state;
      emitted[start.state * 16 + four] = byte;
    }
  }
  let node: Node | number | undefined = nodes[0]!;
  for (let ones = 0; ones < 8 && typeof node === "object"; ones++, node = node.one) mayEnd[node.state] = 1;
}

let scratch = Buffer.allocUnsafeSlow(4096);

/** The text whose code is in `bytes` between the two places, a byte a character; undefined when it is none. */
export function decodeHuffman(bytes: Buffer, from: number, to: number): string | undefined {
  // At least five bits for each byte.
  const most = Math.ceil(((to - from) * 8) / 5);
  if (scratch.length < most) scratch = Buffer.allocUnsafeSlow(most * 2);
  const out = scratch;
  let length = 0;
  let state = 0;
  for (let i = from; i < to; i++) {
    const byte = bytes[i]!;
    const high = (state << 4) | (byte >> 4);
    const first = emitted[high]!;
    if (first >= 0) out[length++] = first;
    const low = (nextState[high]! << 4) | (byte & 15);
    const second = emitted[low]!;
    if (second >= 0) out[length++] = second;
    if (first === -2 || second === -2) return undefined;
    state = nextState[low]!;
  }
  return mayEnd[state] === 1 ? out.toString("latin1", 0, length) : undefined;
}
