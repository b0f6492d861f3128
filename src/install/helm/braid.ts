/** A line, or lines of which a condition decides. */
export type Part = string | Choice;

interface Choice {
  readonly condition: string;
  readonly holds: readonly Part[];
  readonly fails: readonly Part[];
}

/** Two texts as one: what both have stands once, and of the rest the condition decides. */
export function either(condition: string, holds: readonly Part[], fails: readonly Part[]): readonly Part[] {
  const braided: Part[] = [];
  let [mine, theirs]: [Part[], Part[]] = [[], []];
  const close = () => {
    if (mine.length + theirs.length > 0) braided.push({ condition, holds: mine, fails: theirs });
    [mine, theirs] = [[], []];
  };
  const [one, other] = [holds.map((part) => JSON.stringify(part)), fails.map((part) => JSON.stringify(part))];
  const common = commonLengths(one, other);
  let [i, j] = [0, 0];
  while (i < one.length || j < other.length) {
    if (i < one.length && one[i] === other[j]) {
      close();
      braided.push(holds[i]!);
      i++;
      j++;
    } else if (j === other.length || (i < one.length && common[i + 1]![j]! >= common[i]![j + 1]!))
      mine.push(holds[i++]!);
    else theirs.push(fails[j++]!);
  }
  close();
  return braided;
}

/** At `[i][j]`: how many lines `one` from `i` on and `other` from `j` on have in common, in one order. */
function commonLengths(one: readonly string[], other: readonly string[]): readonly (readonly number[])[] {
  const lengths = Array.from({ length: one.length + 1 }, () => new Array<number>(other.length + 1).fill(0));
  for (let i = one.length - 1; i >= 0; i--)
    for (let j = other.length - 1; j >= 0; j--)
      lengths[i]![j] =
        one[i] === other[j] ? lengths[i + 1]![j + 1]! + 1 : Math.max(lengths[i + 1]![j]!, lengths[i]![j + 1]!);
  return lengths;
}

/** As a template; `write` makes a line of text one of it. */
export function written(parts: readonly Part[], write: (line: string) => string): readonly string[] {
  return parts.flatMap((part) => {
    if (typeof part === "string") return [write(part)];
    const { condition } = part;
    const [holds, fails] = [written(part.holds, write), written(part.fails, write)];
    // Two values that a template writes alike.
    if (holds.join("\n") === fails.join("\n")) return holds;
    if (holds.length === 0) return [`{{- if not (${condition}) }}`, ...fails, "{{- end }}"];
    const rest = fails.length === 0 ? [] : ["{{- else }}", ...fails];
    return [`{{- if ${condition} }}`, ...holds, ...rest, "{{- end }}"];
  });
}
