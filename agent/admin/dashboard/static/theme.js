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
