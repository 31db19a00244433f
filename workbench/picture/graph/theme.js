// The colours of JupyterLab's theme, or of the page's own.

import { luminance, mix } from "./colors.js";

// What the page's theme says, with all that is mixed from it.
export function readTheme(element) {
  const style = getComputedStyle(element);
  const pencil = document.createElement("canvas").getContext("2d");
  const get = (name) => {
    pencil.fillStyle = style.getPropertyValue(name).trim(); // turns names such as 'white' into numbers
    return pencil.fillStyle;
  };
  const theme = {
    back: get("--wbg-back"), text: get("--wbg-text"), quiet: get("--wbg-quiet"), border: get("--wbg-border"),
    accent: get("--wbg-accent"), match: get("--wbg-match"), font: style.fontFamily,
  };
  theme.isDark = luminance(theme.back) < 0.3;
  theme.line = mix(theme.text, theme.back, 0.45);
  theme.frame = mix(theme.text, theme.back, theme.isDark ? 0.06 : 0.035);
  theme.frameLine = mix(theme.text, theme.back, 0.22);
  theme.plain = mix(theme.text, theme.back, theme.isDark ? 0.14 : 0.05);
  return theme;
}

// Calls when the theme changes; -> a function that ends it.
export function watchTheme(changed) {
  const watcher = new MutationObserver(changed);
  watcher.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", changed);
  return () => {
    watcher.disconnect();
    scheme.removeEventListener("change", changed);
  };
}
