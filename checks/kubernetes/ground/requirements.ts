import { missingOf } from "../../requirements.ts";

/** Why no ground can be had here; undefined when one can. Throws where `ISTHMUS_REQUIRE` demands it. */
export function machineryMissing(): string | undefined {
  return missingOf(["kubernetes", "root", "netns", "iptables", "curl"]);
}
