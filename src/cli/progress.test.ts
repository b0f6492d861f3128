import { expect, test } from "vitest";
import { ownCommand, progressLine } from "./progress.ts";

function output(isTTY: boolean) {
  let text = "";
  let ms = 0;
  const write = (part: string | Uint8Array) => {
    text += String(part);
    return true;
  };
  const line = progressLine({ isTTY, columns: 20, write: write as NodeJS.WriteStream["write"] }, () => ms);
  return {
    line,
    pass: (time: number) => {
      ms += time;
    },
    text: () => text,
  };
}

test("where lines cannot be replaced, waiting is told when it changes, at most every two seconds", () => {
  const { line, pass, text } = output(false);
  line.waiting("a: starting");
  line.waiting("b: starting");
  pass(2_000);
  line.waiting("a: starting");
  line.waiting("c: starting");
  pass(500);
  line.waiting("d: starting");
  line.waiting("");
  line.write("done");
  expect(text()).toBe("a: starting\nc: starting\ndone\n");
});

test("on a terminal the line about waiting is replaced, and never longer than the terminal is wide", () => {
  const { line, text } = output(true);
  line.waiting("one");
  line.waiting("a line of more than twenty letters");
  line.write("done");
  expect(text()).toBe("one\r\u001b[2Ka line of more tha…\r\u001b[2Kdone\n");
});

const scripts = [
  { script: "/repo/dist/cli/main.js", folder: "/repo", command: "node dist/cli/main.js" },
  { script: "/repo/dist/cli/main.js", folder: "/elsewhere", command: "node /repo/dist/cli/main.js" },
  { script: "/root/.npm/_npx/1/node_modules/.bin/isthmus", folder: "/repo", command: "npx isthmus" },
  { script: "/usr/local/bin/isthmus", folder: "/repo", command: "isthmus" },
];
for (const { script, folder, command } of scripts) {
  test(`${script} in ${folder} is called "${command}"`, () => expect(ownCommand(script, folder)).toBe(command));
}
