/**
 * Numbers as people read them, each with its unit, as the command line writes them. Pure.
 * What is not known is an en dash, never a zero.
 */

/** @typedef {{value: string, unit: string}} Quantity */

export const UNKNOWN = "–";
const NOTHING = Object.freeze({ value: UNKNOWN, unit: "" });

const ABSURD = 1e21; // no size, time or sum of money of a cluster

/** @param {unknown} number @returns {number is number} */
export const isKnown = (number) => typeof number === "number" && Math.abs(number) < ABSURD;

/** @param {Quantity} quantity */
export const written = ({ value, unit }) => (unit ? `${value}\u00a0${unit}` : value);

/**
 * A size in powers of a thousand.
 * @param {number | null | undefined} size_bytes
 * @returns {Quantity}
 */
export function bytesQuantity(size_bytes) {
  if (!isKnown(size_bytes)) return NOTHING;
  return scaled(size_bytes, [[1e15, "PB"], [1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]], "B");
}

/** @param {number | null | undefined} bytes_per_s @returns {Quantity} */
export function rateQuantity(bytes_per_s) {
  const quantity = bytesQuantity(bytes_per_s);
  return quantity.unit ? { value: quantity.value, unit: `${quantity.unit}/s` } : quantity;
}

/**
 * A duration in the unit that suits it: µs, ms, s, min, h, d.
 * @param {number | null | undefined} seconds
 * @returns {Quantity}
 */
export function secondsQuantity(seconds) {
  if (!isKnown(seconds)) return NOTHING;
  const size = Math.abs(seconds);
  if (size === 0) return { value: "0", unit: "s" };
  if (size < 0.9995e-3) return { value: digits(seconds * 1e6), unit: "µs" };
  if (size < 0.9995) return { value: digits(seconds * 1e3), unit: "ms" };
  if (size < 120) return { value: Number.isInteger(seconds) ? String(seconds) : digits(seconds), unit: "s" };
  if (size < 7200) return { value: (seconds / 60).toFixed(0), unit: "min" };
  if (size < 172800) return { value: (seconds / 3600).toFixed(0), unit: "h" };
  return { value: (seconds / 86400).toFixed(0), unit: "d" };
}

/** @param {number | null | undefined} us microseconds @returns {Quantity} */
export const microsecondsQuantity = (us) => secondsQuantity(isKnown(us) ? us / 1e6 : null);

/**
 * US dollars. Small sums keep two digits that say something: a cluster's first minutes cost thousandths.
 * @param {number | null | undefined} usd
 * @returns {string}
 */
export function money(usd) {
  if (!isKnown(usd)) return UNKNOWN;
  const size = Math.abs(usd);
  const sign = usd < 0 ? "−" : "";
  if (size === 0) return "$0";
  if (size < 0.0001) return `${sign}<$0.0001`;
  if (size < 0.1) return `${sign}$${size.toFixed(4)}`;
  if (size < 1000) return `${sign}$${size.toFixed(2)}`;
  return `${sign}$${count(Math.round(size))}`;
}

/**
 * A share as a percentage. What is not all is not written as 100, and what is something not as 0.
 * @param {number | null | undefined} part from 0 to 1
 * @returns {Quantity}
 */
export function shareQuantity(part) {
  if (!isKnown(part)) return NOTHING;
  const percent = part * 100;
  if (percent > 0 && percent < 0.1) return { value: "<0.1", unit: "%" };
  if (percent < 100 && percent > 99.9) return { value: ">99.9", unit: "%" };
  return { value: percent === 0 || percent >= 100 ? percent.toFixed(0) : percent.toFixed(1), unit: "%" };
}

/** A whole number with thin spaces between thousands. @param {number | null | undefined} number */
export function count(number) {
  if (!isKnown(number)) return UNKNOWN;
  return String(Math.round(number)).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
}

/**
 * A number with its noun: `1 node`, `2 nodes`.
 * @param {number} number
 * @param {string} noun
 * @param {string} [nouns] its plural, if that is not noun + s
 */
