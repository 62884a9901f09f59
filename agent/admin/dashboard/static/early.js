/* Before the first paint: the chosen colours. A classic script, because modules wait for the whole page. */
try {
  const theme = localStorage.getItem("shorthaul-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // a browser that keeps nothing
}
