/** Light, dark, or as the system has it; the choice is this browser's. */

const KEY = "shorthaul-theme";
const THEMES = ["system", "light", "dark"];

/** @returns {string} */
export function storedTheme() {
  try {
    const stored = localStorage.getItem(KEY) ?? "";
    return THEMES.includes(stored) ? stored : "system";
  } catch {
    return "system"; // a browser that keeps nothing
  }
}

/** @param {string} theme */
export function applyTheme(theme) {
  const root = document.documentElement;
  if (theme === "system") delete root.dataset.theme;
  else root.dataset.theme = theme;
}

/** @param {HTMLSelectElement} select */
export function mountTheme(select) {
  select.value = storedTheme();
  select.addEventListener("change", () => {
    applyTheme(select.value);
    try {
      localStorage.setItem(KEY, select.value);
    } catch {
      // it lasts as long as the page
    }
    document.dispatchEvent(new Event("themechange"));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("themechange")));
}

/** @type {Map<string, string>} */
const colours = new Map();
document.addEventListener("themechange", () => colours.clear());

/**
 * A token of app.css as a colour that a canvas takes: tokens name one for light and one for dark.
 * @param {string} token such as `--accent`
 */
export function colour(token) {
  const known = colours.get(token) ?? resolved(token);
  colours.set(token, known);
  return known;
}

/** @param {string} token */
function resolved(token) {
  const probe = document.createElement("i");
  probe.style.color = `var(${token})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
