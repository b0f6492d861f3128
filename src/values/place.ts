/** Where something runs, from large to small; an empty part is unknown. */
export interface Locality {
  readonly region: string;
  readonly zone: string;
  readonly subzone: string;
}

export const nowhere: Locality = Object.freeze({ region: "", zone: "", subzone: "" });

/** `region/zone/subzone`, with later parts optional. */
export function parseLocality(text: string): Locality {
  const [region = "", zone = "", subzone = ""] = text.split("/");
  return { region, zone, subzone };
}

export function formatLocality({ region, zone, subzone }: Locality): string {
  return [region, zone, subzone].join("/").replace(/\/+$/, "");
}

/** How near two places are: 0 the same subzone, 1 the same zone, 2 the same region, 3 elsewhere. */
export function distance(a: Locality, b: Locality): 0 | 1 | 2 | 3 {
  if (a.region !== b.region) return 3;
  if (a.zone !== b.zone) return 2;
  return a.subzone === b.subzone ? 0 : 1;
}
