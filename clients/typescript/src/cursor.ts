const form = /^(\w+)\.(\d+)$/;

/**
 * Whether a frame's cursor lies behind the newest that the client has. This is
 * the one place that looks into a cursor: `stream.sequence`, and of the same
 * stream the sequences compare as numbers, which may be too large for a double.
 * All that is known of two others is whether they are the same.
 */
export function isNewer(cursor: string, had = ""): boolean {
  const [a, b] = [form.exec(cursor), form.exec(had)];
  return a && b && a[1] === b[1] ? BigInt(a[2]!) > BigInt(b[2]!) : cursor !== had;
}
