import type { LabProgress } from "./types.ts";

/** News of a lab that comes up, as a line for a person. */
export function progressText(news: LabProgress): string {
  const where = "cluster" in news && news.cluster ? `${news.cluster}: ` : "";
  switch (news.kind) {
    case "mode":
      return `mode: ${news.mode} (${news.reason})`;
    case "installing":
      return `mode: ${news.mode}, which wants "${news.missing.join('", "')}": installing ${news.packages.join(", ")} with apt-get`;
    case "warning":
      return `warning: ${where}${news.text}`;
    case "step":
    case "waiting":
      return `${where}${news.text}`;
  }
}
