import { Command } from "commander";

export function doctorCommand(_done: (code: number) => void): Command {
  return new Command("doctor");
}
