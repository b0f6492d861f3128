/** Kubernetes' amounts: `100m`, `1.5`, `128Mi`, `1e3`. */
const quantity = /^\+?(\d{1,18}(\.\d{0,18})?|\.\d{1,18})(m|u|n|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?\d{1,2})?$/;

export function isQuantity(text: string): boolean {
  return quantity.test(text);
}

const factors: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/** For comparing two of them; undefined for what is none. */
export function quantityValue(text: string): number | undefined {
  const [, amount, , suffix = ""] = quantity.exec(text) ?? [];
  if (amount === undefined) return undefined;
  if (/^[eE]/.test(suffix) && suffix.length > 1) return Number(`${amount}${suffix}`);
  return Number(amount) * (factors[suffix] ?? 1);
}
