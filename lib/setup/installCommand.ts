import { existsSync } from "node:fs";

type Tool = "python" | "pip" | "compiler" | "cmake" | "jpeg";

const COMMANDS: Record<string, Record<Tool, string>> = {
  apt: {
    python: "sudo apt-get install -y python3 python3-pip",
    pip: "sudo apt-get install -y python3-pip",
    compiler: "sudo apt-get install -y g++ make",
    cmake: "sudo apt-get install -y cmake",
    jpeg: "sudo apt-get install -y libjpeg-dev",
  },
  dnf: {
    python: "sudo dnf install -y python3 python3-pip",
    pip: "sudo dnf install -y python3-pip",
    compiler: "sudo dnf install -y gcc-c++ make",
    cmake: "sudo dnf install -y cmake",
    jpeg: "sudo dnf install -y libjpeg-turbo-devel",
  },
  pacman: {
    python: "sudo pacman -S --needed python python-pip",
    pip: "sudo pacman -S --needed python-pip",
    compiler: "sudo pacman -S --needed gcc make",
    cmake: "sudo pacman -S --needed cmake",
    jpeg: "sudo pacman -S --needed libjpeg-turbo",
  },
  zypper: {
    python: "sudo zypper install -y python3 python3-pip",
    pip: "sudo zypper install -y python3-pip",
    compiler: "sudo zypper install -y gcc-c++ make",
    cmake: "sudo zypper install -y cmake",
    jpeg: "sudo zypper install -y libjpeg8-devel",
  },
  brew: {
    python: "brew install python",
    pip: "brew install python",
    compiler: "xcode-select --install",
    cmake: "brew install cmake",
    jpeg: "brew install jpeg-turbo",
  },
  winget: {
    python: "winget install Python.Python.3.12",
    pip: "python -m ensurepip",
    compiler: "winget install Microsoft.VisualStudio.2022.BuildTools (and choose C++ in its installer)",
    cmake: "winget install Kitware.CMake",
    jpeg: "install libjpeg-turbo from https://libjpeg-turbo.org, set JPEG_ROOT=C:\\libjpeg-turbo64",
  },
};

/**
 * The command that installs a tool, or libjpeg-turbo's headers, with this machine's package manager.
 *
 * @param hasProgram whether there is a program at this path; for tests
 */
export function installCommand(tool: Tool, platform: string = process.platform, hasProgram: (path: string) => boolean = existsSync): string {
  if (platform === "darwin") return COMMANDS.brew![tool];
  if (platform === "win32") return COMMANDS.winget![tool];
  const manager = ["apt-get", "dnf", "pacman", "zypper"].find((each) => hasProgram(`/usr/bin/${each}`)) ?? "apt-get";
  return COMMANDS[manager === "apt-get" ? "apt" : manager]![tool];
}
