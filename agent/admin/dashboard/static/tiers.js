/** How near a node is that gave bytes: the five tiers, from near to far, and their shares of a sum. Pure. */

/** @type {readonly {tier: string, words: string}[]} */
export const TIERS = Object.freeze([
  { tier: "node", words: "this node" },
  { tier: "rack", words: "same rack" },
  { tier: "zone", words: "same zone" },
  { tier: "region", words: "same region" },
  { tier: "remote", words: "another region" },
]);

/** The tiers whose bytes cross no border between zones. */
const NEAR = new Set(["node", "rack", "zone"]);

/** @typedef {{tier: string, words: string, bytes: number, share: number | null}} Part */

/**
 * @param {{tier: string, bytes: number}[] | undefined} bytes_by_tier of a SumsEntry
 * @returns {{parts: Part[], total: number, near: number | null}} `near`: which share came from this zone; null: there are no bytes
 */
export function partsOf(bytes_by_tier) {
  const found = new Map((bytes_by_tier ?? []).map((entry) => [entry.tier, entry.bytes]));
  const total = [...found.values()].reduce((sum, size) => sum + size, 0);
  const part = (size) => (total > 0 ? size / total : null);
  const parts = TIERS.map(({ tier, words }) => ({ tier, words, bytes: found.get(tier) ?? 0, share: part(found.get(tier) ?? 0) }));
  const near_bytes = parts.filter(({ tier }) => NEAR.has(tier)).reduce((sum, each) => sum + each.bytes, 0);
  return { parts, total, near: part(near_bytes) };
}

/**
 * How long the first byte took, by the tier that it came from, nearest first: an agent also tells the sums of several tiers.
 * @param {any[] | undefined} entries QuantilesEntry
 * @returns {any[]} with `tier` and `words`
 */
export function bySource(entries) {
  const of = (tier) => (entries ?? []).find((entry) => (entry.source === "local" ? "node" : entry.source === "peer" ? entry.tier : null) === tier);
  return TIERS.flatMap(({ tier, words }) => (of(tier) ? [{ ...of(tier), tier, words }] : []));
}
