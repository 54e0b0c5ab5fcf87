/** What is missing is named with the command that installs it here: each system has a package manager of its own. */
import { expect, test } from "@jest/globals";
import { installCommand } from "../../lib/setup/installCommand.js";

test.each([
  ["linux", "apt-get", /^sudo apt-get install -y cmake$/],
  ["linux", "dnf", /^sudo dnf install -y cmake$/],
  ["linux", "pacman", /^sudo pacman -S --needed cmake$/],
  ["linux", "zypper", /^sudo zypper install -y cmake$/],
  ["linux", "of another kind", /^sudo apt-get /],
  ["darwin", "none", /^brew install cmake$/],
  ["win32", "none", /^winget install Kitware\.CMake$/],
])("%s with %s", (platform, manager, command) => {
  expect(installCommand("cmake", platform, (path) => path === `/usr/bin/${manager}`)).toMatch(command);
});
