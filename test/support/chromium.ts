import { existsSync } from "node:fs";
import { chromium, type Browser } from "playwright-core";

const usual = [
  "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/snap/bin/chromium",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe",
];

/** A Chromium to open pages with: `MOCO_TEST_CHROMIUM`, a usual place, or what Playwright has fetched; null where there is none. */
export const testChromium: string | null =
  [process.env.MOCO_TEST_CHROMIUM, ...usual, chromium.executablePath()].find((path) => path !== undefined && path !== "" && existsSync(path)) ?? null;

/** Starts it without a window. */
export function startChromium(): Promise<Browser> {
  if (testChromium === null) throw new Error("there is no Chromium; name one in MOCO_TEST_CHROMIUM");
  // Without its sandbox, since containers and CI often run as root, and only this machine's own page is opened.
  return chromium.launch({ executablePath: testChromium, args: ["--no-sandbox"] });
}
