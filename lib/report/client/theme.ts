const key = "moco-report-colours";

/** Light or dark: as the system has it until the reader chooses. `changed` is called whenever the colours are others. */
export function followTheme(button: HTMLButtonElement, changed: () => void): void {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  let chosen = remembered();
  const isDark = (): boolean => (chosen === null ? system.matches : chosen === "dark");
  const apply = (): void => {
    root.style.colorScheme = chosen ?? "";
    button.setAttribute("aria-pressed", String(isDark()));
    changed();
  };
  button.addEventListener("click", () => {
    chosen = isDark() ? "light" : "dark";
    remember(chosen);
    apply();
  });
  system.addEventListener("change", apply);
  // Paper is light.
  addEventListener("beforeprint", () => {
    root.style.colorScheme = "light";
    changed();
  });
  addEventListener("afterprint", apply);
  apply();
}

type Theme = "light" | "dark";

function remembered(): Theme | null {
  try {
    const theme = localStorage.getItem(key);
    return theme === "light" || theme === "dark" ? theme : null;
  } catch {
    return null; // a page from a file may have no storage
  }
}

function remember(theme: Theme): void {
  try {
    localStorage.setItem(key, theme);
  } catch {
    // it holds until the page is left
  }
}
