export function transpiled(path: string): string;
