/** Of a release: 1.11.1. */
export type Version = readonly [major: number, minor: number, patch: number];

export function parseVersion(text: string): Version | undefined {
  const [, major, minor, patch = "0"] = /^v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(?:[-+.].*)?$/.exec(text) ?? [];
  return major === undefined ? undefined : [Number(major), Number(minor), Number(patch)];
}

export function formatVersion(version: Version): string {
  return version.join(".");
}

/** Below zero when `a` is the older. */
export function compareVersions(a: Version, b: Version): number {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2];
}

/**
 * CoreDNS's version by its image's tag: `…/coredns:v1.11.1-eksbuild.4` is 1.11.1. Undefined for a digest without a tag,
 * for `latest`, and for numbers that CoreDNS never had: then the program itself must be asked.
 */
export function versionOfImage(image: string): Version | undefined {
  const [, tag] = /^(?:.*\/)?[^/:@]+:([^/:@]+)(?:@.+)?$/.exec(image) ?? [];
  const version = tag === undefined ? undefined : parseVersion(tag);
  return version?.[0] === 1 ? version : undefined;
}