export const counted = (number, noun, nouns = `${noun}s`) => `${count(number)}\u00a0${number === 1 ? noun : nouns}`;

/** @param {number | null | undefined} size_bytes */
export const bytes = (size_bytes) => written(bytesQuantity(size_bytes));
/** @param {number | null | undefined} bytes_per_s */
export const rate = (bytes_per_s) => written(rateQuantity(bytes_per_s));
/** @param {number | null | undefined} duration_s */
export const seconds = (duration_s) => written(secondsQuantity(duration_s));
/** @param {number | null | undefined} us */
export const microseconds = (us) => written(microsecondsQuantity(us));
/** @param {number | null | undefined} part */
export const share = (part) => written(shareQuantity(part));

/** A time that passed, in whole units: `12 s`. @param {number | null | undefined} age_s */
export const age = (age_s) => seconds(isKnown(age_s) ? Math.round(age_s) : null);

/**
 * How long ago something was: `now`, `12 s ago`.
 * @param {number | null | undefined} age_s
 */
export function ago(age_s) {
  if (!isKnown(age_s)) return UNKNOWN;
  return age_s < 1 ? "now" : `${age(age_s)} ago`;
}

/**
 * The window of a figure: `last 15 min`.
 * @param {number} window_s
 */
export const lastWindow = (window_s) => `last ${age(window_s)}`;

/**
 * A moment of the API (`2026-08-01T12:00:00.250Z`) as seconds since 1970; null if it is none.
 * @param {unknown} text
 * @returns {number | null}
 */
export function unixSeconds(text) {
  const at_ms = typeof text === "string" ? Date.parse(text) : NaN;
  return Number.isNaN(at_ms) ? null : at_ms / 1000;
}

/**
 * The time of day of a moment, in the reader's time zone: `14:03:27`.
 * @param {number | null} unix_s
 */
export function clockTime(unix_s) {
  if (!isKnown(unix_s)) return UNKNOWN;
  const at = new Date(unix_s * 1000);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}

/** A digest as people tell them apart: `sha256:3f1c9a…`. @param {string | null | undefined} digest */
export function shortDigest(digest) {
  if (!digest) return UNKNOWN;
  const [algorithm, hex = ""] = digest.slice(0, 200).split(":");
  return name(hex.length > 12 ? `${algorithm}:${hex.slice(0, 12)}…` : digest);
}

const INVISIBLE = /[\p{Cc}\p{Cf}\p{Co}\p{Cn}\u2028\u2029]/gu;

/** A text whose every character can be seen, and none of which turns the direction of writing. @param {string} text */
export const visible = (text) => text.replace(INVISIBLE, "·");

/**
 * A name from elsewhere: what can't be seen, or turns the direction of writing, is shown as a middle dot; a long one is cut.
 * @param {string | null | undefined} text
 * @param {number} [most] characters
 */
export function name(text, most = 120) {
  if (typeof text !== "string" || text === "") return UNKNOWN;
  const seen = visible(text.slice(0, 4 * most));
  return seen.length > most ? `${seen.slice(0, most - 1)}…` : seen;
}

/** A zone as the command line writes it: `region/zone`. @param {string | null | undefined} region @param {string | null | undefined} zone */
export function zoneName(region, zone) {
  const own = name(zone || "no zone", 60);
  return region ? `${name(region, 60)}/${own}` : own;
}

/** @param {number} number @param {[number, string][]} steps @param {string} smallest @returns {Quantity} */
function scaled(number, steps, smallest) {
  for (const [length, unit] of steps) {
    if (Math.abs(number) >= length * 0.9995) return { value: (number / length).toFixed(1), unit };
  }
  return { value: number.toFixed(0), unit: smallest };
}

/** Without the zeros at its end: for the values of an axis, which are round. @param {string} text */
export const trimmed = (text) => text.replace(/(\.\d*?)0+(?=\D|$)/, "$1").replace(/\.(?=\D|$)/, "");

/** Three digits that say something. @param {number} number */
function digits(number) {
  const size = Math.abs(number);
  return number.toFixed(size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2);
}
