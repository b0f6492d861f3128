/** Key and value pairs on an object or an endpoint. */
export type Labels = Readonly<Record<string, string>>;

/** Whether `labels` has every pair of `selector`. An empty selector selects everything: who must not say so asks first. */
export function selects(selector: Labels, labels: Labels): boolean {
  for (const key in selector) if (labels[key] !== selector[key]) return false;
  return true;
}
