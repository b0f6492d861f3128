/** `mesh` stays; a name becomes `namespace/name`. */
export function gatewayKey(gateway: string, namespace: string): string {
  if (gateway === "mesh" || gateway.includes("/")) return gateway;
  return `${namespace}/${gateway}`;
}
