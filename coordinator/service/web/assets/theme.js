"use strict";
// Applies the colours that the reader chose before the page is drawn; it is loaded first for that.
(() => {
  const root = document.documentElement;

  function apply(theme) {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
    dispatchEvent(new Event("themechange"));
  }

  apply(localStorage.getItem("theme"));
  matchMedia("(prefers-color-scheme: dark)")
    .addEventListener("change", () => dispatchEvent(new Event("themechange")));
  addEventListener("DOMContentLoaded", () => {
    const choice = document.getElementById("theme");
    choice.value = root.dataset.theme || "system";
    choice.addEventListener("change", () => {
      if (choice.value === "system") localStorage.removeItem("theme");
      else localStorage.setItem("theme", choice.value);
      apply(choice.value);
    });
  });
})();
