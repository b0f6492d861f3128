/** Lines around a change that are shown with it. */
const context = 3;

/** Two texts as a unified diff, without its headers; empty when they are the same. */
export function lineDiff(before: string, after: string): string {
  if (before === after) return "";
  const [a, b] = [linesOf(before), linesOf(after)];
  const steps = stepsBetween(a, b);
  const near = (at: number) =>
    steps.slice(Math.max(0, at - context), at + context + 1).some(({ sign }) => sign !== " ");
  const shown: string[] = [];
  let hidden = true;
  let line = 1;
  for (const [at, { sign, text }] of steps.entries()) {
    if (near(at)) {
      if (hidden) shown.push(`@@ line ${line} @@`);
      shown.push(`${sign}${text}`);
    }
    hidden = !near(at);
    if (sign !== "-") line++;
  }
  return `${shown.join("\n")}\n`;
}

interface Step {
  readonly sign: " " | "+" | "-";
  readonly text: string;
}

/** By the longest common subsequence: texts of ConfigMaps are short. */
function stepsBetween(a: readonly string[], b: readonly string[]): readonly Step[] {
  const lengths = Array.from({ length: a.length + 1 }, () => new Uint32Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      lengths[i]![j] = a[i] === b[j] ? lengths[i + 1]![j + 1]! + 1 : Math.max(lengths[i + 1]![j]!, lengths[i]![j + 1]!);
    }
  }
  const steps: Step[] = [];
  for (let i = 0, j = 0; i < a.length || j < b.length; ) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      steps.push({ sign: " ", text: a[i]! });
      i++;
      j++;
    } else if (i < a.length && (j === b.length || lengths[i + 1]![j]! >= lengths[i]![j + 1]!)) {
      steps.push({ sign: "-", text: a[i++]! });
    } else steps.push({ sign: "+", text: b[j++]! });
  }
  return steps;
}

function linesOf(text: string): readonly string[] {
  if (text === "") return [];
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  else lines.push("\\ No newline at end of file");
  return lines;
}
